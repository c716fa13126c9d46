//! `AllowInsecureFallback`: everybody is served, nobody unverified is called verified.

use gateway_tests::client::Ended;
use gateway_tests::manifests::{condition, gateway, https, route, to, validation};
use gateway_tests::pki::{DAY, HOUR, When};
use gateway_tests::{Backend, Ca, Curl, Identity, Node, Site, Tls, wait};
use serde_json::{Value, json};

struct Fallback {
    ca: Ca,
    backend: Backend,
    site: Site,
    node: Node,
}

fn gateway_with(mode: Option<&str>) -> Value {
    let mut object = gateway("gw", &[https("mtls", 443, None, "server")]);
    object["spec"]["tls"] = json!({"frontend": {"default": validation("clients", mode)}});
    object
}

fn start() -> Fallback {
    let (ca, backend, site) = (Ca::root("clients"), Backend::start(), Site::new());
    site.tls_secret("server", &Ca::root("servers").server(&["gw.test"]));
    site.bundle_map("clients", &ca.pem(), Some(&ca.crl().pem()));
    site.service("echo", &[backend.address()]);
    site.apply(gateway_with(Some("AllowInsecureFallback")));
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).ready();
    Fallback { ca, backend, site, node }
}

impl Fallback {
    /// The `Client-Cert` that reached the backend.
    fn label(&self, identity: Option<&Identity>) -> Vec<String> {
        for http in ["--http1.1", "--http2"] {
            let curl = Curl::to(self.node.https()).arg(http).header("Client-Cert: :Zm9yZ2Vk:");
            let answer = identity.into_iter().fold(curl, Curl::cert).get("https://gw.test/");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        self.backend.last().header("client-cert")
    }
}

#[test]
fn only_a_verified_certificate_is_forwarded() {
    let this = start();
    let alice = this.ca.client("alice");
    assert_eq!(this.label(Some(&alice)), [alice.client_cert_header()]);
    for (description, identity) in [
        ("no certificate", None),
        ("an unknown CA's", Some(Ca::root("strangers").client("mallory"))),
        ("a CA's of equal name", Some(Ca::root("clients").client("alice"))),
        ("expired", Some(this.ca.leaf("old").valid(When::Ago(2 * DAY), When::Ago(HOUR)).issue())),
        ("with a broken signature", Some(alice.with_broken_signature())),
    ] {
        let label = this.label(identity.as_ref());
        assert!(label.is_empty(), "{description}: {label:?}");
    }
}

#[test]
fn a_resumed_unverified_session_stays_unverified() {
    let this = start();
    let mallory = Ca::root("clients").client("mallory");
    for tls in [Tls::v13(), Tls::v12()] {
        let tls = tls.cert(&mallory).name("gw.test").resuming();
        assert_eq!(tls.try_get(this.node.https()), Ended::Status(200));
        let link = tls.connect(this.node.https()).unwrap();
        assert!(link.resumed());
        assert_eq!(link.get("/"), Ended::Status(200));
        assert!(this.backend.last().header("client-cert").is_empty());
    }
}

#[test]
fn a_certificate_without_its_key_is_refused_all_the_same() {
    let this = start();
    let stolen = this.ca.client("alice").with_key_of(&this.ca.client("mallory"));
    for tls in [Tls::v13(), Tls::v12()] {
        assert_eq!(tls.cert(&stolen).name("gw.test").try_get(this.node.https()), Ended::Alert(51));
    }
    assert_eq!(this.backend.count(), 0);
}

#[test]
fn a_revoked_client_is_refused_all_the_same() {
    let this = start();
    let mallory = this.ca.client("mallory");
    let crl = this.ca.crl().number(2).revoke(&mallory).pem();
    this.node.settle(|| this.site.bundle_map("clients", &this.ca.pem(), Some(&crl)));
    let answer = Curl::to(this.node.https()).cert(&mallory).get("https://gw.test/");
    assert_eq!((answer.status, answer.reason()), (400, "certificate_revoked"), "{answer:?}");
    assert_eq!(this.backend.count(), 0);
}

#[test]
fn the_gateway_says_that_it_is_insecure_as_long_as_it_is() {
    let this = start();
    let shown = || {
        let status = this.node.status("Gateway", "default", "gw");
        condition(&status["status"]["conditions"], "InsecureFrontendValidationMode")
    };
    wait::soon("the condition", || {
        shown().is_some_and(|(status, reason, _)| status == "True" && reason == "ConfigurationChanged")
    });
    this.node.settle(|| {
        this.site.apply(gateway_with(None));
    });
    wait::soon("the condition to go", || shown().is_none());
    let ended = Tls::v13().name("gw.test").try_get(this.node.https());
    assert_eq!(ended, Ended::Alert(116), "without the mode a certificate is required again");
}
