//! Every answer of the gateway's own says why, in the header, the body, the log and the metrics.

use std::time::{Duration, Instant};

use gateway_tests::manifests::route;
use gateway_tests::ports::Full;
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Scene};
use serde_json::{Value, json};

/// Asks over both protocols and checks that the reason stands everywhere.
fn answered(scene: &Scene, path: &str, status: u16, reason: &str) {
    for http in ["--http1.1", "--http2"] {
        let answer = scene.curl(&scene.alice).arg(http).get(&format!("https://gw.test{path}"));
        assert_eq!((answer.status, answer.reason()), (status, reason), "{http} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), ["application/problem+json"], "{answer:?}");
        let body = answer.json();
        assert_eq!(body["reason"], reason);
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("https://gateway.yett.dev/problems/{reason}"));
    }
    let lines = scene.node.lines(2, |line| line["reason"] == reason);
    assert!(lines.iter().all(|line| line["status"] == status), "{lines:?}");
    scene.node.wait_metric("yett_http_refusals_total", &[("reason", reason)], 2.0);
}

fn rule(prefix: &str, service: &str) -> Value {
    json!({
        "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "backendRefs": [{"name": service, "port": 80}],
    })
}

#[test]
fn no_route_is_404_no_endpoint_503_no_backend_500() {
    let stage = Stage::new();
    stage.site.service("empty", &[]);
    let rules = json!([rule("/echo", "echo"), rule("/empty", "empty"), rule("/missing", "no-such-service")]);
    stage.site.apply(route("all", "gw", &rules));
    let scene = stage.start();
    answered(&scene, "/elsewhere", 404, "route_not_found");
    answered(&scene, "/empty", 503, "no_endpoints");
    answered(&scene, "/missing", 500, "backend_invalid");
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/echo").status, 200);
    assert_eq!(scene.backend.count(), 1);
}

#[test]
fn a_backend_that_refuses_is_502_at_once_and_served_again_when_it_is_back() {
    let stage = Stage::new();
    let mut flaky = Backend::named("flaky");
    let address = flaky.address();
    stage.site.service("flaky", &[address]);
    stage.site.apply(route("all", "gw", &json!([rule("/", "flaky")])));
    let scene = stage.start();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    flaky.stop();
    answered(&scene, "/", 502, "upstream_connect_failed");
    let _again = Backend::at("again", address);
    let answer = scene.curl(&scene.alice).get("https://gw.test/");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_backend_that_closes_without_an_answer_is_502() {
    let scene = Scene::start();
    answered(&scene, "/close", 502, "upstream_closed");
}

#[test]
fn a_backend_that_does_not_answer_is_504() {
    let scene = Stage::new().start_with(|start| start.settings("[limits]\nbackend_timeout = \"700ms\"\n"));
    let start = Instant::now();
    answered(&scene, "/hang", 504, "upstream_timeout");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_backend_that_cannot_be_connected_is_504() {
    let (stage, full) = (Stage::new(), Full::new());
    stage.site.service("full", &[full.address()]);
    stage.site.apply(route("all", "gw", &json!([rule("/", "full")])));
    let scene = stage.start_with(|start| start.settings("[limits]\nconnect_timeout = \"500ms\"\n"));
    answered(&scene, "/", 504, "upstream_connect_timeout");
}

#[test]
fn a_request_that_breaks_http_is_400_or_431_and_never_forwarded() {
    let scene = Scene::start();
    let tls = scene.tls(&scene.alice);
    let long = format!("GET / HTTP/1.1\r\nHost: gw.test\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    for (description, request, status) in [
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            400,
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nHost: gw.test\r\nHost: gw.test\r\n\r\n", 400),
        ("a malformed host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("more fields than a head may have", long.as_str(), 431),
    ] {
        let answer = tls.connect(scene.node.https()).unwrap().exchange(request.as_bytes());
        let answer = answer.unwrap_or_else(|ended| panic!("{description}: {ended:?}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{description}: {answer}");
    }
    assert_eq!(scene.backend.count(), 0, "a malformed request reached the backend");
}
