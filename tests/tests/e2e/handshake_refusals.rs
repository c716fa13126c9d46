//! A chain that does not verify ends in the right TLS alert, on TLS 1.3 and 1.2, and never in HTTP.

use gateway_tests::client::Ended;
use gateway_tests::pki::{DAY, HOUR, When};
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Curl, Identity, OpenSsl, Scene, Tls};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;

/// A client that must be refused.
struct Case {
    description: &'static str,
    identity: Option<Identity>,
    alerts: &'static [u8],
    reasons: &'static [&'static str],
    /// Whether openssl's and curl's command lines can present it.
    presentable: bool,
}

fn cases(ca: &Ca) -> Vec<Case> {
    let good = ca.client("alice");
    let equal = Ca::root("clients");
    let intermediate = ca.intermediate("intermediate");
    let case = |description, identity, alerts, reasons| Case {
        description,
        identity: Some(identity),
        alerts,
        reasons,
        presentable: true,
    };
    vec![
        Case {
            description: "none sent",
            identity: None,
            alerts: &[116],
            reasons: &["no_certificate"],
            presentable: true,
        },
        case("of an unknown CA", Ca::root("strangers").client("mallory"), &[48], &["unknown_ca"]),
        case(
            "of a CA with the same name and another key",
            equal.client("alice"),
            &[48, 51],
            &["unknown_ca", "bad_signature"],
        ),
        case(
            "expired",
            ca.leaf("old").valid(When::Ago(2 * DAY), When::Ago(HOUR)).issue(),
            &[45],
            &["expired"],
        ),
        case(
            "not yet valid",
            ca.leaf("early").valid(When::In(HOUR), When::In(DAY)).issue(),
            &[45],
            &["not_yet_valid"],
        ),
        case(
            "for servers only",
            ca.leaf("server").usage(ExtendedKeyUsagePurpose::ServerAuth).issue(),
            &[43],
            &["wrong_usage"],
        ),
        case(
            "with a broken signature",
            good.with_broken_signature(),
            &[51, 48],
            &["bad_signature", "unknown_ca"],
        ),
        case("whose intermediate is missing", intermediate.client("orphan").alone(), &[48], &["unknown_ca"]),
        case(
            "with the CA of equal name sent along",
            equal.client("alice").with_chain(&[equal.der().clone()]),
            &[48, 51],
            &["unknown_ca", "bad_signature"],
        ),
        Case {
            description: "proved with another's key",
            identity: Some(good.with_key_of(&ca.client("other"))),
            alerts: &[51],
            reasons: &["bad_signature"],
            presentable: false,
        },
        Case {
            description: "bytes that are no certificate",
            identity: Some(good.with_garbage()),
            alerts: &[42],
            reasons: &["bad_certificate"],
            presentable: false,
        },
    ]
}

/// The name of an alert (RFC 8446 section 6), as the log has it.
fn word(alert: u8) -> &'static str {
    match alert {
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        45 => "certificate_expired",
        48 => "unknown_ca",
        51 => "decrypt_error",
        116 => "certificate_required",
        _ => "?",
    }
}

fn check(scene: &Scene, case: &Case, version: &str, tls: Tls) {
    let tls = case.identity.iter().fold(tls.name("gw.test"), Tls::cert);
    let description = case.description;
    let before = scene.node.access_log().len();
    let alert = match tls.try_get(scene.node.https()) {
        Ended::Alert(alert) if case.alerts.contains(&alert) => alert,
        other => panic!("{description}, TLS {version}: {other:?} where alert {:?} was due", case.alerts),
    };
    let lines = scene.node.lines(before + 1, |_| true);
    let line = &lines[before];
    let reason = line["reason"].as_str().unwrap_or_default();
    assert!(case.reasons.contains(&reason), "{description}, TLS {version}: {line}");
    assert_eq!((&line["v"], &line["kind"]), (&json!(1), &json!("handshake")), "{line}");
    assert_eq!(line["tls"]["alert"], word(alert), "{line}");
    scene.node.wait_metric("yett_tls_handshakes_total", &[("result", reason)], 1.0);
    assert!(line["http"].is_null() || line["http"]["method"].is_null(), "{description}: {line}");
    if let Some(identity) = case.identity.as_ref().filter(|_| description != "bytes that are no certificate")
    {
        assert_eq!(line["client"]["serial"].as_str(), Some(&*identity.serial_hex()), "{description}: {line}");
        let fingerprint = line["client"]["fingerprint"].as_str().unwrap_or_default();
        assert_eq!(fingerprint.len(), 64, "{description}: {line}");
    }
}

#[test]
fn each_unverifiable_client_reads_its_alert_and_is_named_in_the_log() {
    let scene = Scene::start();
    for case in cases(&scene.ca) {
        check(&scene, &case, "1.3", Tls::v13());
        check(&scene, &case, "1.2", Tls::v12());
    }
    assert_eq!(scene.backend.count(), 0, "an unverified client reached the backend");
    let metrics = scene.node.metrics();
    let all = metrics.sum("yett_tls_handshakes_total", &[]);
    assert!(all >= 22.0, "{all} handshakes counted");
    assert!(metrics.sum("yett_tls_handshakes_total", &[("result", "ok")]) < 1.0);
}

#[test]
fn openssl_and_curl_see_the_same() {
    let scene = Scene::start();
    for case in cases(&scene.ca).iter().filter(|case| case.presentable) {
        for version in ["-tls1_3", "-tls1_2"] {
            let openssl = OpenSsl::to(scene.node.https()).arg(version);
            let session = case.identity.iter().fold(openssl, OpenSsl::cert).get("/");
            let alert = session.alert().unwrap_or_default();
            assert!(case.alerts.contains(&alert), "{} {version}: {session:?}", case.description);
            assert_eq!(session.status(), None, "{} {version}: {session:?}", case.description);
        }
        let curl = case.identity.iter().fold(Curl::to(scene.node.https()), Curl::cert);
        let answer = curl.get("https://gw.test/");
        assert_ne!(answer.exit, 0, "{}: {answer:?}", case.description);
        assert_eq!(answer.status, 0, "{}: {answer:?}", case.description);
    }
    assert_eq!(scene.backend.count(), 0, "an unverified client reached the backend");
}

#[test]
fn verifiable_chains_are_served() {
    let stage = Stage::new();
    let intermediate = stage.ca.intermediate("intermediate");
    let below = intermediate.intermediate("below");
    let scene = stage.start();
    for (description, identity) in [
        ("directly under the root", scene.alice.clone()),
        ("under an intermediate that is sent along", intermediate.client("bob")),
        ("under two intermediates", below.client("carol")),
        ("with an RSA key", scene.ca.leaf("dave").rsa().issue()),
        ("with the root sent along", scene.alice.with_chain(&[scene.ca.der().clone()])),
    ] {
        for tls in ["--tlsv1.3", "--tlsv1.2"] {
            let curl = scene.curl(&identity).arg(tls).with("--tls-max", &tls[6..]);
            let answer = curl.get("https://gw.test/");
            assert_eq!(answer.status, 200, "{description} {tls}: {answer:?}");
            assert_eq!(scene.backend.last().header("client-cert"), [identity.client_cert_header()]);
        }
    }
}

#[test]
fn a_bundle_with_two_cas_of_equal_name_takes_the_clients_of_both() {
    let (old, new) = (Ca::root("clients"), Ca::root("clients"));
    let stage = Stage::of(old, None);
    stage.site.bundle("ca.bundle", &(stage.ca.pem() + &new.pem()), None);
    let scene = stage.start();
    for identity in [scene.alice.clone(), new.client("alice")] {
        let answer = scene.curl(&identity).get("https://gw.test/");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let third = Ca::root("clients").client("alice");
    assert!(matches!(scene.tls(&third).try_get(scene.node.https()), Ended::Alert(48 | 51)));
}
