//! A refused client in mid-upload still reads why.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gateway_tests::Scene;
use tempfile::TempDir;

const UPLOADS: usize = 200;
const UPLOAD_BYTES: u64 = 10_000_000;
const CLIENTS: usize = 3;

fn file(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("upload");
    // A hole reads as zeros.
    File::create(&path).unwrap().set_len(UPLOAD_BYTES).unwrap();
    path
}

fn every_upload_reads_400(http: &str) {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    let folder = TempDir::new().unwrap();
    let (file, next) = (file(&folder), AtomicUsize::new(0));
    let work = || {
        while next.fetch_add(1, Ordering::Relaxed) < UPLOADS {
            let answer = scene.curl(&mallory).arg(http).upload(&file).get("https://gw.test/sink");
            assert_eq!(answer.status, 400, "{answer:?}");
            assert_eq!(answer.json()["reason"], "certificate_revoked", "{answer:?}");
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    assert_eq!(scene.backend.count(), 0, "a revoked client's upload reached the backend");
    scene.node.lines(UPLOADS, |line| line["reason"] == "certificate_revoked");
}

#[test]
fn two_hundred_uploads_of_a_revoked_client_read_400_over_http_1() {
    every_upload_reads_400("--http1.1");
}

#[test]
fn two_hundred_uploads_of_a_revoked_client_read_400_over_http_2() {
    every_upload_reads_400("--http2");
}

#[test]
fn a_client_that_waits_for_100_or_reads_only_at_the_end_reads_400_too() {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    let folder = TempDir::new().unwrap();
    let file = format!("@{}", file(&folder).display());
    for http in ["--http1.1", "--http2"] {
        let curl = scene.curl(&mallory).arg(http).header("Expect: 100-continue");
        let answer = curl.with("--data-binary", &file).get("https://gw.test/sink");
        assert_eq!((answer.status, answer.reason()), (400, "certificate_revoked"), "{answer:?}");
    }
    // As many simple clients do: the whole request first, then the first look at the answer.
    let length = usize::try_from(UPLOAD_BYTES).unwrap();
    let mut request =
        format!("POST /sink HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, 0);
    for _ in 0..5 {
        let answer = scene.tls(&mallory).connect(scene.node.https()).unwrap().exchange(&request).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("certificate_revoked"), "{answer}");
    }
    assert_eq!(scene.backend.count(), 0);
}

#[test]
fn a_client_that_is_refused_in_the_handshake_reads_its_alert_in_mid_upload() {
    let scene = Scene::start();
    let stranger = gateway_tests::Ca::root("strangers").client("eve");
    let mut request = b"POST /sink HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 2000000\r\n\r\n".to_vec();
    request.resize(request.len() + 2_000_000, 0);
    for _ in 0..10 {
        // With TLS 1.3 the client may send as soon as it has sent its certificate.
        let ended = scene.tls(&stranger).connect(scene.node.https()).unwrap().exchange(&request);
        assert_eq!(ended, Err(gateway_tests::client::Ended::Alert(48)));
    }
}

#[test]
fn an_upload_that_stops_is_408() {
    let settings = "[limits]\nrequest_body_timeout = \"700ms\"\n";
    let scene = gateway_tests::scene::Stage::new().start_with(|start| start.settings(settings));
    for alpn in ["http/1.1", "h2"] {
        let connection = scene.tls(&scene.alice).alpn(&[alpn]).open(scene.node.https());
        let upload = connection.upload("/sink", &[]);
        upload.piece("begun").unwrap();
        let answer = upload.answer_while_open().unwrap();
        assert_eq!((answer.status.as_u16(), answer.reason()), (408, "request_timeout"), "{alpn}: {answer:?}");
    }
}

#[test]
fn an_upload_that_the_route_refuses_reads_404() {
    let stage = gateway_tests::scene::Stage::new();
    let rules = serde_json::json!([{
        "matches": [{"path": {"type": "PathPrefix", "value": "/only"}}],
        "backendRefs": [{"name": "echo", "port": 80}],
    }]);
    stage.site.apply(gateway_tests::manifests::route("all", "gw", &rules));
    let scene = stage.start();
    let folder = TempDir::new().unwrap();
    let file = file(&folder);
    for http in ["--http1.1", "--http2"] {
        for _ in 0..5 {
            let answer = scene.curl(&scene.alice).arg(http).upload(&file).get("https://gw.test/sink");
            assert_eq!((answer.status, answer.reason()), (404, "route_not_found"), "{answer:?}");
        }
    }
}
