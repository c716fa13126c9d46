//! Connections that leave HTTP.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::world::*;
use crate::http::{HalfClose, Limits, Wire};
use crate::runtime::drain::Phase;
use crate::tls::Credential;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade, x-hop\r\nupgrade: websocket\r\nx-hop: 1\r\nx-end: 2\r\n\r\n";

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn world(address: SocketAddr, limits: Limits) -> World {
    let plan = Plan { limits, ..Plan::default() };
    World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan)
}

/// Reads until this has come, and gives all of it.
async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let read = within(stream.read_buf(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Both ends of a tunnel, with what the client has read of the answer.
async fn opened(world: &World, listener: &TcpListener) -> (DuplexStream, TcpStream, String) {
    let mut client = world.connect();
    client.write_all(ASK.as_bytes()).await.unwrap();
    let (mut backend, _) = within(listener.accept()).await.unwrap();
    until(&mut backend, "\r\n\r\n").await;
    backend.write_all(SWITCHED.as_bytes()).await.unwrap();
    let answer = until(&mut client, "\r\n\r\n").await;
    (client, backend, answer)
}

#[test]
fn what_is_sent_ahead_waits_for_the_101_and_is_not_lost() {
    run(async {
        let (listener, address) = listening().await;
        let world = world(address, Limits::default());
        let mut client = world.connect();
        // A request before it, and the other protocol's first bytes right behind it: they look like a request too.
        let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\0";
        client.write_all(format!("{GET}{ASK}{early}").as_bytes()).await.unwrap();
        let (mut backend, _) = within(listener.accept()).await.unwrap();
        until(&mut backend, "\r\n\r\n").await;
        backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        until(&mut client, "ok").await;
        let head = until(&mut backend, "\r\n\r\n").await;
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        for line in [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-key: k",
            "x-forwarded-for: 192.0.2.1",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
        let quiet = tokio::time::timeout(Duration::from_millis(100), backend.read_u8()).await;
        assert!(quiet.is_err(), "nothing before the 101: {quiet:?}");
        backend.write_all(format!("{SWITCHED}ahead").as_bytes()).await.unwrap();
        let answer = until(&mut client, "ahead").await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        let mut fields: Vec<&str> = head.lines().skip(1).filter(|line| !line.starts_with("date: ")).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["connection: upgrade", "upgrade: websocket", "x-end: 2"]);
        assert_eq!(until(&mut backend, "\0").await, early);
    });
}

#[test]
fn each_side_may_end_first_and_both_counts_are_in_the_log() {
    run(async {
        let (listener, address) = listening().await;
        let world = world(address, Limits::default());
        for client_first in [true, false] {
            let (mut client, mut backend, _) = opened(&world, &listener).await;
            client.write_all(b"ping").await.unwrap();
            until(&mut backend, "ping").await;
            backend.write_all(b"pong!").await.unwrap();
            until(&mut client, "pong!").await;
            if client_first {
                client.shutdown().await.unwrap();
                assert_eq!(rest(&mut backend).await, "");
                backend.write_all(b" and more").await.unwrap();
                drop(backend);
                assert_eq!(rest(&mut client).await, " and more");
            } else {
                backend.shutdown().await.unwrap();
                assert_eq!(rest(&mut client).await, "");
                client.write_all(b" and more").await.unwrap();
                drop(client);
                assert_eq!(rest(&mut backend).await, " and more");
            }
        }
        let lines = world.lines(2).await;
        for (line, counts) in lines.iter().zip([(4, 14), (13, 5)]) {
            assert_eq!((&line["status"], &line["http"]["path"]), (&101.into(), &"/chat".into()));
            assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&counts.0.into(), &counts.1.into()));
            assert!(line.get("reason").is_none(), "{line}");
        }
    });
}

#[test]
fn bulk_goes_both_ways_at_once_under_back_pressure() {
    run(async {
        const LENGTH: usize = 4 * 1024 * 1024;
        let (listener, address) = listening().await;
        let world = world(address, Limits::default());
        let (client, mut backend, _) = opened(&world, &listener).await;
        tokio::task::spawn_local(async move {
            let (mut read, mut write) = backend.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let (mut read, mut write) = tokio::io::split(client);
        let sending = async {
            let block: Vec<u8> = (0..=255).cycle().take(65_536).collect();
            for _ in 0..LENGTH / block.len() {
                write.write_all(&block).await.unwrap();
            }
            write.shutdown().await.unwrap();
        };
        let mut echoed = Vec::new();
        let (read, ()) = within(async { tokio::join!(read.read_to_end(&mut echoed), sending) }).await;
        assert_eq!(read.unwrap(), LENGTH);
        assert!(echoed.iter().enumerate().all(|(at, byte)| *byte == (at % 256) as u8));
    });
}

#[test]
fn a_side_that_breaks_off_ends_the_other_and_is_named() {
    run(async {
        let (listener, address) = listening().await;
        let world = world(address, Limits::default());
        let (mut client, backend, _) = opened(&world, &listener).await;
        backend.set_zero_linger().unwrap();
        drop(backend);
        assert_eq!(rest(&mut client).await, "");
        let (client, mut backend, _) = opened(&world, &listener).await;
        backend.write_all(b"x").await.unwrap();
        drop(client);
        assert_eq!(rest(&mut backend).await, "");
        let lines = world.lines(2).await;
        assert_eq!(lines[0]["reason"], "upstream_body_cut");
    });
}

#[test]
fn a_tunnel_that_carries_nothing_ends_and_one_that_does_goes_on() {
    run(async {
        let (listener, address) = listening().await;
        let limits = Limits { tunnel_idle_timeout: Duration::from_millis(400), ..Limits::default() };
        let world = world(address, limits);
        let (mut client, mut backend, _) = opened(&world, &listener).await;
        let began = tokio::time::Instant::now();
        while began.elapsed() < limits.tunnel_idle_timeout * 3 {
            // One direction is enough.
            backend.write_all(b".").await.unwrap();
            assert_eq!(within(client.read_u8()).await.unwrap(), b'.');
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((rest(&mut client).await, rest(&mut backend).await), (String::new(), String::new()));
        assert_eq!(world.lines(1).await[0]["reason"], "tunnel_idle");
        let metrics = world.server.telemetry.metrics.render();
        assert!(metrics.contains("yett_limit_hits_total{limit=\"tunnel_idle_timeout\"} 1"), "{metrics}");
    });
}

#[test]
fn a_tunnel_lives_through_a_drain_and_ends_with_the_process() {
    run(async {
        let (listener, address) = listening().await;
        let world = world(address, Limits::default());
        let (mut client, mut backend, _) = opened(&world, &listener).await;
        // One that is being agreed on.
        let mut other = world.connect();
        other.write_all(ASK.as_bytes()).await.unwrap();
        let (mut others, _) = within(listener.accept()).await.unwrap();
        until(&mut others, "\r\n\r\n").await;
        world.drain.announce(Phase::Draining);
        tokio::task::yield_now().await;
        others.write_all(format!("{SWITCHED}hello").as_bytes()).await.unwrap();
        let answer = until(&mut other, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        client.write_all(b"still").await.unwrap();
        until(&mut backend, "still").await;
        world.drain.announce(Phase::Stopping);
        assert_eq!((rest(&mut client).await, rest(&mut backend).await), (String::new(), String::new()));
        let lines = world.lines(2).await;
        assert!(lines.iter().all(|line| line["reason"] == "cut_off" && line["status"] == 101), "{lines:?}");
        assert!(lines.iter().any(|line| line["bytes_in"] == 5), "{lines:?}");
    });
}

/// A client's stream that tells whether it was shut down.
struct Told(DuplexStream, Rc<Cell<bool>>);

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Told {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.set(true);
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl HalfClose for Told {
    fn half_close(&mut self) {}
}

/// hyper does not shut a connection down once a request on it has asked for another protocol. Without that the end
/// would look cut under TLS, and the answer might be lost with a client that is still sending.
#[test]
fn a_connection_that_stayed_with_http_is_closed_in_good_order() {
    run(async {
        let (address, _) = backend(|_| ok("plain")).await;
        let world = world(address, Limits::default());
        let (mut client, theirs) = tokio::io::duplex(64 * 1024);
        let told = Rc::new(Cell::new(false));
        world.serve(Told(theirs, Rc::clone(&told)), Wire::Http1, None, Credential::None);
        let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(format!("{ASK}{last}").as_bytes()).await.unwrap();
        let answers = rest(&mut client).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
        assert!(told.get());
    });
}

/// The next request came while the answer to one that asked for more than HTTP was awaited.
#[test]
fn what_follows_a_declined_upgrade_is_the_next_request() {
    run(async {
        let (listener, address) = listening().await;
        let world = world(address, Limits::default());
        let mut client = world.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        let (mut backend, _) = within(listener.accept()).await.unwrap();
        until(&mut backend, "\r\n\r\n").await;
        // In pieces, each of which the gateway has read before the answer comes.
        for piece in ["GET /b HTTP/1.1\r\n", "Host: a\r\n\r\nBROKEN\r\n\r\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        backend.write_all(b"HTTP/1.1 426 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        assert!(until(&mut client, "no").await.starts_with("HTTP/1.1 426 "));
        let head = until(&mut backend, "\r\n\r\n").await;
        assert!(head.starts_with("GET /b HTTP/1.1\r\n"), "{head}");
        backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let answers = rest(&mut client).await;
        assert!(answers.contains("\r\n\r\nokHTTP/1.1 400 "), "{answers}");
    });
}
