//! The life of connections: kept, refused, drained, left, let go.

use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::world::*;
use crate::datapath::Notes;
use crate::http::{Limits, Wire};
use crate::listener::linger::ClientStream;
use crate::listener::roster::Roster;
use crate::listener::socket::Socket;
use crate::runtime::drain::Phase;
use crate::telemetry::Telemetry;
use crate::tls::Credential;
use crate::tls::revocation::RevocationIndex;
use crate::upstream;

#[test]
fn a_kept_connection_that_the_backend_closed_is_not_the_clients_trouble() {
    run(async {
        // Says that it keeps the connection, and closes it.
        let (address, seen) =
            backend(|_| Reply::Close("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into())).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        for _ in 0..20 {
            assert_eq!(status(&ask(&mut client, GET).await), 200);
        }
        assert_eq!(seen.borrow().len(), 20);
    });
}

#[test]
fn a_verified_client_is_admitted_named_and_refused_on_its_next_request() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let (domain, credential, leaf) = trust();
        domain.revocation().store(RevocationIndex::empty().into());
        let listeners = [listener("", vec![rule("", "", forward())])];
        let plan = Plan { is_tls: true, trust: Some(domain.clone()), ..Plan::default() };
        let world = World::new(&listeners, Some(address), &plan);
        let mut client = world.connect_as(Wire::Http1, Some(None), credential);
        assert_eq!(status(&ask(&mut client, GET).await), 200);
        let request = seen.borrow()[0].clone();
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &leaf);
        assert!(request.contains(&format!("client-cert: :{encoded}:\r\n")), "{request}");
        assert!(request.contains("x-forwarded-proto: https\r\n"), "{request}");

        // An index that knows nothing of an issuer that it must cover.
        domain.revocation().store(RevocationIndex::default().into());
        // Even a request that is wrong in every other way is told this alone, and the connection ends.
        let answer = talk(
            client,
            "GET / HTTP/1.1\r\nHost: nowhere\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
        assert_eq!((status(&answer), reason(&answer)), (400, Some("revocation_status_unknown")));
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(seen.borrow().len(), 1, "nothing more reaches the backend");
        let lines = world.lines(2).await;
        assert_eq!(lines[1]["reason"], "revocation_status_unknown");
        let metrics = world.server.telemetry.metrics.render();
        for series in ["{phase=\"handshake\",result=\"good\"} 1", "{phase=\"live\",result=\"unknown\"} 1"] {
            assert!(metrics.contains(&format!("yett_revocation_checks_total{series}")), "{series}");
        }
    });
}

#[test]
fn a_refused_client_in_mid_upload_reads_its_answer() {
    run(async {
        let (domain, _, _) = trust();
        let plan = Plan { is_tls: true, trust: Some(domain), ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], None, &plan);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..20 {
            // A client that does not look at what it is sent before all of its body is out, as many do not.
            let client = tokio::task::spawn_blocking(move || {
                let mut stream = std::net::TcpStream::connect(address)?;
                stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n")?;
                stream.write_all(&vec![b'x'; 10_485_760])?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).map(|_| answer)
            });
            let (stream, _) = listener.accept().await.unwrap();
            let (stream, _) = ClientStream::new(
                Socket::of_tests(stream, &Telemetry::in_memory().0, &Roster::new(0, Notes::default())),
                None,
            );
            world.serve(stream, Wire::Http1, Some(None), Credential::None);
            let answer = within(client).await.unwrap().expect("neither reset nor broken pipe");
            assert_eq!((status(&answer), reason(&answer)), (400, Some("client_certificate_untrusted")));
        }
    });
}

#[test]
fn an_upload_that_nobody_takes_is_answered_too() {
    run(async {
        let world = World::new(&[listener("", vec![rule("", "", forward())])], None, &Plan::default());
        let (mut read, mut write) = tokio::io::split(world.connect());
        let upload = tokio::task::spawn_local(async move {
            write.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n").await.unwrap();
            while write.write_all(&[b'x'; 65_536]).await.is_ok() {}
        });
        let mut answer = String::new();
        within(read.read_to_string(&mut answer)).await.unwrap();
        assert_eq!((status(&answer), reason(&answer)), (503, Some("no_endpoints")));
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        within(upload).await.unwrap();
    });
}

#[test]
fn connections_to_a_backend_are_kept_for_a_while() {
    run(async {
        let (address, _, connections) = counting_backend(|_| ok("")).await;
        let upstream = upstream::Limits { idle_timeout: Duration::from_millis(400), ..Default::default() };
        let plan = Plan { upstream, ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        tokio::task::spawn_local(Rc::clone(&world.server.pool).keep_house());
        for _ in 0..5 {
            assert_eq!(status(&ask(&mut world.connect(), GET).await), 200);
        }
        assert_eq!(connections.get(), 1);
        let open = || {
            world
                .server
                .telemetry
                .metrics
                .render()
                .contains("yett_upstream_connections_active{backend=\"default/backend\"} 1")
        };
        assert!(open());
        within(async {
            while open() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(status(&ask(&mut world.connect(), GET).await), 200);
        assert_eq!(connections.get(), 2);
    });
}

#[test]
fn a_removed_frontend_answers_404_and_closes() {
    run(async {
        let (address, _) = backend(|_| ok("")).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        assert_eq!(status(&ask(&mut client, GET).await), 200);
        world.server.snapshots.store(Default::default());
        let answer = talk(client, GET).await;
        assert_eq!(status(&answer), 404);
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    });
}

#[test]
fn draining_finishes_what_is_in_progress() {
    run(async {
        let (address, seen) = backend(|request| match request.contains("/slow") {
            true => Reply::Hang,
            false => ok(""),
        })
        .await;
        let mut slow = rule("", "/slow", forward());
        slow.request_timeout = Some(Duration::from_millis(100));
        let world =
            World::new(&[listener("", vec![rule("", "", forward()), slow])], Some(address), &Plan::default());
        let mut idle = world.connect();
        assert_eq!(status(&ask(&mut idle, GET).await), 200);
        let silent = world.connect();
        let busy = world.connect();
        let busy = tokio::task::spawn_local(talk(busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"));
        within(async {
            while seen.borrow().len() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        world.drain.announce(Phase::Draining);
        assert_eq!(talk(idle, "").await, "", "an idle connection just ends");
        assert_eq!(talk(silent, "").await, "", "so does one that has said nothing");
        let answer = within(busy).await.unwrap();
        assert_eq!(status(&answer), 504, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    });
}

#[test]
fn draining_waits_for_a_head_that_is_under_way() {
    run(async {
        let (address, _) = backend(|_| ok("")).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        assert_eq!(status(&ask(&mut client, GET).await), 200);
        let (begin, end) = GET.split_at(10);
        client.write_all(begin.as_bytes()).await.unwrap();
        // It has been read once a request on another connection is answered.
        assert_eq!(status(&ask(&mut world.connect(), GET).await), 200);
        world.drain.announce(Phase::Draining);
        let answer = talk(client, end).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    });
}

#[test]
fn the_clock_of_a_head_waits_for_the_answer_before_it() {
    run(async {
        let (address, _) = backend(|_| Reply::Hang).await;
        let limits = Limits { request_head_timeout: Duration::from_millis(200), ..Limits::default() };
        let plan = Plan { limits, ..Plan::default() };
        let mut slow = rule("", "", forward());
        slow.request_timeout = Some(Duration::from_millis(400));
        let world = World::new(&[listener("", vec![slow])], Some(address), &plan);
        let start = Instant::now();
        let answer = talk(world.connect(), &format!("{GET}GET /half")).await;
        let statuses: Vec<u16> =
            answer.split("HTTP/1.1 ").skip(1).map(|text| text[..3].parse().unwrap()).collect();
        assert_eq!(statuses, [504, 408], "{answer}");
        assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    });
}

#[test]
fn a_refused_client_learns_nothing_of_its_requests_faults() {
    run(async {
        let (domain, credential, _) = trust();
        domain.revocation().store(RevocationIndex::default().into());
        let plan = Plan { is_tls: true, trust: Some(domain), ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], None, &plan);
        let client = world.connect_as(Wire::Http1, Some(None), credential);
        let answer = talk(client, "GET / HTTP/1.1\nHost: a\n\n").await;
        assert_eq!((status(&answer), reason(&answer)), (400, Some("revocation_status_unknown")));
        let lines = world.lines(1).await;
        assert_eq!(lines[0]["reason"], "revocation_status_unknown");
        assert_eq!((&lines[0]["http"]["method"], &lines[0]["http"]["path"]), (&"-".into(), &"*".into()));
    });
}

#[test]
fn a_client_that_leaves_is_logged_and_not_waited_for() {
    run(async {
        let (address, seen) = backend(|_| Reply::Hang).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        client.write_all(GET.as_bytes()).await.unwrap();
        within(async {
            while seen.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        drop(client);
        let lines = world.lines(1).await;
        assert_eq!((&lines[0]["reason"], &lines[0]["status"]), (&"client_closed".into(), &0.into()));
    });
}

#[test]
fn silent_and_slow_clients_are_let_go() {
    run(async {
        let (address, _) = backend(|_| ok("")).await;
        let limits = Limits {
            request_head_timeout: Duration::from_millis(50),
            idle_timeout: Duration::from_millis(100),
            request_body_timeout: Duration::from_millis(50),
            ..Limits::default()
        };
        let plan = Plan { limits, ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        assert_eq!(talk(world.connect(), "").await, "", "says nothing");
        let answer = talk(world.connect(), "GET / HT").await;
        assert_eq!((status(&answer), reason(&answer)), (408, Some("request_timeout")), "begins a head");
        let answer = talk(world.connect(), &format!("{GET}GET /half")).await;
        assert_eq!(status(&answer), 200, "begins a second one");
        assert!(answer.contains("HTTP/1.1 408 Request Timeout\r\n"), "begins a second one: {answer}");
        assert_eq!(status(&talk(world.connect(), GET).await), 200, "has no more to say");
        let answer =
            talk(world.connect(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
        assert_eq!((status(&answer), reason(&answer)), (408, Some("request_timeout")), "stops in mid-body");
        let metrics = world.server.telemetry.metrics.render();
        for limit in ["request_head_timeout", "idle_timeout", "request_body_timeout"] {
            let none = format!("yett_limit_hits_total{{limit=\"{limit}\"}} 0");
            assert!(!metrics.contains(&none), "{limit} is counted");
        }
    });
}
