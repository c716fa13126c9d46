//! Behind a load balancer that tells its clients by the PROXY protocol, on the listeners that the Gateway names.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use gateway_tests::manifests::{gateway, http, https};
use gateway_tests::scene::Stage;
use gateway_tests::{Curl, Scene, Tls, wait};
use serde_json::json;

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";
const START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// An mTLS listener and a clear one behind PROXY headers, and a clear one without.
fn scene(settings: &str) -> Scene {
    let stage = Stage::new();
    let listeners = [https("mtls", 443, None, "server"), http("clear", 80), http("direct", 8080)];
    let mut object = gateway("gw", &listeners);
    object["metadata"]["annotations"] = json!({"gateway.yett.dev/proxy-protocol": "mtls, clear"});
    stage.site.apply(object);
    stage.start_with(|start| start.settings(settings))
}

/// A header of version 2 for TCP over IPv4 from 203.0.113.9:4711, with a TLV behind the addresses.
fn header() -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];
    let authority = [&[2, 0, 7][..], b"gw.test"].concat();
    let length = u16::try_from(addresses.len() + authority.len()).unwrap().to_be_bytes();
    [START, &[0x21, 0x11], &length, &addresses, &authority].concat()
}

/// Sends `ahead` and a request, and reads until the gateway closes.
fn exchange(address: SocketAddr, ahead: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(wait::SOON)).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: gw.test\r\nX-Request-Id: theirs\r\nConnection: close\r\n\r\n";
    // It may have closed already; the read tells.
    let _ = stream.write_all(&[ahead, request.as_bytes()].concat());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_client_is_the_one_that_the_header_tells() {
    let scene = scene(TRUSTING);
    let answer = exchange(scene.node.http(), &header());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = scene.backend.last();
    assert_eq!(seen.header("x-forwarded-for"), ["203.0.113.9"]);
    // The proxy is trusted; the client that it tells of is not.
    assert_ne!(seen.header("x-request-id"), ["theirs"]);
    scene.node.lines(1, |line| line["client"]["addr"] == "203.0.113.9:4711");
}

#[test]
fn the_header_comes_before_tls() {
    let scene = scene(TRUSTING);
    for alpn in ["http/1.1", "h2"] {
        let connection = scene.tls(&scene.alice).alpn(&[alpn]).ahead(&header()).open(scene.node.https());
        assert_eq!(connection.get("/").status, 200, "{alpn}");
        assert_eq!(scene.backend.last().header("x-forwarded-for"), ["203.0.113.9"], "{alpn}");
    }
    let lines = scene.node.lines(2, |line| line["client"]["addr"] == "203.0.113.9:4711");
    assert!(lines.iter().all(|line| line["client"]["verified"] == true), "{lines:?}");
    // A refused handshake, too, is the client's and not the proxy's.
    let _ = Tls::new().name("gw.test").ahead(&header()).try_get(scene.node.https());
    scene
        .node
        .lines(1, |line| line["reason"] == "no_certificate" && line["client"]["addr"] == "203.0.113.9:4711");
}

#[test]
fn curl_behind_the_protocol_is_served() {
    let scene = scene(TRUSTING);
    for curl in [scene.curl(&scene.alice).http1(), scene.curl(&scene.alice).http2()] {
        let answer = curl.arg("--haproxy-protocol").get("https://gw.test/");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let answer = Curl::to(scene.node.http()).arg("--haproxy-protocol").get("http://gw.test/");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_proxy_may_speak_for_itself() {
    let scene = scene(TRUSTING);
    let with = |bytes: &[u8]| [START, bytes].concat();
    for (description, header) in [
        ("local", with(&[0x20, 0x00, 0, 0])),
        ("unspecified", with(&[0x21, 0x00, 0, 0])),
        ("unknown", b"PROXY UNKNOWN\r\n".to_vec()),
    ] {
        let answer = exchange(scene.node.http(), &header);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{description}: {answer}");
        let seen = scene.backend.last();
        assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"], "{description}");
        assert_eq!(seen.header("x-request-id"), ["theirs"], "{description}: the proxy itself is trusted");
    }
}

#[test]
fn nobody_else_is_let_in() {
    let scene = scene("trusted_proxies = [\"192.0.2.0/24\"]\n");
    for address in [scene.node.http(), scene.node.https()] {
        assert_eq!(exchange(address, &header()), "");
        assert_eq!(exchange(address, b""), "");
    }
    assert_eq!(scene.backend.count(), 0);
    let lines = scene.node.lines(4, |line| line["reason"] == "proxy_untrusted");
    assert!(lines.iter().all(|line| line["client"]["addr"].as_str().unwrap().starts_with("127.0.0.1:")));
    scene.node.wait_metric("yett_tls_handshakes_total", &[("result", "proxy_untrusted")], 4.0);
}

#[test]
fn without_a_header_that_can_be_read_nothing_is_served() {
    let scene = scene(TRUSTING);
    let too_long = [START, &[0x21, 0x00, 0xff, 0xff]].concat();
    let rows: [(&str, &[u8]); 4] = [
        ("no header", b""),
        ("a broken line", b"PROXY TCP4 203.0.113.9 198.51.100.1 1 2 3\r\n"),
        ("version 3", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"),
        ("too long", &too_long),
    ];
    for (description, ahead) in rows {
        assert_eq!(exchange(scene.node.http(), ahead), "", "{description}");
    }
    assert_eq!(scene.backend.count(), 0);
    scene.node.lines(rows.len(), |line| line["reason"] == "proxy_malformed");
    scene.node.wait_metric("yett_limit_hits_total", &[("limit", "proxy_header_bytes_max")], 1.0);
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let scene = scene(&format!("{TRUSTING}[limits]\nhandshake_timeout = \"800ms\"\n"));
    let start = Instant::now();
    for address in [scene.node.http(), scene.node.https()] {
        let mut silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(wait::SOON)).unwrap();
        silent.write_all(b"PROXY TCP4 ").unwrap();
        assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)), "a silent proxy is held");
    }
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    scene.node.lines(2, |line| line["reason"] == "timeout");
}

#[test]
fn a_listener_that_is_not_named_takes_no_header() {
    let scene = scene(TRUSTING);
    let direct = scene.node.address(8080);
    let answer = exchange(direct, b"");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = exchange(direct, b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n");
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(scene.backend.count(), 1);
}
