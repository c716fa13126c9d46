//! Backends that close, break HTTP, or say more than they were asked.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::*;
use crate::model::BackendProtocol;
use crate::upstream;

/// A backend that is handed its connections with their numbers, from 0.
async fn by_connection<F: Future<Output = ()> + 'static>(
    serve: impl Fn(TcpStream, usize) -> F + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(serve(stream, number));
        }
    });
    address
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_thousand_requests_that_race_a_closing_backend_are_answered() {
    run(async {
        // Answers a few requests of each connection; then closes it behind an answer, when the next request comes, in
        // the middle of it, or with a reset.
        let address = by_connection(|mut stream, number| async move {
            let mut bytes = Vec::new();
            for _ in 0..1 + number % 3 {
                if read_message(&mut stream, &mut bytes).await.is_none() {
                    return;
                }
                stream.write_all(OK).await.unwrap();
            }
            match number % 4 {
                0 => {}
                1 => drop(read_message(&mut stream, &mut bytes).await),
                2 => drop(stream.read(&mut [0]).await),
                _ => {
                    let _ = stream.readable().await;
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
                }
            }
        })
        .await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let clients = (0..8).map(|client| {
            let mut stream = world.connect();
            tokio::task::spawn_local(async move {
                for number in 0..125 {
                    let method = ["GET", "DELETE", "OPTIONS", "PUT"][number % 4];
                    let request = format!("{method} /{client}/{number} HTTP/1.1\r\nHost: a\r\n\r\n");
                    let answer = ask(&mut stream, &request).await;
                    assert!(
                        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"),
                        "{answer}"
                    );
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        let lines = world.lines(1000).await;
        let again = lines.iter().filter(|line| line["attempts"] == 2).count();
        assert!(again > 100, "{again} requests met a closing connection");
        assert!(lines.iter().all(|line| line["attempts"].as_u64() <= Some(2)));
        let metrics = world.server.telemetry.metrics.render();
        let series = format!("yett_upstream_retries_total{{backend=\"default/backend\"}} {again}\n");
        assert!(metrics.contains(&series), "{series}");
    });
}

#[test]
fn what_is_not_idempotent_is_sent_once() {
    run(async {
        let seen = Rc::new(Cell::new(0));
        let count = Rc::clone(&seen);
        let address = by_connection(move |mut stream, _| {
            let count = Rc::clone(&count);
            async move {
                let mut bytes = Vec::new();
                if read_message(&mut stream, &mut bytes).await.is_some() {
                    stream.write_all(OK).await.unwrap();
                    if read_message(&mut stream, &mut bytes).await.is_some() {
                        count.set(count.get() + 1);
                    }
                }
            }
        })
        .await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        assert_eq!(status(&ask(&mut client, GET).await), 200);
        let answer = ask(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab").await;
        assert_eq!((status(&answer), reason(&answer)), (502, Some("upstream_closed")));
        assert_eq!(seen.get(), 1);
        assert_eq!(world.lines(2).await[1]["attempts"], 1);
    });
}

/// Answers that are refused as a whole, and their connections with them: whoever comes next gets an answer of its own.
#[test]
fn malformed_answers_are_refused_and_nobody_else_sees_of_them() {
    const SECOND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    run(async {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2048));
        let rows: Vec<(&str, String)> = [
            ("no HTTP", "SSH-2.0-OpenSSH\r\n"),
            ("HTTP/0.9", "<html>hello</html>"),
            ("another version", "HTTP/3 200 OK\r\n\r\n"),
            ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
            ("bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 0\n\n"),
            ("one bare line feed", "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n"),
            ("obs-fold", "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n"),
            ("NUL in a value", "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n"),
            ("CR in a value", "HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n"),
            ("NUL in a name", "HTTP/1.1 200 OK\r\nx\0: a\r\ncontent-length: 0\r\n\r\n"),
            ("white space in a name", "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n"),
            ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncontent-length: 4\r\n\r\nevil"),
            ("a length twice", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nevil"),
            ("a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nevil"),
            ("a signed length", "HTTP/1.1 200 OK\r\ncontent-length: +4\r\n\r\nevil"),
            ("a huge length", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nevil"),
            (
                "length and chunks",
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            ("an unknown coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            (
                "chunked twice",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("a chunk too large", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n"),
            (
                "a control byte in an extension",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;\x01\r\na\r\n0\r\n\r\n",
            ),
            ("204 with a length", "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil"),
            ("204 with a body", "HTTP/1.1 204 No Content\r\n\r\nevil"),
            ("304 with a body", "HTTP/1.1 304 Not Modified\r\n\r\nevil"),
            ("another protocol", "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nevil"),
        ]
        .map(|(description, answer)| (description, answer.to_owned()))
        .into_iter()
        .chain([
            ("two answers", OK_TEXT.to_owned() + SECOND),
            ("a flood of interim answers", "HTTP/1.1 102 x\r\n\r\n".repeat(1000) + OK_TEXT),
            ("a head too long", long),
            ("too many fields", format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(65))),
        ])
        .collect();
        let rows = Rc::new(rows);
        let answers = Rc::clone(&rows);
        // The number of the row is the path; "/good" is answered as it should be.
        let (address, _, connections) = counting_backend(move |request| {
            let path = request.split(' ').nth(1).unwrap();
            match path.trim_start_matches('/').parse::<usize>() {
                Ok(row) => Reply::Keep(answers[row].1.clone()),
                Err(_) => ok("good"),
            }
        })
        .await;
        let limits = upstream::Limits {
            response_head_bytes_max: 2048,
            response_fields_max: 64,
            ..upstream::Limits::default()
        };
        let plan = Plan { upstream: limits, ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        for (row, (description, _)) in rows.iter().enumerate() {
            let mut client = world.connect();
            let before = connections.get();
            let answer = ask(&mut client, &format!("GET /{row} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!((status(&answer), reason(&answer)), (502, Some("upstream_protocol")), "{description}");
            assert!(!answer.contains("evil"), "{description}: {answer}");
            for _ in 0..8 {
                let answer = ask(&mut client, "GET /good HTTP/1.1\r\nHost: a\r\n\r\n").await;
                assert!(
                    status(&answer) == 200 && answer.ends_with("\r\n\r\ngood"),
                    "{description}: {answer}"
                );
            }
            assert!(connections.get() > before, "{description}: the connection is not used again");
        }
    });
}

const OK_TEXT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_body_after_head_is_nobodys_answer() {
    run(async {
        let (address, _) = backend(|request| match request.starts_with("HEAD") {
            true => Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".into()),
            false => ok("good"),
        })
        .await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        for _ in 0..8 {
            let answer =
                talk(world.connect(), "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            assert_eq!((status(&answer), reason(&answer)), (502, Some("upstream_protocol")));
            let answer = ask(&mut client, GET).await;
            assert!(answer.ends_with("\r\n\r\ngood"), "{answer}");
        }
    });
}

/// What a backend says while nobody asks is not kept for whoever asks next.
#[test]
fn bytes_on_an_idle_connection_close_it() {
    run(async {
        let go = Rc::new(RefCell::new(Vec::new()));
        let held = Rc::clone(&go);
        let address = by_connection(move |mut stream, number| {
            let held = Rc::clone(&held);
            async move {
                let mut bytes = Vec::new();
                while read_message(&mut stream, &mut bytes).await.is_some() {
                    stream.write_all(OK).await.unwrap();
                    if number == 0 {
                        held.borrow_mut().push(stream);
                        return;
                    }
                }
            }
        })
        .await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        assert!(ask(&mut client, GET).await.ends_with("ok"));
        let mut stream = within(async {
            loop {
                if let Some(stream) = go.borrow_mut().pop() {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await.unwrap();
        // On loopback what has been written is there; a request that cannot be sent twice looks for itself.
        let answer = ask(&mut client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    });
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn world_of(endpoints: &[SocketAddr], limits: upstream::Limits, protocol: BackendProtocol) -> World {
    let plan = Plan {
        upstream: limits,
        protocol: Some(protocol),
        others: endpoints[1..].to_vec(),
        ..Plan::default()
    };
    World::new(&[listener("", vec![rule("", "", forward())])], Some(endpoints[0]), &plan)
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";

#[test]
fn a_request_that_an_endpoint_refuses_goes_to_another() {
    run(async {
        let (good, seen) = backend(|_| ok("good")).await;
        let limits = upstream::Limits { idle_per_endpoint_max: 0, ..upstream::Limits::default() };
        let world = world_of(&[nobody().await, good], limits, BackendProtocol::Http1);
        let mut client = world.connect();
        // Nothing was sent, so that the method does not matter, and the body is still there.
        for request in [GET, POST].into_iter().cycle().take(40) {
            let answer = ask(&mut client, request).await;
            assert!(answer.ends_with("\r\n\r\ngood"), "{answer}");
        }
        assert_eq!(seen.borrow().len(), 40);
        assert!(
            seen.borrow()
                .iter()
                .filter(|request| request.starts_with("POST"))
                .all(|request| request.ends_with("ab"))
        );
        let lines = world.lines(40).await;
        let again: Vec<_> = lines.iter().filter(|line| line["attempts"] == 2).collect();
        assert!((1..40).contains(&again.len()), "{}", again.len());
        assert!(lines.iter().all(|line| line["endpoint"] == good.to_string()), "where it went at last");
        let metrics = world.server.telemetry.metrics.render();
        for series in [
            "yett_upstream_retries_total{",
            "yett_upstream_connect_failures_total{backend=\"default/backend\",reason=\"upstream_connect_failed\"}",
        ] {
            let count = metrics.lines().find_map(|line| line.strip_prefix(series)?.rsplit(' ').next());
            assert_eq!(count, Some(&*again.len().to_string()), "{series}");
        }
    });
}

#[test]
fn what_an_endpoint_dropped_without_a_byte_goes_to_another_if_that_does_no_harm() {
    run(async {
        let (good, seen) = backend(|_| ok("good")).await;
        let bad = by_connection(|mut stream, _| async move {
            read_message(&mut stream, &mut Vec::new()).await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        let limits = upstream::Limits { idle_per_endpoint_max: 0, ..upstream::Limits::default() };
        let world = world_of(&[bad, good], limits, BackendProtocol::Http1);
        let mut client = world.connect();
        let mut lost = 0;
        for request in [GET, POST].into_iter().cycle().take(40) {
            let answer = ask(&mut client, request).await;
            if request == POST && status(&answer) == 502 {
                assert_eq!(reason(&answer), Some("upstream_closed"));
                lost += 1;
            } else {
                assert!(answer.ends_with("\r\n\r\ngood"), "{answer}");
            }
        }
        assert!((1..20).contains(&lost), "{lost}");
        assert_eq!(seen.borrow().len(), 40 - lost);
    });
}

#[test]
fn where_nobody_listens_the_answer_comes_at_once_and_few_are_tried() {
    run(async {
        for protocol in [BackendProtocol::Http1, BackendProtocol::H2c] {
            for (count, retries_max, attempts, hit) in [
                (1, 1, 1, false),
                (2, 1, 2, false),
                (4, 1, 2, true),
                (4, 2, 3, true),
                (4, 9, 4, false),
                (2, 0, 1, true),
            ] {
                let mut endpoints = Vec::new();
                for _ in 0..count {
                    endpoints.push(nobody().await);
                }
                let limits = upstream::Limits { retries_max, ..upstream::Limits::default() };
                let world = world_of(&endpoints, limits, protocol);
                let mut soonest = Duration::MAX;
                for _ in 0..5 {
                    let began = Instant::now();
                    let answer = ask(&mut world.connect(), GET).await;
                    soonest = soonest.min(began.elapsed());
                    assert_eq!((status(&answer), reason(&answer)), (502, Some("upstream_connect_failed")));
                }
                assert!(soonest < Duration::from_millis(50), "{soonest:?}");
                let line = &world.lines(1).await[0];
                assert_eq!(line["attempts"], attempts, "{count} endpoints, {retries_max} retries");
                let metrics = world.server.telemetry.metrics.render();
                let counted = metrics.contains("yett_limit_hits_total{limit=\"upstream_retries_max\"} 5");
                assert_eq!(counted, hit, "{count} endpoints, {retries_max} retries");
            }
        }
    });
}

#[test]
fn only_so_many_connections_are_made_at_once() {
    run(async {
        let (address, _) = backend(|_| ok("")).await;
        let limits = upstream::Limits { connects_per_endpoint_max: 1, ..upstream::Limits::default() };
        let world = world_of(&[address], limits, BackendProtocol::Http1);
        let asks: Vec<_> = (0..8)
            .map(|_| {
                let mut client = world.connect();
                tokio::task::spawn_local(async move { ask(&mut client, GET).await })
            })
            .collect();
        let mut answers = Vec::new();
        for asked in asks {
            answers.push(asked.await.unwrap());
        }
        let refused = answers.iter().filter(|answer| status(answer) == 503).count();
        assert!((1..8).contains(&refused), "{answers:?}");
        assert!(answers.iter().all(|answer| status(answer) == 200 || reason(answer) == Some("overloaded")));
        let metrics = world.server.telemetry.metrics.render();
        assert!(
            metrics.contains(&format!("yett_limit_hits_total{{limit=\"upstream_connects_max\"}} {refused}"))
        );
        // Those that were made are free again.
        assert_eq!(status(&ask(&mut world.connect(), GET).await), 200);
    });
}
