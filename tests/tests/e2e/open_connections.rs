//! What changes while a connection is open decides its very next request.

use std::time::{Duration, Instant};

use gateway_tests::pki::{HOUR, When};
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Http, Identity, Node, Scene, wait};

const SOON: Duration = Duration::from_secs(5);

fn open(scene: &Scene, identity: &Identity, alpn: &str) -> Http {
    scene.tls(identity).alpn(&[alpn]).open(scene.node.https())
}

/// The connection's number in the access lines of a serial, which must be the same in all.
fn one_connection(node: &Node, identity: &Identity, lines: usize) {
    let serial = identity.serial_hex();
    let lines = node.lines(lines, |line| line["client"]["serial"] == serial.as_str());
    let id = lines[0]["connection"]["id"].clone();
    assert!(!id.is_null(), "{}", lines[0]);
    assert!(lines.iter().all(|line| line["connection"]["id"] == id), "{lines:?}");
}

#[test]
fn revoked_between_two_requests_of_one_connection() {
    let scene = Scene::start();
    for (number, alpn) in [(2, "http/1.1"), (3, "h2")] {
        let mallory = scene.ca.client("mallory");
        let connection = open(&scene, &mallory, alpn);
        for _ in 0..2 {
            let answer = connection.get("/");
            assert_eq!(answer.status, 200, "{alpn}: {answer:?}");
        }
        let before = scene.backend.count();
        scene.publish(&scene.ca.crl().number(number).revoke(&mallory).pem());
        let answer = connection.get("/");
        assert_eq!(answer.status, 400, "{alpn}: {answer:?}");
        assert_eq!(answer.reason(), "certificate_revoked", "{alpn}: {answer:?}");
        assert_eq!(answer.json()["reason"], "certificate_revoked");
        assert_eq!(scene.backend.count(), before, "{alpn}: a revoked client's request reached the backend");
        one_connection(&scene.node, &mallory, 3);
        // HTTP/1.1 closes after the answer, HTTP/2 after its GOAWAY.
        connection.closed(SOON);
    }
}

#[test]
fn streams_of_a_revoked_client_are_all_refused_and_one_under_way_finishes() {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    let connection = open(&scene, &mallory, "h2");
    let held = connection.begin("/held");
    scene.backend.wait_for(1);
    let upload = connection.upload("/sink", &[]);
    upload.piece("begun").unwrap();
    scene.backend.wait_for(2);
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    let late: Vec<_> = (0..3).map(|_| connection.begin("/")).collect();
    for stream in late {
        // A stream that comes after the GOAWAY may be told to go elsewhere instead; none may be served.
        if let Ok(answer) = stream.finish() {
            assert_eq!(answer.status, 400, "{answer:?}");
        }
    }
    scene.backend.release();
    assert_eq!(held.finish().unwrap().status, 200, "it was admitted before the revocation");
    assert_eq!(upload.finish().unwrap().status, 200, "it was admitted before the revocation");
    assert_eq!(scene.backend.count(), 2);
    connection.closed(SOON);
}

#[test]
fn a_ca_removed_while_its_client_is_connected() {
    let stage = Stage::new();
    let other = Ca::root("others");
    let both = stage.ca.pem() + &other.pem();
    stage.site.bundle("ca.bundle", &both, None);
    let scene = stage.start();
    for alpn in ["http/1.1", "h2"] {
        scene.site.bundle("ca.bundle", &both, None);
        let bob = other.client("bob");
        let connection = wait::until("both CAs", wait::SOON, || {
            let connection = open(&scene, &bob, alpn);
            connection.try_get("/").is_ok_and(|answer| answer.status == 200).then_some(connection)
        });
        let keeps = open(&scene, &scene.alice, alpn);
        assert_eq!(keeps.get("/").status, 200);
        let before = scene.backend.count();
        scene.node.settle(|| scene.site.bundle("ca.bundle", &scene.ca.pem(), None));
        let answer = connection.get("/");
        assert_eq!(answer.status, 400, "{alpn}: {answer:?}");
        assert_eq!(answer.reason(), "client_certificate_untrusted", "{alpn}: {answer:?}");
        assert_eq!(scene.backend.count(), before);
        assert_eq!(keeps.get("/").status, 200, "{alpn}: the other CA's client must not notice");
    }
}

#[test]
fn a_certificate_that_expires_while_its_client_is_connected() {
    let scene = Scene::start();
    for alpn in ["http/1.1", "h2"] {
        let brief = scene.ca.leaf("brief").valid(When::Ago(HOUR), When::In(Duration::from_secs(3))).issue();
        let connection = open(&scene, &brief, alpn);
        assert_eq!(connection.get("/").status, 200);
        let answer = wait::until("the certificate to expire", wait::SOON, || {
            let answer = connection.get("/");
            (answer.status != 200).then_some(answer)
        });
        assert_eq!(answer.status, 400, "{alpn}: {answer:?}");
        assert_eq!(answer.reason(), "client_certificate_expired", "{alpn}: {answer:?}");
    }
}

#[test]
fn other_clients_never_notice_a_new_list() {
    let scene = Scene::start();
    let bystander = open(&scene, &scene.alice, "h2");
    let steady = open(&scene, &scene.alice, "http/1.1");
    for number in 2..8 {
        let mallory = scene.ca.client("mallory");
        scene.publish(&scene.ca.crl().number(number).revoke(&mallory).pem());
        assert_eq!(bystander.get("/").status, 200);
        assert_eq!(steady.get("/").status, 200);
    }
}

#[test]
fn a_revocation_holds_on_every_worker_at_once() {
    let scene = Stage::new().start_with(|start| start.arg("--workers").arg("3"));
    let mallory = scene.ca.client("mallory");
    let connections: Vec<Http> =
        (0..24).map(|number| open(&scene, &mallory, ["h2", "http/1.1"][number % 2])).collect();
    for connection in &connections {
        assert_eq!(connection.get("/").status, 200);
    }
    let before = scene.backend.count();
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    for connection in &connections {
        assert_eq!(connection.get("/").reason(), "certificate_revoked");
    }
    assert_eq!(scene.backend.count(), before, "a revoked client's request reached the backend");
}

#[test]
fn a_list_takes_effect_within_a_moment_of_its_writing() {
    let scene = Scene::start();
    for number in 2..7 {
        let mallory = scene.ca.client("mallory");
        let connection = open(&scene, &mallory, "h2");
        assert_eq!(connection.get("/").status, 200);
        let start = Instant::now();
        scene.site.bundle(
            "ca.bundle",
            &scene.ca.pem(),
            Some(&scene.ca.crl().number(number).revoke(&mallory).pem()),
        );
        wait::soon("the refusal", || connection.try_get("/").is_ok_and(|answer| answer.status == 400));
        let taken = start.elapsed();
        eprintln!("list {number} took effect after {taken:?}");
        assert!(taken < SOON, "{taken:?}");
    }
}
