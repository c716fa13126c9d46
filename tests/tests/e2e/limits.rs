//! Limits hold, are counted, and cost nobody else anything.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_tests::client::from;
use gateway_tests::scene::Stage;
use gateway_tests::{Http, Scene, wait};

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

fn ask(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A connection that was closed at once may refuse the request and have its answer there all the same.
    stream.write_all(b"GET /status/204 HTTP/1.1\r\nHost: gw.test\r\n\r\n").ok();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn connections_are_limited_in_all_for_each_listener_and_for_each_source() {
    for (setting, others, next) in [
        ("connections_max", ["127.0.0.1", "127.0.0.2", "127.0.0.3"], "127.0.0.4"),
        ("connections_per_listener_max", ["127.0.0.1", "127.0.0.2", "127.0.0.3"], "127.0.0.4"),
        ("connections_per_source_max", ["127.0.0.1"; 3], "127.0.0.1"),
    ] {
        let stage = Stage::new();
        Scene::with_clear_listener(&stage);
        let scene =
            stage.start_with(|start| start.settings(&format!("workers = 2\n[limits]\n{setting} = 3\n")));
        let mut held: Vec<_> = others.iter().map(|source| from(source, scene.node.http())).collect();
        for stream in &mut held {
            assert!(ask(stream).starts_with("HTTP/1.1 204"), "{setting}");
        }
        let refused = ask(&mut from(next, scene.node.http()));
        assert!(refused.starts_with("HTTP/1.1 503 "), "{setting}: {refused}");
        assert!(refused.contains("yett-reason: overloaded"), "{setting}: {refused}");
        let (limit, result) = ([("limit", setting)], [("result", "limited")]);
        assert_eq!(scene.node.metrics().sum("yett_limit_hits_total", &limit), 1.0, "{setting}");
        assert_eq!(scene.node.metrics().sum("yett_connections_total", &result), 1.0, "{setting}");
        // Those who are in go on; others come in elsewhere where the limit is not that of all.
        assert!(ask(&mut held[0]).starts_with("HTTP/1.1 204"), "{setting}");
        let elsewhere = match setting {
            "connections_max" => {
                TcpStream::connect(scene.node.https()).map(|mut stream| closed(&mut stream, wait::SOON))
            }
            "connections_per_source_max" => {
                Ok(ask(&mut from("127.0.0.9", scene.node.http())).contains(" 204 "))
            }
            _ => Ok(scene.curl(&scene.alice).get("https://gw.test/").status == 200),
        };
        assert!(elsewhere.unwrap(), "{setting}");
        held.pop();
        wait::soon("a place to be given back", || {
            ask(&mut from(next, scene.node.http())).starts_with("HTTP/1.1 204")
        });
    }
}

#[test]
fn without_descriptors_accepting_rests_and_comes_back() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start_with(|start| start.settings("workers = 1\n"));
    let bystander = scene.tls(&scene.alice).open(scene.node.https());
    assert_eq!(bystander.get("/").status, 200);
    let open = || std::fs::read_dir(format!("/proc/{}/fd", scene.node.id())).unwrap().count();
    // What the scrape before this had open is closed by now, and every number below is taken.
    let before = wait::until("open files to settle", wait::SOON, || {
        let now = open();
        (now == open()).then_some(now)
    });
    let hard = scene.node.open_files_limit();
    scene.node.limit_open_files(u64::try_from(before).unwrap(), hard);
    let mut waiting: Vec<_> = (0..20).map(|_| from("127.0.0.1", scene.node.http())).collect();
    let span = Duration::from_secs(2);
    let spent = scene.node.cpu_time();
    let mut asked = 0;
    wait::throughout("a connection that stands is served", span, || {
        asked += 1;
        // Now and then: what is measured is what the gateway does for those it cannot accept.
        asked % 50 != 1 || bystander.get("/").status == 200
    });
    let spent = scene.node.cpu_time() - spent;
    assert!(spent < span / 10, "spins: {spent:?} of CPU in {span:?}");
    scene.node.limit_open_files(hard, hard);
    let back = Instant::now();
    for stream in &mut waiting {
        assert!(ask(stream).starts_with("HTTP/1.1 204"), "whoever waited is served");
    }
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    assert_eq!(Http::clear(scene.node.http()).get("/").status, 200);
    assert!(scene.node.metrics().sum("yett_limit_hits_total", &[("limit", "open_files_max")]) > 0.0);
}
