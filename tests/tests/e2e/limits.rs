//! Limits hold, are counted, and cost nobody else anything.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_tests::Scene;
use gateway_tests::scene::Stage;

fn closed(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn at_the_cap_on_handshakes_the_one_that_has_waited_longest_is_dropped() {
    let settings = "workers = 1\n[limits]\nhandshakes_max = 4\nhandshake_timeout = \"60s\"\n";
    let scene = Stage::new().start_with(|start| start.settings(settings));
    let mut silent: Vec<TcpStream> =
        (0..12).map(|_| TcpStream::connect(scene.node.https()).unwrap()).collect();
    for _ in 0..5 {
        let answer = scene.curl(&scene.alice).get("https://gw.test/");
        assert_eq!(answer.status, 200, "silent clients shut the others out: {answer:?}");
    }
    assert!(closed(&mut silent[0], Duration::from_secs(5)), "the oldest was kept");
    scene.node.wait_metric("yett_limit_hits_total", &[("limit", "handshakes_max")], 8.0);
    let shed = scene.node.lines(8, |line| line["reason"] == "shed");
    assert!(shed.iter().all(|line| line["client"]["addr"].is_string()), "{shed:?}");
}

#[test]
fn a_silent_handshake_ends_at_its_timeout() {
    let scene = Stage::new().start_with(|start| start.settings("[limits]\nhandshake_timeout = \"800ms\"\n"));
    let start = Instant::now();
    let mut silent = TcpStream::connect(scene.node.https()).unwrap();
    assert!(closed(&mut silent, Duration::from_secs(5)), "a silent client is held");
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
    scene.node.lines(1, |line| line["reason"] == "timeout");
}

#[test]
fn an_idle_connection_ends_at_its_timeout() {
    let scene = Stage::new().start_with(|start| start.settings("[limits]\nidle_timeout = \"1s\"\n"));
    for alpn in ["http/1.1", "h2"] {
        let connection = scene.tls(&scene.alice).alpn(&[alpn]).open(scene.node.https());
        assert_eq!(connection.get("/").status, 200);
        connection.closed(Duration::from_secs(6));
    }
}

#[test]
fn a_head_that_never_ends_closes_its_connection_and_is_counted() {
    let settings = "[limits]\nrequest_head_timeout = \"800ms\"\n";
    let scene = Stage::new().start_with(|start| start.settings(settings));
    let mut link = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
    let start = Instant::now();
    // Closed without a word: hyper has no answer for half a head.
    link.exchange(b"GET / HTTP/1.1\r\nHost: gw").unwrap_or_default();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    scene.node.wait_metric("yett_limit_hits_total", &[("limit", "request_head_timeout")], 1.0);
    assert_eq!(scene.backend.count(), 0);
}

#[test]
fn one_connection_keeps_to_its_streams() {
    let scene = Scene::start();
    let connection = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    let streams: Vec<_> = (0..150).map(|_| connection.begin("/held")).collect();
    scene.backend.wait_for(100);
    scene.backend.release();
    for stream in streams {
        assert_eq!(stream.finish().unwrap().status, 200);
    }
}
