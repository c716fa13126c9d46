//! A RevocationPolicy says where lists come from, what counts as known, and how a client is refused.

use std::fs;

use gateway_tests::manifests::{condition, revocation, secret};
use gateway_tests::pki::{DAY, HOUR, When};
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Identity, Scene, wait};
use rcgen::RevocationReason;
use serde_json::{Value, json};

/// A scene whose CA has no list beside it, under a policy.
fn under(spec: Value) -> Stage {
    let stage = Stage::of(Ca::root("clients"), None);
    stage.site.apply(revocation("lists", "gw", "mtls", spec));
    stage
}

fn by_secret(mut more: Value) -> Value {
    more["sources"] = json!([{"crl": {"secretRef": {"name": "lists"}}}]);
    more
}

/// Puts a list where the policies of these tests look for it.
fn put(stage: &Stage, list: &str) {
    stage.site.apply(secret("Opaque", "lists", &[("root.crl", list.to_owned())]));
}

fn replace(scene: &Scene, list: &str) {
    scene.node.settle(|| drop(scene.site.apply(secret("Opaque", "lists", &[("root.crl", list.to_owned())]))));
}

/// `status reason` of one request.
fn asked(scene: &Scene, identity: &Identity) -> String {
    let answer = scene.curl(identity).get("https://gw.test/");
    format!("{} {}", answer.status, answer.reason()).trim_end().to_owned()
}

/// A condition of the policy, as `status/reason`.
fn said(scene: &Scene, kind: &str) -> String {
    let status = scene.node.status("RevocationPolicy", "default", "lists");
    let found = condition(&status["status"]["ancestors"][0]["conditions"], kind);
    found.map_or("-".to_owned(), |(status, reason, _)| format!("{status}/{reason}"))
}

#[test]
fn lists_come_from_secrets_config_maps_and_paths() {
    for (description, source) in [
        ("a Secret", json!({"secretRef": {"name": "lists"}})),
        ("a ConfigMap", json!({"configMapRef": {"name": "lists", "key": "root.crl"}})),
        ("a file", json!({"path": "crl/root.crl"})),
        ("a directory", json!({"path": "crl"})),
    ] {
        let stage = under(json!({"sources": [{"crl": source}]}));
        let mallory = stage.ca.client("mallory");
        let folder = stage.site.path().join("crl");
        fs::create_dir(&folder).unwrap();
        let path = stage.site.path().to_owned();
        let write = |list: &str| {
            put_everywhere(&path, list);
        };
        write(&stage.ca.crl().pem());
        let scene = stage.start();
        assert_eq!(asked(&scene, &mallory), "200", "{description}");
        for (kind, expected) in [
            ("Accepted", "True/Accepted"),
            ("ResolvedRefs", "True/ResolvedRefs"),
            ("RevocationDataFresh", "True/DataFresh"),
        ] {
            assert_eq!(said(&scene, kind), expected, "{description}");
        }
        scene.node.settle(|| write(&scene.ca.crl().number(2).revoke(&mallory).pem()));
        wait::soon("the list to be taken", || asked(&scene, &mallory) == "400 certificate_revoked");
        assert_eq!(asked(&scene, &scene.alice), "200", "{description}");
        let (_, report) = scene.node.admin("/report");
        assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["findings"], json!([]), "{description}");
        assert!(scene.node.metrics().sum("yett_crl_entries", &[]) >= 1.0, "{description}");
    }
}

/// Writes a list into a Secret, a ConfigMap and a file at once; a policy names one of them.
fn put_everywhere(site: &std::path::Path, list: &str) {
    let put = |name: &str, text: &str| {
        let draft = site.join(format!(".{}.draft", name.replace('/', "-")));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, site.join(name)).unwrap();
    };
    let object = |value: &Value| serde_json::to_string(value).unwrap();
    put("crl/root.crl", list);
    put("lists-secret.json", &object(&secret("Opaque", "lists", &[("root.crl", list.to_owned())])));
    put(
        "lists-map.json",
        &object(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lists"}, "data": {"root.crl": list},
        })),
    );
}

#[test]
fn a_policy_replaces_the_list_beside_the_authority() {
    let stage = Stage::new();
    let mallory = stage.ca.client("mallory");
    stage.site.bundle("ca.bundle", &stage.ca.pem(), Some(&stage.ca.crl().revoke(&mallory).pem()));
    let scene = stage.start();
    assert_eq!(asked(&scene, &mallory), "400 certificate_revoked");
    let empty = scene.ca.crl().pem();
    scene.node.settle(|| drop(scene.site.apply(secret("Opaque", "lists", &[("root.crl", empty)]))));
    let policy = revocation("lists", "gw", "mtls", by_secret(json!({})));
    scene.node.settle(|| drop(scene.site.apply(policy)));
    wait::soon("the policy to hold", || asked(&scene, &mallory) == "200");
    scene.node.settle(|| scene.site.remove("RevocationPolicy.lists.yaml"));
    wait::soon("the list beside the authority to hold again", || {
        asked(&scene, &mallory) == "400 certificate_revoked"
    });
}

#[test]
fn leaf_depth_lets_a_revoked_intermediate_pass() {
    for (depth, intermediates, leaves) in [
        ("Chain", "400 certificate_revoked", "400 certificate_revoked"),
        ("Leaf", "200", "400 certificate_revoked"),
    ] {
        let stage = under(by_secret(json!({"depth": depth})));
        let intermediate = stage.ca.intermediate("intermediate");
        let (carol, mallory) = (intermediate.client("carol"), intermediate.client("mallory"));
        let revoked = stage.ca.crl().revoke_serial(intermediate.serial(), RevocationReason::CaCompromise);
        put(&stage, &(revoked.pem() + &intermediate.crl().revoke(&mallory).pem()));
        stage.site.bundle("ca.bundle", &(stage.ca.pem() + &intermediate.pem()), None);
        let scene = stage.start();
        assert_eq!(asked(&scene, &carol), intermediates, "{depth}");
        assert_eq!(asked(&scene, &mallory), leaves, "{depth}");
    }
}

#[test]
fn without_data_on_unknown_decides() {
    for (on_unknown, expected, counted) in
        [("Deny", "400 revocation_status_unknown", "unknown"), ("Allow", "200", "unknown")]
    {
        let stage = under(by_secret(json!({"onUnknown": on_unknown})));
        let other = Ca::root("others");
        let (bob, mallory) = (other.client("bob"), stage.ca.client("mallory"));
        stage.site.bundle("ca.bundle", &(stage.ca.pem() + &other.pem()), None);
        put(&stage, &stage.ca.crl().revoke(&mallory).pem());
        let scene = stage.start();
        assert_eq!(asked(&scene, &bob), expected, "{on_unknown}: nothing is known of this issuer");
        assert_eq!(asked(&scene, &scene.alice), "200", "{on_unknown}");
        assert_eq!(asked(&scene, &mallory), "400 certificate_revoked", "{on_unknown}");
        assert_eq!(said(&scene, "RevocationDataFresh"), "False/IssuerNotCovered");
        let checks = scene.node.metrics().sum("yett_revocation_checks_total", &[("result", counted)]);
        assert!(checks >= 1.0, "{on_unknown}: the pass is counted as what it is");
    }
}

#[test]
fn staleness_is_as_long_as_the_policy_says() {
    for (policy, expected, fresh) in [
        (json!({"maxStaleness": "4h"}), "200", "False/PastNextUpdate"),
        (json!({"maxStaleness": "1h30m"}), "400 crl_expired", "False/DataExpired"),
        (json!({"maxStaleness": "1h30m", "onUnknown": "Allow"}), "200", "False/DataExpired"),
    ] {
        let stage = under(by_secret(policy.clone()));
        let mallory = stage.ca.client("mallory");
        let old = stage.ca.crl().revoke(&mallory).valid(When::Ago(DAY), When::Ago(2 * HOUR));
        put(&stage, &old.pem());
        let scene = stage.start();
        assert_eq!(asked(&scene, &scene.alice), expected, "{policy}");
        assert_eq!(asked(&scene, &mallory), "400 certificate_revoked", "{policy}");
        assert_eq!(said(&scene, "RevocationDataFresh"), fresh, "{policy}");
    }
}

#[test]
fn a_list_that_cannot_be_used_leaves_the_last_good_one_and_the_status_says_so() {
    let stage = under(by_secret(json!({})));
    let mallory = stage.ca.client("mallory");
    let good = stage.ca.crl().number(5).revoke(&mallory).pem();
    put(&stage, &good);
    let scene = stage.start();
    let list = |number| scene.ca.crl().number(number);
    let whole = list(9).pem();
    let failures = || {
        let metrics = scene.node.metrics();
        metrics.sum("yett_crl_loads_total", &[]) - metrics.sum("yett_crl_loads_total", &[("result", "ok")])
    };
    for (description, bad) in [
        ("corrupt", list(9).corrupt()),
        ("empty", String::new()),
        ("truncated", whole[..whole.len() / 2].to_owned()),
        ("signed by another of the name", Ca::root("clients").crl().number(9).pem()),
        ("of the future", list(9).valid(When::In(DAY), When::In(2 * DAY)).pem()),
        ("expired", list(9).valid(When::Ago(3 * DAY), When::Ago(2 * DAY)).pem()),
        ("older", list(4).pem()),
    ] {
        let before = failures();
        replace(&scene, &bad);
        wait::soon(&format!("the status to tell of a list that is {description}"), || {
            said(&scene, "RevocationDataFresh") == "False/UpdateRefused"
        });
        assert!(failures() > before, "{description}");
        assert_eq!(said(&scene, "Accepted"), "True/Accepted", "{description}");
        assert_eq!(asked(&scene, &mallory), "400 certificate_revoked", "{description}");
        assert_eq!(asked(&scene, &scene.alice), "200", "{description}");
        replace(&scene, &good);
        wait::soon("the status to be well again", || said(&scene, "RevocationDataFresh") == "True/DataFresh");
    }
}

#[test]
fn a_source_that_is_not_there_leaves_every_status_unknown() {
    let stage = under(by_secret(json!({})));
    let scene = stage.start();
    assert_eq!(asked(&scene, &scene.alice), "400 revocation_status_unknown");
    assert_eq!(said(&scene, "Accepted"), "True/Accepted");
    assert_eq!(said(&scene, "ResolvedRefs"), "False/InvalidSourceRef");
    assert_eq!(said(&scene, "RevocationDataFresh"), "False/DataMissing");
    replace(&scene, &scene.ca.crl().pem());
    assert_eq!(asked(&scene, &scene.alice), "200");
    wait::soon("the status to follow", || said(&scene, "RevocationDataFresh") == "True/DataFresh");
}

#[test]
fn sources_that_are_not_supported_never_let_anybody_pass() {
    for source in [
        json!({"crl": {"url": "http://pki.contoso.test/root.crl", "refresh": "10m"}}),
        json!({"crl": {"distributionPoints": {"allowedHosts": ["pki.contoso.test"]}}}),
        json!({"ocsp": {"allowedHosts": ["ocsp.contoso.test"], "timeout": "300ms", "mode": "SoftFail"}}),
    ] {
        let sources = json!([{"crl": {"secretRef": {"name": "lists"}}}, source]);
        let stage = under(json!({"onUnknown": "Allow", "sources": sources}));
        put(&stage, &stage.ca.crl().pem());
        let scene = stage.start();
        assert_eq!(asked(&scene, &scene.alice), "400 revocation_status_unknown", "{source}");
        assert_eq!(said(&scene, "Accepted"), "False/UnsupportedValue", "{source}");
        assert_eq!(scene.backend.count(), 0);
    }
}

#[test]
fn a_policy_that_cannot_be_read_keeps_its_listener_closed() {
    let stage = under(by_secret(json!({"dpeth": "Leaf"})));
    put(&stage, &stage.ca.crl().pem());
    // A gateway with nothing to serve would not be ready.
    Scene::with_clear_listener(&stage);
    let scene = stage.start();
    let answer = scene.curl(&scene.alice).get("https://gw.test/");
    assert_eq!(answer.status, 0, "{answer:?}");
    // What was good before stays in service while its newer version is not.
    scene.node.settle(|| drop(scene.site.apply(revocation("lists", "gw", "mtls", by_secret(json!({}))))));
    wait::soon("the listener to be served", || asked(&scene, &scene.alice) == "200");
    let broken = revocation("lists", "gw", "mtls", by_secret(json!({"dpeth": "Leaf"})));
    scene.node.settle(|| drop(scene.site.apply(broken)));
    replace(&scene, &scene.ca.crl().number(2).revoke(&scene.alice).pem());
    assert_eq!(asked(&scene, &scene.alice), "400 certificate_revoked", "and is followed");
}
