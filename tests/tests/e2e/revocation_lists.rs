//! A bad revocation list never replaces a good one, and the Report, the log and a metric say so.

use gateway_tests::client::Ended;
use gateway_tests::pki::{Crl, DAY, HOUR, When};
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Scene, wait};

/// What is put in the place of a good list, and what it is called.
struct Case {
    description: &'static str,
    list: fn(&Ca) -> String,
    result: &'static str,
}

const CASES: &[Case] = &[
    Case {
        description: "its signature is broken",
        list: |ca| ca.crl().number(9).corrupt(),
        result: "bad_signature",
    },
    Case {
        description: "it is signed by a CA of equal name",
        list: |_| Ca::root("clients").crl().number(9).pem(),
        result: "bad_signature",
    },
    Case {
        description: "it is no list at all",
        list: |_| "-----BEGIN X509 CRL-----\nMAMCAQU=\n-----END X509 CRL-----\n".to_owned(),
        result: "parse",
    },
    Case { description: "it is no PEM at all", list: |_| "certainly not".to_owned(), result: "parse" },
    Case { description: "it is empty", list: |_| String::new(), result: "parse" },
    Case {
        description: "it is cut off",
        list: |ca| {
            let text = ca.crl().number(9).pem();
            text[..text.len() / 2].to_owned()
        },
        result: "parse",
    },
    Case {
        description: "it has expired",
        list: |ca| ca.crl().number(9).valid(When::Ago(3 * DAY), When::Ago(2 * DAY)).pem(),
        result: "expired",
    },
    Case {
        description: "it comes from the future",
        list: |ca| ca.crl().number(9).valid(When::In(DAY), When::In(2 * DAY)).pem(),
        result: "",
    },
    Case { description: "its number is lower", list: |ca| ca.crl().number(4).pem(), result: "rollback" },
];

fn failures(scene: &Scene) -> f64 {
    let metrics = scene.node.metrics();
    metrics.sum("yett_crl_loads_total", &[]) - metrics.sum("yett_crl_loads_total", &[("result", "ok")])
}

/// Replaces the list without waiting for it to be taken: it must not be.
fn push(scene: &Scene, list: &str) {
    let before = failures(scene);
    scene.site.bundle("ca.bundle", &scene.ca.pem(), Some(list));
    wait::soon("the list to be counted as unusable", || failures(scene) > before);
}

#[test]
fn a_bad_list_never_replaces_a_good_one() {
    let stage = Stage::new();
    let mallory = stage.ca.client("mallory");
    let good = stage.ca.crl().number(5).revoke(&mallory).pem();
    stage.site.bundle("ca.bundle", &stage.ca.pem(), Some(&good));
    let scene = stage.start();
    for case in CASES {
        let description = case.description;
        let log = scene.node.log().len();
        push(&scene, &(case.list)(&scene.ca));
        let answer = scene.curl(&mallory).get("https://gw.test/");
        assert_eq!(answer.status, 400, "{description}: {answer:?}");
        assert_eq!(answer.reason(), "certificate_revoked", "{description}: {answer:?}");
        let answer = scene.curl(&scene.alice).get("https://gw.test/");
        assert_eq!(answer.status, 200, "{description}: the good list must serve on: {answer:?}");
        if !case.result.is_empty() {
            let labels = [("result", case.result)];
            let counted = scene.node.metrics().sum("yett_crl_loads_total", &labels);
            assert!(counted >= 1.0, "{description}: no load with result {}", case.result);
        }
        wait::soon(&format!("a line about the list in the log ({description})"), || {
            scene.node.log()[log..].contains("ca.bundle")
        });
        let (_, report) = scene.node.admin("/report");
        assert!(report.contains("ca.bundle") && report.contains("crl"), "{description}: {report}");
        scene.publish(&good);
    }
    assert_eq!(scene.backend.requests().len(), CASES.len(), "only the neighbour reached the backend");
    scene.publish(&scene.ca.crl().number(6).pem());
    let answer = scene.curl(&mallory).get("https://gw.test/");
    assert_eq!(answer.status, 200, "a better list is still taken: {answer:?}");
}

#[test]
fn without_a_good_list_before_it_a_bad_one_denies_every_client_of_the_bundle() {
    for case in CASES.iter().filter(|case| ["bad_signature", "parse"].contains(&case.result)) {
        let ca = Ca::root("clients");
        let list = (case.list)(&ca);
        let scene = Stage::of(ca, Some(&list)).start();
        let answer = scene.curl(&scene.alice).get("https://gw.test/");
        assert_eq!(answer.status, 400, "{}: {answer:?}", case.description);
        assert_eq!(answer.reason(), "revocation_status_unknown", "{}: {answer:?}", case.description);
        assert_eq!(scene.backend.count(), 0);
        scene.publish(&scene.ca.crl().pem());
        let answer = scene.curl(&scene.alice).get("https://gw.test/");
        assert_eq!(answer.status, 200, "{}: {answer:?}", case.description);
    }
}

#[test]
fn one_bad_block_among_good_ones_denies_every_client_of_the_bundle() {
    let ca = Ca::root("clients");
    let lists = ca.crl().pem() + "-----BEGIN X509 CRL-----\nMAMCAQU=\n-----END X509 CRL-----\n";
    let scene = Stage::of(ca, Some(&lists)).start();
    let answer = scene.curl(&scene.alice).get("https://gw.test/");
    assert_eq!(answer.reason(), "revocation_status_unknown", "{answer:?}");
}

#[test]
fn a_list_past_its_next_update_counts_for_a_day_and_then_denies() {
    let list = |crl: Crl<'_>, past| crl.valid(When::Ago(5 * DAY), When::Ago(past)).pem();
    let ca = Ca::root("clients");
    let mallory = ca.client("mallory");
    let crl = list(ca.crl().revoke(&mallory), HOUR);
    let scene = Stage::of(ca, Some(&crl)).start();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    assert_eq!(scene.curl(&mallory).get("https://gw.test/").reason(), "certificate_revoked");

    let ca = Ca::root("clients");
    let mallory = ca.client("mallory");
    let crl = list(ca.crl().revoke(&mallory), DAY + HOUR);
    let scene = Stage::of(ca, Some(&crl)).start();
    let answer = scene.curl(&scene.alice).get("https://gw.test/");
    assert_eq!((answer.status, answer.reason()), (400, "crl_expired"), "{answer:?}");
    assert_eq!(scene.curl(&mallory).get("https://gw.test/").status, 400);
    assert_eq!(scene.backend.count(), 0);
}

#[test]
fn an_issuer_once_covered_stays_covered_until_the_key_is_removed() {
    let stage = Stage::new();
    let other = Ca::root("others");
    let (bundle, mallory) = (stage.ca.pem() + &other.pem(), other.client("mallory"));
    let both = stage.ca.crl().pem() + &other.crl().revoke(&mallory).pem();
    stage.site.bundle("ca.bundle", &bundle, Some(&both));
    let scene = stage.start();
    let reason = || {
        let answer = scene.curl(&mallory).get("https://gw.test/");
        format!("{} {}", answer.status, answer.reason())
    };
    assert_eq!(reason(), "400 certificate_revoked");
    // The other CA's block is gone, the key is not: forgetting it would let the revoked client in again.
    let fewer = scene.ca.crl().number(2).pem();
    scene.node.settle(|| scene.site.bundle("ca.bundle", &bundle, Some(&fewer)));
    assert!(reason().starts_with("400 "), "{}", reason());
    scene.node.settle(|| scene.site.bundle("ca.bundle", &bundle, None));
    assert_eq!(reason(), "200 ");
}

#[test]
fn a_list_may_be_der() {
    let ca = Ca::root("clients");
    let mallory = ca.client("mallory");
    let der = ca.crl().revoke(&mallory).der();
    let stage = Stage::of(ca, None);
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    stage.site.apply(serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca.bundle"},
        "data": {"ca.crt": encode(stage.ca.pem().as_bytes()), "ca.crl": encode(&der)},
    }));
    let scene = stage.start();
    assert_eq!(scene.curl(&mallory).get("https://gw.test/").reason(), "certificate_revoked");
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
}

#[test]
fn the_lists_state_is_in_the_metrics() {
    let stage = Stage::new();
    let mallory = stage.ca.client("mallory");
    stage.site.bundle("ca.bundle", &stage.ca.pem(), Some(&stage.ca.crl().revoke(&mallory).pem()));
    let scene = stage.start();
    let metrics = scene.node.metrics();
    assert!((metrics.sum("yett_crl_entries", &[]) - 1.0).abs() < f64::EPSILON);
    assert!(metrics.sum("yett_crl_next_update_timestamp_seconds", &[]) > 1.0e9);
    assert!(metrics.sum("yett_crl_loads_total", &[("result", "ok")]) >= 1.0);
}

#[test]
fn a_listener_that_was_out_for_a_while_takes_no_older_list() {
    let stage = Stage::new();
    let mallory = stage.ca.client("mallory");
    let newest = stage.ca.crl().number(5).revoke(&mallory).pem();
    stage.site.bundle("ca.bundle", &stage.ca.pem(), Some(&newest));
    let scene = stage.start();
    let ended = || scene.tls(&scene.alice).try_get(scene.node.https());
    assert_eq!(ended(), Ended::Status(200));
    // A key that is another's: the listener cannot be served.
    let server = Ca::root("servers").server(&["gw.test"]);
    scene.node.settle(|| scene.site.tls_secret("server", &server.with_key_of(&scene.alice)));
    wait::soon("the listener to go", || ended() != Ended::Status(200));
    scene.publish(&scene.ca.crl().number(4).pem());
    scene.node.settle(|| scene.site.tls_secret("server", &server));
    wait::soon("the listener to come back", || ended() == Ended::Status(200));
    assert_eq!(scene.curl(&mallory).get("https://gw.test/").reason(), "certificate_revoked");
    let (_, report) = scene.node.admin("/report");
    assert!(report.contains("its CRLNumber 4 is lower than 5"), "{report}");
}
