//! Backends that answer in unusual ways, or not at all.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use gateway_tests::manifests::{gateway, http, route, to};
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Bystander, Node, Raw, Scene, Site, Wire, wait};
use serde_json::json;

/// The usual scene, and a listener in clear, before these endpoints.
fn scene(endpoints: &[SocketAddr], settings: &str) -> Scene {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    stage.site.service("echo", endpoints);
    stage.start_with(|start| start.settings(settings))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A backend that answers every request with the same bytes.
fn saying(answer: String) -> Raw {
    Raw::start(move |mut wire, _| while wire.head().is_some() && wire.send(&answer) {})
}

const FAILED: [(&str, &str); 1] = [("reason", "upstream_connect_failed")];

#[test]
fn an_endpoint_that_is_down_costs_no_request() {
    let other = Backend::named("other");
    let scene = scene(&[nobody(), other.address()], "");
    for alpn in ["http/1.1", "h2"] {
        let connection = scene.tls(&scene.alice).alpn(&[alpn]).open(scene.node.https());
        for _ in 0..20 {
            assert_eq!(connection.get("/").status, 200);
            assert_eq!(connection.post("/sink", &[], "four").body, b"4", "nothing of it was sent before");
        }
    }
    assert_eq!(other.count(), 80);
    let again = scene.node.lines(1, |line| line["attempts"] == 2);
    assert!(again.iter().all(|line| line["endpoint"] == other.address().to_string()), "{again:?}");
    let metrics = scene.node.metrics();
    assert!(metrics.sum("yett_upstream_retries_total", &[]) >= 1.0);
    assert_eq!(
        metrics.sum("yett_upstream_retries_total", &[]),
        metrics.sum("yett_upstream_connect_failures_total", &FAILED)
    );
}

#[test]
fn where_all_endpoints_are_down_the_answer_is_502_at_once() {
    let scene = scene(&[nobody(), nobody(), nobody()], "");
    let connection = scene.tls(&scene.alice).open(scene.node.https());
    let mut soonest = Duration::MAX;
    for _ in 0..10 {
        let began = Instant::now();
        let answer = connection.get("/");
        soonest = soonest.min(began.elapsed());
        assert_eq!((answer.status.as_u16(), answer.reason()), (502, "upstream_connect_failed"));
    }
    assert!(soonest < Duration::from_millis(50), "{soonest:?}");
    // One more than the first, which leaves one untried.
    assert_eq!(scene.node.metrics().sum("yett_upstream_retries_total", &[]), 10.0);
    assert_eq!(scene.node.metrics().sum("yett_limit_hits_total", &[("limit", "upstream_retries_max")]), 10.0);
}

#[test]
fn a_request_that_was_dropped_without_a_byte_is_sent_elsewhere_if_that_does_no_harm() {
    let other = Backend::named("other");
    let bad = Raw::start(|mut wire, _| {
        wire.head();
        wire.reset();
    });
    let scene = scene(&[bad.address(), other.address()], "[limits]\nupstream_idle_max = 0\n");
    let connection = scene.tls(&scene.alice).open(scene.node.https());
    let mut lost = 0;
    for _ in 0..20 {
        assert_eq!(connection.get("/").status, 200);
        let answer = connection.post("/sink", &[], "four");
        if answer.status != 200 {
            assert_eq!((answer.status.as_u16(), answer.reason()), (502, "upstream_closed"));
            lost += 1;
        }
    }
    assert!((1..20).contains(&lost), "{lost} of 20");
    assert_eq!(other.count(), 40 - lost);
}

#[test]
fn a_request_body_over_the_limit_is_413() {
    let backend = Backend::start();
    let scene = scene(&[backend.address()], "[limits]\nrequest_body_bytes_max = 1000\n");
    for http in ["--http1.1", "--http2"] {
        for (fields, bytes, expected) in [
            (&[][..], 1000, 200),
            (&["Transfer-Encoding: chunked"], 1000, 200),
            (&[], 1001, 413),
            (&["Transfer-Encoding: chunked"], 1001, 413),
            (&["Expect: 100-continue"], 1001, 413),
        ] {
            let curl = fields.iter().fold(scene.curl(&scene.alice).arg(http), |curl, line| curl.header(line));
            let answer = curl.with("--data-binary", &"x".repeat(bytes)).get("https://gw.test/sink");
            assert_eq!(answer.status, expected, "{http} {fields:?}: {answer:?}");
            if expected == 413 {
                assert_eq!(answer.json()["reason"], "content_too_large", "{http} {fields:?}");
                assert!(!answer.trace.contains("< HTTP/1.1 100"), "{}", answer.trace);
            } else {
                assert_eq!(answer.text(), bytes.to_string(), "{http} {fields:?}");
            }
        }
    }
    assert_eq!(backend.requests().iter().filter(|seen| seen.complete).count(), 4);
    scene.node.lines(6, |line| line["reason"] == "content_too_large");
    assert_eq!(
        scene.node.metrics().sum("yett_limit_hits_total", &[("limit", "request_body_bytes_max")]),
        6.0
    );
}

#[test]
fn a_client_is_told_to_go_on_only_when_its_body_is_wanted() {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    for (identity, url, expected) in
        [(&scene.alice, "https://gw.test/sink", 200), (&mallory, "https://gw.test/sink", 400)]
    {
        let curl = scene.curl(identity).http1().header("Expect: 100-continue").with("--data", "four");
        let answer = curl.with("--expect100-timeout", "30").get(url);
        assert_eq!((answer.exit, answer.status), (0, expected), "{answer:?}");
        assert_eq!(answer.trace.contains("< HTTP/1.1 100 Continue"), expected == 200, "{}", answer.trace);
    }
    assert_eq!(scene.backend.count(), 1);
}

#[test]
fn a_body_that_the_backend_does_not_want_is_not_asked_for() {
    let raw = saying("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno".to_owned());
    let scene = scene(&[raw.address()], "");
    let mut client = Wire::to(scene.node.http());
    client.send("POST / HTTP/1.1\r\nHost: gw.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 417 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
    let seen = raw.take();
    assert!(seen.contains("\r\nexpect: 100-continue\r\n") && seen.ends_with("\r\n\r\n"), "{seen}");
}

#[test]
fn interim_answers_stay_on_their_hop() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
    let raw = saying(format!("{interim}HTTP/1.1 200 OK\r\nx-final: 1\r\ncontent-length: 2\r\n\r\nok"));
    let scene = scene(&[raw.address()], "");
    for alpn in ["http/1.1", "h2"] {
        let connection = scene.tls(&scene.alice).alpn(&[alpn]).open(scene.node.https());
        for _ in 0..3 {
            let answer = connection.get("/");
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok"[..]), "{alpn}: {answer:?}");
            assert_eq!((answer.header("x-final"), answer.header("link")), ("1", ""), "{alpn}: {answer:?}");
        }
    }
}

#[test]
fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    let raw = saying("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n".to_owned());
    let scene = scene(&[raw.address()], "");
    for http in ["--http1.1", "--http2"] {
        for _ in 0..3 {
            let answer = scene.curl(&scene.alice).arg(http).arg("--head").get("https://gw.test/");
            assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
            assert_eq!(answer.header("content-length"), ["12345"], "{answer:?}");
        }
    }
    let mut client = Wire::to(scene.node.http());
    client.send("HEAD / HTTP/1.1\r\nHost: gw.test\r\n\r\nHEAD / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
    let answers = client.rest();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert!(answers.ends_with("\r\n\r\n"), "{answers}");
    // Each worker keeps connections of its own.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(raw.connections() <= workers, "the backend's connections are free again");
}

/// The limits of heads are 64 KiB both ways.
#[test]
fn large_heads_pass_and_larger_ones_do_not() {
    for (bytes, passes) in [(60 * 1024, true), (66 * 1024, false)] {
        let large = "x".repeat(bytes);
        let raw = saying(format!("HTTP/1.1 200 OK\r\nx-large: {large}\r\ncontent-length: 0\r\n\r\n"));
        let scene = scene(&[raw.address()], "");
        for http in ["--http1.1", "--http2"] {
            let answer = scene.curl(&scene.alice).arg(http).get("https://gw.test/");
            if passes {
                assert_eq!((answer.exit, answer.status), (0, 200), "{http}: {}", answer.status);
                assert!(answer.header("x-large") == [&*large], "{http}");
            } else {
                assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"), "{http}");
            }
        }
        raw.take();
        for alpn in ["http/1.1", "h2"] {
            // The answer is too large again: what counts is what the backend gets.
            let connection = scene.tls(&scene.alice).alpn(&[alpn]).open(scene.node.https());
            let answer = connection.try_get_with("/up", &[("x-large", &large)]);
            let seen = raw.take();
            assert_eq!(seen.contains(&format!("\r\nx-large: {large}\r\n")), passes, "{alpn}");
            assert_eq!(seen.is_empty(), !passes, "{alpn}");
            if !passes {
                assert_eq!(answer.unwrap().status, 431, "{alpn}");
            }
        }
    }
}

/// Another gateway is the backend: a process that can be stopped, and whose kernel goes on taking connections.
#[test]
fn a_backend_process_that_is_stopped_is_504_in_time_and_costs_nobody_else() {
    let (far, behind) = (Backend::named("far"), Site::new());
    behind.service("far", &[far.address()]);
    behind.apply(gateway("gw", &[http("clear", 80)]));
    behind.apply(route("all", "gw", &to("far")));
    let behind = Node::on(&behind).ready();
    let stage = Stage::new();
    stage.site.service("behind", &[behind.http()]);
    let rules = json!([
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/far"}}],
            "backendRefs": [{"name": "behind", "port": 80}], "timeouts": {"request": "1s"},
        },
        {"backendRefs": [{"name": "echo", "port": 80}]},
    ]);
    stage.site.apply(route("all", "gw", &rules));
    let scene = stage.start();
    let tls = scene.tls(&scene.alice);
    let bystander = Bystander::beside(&tls, scene.node.https());
    let kept = ["http/1.1", "h2"].map(|alpn| tls.clone().alpn(&[alpn]).open(scene.node.https()));
    assert!(kept.iter().all(|client| client.get("/far").status == 200));
    behind.signal("STOP");
    for client in &kept {
        for upload in [None, Some(vec![b'u'; 2 << 20])] {
            let begun = Instant::now();
            let answer = match upload {
                None => client.get("/far/late"),
                Some(body) => client.post("/far/late", &[], body),
            };
            let took = begun.elapsed();
            assert_eq!((answer.status.as_u16(), answer.reason()), (504, "upstream_timeout"), "{answer:?}");
            assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
        }
    }
    bystander.goes_on();
    // One is the bystander's: those that had no answer are not used again.
    let open = || scene.node.metrics().sum("yett_upstream_connections_active", &[]);
    wait::soon("connections without an answer to be closed", || open() <= 1.0);
    behind.signal("CONT");
    for client in ["http/1.1", "h2"].map(|alpn| tls.clone().alpn(&[alpn]).open(scene.node.https())) {
        wait::soon("service", || client.get("/far").status == 200);
    }
    let (served, slowest) = bystander.finish();
    eprintln!("{served} requests beside it, the slowest in {slowest:?}");
}
