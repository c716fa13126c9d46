//! Which anchors and which certificate a connection meets: by port, by server name, by nothing.

use gateway_tests::client::Ended;
use gateway_tests::manifests::{gateway, https, policy, route, to, validation};
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Ca, Curl, Identity, Node, OpenSsl, Site, Tls};
use serde_json::json;

#[test]
fn two_ports_have_anchors_of_their_own() {
    let (one, two) = (Ca::root("clients"), Ca::root("clients"));
    let (backend, site) = (Backend::start(), Site::new());
    site.tls_secret("server", &Ca::root("servers").server(&["gw.test"]));
    site.bundle_map("one", &one.pem(), None);
    site.bundle_map("two", &two.pem(), None);
    site.service("echo", &[backend.address()]);
    let listeners = [https("one", 443, None, "server"), https("two", 8443, None, "server")];
    let mut object = gateway("gw", &listeners);
    object["spec"]["tls"] = json!({"frontend": {
        "default": validation("one", None),
        "perPort": [{"port": 8443, "tls": validation("two", None)}],
    }});
    site.apply(object);
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).ready();
    let (alice, bob) = (one.client("alice"), two.client("bob"));
    for (port, admitted, refused) in [(443, &alice, &bob), (8443, &bob, &alice)] {
        let answer = Curl::to(node.address(port)).cert(admitted).get("https://gw.test/");
        assert_eq!(answer.status, 200, "port {port}: {answer:?}");
        let ended = Tls::v13().cert(refused).name("gw.test").try_get(node.address(port));
        assert!(matches!(ended, Ended::Alert(48 | 51)), "port {port}: {ended:?}");
    }
    assert_eq!(backend.count(), 2);
}

#[test]
fn two_listeners_have_policies_of_their_own() {
    let stage = Stage::new();
    let others = Ca::root("others");
    stage.site.bundle("other.bundle", &others.pem(), None);
    let listeners = [https("mtls", 443, None, "server"), https("other", 8443, None, "server")];
    stage.site.apply(gateway("gw", &listeners));
    stage.site.apply(policy("others", "gw", &["other"], "other.bundle"));
    let scene = stage.start();
    let bob = others.client("bob");
    let code = |port, identity: &Identity| scene.tls(identity).try_get(scene.node.address(port));
    assert_eq!(code(443, &scene.alice), Ended::Status(200));
    assert_eq!(code(8443, &bob), Ended::Status(200));
    assert_eq!(code(443, &bob), Ended::Alert(48));
    assert_eq!(code(8443, &scene.alice), Ended::Alert(48));
}

/// Listeners for an exact name (EC), a wildcard (RSA), and on port 8443 one without a hostname.
struct Names {
    node: Node,
    exact: Identity,
    wild: Identity,
    any: Identity,
    _backend: Backend,
    _site: Site,
}

fn names() -> Names {
    let (ca, backend, site) = (Ca::root("servers"), Backend::start(), Site::new());
    let exact = ca.server(&["a.test"]);
    let usage = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    let wild = ca.leaf("*.w.test").names(&["*.w.test"]).rsa().usage(usage).issue();
    let any = ca.server(&["any.test"]);
    for (name, identity) in [("exact", &exact), ("wild", &wild), ("any", &any)] {
        site.tls_secret(name, identity);
    }
    site.service("echo", &[backend.address()]);
    site.apply(gateway(
        "gw",
        &[
            https("exact", 443, Some("a.test"), "exact"),
            https("wild", 443, Some("*.w.test"), "wild"),
            https("named", 8443, Some("a.test"), "exact"),
            https("any", 8443, None, "any"),
        ],
    ));
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).ready();
    Names { node, exact, wild, any, _backend: backend, _site: site }
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let this = names();
    for (port, name, expected) in [
        (443, Some("a.test"), Some(&this.exact)),
        (443, Some("A.TEST"), Some(&this.exact)),
        (443, Some("x.w.test"), Some(&this.wild)),
        (443, Some("x.y.w.test"), Some(&this.wild)),
        (443, Some("w.test"), None),
        (443, Some("b.test"), None),
        (443, None, None),
        (8443, Some("a.test"), Some(&this.exact)),
        (8443, Some("b.test"), Some(&this.any)),
        (8443, None, Some(&this.any)),
    ] {
        let tls = name.into_iter().fold(Tls::new(), Tls::name);
        match (tls.connect(this.node.address(port)), expected) {
            (Ok(link), Some(expected)) => {
                let shown = link.server_certificate();
                assert_eq!(shown.as_ref(), Some(expected.leaf()), "port {port}, name {name:?}");
            }
            (Err(Ended::Alert(112)), None) => {}
            (Ok(_), None) => panic!("port {port}, name {name:?}: served"),
            (Err(ended), _) => panic!("port {port}, name {name:?}: {ended:?}"),
        }
    }
}

#[test]
fn openssl_reads_unrecognized_name_where_no_listener_serves_the_name() {
    let this = names();
    for version in ["-tls1_3", "-tls1_2"] {
        for openssl in [OpenSsl::to(this.node.https()), OpenSsl::to(this.node.https()).name("b.test")] {
            let session = openssl.arg(version).get("/");
            assert_eq!(session.alert(), Some(112), "{version}: {session:?}");
        }
    }
    let lines = this.node.lines(4, |line| line["reason"] == "unrecognized_name");
    assert!(lines.iter().any(|line| line["sni"] == "b.test"), "{lines:?}");
}

#[test]
fn a_request_for_another_listeners_host_is_421_and_for_nobodys_404() {
    let this = names();
    for (http, sni, host, expected) in [
        ("--http1.1", "a.test", "a.test", 200),
        ("--http1.1", "a.test", "x.w.test", 421),
        ("--http1.1", "x.w.test", "a.test", 421),
        ("--http1.1", "x.w.test", "A.TEST:443", 421),
        ("--http1.1", "x.w.test", "y.w.test", 200),
        ("--http1.1", "a.test", "nobody.test", 404),
        ("--http2", "a.test", "a.test", 200),
        ("--http2", "a.test", "x.w.test", 421),
        ("--http2", "x.w.test", "a.test", 421),
        ("--http2", "x.w.test", "y.w.test", 200),
        ("--http2", "a.test", "nobody.test", 404),
    ] {
        let curl = Curl::to(this.node.https()).arg(http).header(&format!("Host: {host}"));
        let answer = curl.get(&format!("https://{sni}/"));
        assert_eq!(answer.status, expected, "{http}, name {sni}, host {host}: {answer:?}");
        match expected {
            421 => assert_eq!(answer.reason(), "misdirected_request", "{answer:?}"),
            404 => assert_eq!(answer.reason(), "route_not_found", "{answer:?}"),
            _ => {}
        }
    }
    // The hostname-less listener of a port is no way around a named one beside it.
    let curl = Curl::to(this.node.address(8443)).header("Host: a.test");
    let answer = curl.get("https://b.test/");
    assert_eq!((answer.status, answer.reason()), (421, "misdirected_request"), "{answer:?}");
}
