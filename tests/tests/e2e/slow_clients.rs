//! Clients that take their time: each stage has its limit, holds little, and costs nobody else an answer.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gateway_tests::client::Link;
use gateway_tests::scene::Stage;
use gateway_tests::soak::load::{Kind, Load};
use gateway_tests::{Scene, wait};

/// Clients at each stage.
const CLIENTS: usize = 60;
/// What they may hold in all.
const HELD_BYTES_MAX: u64 = 64 << 20;
/// Handshakes begun and left lying.
const ABANDONED: usize = 3000;

/// A connection in clear on which the client stops after these bytes.
fn stopped(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).ok();
    stream
}

#[test]
fn a_slow_client_is_let_go_at_every_stage_and_holds_little() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let limits = ["handshake", "request_head", "idle", "request_body", "response_stall"];
    let limits = limits.map(|name| format!("{name}_timeout = \"2s\"\n")).concat();
    let scene = stage.start_with(|start| start.settings(&format!("[limits]\n{limits}")));
    let (clear, secure) = (scene.node.http(), scene.node.https());
    let (tls, load) = (scene.tls(&scene.alice), Load::default());
    load.during(&[Kind::Http1, Kind::Http2], secure, &tls, || {
        let before = scene.node.resident_bytes();
        let raw: [(SocketAddr, &[u8]); 7] = [
            (secure, b""),
            // The beginning of a ClientHello.
            (secure, b"\x16\x03\x01\x02\x00\x01"),
            (clear, b""),
            (clear, b"PRI * HTTP/2.0\r\n\r\nSM"),
            (clear, b"GET / HTTP/1.1\r\nHost: gw.test\r\nX-Half"),
            (clear, b"POST /sink HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 100\r\n\r\nhalf"),
            (clear, b"GET /bytes/50000000 HTTP/1.1\r\nHost: gw.test\r\n\r\n"),
        ];
        let held: Vec<TcpStream> =
            raw.iter().flat_map(|(to, bytes)| [(); CLIENTS].map(|()| stopped(*to, bytes))).collect();
        let silent: Vec<Link> = ["http/1.1", "h2"]
            .into_iter()
            .flat_map(|alpn| [(); CLIENTS / 2].map(|()| tls.clone().alpn(&[alpn]).connect(secure).unwrap()))
            .collect();
        let grown = scene.node.resident_bytes().saturating_sub(before);
        eprintln!("{} slow clients hold {} KiB", held.len() + silent.len(), grown >> 10);
        assert!(grown <= HELD_BYTES_MAX, "{grown} bytes");
        wait::soon("all but the bystanders to be let go", || {
            scene.node.metrics().sum("yett_connections_active", &[]) <= 2.0
        });
    });
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    for (limit, least) in [
        ("handshake_timeout", 2 * CLIENTS),
        ("request_head_timeout", 3 * CLIENTS),
        ("request_body_timeout", CLIENTS),
        ("response_stall_timeout", CLIENTS),
    ] {
        let hits = scene.node.metrics().sum("yett_limit_hits_total", &[("limit", limit)]);
        assert!(hits >= f64::from(u32::try_from(least).unwrap()), "{limit}: {hits}");
    }
}

/// Clients who come while others begin handshakes without end: the silent ones make way, and not those who have only just
/// come or are in the midst of theirs.
#[test]
fn who_comes_in_the_midst_of_abandoned_handshakes_is_served() {
    let settings = "[limits]\nhandshakes_max = 1024\nhandshake_timeout = \"60s\"\n";
    let scene = Stage::new().start_with(|start| start.settings(settings));
    let (tls, load, secure) = (scene.tls(&scene.alice), Load::default(), scene.node.https());
    load.during(&[Kind::Connect], secure, &tls, || {
        let (before, mut abandoned) = (load.answered(Kind::Connect), Vec::new());
        let came = || load.answered(Kind::Connect) - before;
        for begun in 1.. {
            abandoned.push(stopped(secure, b"\x16\x03\x01\x02\x00\x01"));
            if abandoned.len() > 2 * ABANDONED {
                // What has been shed is of no more use.
                abandoned.drain(..ABANDONED);
            }
            if !load.failures().is_empty() || (begun >= ABANDONED && came() >= 20) {
                break;
            }
        }
        let shed = scene.node.metrics().sum("yett_limit_hits_total", &[("limit", "handshakes_max")]);
        eprintln!("{} came and were served, while {shed} were shed", came());
        assert!(shed >= 1000.0, "{shed}");
    });
    assert!(load.failures().is_empty(), "{:?}", load.failures());
}

#[test]
fn abandoned_handshakes_are_bounded_and_cost_a_bystander_nothing() {
    let settings = "[limits]\nhandshakes_max = 256\nhandshake_timeout = \"60s\"\n";
    let scene = Stage::new().start_with(|start| start.settings(settings));
    let (tls, load, secure) = (scene.tls(&scene.alice), Load::default(), scene.node.https());
    load.during(&[Kind::Http2], secure, &tls, || {
        let (before, spent) = (scene.node.resident_bytes(), scene.node.cpu_time());
        let abandoned: Vec<TcpStream> =
            (0..ABANDONED).map(|_| stopped(secure, b"\x16\x03\x01\x02\x00\x01")).collect();
        let shed = ABANDONED - 256;
        let shed = f64::from(u32::try_from(shed).unwrap());
        scene.node.wait_metric("yett_limit_hits_total", &[("limit", "handshakes_max")], shed);
        let grown = scene.node.resident_bytes().saturating_sub(before);
        eprintln!(
            "{} abandoned: {} KiB, {:?} of CPU",
            abandoned.len(),
            grown >> 10,
            scene.node.cpu_time() - spent
        );
        assert!(grown <= HELD_BYTES_MAX, "{grown} bytes");
        // Where every place is taken by one that is silent, a newcomer gets the place of the most silent.
        for _ in 0..5 {
            assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
        }
    });
    eprintln!("a bystander: {}", load.times());
    assert!(load.failures().is_empty(), "{:?}", load.failures());
    // A hundred milliseconds is the aim; a machine that does other things as well gets ten times that.
    assert!(load.p99() < Duration::from_secs(1), "{}", load.times());
}
