//! The walk-through: a user's three manifests as they are, and openssl's command lines as they are.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use gateway_tests::node::Start;
use gateway_tests::pki::walkthrough::Walkthrough;
use gateway_tests::{Backend, Ca, Curl, Node, OpenSsl, Site, wait};
use serde_json::{Value, json};

const MANIFESTS: [&str; 3] = ["10-gateway.yaml", "20-httproute.yaml", "30-frontendtlspolicy.yaml"];

struct Walk {
    pki: Walkthrough,
    backend: Backend,
    site: Site,
    node: Node,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/walkthrough")
}

/// Where the gateway of a walk runs.
pub(crate) struct Ground<'a> {
    /// Its address.
    pub(crate) address: IpAddr,
    /// That of the backend.
    pub(crate) backend: IpAddr,
    /// What is special about its start.
    pub(crate) start: &'a dyn Fn(Start) -> Start,
}

const PLAIN: Ground<'_> = Ground {
    address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    backend: IpAddr::V4(Ipv4Addr::LOCALHOST),
    start: &|start| start,
};

/// All that it shows, wherever the gateway runs.
pub(crate) const CHECKS: [fn(&Ground<'_>); 6] = [
    without_a_certificate,
    with_the_certificate,
    after_revocation,
    a_resumed_session,
    x509_v1_as_a_setting,
    the_manifests_status,
];

fn walk(ground: &Ground<'_>) -> Walk {
    walk_with(ground, "", true)
}

fn walk_with(ground: &Ground<'_>, settings: &str, has_crl: bool) -> Walk {
    let (pki, backend) = (Walkthrough::new(), Backend::at("echo", SocketAddr::new(ground.backend, 0)));
    let site = Site::of_namespace("test-infra");
    for name in MANIFESTS {
        fs::copy(data().join(name), site.path().join(name)).unwrap();
    }
    site.tls_secret("listener-tls-secret", &Ca::root("servers").server(&["contoso.test"]));
    site.bundle("ca.bundle", &pki.root_pem(), has_crl.then(|| pki.crl_pem()).as_deref());
    site.service("echo", &[backend.address()]);
    let node = (ground.start)(Node::on(&site).settings(settings)).ready();
    Walk { pki, backend, site, node }
}

impl Walk {
    fn curl(&self) -> Curl {
        Curl::to(self.node.https())
    }

    fn url(&self) -> String {
        format!("https://{}/", self.node.https())
    }
}

#[test]
fn without_a_certificate_the_handshake_ends_in_alert_116() {
    without_a_certificate(&PLAIN);
}

fn without_a_certificate(ground: &Ground<'_>) {
    let walk = walk(ground);
    let answer = walk.curl().get(&walk.url());
    assert_ne!(answer.exit, 0, "{answer:?}");
    assert_eq!(answer.status, 0, "an HTTP answer came: {answer:?}");
    for version in ["-tls1_3", "-tls1_2"] {
        let session = OpenSsl::to(walk.node.https()).arg(version).get("/");
        assert_eq!(session.alert(), Some(116), "{version}: {session:?}");
        assert_eq!(session.status(), None, "{version}: {session:?}");
    }
    assert_eq!(walk.backend.count(), 0, "a request without a certificate reached the backend");
}

#[test]
fn the_clients_certificate_is_x509_v1_where_openssl_makes_it_so() {
    let version = Walkthrough::new().client_version();
    let openssl = gateway_tests::tools::run(std::process::Command::new("openssl").arg("version"));
    if openssl.starts_with("OpenSSL 3.0.") {
        assert_eq!(version, "1 (0x0)", "the other tests here are to prove the v1 case");
    }
}

#[test]
fn with_the_certificate_the_backend_answers_on_tls_1_2_and_1_3() {
    with_the_certificate(&PLAIN);
}

fn with_the_certificate(ground: &Ground<'_>) {
    let walk = walk(ground);
    let client = walk.pki.client();
    for (at_least, at_most) in [("--tlsv1.3", "1.3"), ("--tlsv1.2", "1.2")] {
        for http in ["--http1.1", "--http2"] {
            let curl = walk.curl().cert(&client).arg(at_least).with("--tls-max", at_most).arg(http);
            let answer = curl.get(&walk.url());
            assert_eq!((answer.exit, answer.status), (0, 200), "TLS {at_most} {http}: {answer:?}");
            assert_eq!(answer.json()["served_by"], "echo");
            assert_eq!(walk.backend.last().header("client-cert"), [client.client_cert_header()]);
        }
    }
    assert_eq!(walk.backend.count(), 4);
}

#[test]
fn after_revocation_the_client_reads_400_and_the_reason_and_nothing_reaches_the_backend() {
    after_revocation(&PLAIN);
}

fn after_revocation(ground: &Ground<'_>) {
    let walk = walk(ground);
    let client = walk.pki.client();
    let answer = walk.curl().cert(&client).get(&walk.url());
    assert_eq!(answer.status, 200, "{answer:?}");

    walk.pki.revoke_client();
    let crl = walk.pki.crl_pem();
    walk.node.settle(|| walk.site.bundle("ca.bundle", &walk.pki.root_pem(), Some(&crl)));
    let before = walk.backend.count();
    for (at_least, at_most) in [("--tlsv1.3", "1.3"), ("--tlsv1.2", "1.2")] {
        for http in ["--http1.1", "--http2"] {
            let curl = walk.curl().cert(&client).arg(at_least).with("--tls-max", at_most).arg(http);
            let answer = curl.get(&walk.url());
            assert_eq!(answer.status, 400, "TLS {at_most} {http}: {answer:?}");
            assert_eq!(answer.header("content-type"), ["application/problem+json"]);
            assert_eq!(answer.header("cache-control"), ["no-store"]);
            assert_eq!(answer.reason(), "certificate_revoked");
            let body = answer.json();
            assert_eq!(body["type"], "https://gateway.yett.dev/problems/certificate_revoked");
            assert_eq!(body["status"], 400);
            assert_eq!(body["reason"], "certificate_revoked");
            assert_eq!(body["revocationReason"], "keyCompromise");
            assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{body}");
            assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
        }
    }
    assert_eq!(walk.backend.count(), before, "a revoked client's request reached the backend");
}

#[test]
fn a_resumed_session_of_the_walk_throughs_client_is_revoked_too() {
    a_resumed_session(&PLAIN);
}

fn a_resumed_session(ground: &Ground<'_>) {
    let walk = walk(ground);
    let client = walk.pki.client();
    let session = walk.pki.path().join("session");
    for version in ["-tls1_3", "-tls1_2"] {
        let first = OpenSsl::to(walk.node.https()).cert(&client).arg(version).save(&session).get("/");
        assert_eq!(first.status(), Some(200), "{version}: {first:?}");
        let again = OpenSsl::to(walk.node.https()).arg(version).resume(&session).get("/");
        assert_eq!((again.resumed(), again.status()), (true, Some(200)), "{version}: {again:?}");
        assert_eq!(walk.backend.last().header("client-cert"), [client.client_cert_header()]);
    }
    walk.pki.revoke_client();
    let crl = walk.pki.crl_pem();
    walk.node.settle(|| walk.site.bundle("ca.bundle", &walk.pki.root_pem(), Some(&crl)));
    let again = OpenSsl::to(walk.node.https()).arg("-tls1_2").resume(&session).get("/");
    assert_eq!((again.resumed(), again.status()), (true, Some(400)), "{again:?}");
    assert_eq!(walk.backend.count(), 4);
}

#[test]
fn x509_v1_is_a_setting() {
    x509_v1_as_a_setting(&PLAIN);
}

fn x509_v1_as_a_setting(ground: &Ground<'_>) {
    let Walk { pki, node, .. } = walk_with(ground, "[tls]\nv1_client_certificates = false\n", false);
    if pki.client_version().starts_with('1') {
        for version in ["-tls1_3", "-tls1_2"] {
            let session = OpenSsl::to(node.https()).cert(&pki.client()).arg(version).get("/");
            assert_eq!(session.alert(), Some(46), "{version}: {session:?}");
        }
    }
}

#[test]
fn the_manifests_get_the_status_that_a_cluster_would_show() {
    the_manifests_status(&PLAIN);
}

fn the_manifests_status(ground: &Ground<'_>) {
    let walk = walk(ground);
    for (kind, name) in
        [("Gateway", "gateway-01"), ("HTTPRoute", "https-route"), ("FrontendTLSPolicy", "mtls-policy")]
    {
        let golden =
            data().with_file_name("walkthrough-status").join(format!("{kind}.test-infra.{name}.yaml"));
        if std::env::var_os("YETT_BLESS").is_some() {
            let shown = masked(walk.node.status(kind, "test-infra", name));
            fs::write(&golden, serde_saphyr::to_string(&shown).unwrap()).unwrap();
        }
        let text = fs::read_to_string(&golden).unwrap().replace("127.0.0.1", &ground.address.to_string());
        let expected: Value = serde_saphyr::from_str(&text).unwrap();
        let mut shown = Value::Null;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        // Status follows the listeners' binding, so the first file need not be the last.
        while std::time::Instant::now() < deadline && shown != expected {
            shown = masked(walk.node.status(kind, "test-infra", name));
        }
        assert_eq!(
            shown,
            expected,
            "{kind}; shown:\n{}",
            serde_saphyr::to_string(&shown).unwrap_or_default()
        );
    }
    wait::soon("the gateway's address", || {
        walk.node.status("Gateway", "test-infra", "gateway-01")["status"]["addresses"][0]["value"]
            == ground.address.to_string()
    });
}

/// The same with every time replaced by a word.
fn masked(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                *member = if key == "lastTransitionTime" { json!("TIME") } else { masked(member.take()) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = masked(item.take())),
        _ => {}
    }
    value
}
