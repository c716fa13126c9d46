//! HTTP/2 towards the client, and towards the backend.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;

use super::world::*;
use crate::http::{Limits, Wire};
use crate::model::BackendProtocol;
use crate::tls::Credential;
use crate::tls::revocation::RevocationIndex;

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

fn empty() -> Body {
    Full::default().boxed_unsync()
}

/// Data, then trailers.
fn with_trailers(data: &'static str, trailers: &[(&'static str, &'static str)]) -> Body {
    let trailers: HeaderMap =
        trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Full::from(data).with_trailers(async { Some(Ok(trailers)) }).boxed_unsync()
}

/// A client; the task ends with the connection.
async fn client(io: DuplexStream) -> (SendRequest<Body>, tokio::task::JoinHandle<hyper::Result<()>>) {
    let (sender, connection) = http2::handshake(Local, TokioIo::new(io)).await.unwrap();
    (sender, tokio::task::spawn_local(connection))
}

async fn send(sender: &mut SendRequest<Body>, request: Request<Body>) -> Response<Incoming> {
    within(sender.send_request(request)).await.unwrap()
}

/// An HTTP/2 backend that echoes the body and says which fields it saw.
async fn h2c_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async move {
                let saw = format!("{} {:?}", request.uri(), request.headers());
                let collected = request.into_body().collect().await.unwrap();
                let trailers = format!("{:?}", collected.trailers());
                let mut response = Response::new(with_trailers("echo", &[("grpc-status", "0")]));
                response.headers_mut().insert("x-saw", saw.parse().unwrap());
                response.headers_mut().insert("x-trailers", trailers.parse().unwrap());
                Ok::<_, Infallible>(response)
            });
            let connection = hyper::server::conn::http2::Builder::new(Local)
                .serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(connection);
        }
    });
    address
}

#[test]
fn prior_knowledge_is_told_from_http1_by_its_preface() {
    run(async {
        let (address, _) = backend(|_| ok("hello")).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let (mut sender, _connection) = client(world.connect()).await;
        let request = Request::get("http://a.example/x").body(empty()).unwrap();
        let response = send(&mut sender, request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        // Piece by piece, and a request that begins like the preface.
        let mut slow = world.connect();
        slow.write_all(b"P").await.unwrap();
        tokio::task::yield_now().await;
        let answer = ask(&mut slow, "UT /x HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    });
}

#[test]
fn alpn_decides_on_tls_and_nothing_else() {
    run(async {
        let (address, _) = backend(|_| ok("hello")).await;
        let plan = Plan { is_tls: true, ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let answer = talk(world.connect_as(Wire::Http1, Some(None), Credential::None), preface).await;
        assert!(!answer.contains("200"), "{answer}");
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = talk(world.connect_as(Wire::Http2, Some(None), Credential::None), request).await;
        assert!(!answer.contains("200"), "{answer}");
    });
}

#[test]
fn requests_bodies_and_trailers_pass_to_an_h2c_backend() {
    run(async {
        let address = h2c_backend().await;
        let plan = Plan { protocol: Some(BackendProtocol::H2c), ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        let (mut sender, _connection) = client(world.connect()).await;
        let body = with_trailers("data", &[("x-sum", "1"), ("client_cert", "forged")]);
        let request = Request::post("http://A.example:80/pkg.Service/Method?q")
            .header("te", "trailers")
            .header("client-cert", "forged")
            .body(body)
            .unwrap();
        let response = send(&mut sender, request).await;
        assert_eq!(response.status(), 200);
        let saw = response.headers()["x-saw"].to_str().unwrap().to_owned();
        assert!(saw.starts_with("http://A.example:80/pkg.Service/Method?q "), "{saw}");
        assert!(saw.contains("\"te\": \"trailers\"") && !saw.contains("forged"), "{saw}");
        let trailers = response.headers()["x-trailers"].to_str().unwrap().to_owned();
        assert!(trailers.contains("x-sum") && !trailers.contains("forged"), "{trailers}");
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "echo");
    });
}

#[test]
fn requests_to_an_h2c_backend_share_a_connection_and_outlive_it() {
    run(async {
        let address = h2c_backend().await;
        let plan = Plan { protocol: Some(BackendProtocol::H2c), ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        let (sender, _connection) = client(world.connect()).await;
        let request = || Request::get("http://a.example/").body(empty()).unwrap();
        let mut requests = Vec::new();
        for _ in 0..20 {
            let mut sender = sender.clone();
            requests
                .push(tokio::task::spawn_local(async move { send(&mut sender, request()).await.status() }));
        }
        for request in requests {
            assert_eq!(request.await.unwrap(), 200);
        }
        let metrics = world.server.telemetry.metrics.render();
        assert!(metrics.contains("yett_upstream_connections_active{backend=\"default/backend\"} 1\n"));
    });
}

#[test]
fn misdirected_and_malformed_requests_leave_the_connection_alone() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let hosts = ["", "second.example"];
        let listeners = hosts.map(|host| listener(host, vec![rule(host, "", forward())]));
        let plan = Plan { is_tls: true, ..Plan::default() };
        let world = World::new(&listeners, Some(address), &plan);
        let io = world.connect_as(Wire::Http2, Some(Some("second.example")), Credential::None);
        let (mut sender, _connection) = client(io).await;
        for (uri, host, expected) in [
            ("https://other.example/", None, 421),
            ("https://second.example/", Some("other.example"), 400),
            ("https://second.example/", Some("SECOND.example:443"), 200),
            ("https://second.example/", None, 200),
        ] {
            let mut request = Request::get(uri);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let response = send(&mut sender, request.body(empty()).unwrap()).await;
            assert_eq!(response.status(), expected, "{uri} {host:?}");
        }
        assert_eq!(seen.borrow().len(), 2);
    });
}

#[test]
fn a_refused_client_is_answered_then_sent_away_while_its_streams_finish() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let (domain, credential, _) = trust();
        domain.revocation().store(RevocationIndex::empty().into());
        let plan = Plan { is_tls: true, trust: Some(domain.clone()), ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        let (mut sender, connection) = client(world.connect_as(Wire::Http2, Some(None), credential)).await;
        let request = || Request::get("https://a.example/").body(empty()).unwrap();
        assert_eq!(send(&mut sender, request()).await.status(), 200);

        domain.revocation().store(RevocationIndex::default().into());
        let grpc = Request::post("https://a.example/s/m").header("content-type", "application/grpc+proto");
        let (first, second, third) = tokio::join!(
            within(sender.clone().send_request(request())),
            within(sender.clone().send_request(request())),
            within(sender.clone().send_request(grpc.body(empty()).unwrap())),
        );
        for response in [first.unwrap(), second.unwrap()] {
            assert_eq!(
                (response.status().as_u16(), &response.headers()["yett-reason"]),
                (400, &"revocation_status_unknown".parse().unwrap())
            );
            assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
        let third = third.unwrap();
        assert_eq!((third.status().as_u16(), &third.headers()["grpc-status"]), (400, &"16".parse().unwrap()));
        assert!(third.into_body().collect().await.unwrap().to_bytes().is_empty());
        // GOAWAY ends the connection without an error once nothing is open any more.
        within(connection).await.unwrap().unwrap();
        assert_eq!(seen.borrow().len(), 1);
        assert_eq!(world.lines(4).await.len(), 4);
    });
}

#[test]
fn a_refused_upload_gets_its_answer_and_a_reset_without_error() {
    run(async {
        let (domain, credential, _) = trust();
        let plan = Plan { is_tls: true, trust: Some(domain), ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], None, &plan);
        let (mut sender, connection) = client(world.connect_as(Wire::Http2, Some(None), credential)).await;
        // Far more than the windows hold: without a reset the client would wait for ever.
        let body = Full::from(vec![b'x'; 10 * 1024 * 1024]).boxed_unsync();
        let response = send(&mut sender, Request::post("https://a.example/").body(body).unwrap()).await;
        assert_eq!(response.status(), 400);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("revocation_status_unknown"));
        within(connection).await.unwrap().unwrap();
    });
}

#[test]
fn a_client_that_opens_no_window_does_not_hold_the_backend() {
    run(async {
        // More than the window that hyper opens unasked, in small pieces, so that no piece gives the client much time.
        let piece = format!("400\r\n{}\r\n", "x".repeat(1024));
        let large = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
            piece.repeat(8 * 1024)
        );
        let (address, _) = backend(move |request| match request.contains("/large") {
            true => Reply::Keep(large.clone()),
            false => ok("small"),
        })
        .await;
        let limits = Limits {
            response_stall_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_millis(400),
            close_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let plan = Plan { limits, ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        let (mut sender, connection) = client(world.connect()).await;
        let request = |path| Request::get(format!("http://a.example{path}")).body(empty()).unwrap();
        let unread = send(&mut sender, request("/large")).await;
        let metrics = || world.server.telemetry.metrics.render();
        let open = || metrics().contains("yett_upstream_connections_active{backend=\"default/backend\"} 1");
        assert!(open());
        within(async {
            while open() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // Others on the connection go on; what was cut is not taken for whole.
        let small = send(&mut sender, request("/small")).await;
        assert_eq!(small.into_body().collect().await.unwrap().to_bytes(), "small");
        assert!(metrics().contains("yett_limit_hits_total{limit=\"response_stall_timeout\"} 1"));
        assert!(within(unread.into_body().collect()).await.is_err());
        drop(sender);
        let _ = within(connection).await.unwrap();
        let lines = world.lines(2).await;
        assert!(lines.iter().any(|line| line["reason"] == "client_closed"), "{lines:?}");
    });
}
