//! What a RevocationPolicy's `answer` makes of a refused client: of its streams under way, of its handshakes, and of its
//! sessions.

use std::fs::File;
use std::time::Duration;

use gateway_tests::client::{Ended, OpenSsl, Session};
use gateway_tests::manifests::{condition, revocation, route, secret};
use gateway_tests::pki::{DAY, HOUR, When};
use gateway_tests::scene::Stage;
use gateway_tests::websocket::{self, WebSocket};
use gateway_tests::{Ca, Http, Identity, Raw, Scene, wait};
use rcgen::RevocationReason;
use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(5);

/// A scene under a policy with this answer, whose list is empty.
fn answering(answer: &str, mut more: Value) -> Stage {
    let stage = Stage::of(Ca::root("clients"), None);
    more["answer"] = json!(answer);
    more["sources"] = json!([{"crl": {"secretRef": {"name": "lists"}}}]);
    stage.site.apply(revocation("lists", "gw", "mtls", more));
    stage.site.apply(secret("Opaque", "lists", &[("root.crl", stage.ca.crl().pem())]));
    stage
}

fn publish(scene: &Scene, list: &str) {
    scene.node.settle(|| drop(scene.site.apply(secret("Opaque", "lists", &[("root.crl", list.to_owned())]))));
}

fn open(scene: &Scene, identity: &Identity, alpn: &str) -> Http {
    scene.tls(identity).alpn(&[alpn]).open(scene.node.https())
}

fn accepted(scene: &Scene) {
    let status = scene.node.status("RevocationPolicy", "default", "lists");
    let found = condition(&status["status"]["ancestors"][0]["conditions"], "Accepted").unwrap();
    assert_eq!((found.0.as_str(), found.1.as_str()), ("True", "Accepted"));
}

fn closed_as_revoked(scene: &Scene) -> f64 {
    scene.node.metrics().sum("yett_revocation_connections_closed_total", &[])
}

#[test]
fn close_connections_breaks_off_what_is_under_way() {
    let scene = answering("CloseConnections", json!({})).start();
    accepted(&scene);
    for (number, alpn) in [(2, "h2"), (3, "http/1.1")] {
        let mallory = scene.ca.client("mallory");
        let before = scene.backend.count();
        // A bystander with a stream of its own, which must not notice.
        let bystander = open(&scene, &scene.alice, alpn);
        let kept = bystander.upload("/mirror", &[]);
        kept.piece("kept").unwrap();
        let streaming = open(&scene, &mallory, alpn);
        let stream = streaming.upload("/mirror", &[]);
        stream.piece("begun").unwrap();
        scene.backend.wait_for(before + 2);
        let idle = open(&scene, &mallory, alpn);
        assert_eq!(idle.get("/").status, 200);
        scene.backend.wait_for(before + 3);
        let count = closed_as_revoked(&scene);

        publish(&scene, &scene.ca.crl().number(number).revoke(&mallory).pem());
        let answer = stream.answer_while_open();
        if let Ok(answer) = answer {
            assert_eq!(answer.status, 200, "{alpn}: it had been answered before");
            assert!(answer.broken.is_some(), "{alpn}: {answer:?}");
        }
        streaming.closed(SOON);
        idle.closed(SOON);
        assert!(closed_as_revoked(&scene) >= count + 2.0, "{alpn}");
        let lines = scene.node.lines(1, |line| {
            line["reason"] == "certificate_revoked"
                && line["client"]["serial"] == mallory.serial_hex().as_str()
        });
        assert_eq!(
            (&lines[0]["status"], &lines[0]["http"]["path"]),
            (&json!(200), &json!("/mirror")),
            "{alpn}"
        );
        // New connections are let in and told.
        let answer = open(&scene, &mallory, alpn).get("/");
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (400, "certificate_revoked"),
            "{alpn}: {answer:?}"
        );
        assert_eq!(
            scene.backend.count(),
            before + 3,
            "{alpn}: a revoked client's request reached the backend"
        );

        kept.piece(" whole").unwrap();
        let answer = kept.finish().unwrap();
        assert_eq!((answer.body.as_slice(), answer.broken), (&b"kept whole"[..], None), "{alpn}");
        assert_eq!(bystander.get("/").status, 200, "{alpn}");
    }
}

#[test]
fn close_connections_answers_what_waits_for_the_backend() {
    let scene = answering("CloseConnections", json!({})).start();
    for (number, alpn) in [(2, "h2"), (3, "http/1.1")] {
        let mallory = scene.ca.client("mallory");
        let before = scene.backend.count();
        let connection = open(&scene, &mallory, alpn);
        let held = connection.begin("/hang");
        scene.backend.wait_for(before + 1);
        let uploading = open(&scene, &mallory, alpn);
        let upload = uploading.upload("/sink", &[]);
        upload.piece("begun").unwrap();
        scene.backend.wait_for(before + 2);
        publish(&scene, &scene.ca.crl().number(number).revoke(&mallory).pem());
        for (description, request) in [("waiting", held), ("in mid-upload", upload)] {
            let answer = request.answer_while_open().unwrap();
            assert_eq!(answer.status, 400, "{alpn}, {description}: {answer:?}");
            assert_eq!(answer.reason(), "certificate_revoked", "{alpn}, {description}: {answer:?}");
            assert_eq!(answer.json()["crlNumber"], number.to_string(), "{alpn}, {description}");
        }
        connection.closed(SOON);
        uploading.closed(SOON);
        let serial = mallory.serial_hex();
        scene.node.lines(2, |line| line["status"] == 400 && line["client"]["serial"] == serial.as_str());
    }
}

#[test]
fn close_connections_reaches_every_worker_and_a_client_that_does_not_read() {
    let scene = answering("CloseConnections", json!({})).start_with(|start| start.arg("--workers").arg("3"));
    let mallory = scene.ca.client("mallory");
    let streams: Vec<(Http, _)> = (0..18)
        .map(|number| {
            let connection = open(&scene, &mallory, ["h2", "http/1.1"][number % 2]);
            let stream = connection.upload("/mirror", &[]);
            stream.piece("begun").unwrap();
            (connection, stream)
        })
        .collect();
    scene.backend.wait_for(streams.len());
    // Takes nothing of a long answer: there is no room to write another byte.
    let mut stuck = scene.tls(&mallory).connect(scene.node.https()).unwrap();
    assert!(stuck.send("GET /bytes/100000000 HTTP/1.1\r\nHost: gw.test\r\n\r\n"));
    scene.backend.wait_for(streams.len() + 1);
    let active = || scene.node.metrics().sum("yett_http_requests_active", &[]);
    assert!(active() >= 19.0);
    publish(&scene, &scene.ca.crl().number(2).revoke(&mallory).pem());
    wait::until("every stream to be broken off", SOON, || (active() < 1.0).then_some(()));
    for (connection, stream) in streams {
        drop(stream);
        connection.closed(SOON);
    }
}

#[test]
fn a_policy_that_begins_to_close_connections_closes_those_of_clients_revoked_before() {
    let scene = answering("Http400", json!({})).start();
    let mallory = scene.ca.client("mallory");
    let connection = open(&scene, &mallory, "h2");
    let stream = connection.upload("/mirror", &[]);
    stream.piece("begun").unwrap();
    scene.backend.wait_for(1);
    publish(&scene, &scene.ca.crl().number(2).revoke(&mallory).pem());
    stream.piece("goes on").unwrap();
    assert!(!stream.answered(), "what was admitted goes on");
    let closing =
        json!({"answer": "CloseConnections", "sources": [{"crl": {"secretRef": {"name": "lists"}}}]});
    scene.node.settle(|| drop(scene.site.apply(revocation("lists", "gw", "mtls", closing))));
    let answer = stream.answer_while_open();
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.broken.is_some()));
    connection.closed(SOON);
}

#[test]
fn a_websocket_of_a_client_that_is_revoked_is_cut() {
    for answer in ["CloseConnections", "TlsAlert"] {
        let backend = Raw::start(|wire, _| websocket::serve(wire));
        let stage = answering(answer, json!({}));
        let (address, port) = (backend.address().ip().to_string(), backend.address().port());
        stage.site.apply(json!({
            "apiVersion": "gateway.yett.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "raw"},
            "spec": {"endpoints": [{"address": address, "port": port}], "appProtocol": "kubernetes.io/ws"},
        }));
        let to = json!([{"group": "gateway.yett.dev", "kind": "Backend", "name": "raw"}]);
        stage.site.apply(route("all", "gw", &json!([{"backendRefs": to}])));
        let scene = stage.start();
        let mallory = scene.ca.client("mallory");
        let [mut cut, mut kept] = [&mallory, &scene.alice]
            .map(|who| WebSocket::open(scene.tls(who).connect(scene.node.https()).unwrap(), "/").unwrap());
        assert_eq!((cut.echo(b"one"), kept.echo(b"one")), (b"one".to_vec(), b"one".to_vec()));
        publish(&scene, &scene.ca.crl().number(2).revoke(&mallory).pem());
        assert!(cut.is_cut(), "{answer}");
        assert_eq!(kept.echo(b"two"), b"two", "{answer}");
        let lines = scene.node.lines(1, |line| line["status"] == 101);
        assert_eq!(lines[0]["reason"], "certificate_revoked", "{answer}: {lines:?}");
        assert_eq!(closed_as_revoked(&scene), 1.0, "{answer}");
    }
}

fn shaking_hands(scene: &Scene, identity: &Identity, version: &str) -> OpenSsl {
    OpenSsl::to(scene.node.https()).cert(identity).name("gw.test").arg(version)
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
fn tls_alert_tells_a_revoked_client_in_the_handshake() {
    let scene = answering("TlsAlert", json!({})).start();
    accepted(&scene);
    let (mallory, bob) = (scene.ca.client("mallory"), scene.ca.client("bob"));
    let list = scene.ca.crl().number(2).revoke(&mallory);
    let list = list.revoke_serial(bob.serial(), RevocationReason::CertificateHold);
    publish(&scene, &list.pem());
    for version in VERSIONS {
        for (who, reason) in [(&mallory, "certificate_revoked"), (&bob, "certificate_on_hold")] {
            let session = shaking_hands(&scene, who, version).get("/");
            assert_eq!((session.alert(), session.status()), (Some(44), None), "{version}: {session:?}");
            let lines = scene.node.lines(1, |line| {
                line["kind"] == "handshake" && line["client"]["serial"] == who.serial_hex().as_str()
            });
            assert_eq!(lines[0]["reason"], reason, "{lines:?}");
            assert_eq!(lines[0]["tls"]["alert"], "certificate_revoked", "{lines:?}");
        }
        let session = shaking_hands(&scene, &scene.alice, version).get("/");
        assert_eq!(session.status(), Some(200), "{version}: {session:?}");
    }
    for arguments in [["--http1.1", "1.2"], ["--http2", "1.3"]] {
        let answer =
            scene.curl(&mallory).arg(arguments[0]).with("--tls-max", arguments[1]).get("https://gw.test/");
        assert_eq!(answer.status, 0, "{answer:?}");
        assert!(answer.trace.contains("certificate revoked"), "{answer:?}");
    }
    let metrics = scene.node.metrics();
    let failed = |result| metrics.sum("yett_tls_handshakes_total", &[("result", result)]);
    assert_eq!((failed("certificate_revoked"), failed("certificate_on_hold")), (4.0, 2.0));
    let checks = [("result", "revoked"), ("phase", "handshake")];
    assert_eq!(metrics.sum("yett_revocation_checks_total", &checks), 6.0);
    assert_eq!(scene.backend.count(), 2);
}

#[test]
fn tls_alert_says_certificate_unknown_where_nothing_is_known() {
    for (description, more, expected, reason) in [
        ("an issuer without a list", json!({}), 46, "revocation_status_unknown"),
        ("an issuer without a list, who may pass", json!({"onUnknown": "Allow"}), 0, ""),
        ("a list past its allowance", json!({"maxStaleness": "1h"}), 46, "crl_expired"),
    ] {
        let stage = answering("TlsAlert", more);
        let other = Ca::root("others");
        stage.site.bundle("ca.bundle", &(stage.ca.pem() + &other.pem()), None);
        let bob = if reason == "crl_expired" {
            let old = stage.ca.crl().valid(When::Ago(DAY), When::Ago(2 * HOUR));
            stage.site.apply(secret("Opaque", "lists", &[("root.crl", old.pem())]));
            stage.ca.client("bob")
        } else {
            other.client("bob")
        };
        let scene = stage.start();
        for version in VERSIONS {
            let session: Session = shaking_hands(&scene, &bob, version).get("/");
            assert_eq!(session.alert().unwrap_or(0), expected, "{description}, {version}: {session:?}");
        }
        if expected == 0 {
            let lines = scene.node.lines(2, |line| line["kind"] == "request");
            assert!(lines.iter().all(|line| line["unchecked"] == "revocation_status_unknown"), "{lines:?}");
        } else {
            scene
                .node
                .lines(2, |line| line["reason"] == reason && line["tls"]["alert"] == "certificate_unknown");
        }
    }
}

#[test]
fn tls_alert_makes_sessions_end_with_the_list_they_were_made_under() {
    let scene = answering("TlsAlert", json!({})).start();
    let mallory = scene.ca.client("mallory");
    let folder = TempDir::new().unwrap();
    let file = |who: &str, version: &str| folder.path().join(format!("{who}{version}"));
    for version in VERSIONS {
        for (name, who) in [("mallory", &mallory), ("alice", &scene.alice)] {
            let file = file(name, version);
            let first = shaking_hands(&scene, who, version).save(&file).get("/");
            assert_eq!(first.status(), Some(200), "{version}: {first:?}");
            let again = shaking_hands(&scene, who, version).resume(&file).get("/");
            assert!(again.resumed(), "{version}: sessions resume as long as nothing changes: {again:?}");
            assert_eq!(again.status(), Some(200));
        }
    }
    // What changes something else costs no session.
    scene.node.settle(|| scene.site.bundle("more.bundle", &scene.ca.pem(), None));
    for version in VERSIONS {
        let again = shaking_hands(&scene, &scene.alice, version).resume(&file("alice", version)).get("/");
        assert!(again.resumed(), "{version}: {again:?}");
    }
    publish(&scene, &scene.ca.crl().number(2).revoke(&mallory).pem());
    let before = scene.backend.count();
    for version in VERSIONS {
        let again = shaking_hands(&scene, &mallory, version).resume(&file("mallory", version)).get("/");
        assert!(!again.resumed(), "{version}: {again:?}");
        assert_eq!((again.alert(), again.status()), (Some(44), None), "{version}: {again:?}");
        // A session without the certificate is worth nothing either.
        let bare = OpenSsl::to(scene.node.https()).name("gw.test").arg(version);
        let bare = bare.resume(&file("mallory", version)).get("/");
        assert_eq!((bare.alert(), bare.resumed()), (Some(116), false), "{version}: {bare:?}");
    }
    assert_eq!(scene.backend.count(), before);
    for version in VERSIONS {
        let file = file("alice", version);
        let full = shaking_hands(&scene, &scene.alice, version).resume(&file).save(&file).get("/");
        assert_eq!((full.resumed(), full.status()), (false, Some(200)), "{version}: {full:?}");
        let again = shaking_hands(&scene, &scene.alice, version).resume(&file).get("/");
        assert_eq!((again.resumed(), again.status()), (true, Some(200)), "{version}: {again:?}");
    }
}

#[test]
fn tls_alert_closes_open_connections_without_a_word_of_http() {
    let scene = answering("TlsAlert", json!({})).start();
    for (number, alpn) in [(2, "h2"), (3, "http/1.1")] {
        let mallory = scene.ca.client("mallory");
        let before = scene.backend.count();
        let [idle, waiting, streaming] = [(); 3].map(|()| open(&scene, &mallory, alpn));
        assert_eq!(idle.get("/").status, 200);
        let held = waiting.begin("/hang");
        let stream = streaming.upload("/mirror", &[]);
        stream.piece("begun").unwrap();
        scene.backend.wait_for(before + 3);
        let bystander = open(&scene, &scene.alice, alpn);
        assert_eq!(bystander.get("/").status, 200);
        let count = closed_as_revoked(&scene);
        publish(&scene, &scene.ca.crl().number(number).revoke(&mallory).pem());
        assert!(held.answer_while_open().is_err(), "{alpn}: nothing is answered");
        let broken = stream.answer_while_open();
        assert!(broken.is_err() || broken.is_ok_and(|answer| answer.broken.is_some()), "{alpn}");
        for connection in [idle, waiting, streaming] {
            connection.closed(SOON);
        }
        wait::soon("the connections to be counted", || closed_as_revoked(&scene) >= count + 3.0);
        let serial = mallory.serial_hex();
        let refused =
            |line: &Value| line["reason"] == "certificate_revoked" && line["client"]["serial"] == *serial;
        let lines = scene.node.lines(2, refused);
        assert!(lines.iter().all(|line| line["status"] != 400), "{alpn}: {lines:?}");
        assert_eq!(bystander.get("/").status, 200, "{alpn}");
    }
}

#[test]
fn tls_alert_tells_nothing_in_http_of_a_certificate_that_expires_in_use() {
    let scene = answering("TlsAlert", json!({})).start();
    for alpn in ["h2", "http/1.1"] {
        let brief = scene.ca.leaf("brief").valid(When::Ago(HOUR), When::In(Duration::from_secs(3))).issue();
        let connection = open(&scene, &brief, alpn);
        let answer = wait::until("the certificate to expire", wait::SOON, || match connection.try_get("/") {
            Ok(answer) if answer.status == 200 => None,
            other => Some(other),
        });
        assert!(answer.is_err(), "{alpn}: {answer:?}");
        let serial = brief.serial_hex();
        scene.node.lines(1, |line| {
            line["reason"] == "client_certificate_expired"
                && line["status"] == 0
                && line["client"]["serial"] == serial.as_str()
        });
    }
}

#[test]
fn tls_alert_learns_of_issuers_that_come_with_their_clients() {
    let scene = answering("TlsAlert", json!({})).start();
    let intermediate = scene.ca.intermediate("intermediate");
    let (carol, mallory) = (intermediate.client("carol"), intermediate.client("mallory"));
    publish(&scene, &(scene.ca.crl().number(2).pem() + &intermediate.crl().revoke(&mallory).pem()));
    // The first handshake brings the key that the list waits for.
    wait::soon("the intermediate's list to be verified", || {
        let ended = scene.tls(&carol).try_get(scene.node.https());
        assert!([Ended::Alert(46), Ended::Status(200)].contains(&ended), "{ended:?}");
        ended == Ended::Status(200)
    });
    assert_eq!(scene.tls(&mallory).try_get(scene.node.https()), Ended::Alert(44));
}

#[test]
fn a_client_in_mid_upload_reads_its_alert() {
    let scene = answering("TlsAlert", json!({})).start();
    let mallory = scene.ca.client("mallory");
    publish(&scene, &scene.ca.crl().number(2).revoke(&mallory).pem());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("upload");
    File::create(&file).unwrap().set_len(10_000_000).unwrap();
    for http in ["--http1.1", "--http2"] {
        let answer = scene.curl(&mallory).arg(http).upload(&file).get("https://gw.test/sink");
        assert_eq!(answer.status, 0, "{answer:?}");
        assert!(answer.trace.contains("certificate revoked"), "{answer:?}");
    }
    assert_eq!(scene.backend.count(), 0);
}
