//! What policies, grants and references allow, and what their statuses say.

use std::fs;

use gateway_tests::client::Ended;
use gateway_tests::manifests::{condition, gateway, http, https, policy, route, secret, validation};
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Ca, Curl, Node, Site, wait};
use serde_json::{Value, json};

#[test]
fn only_the_names_that_the_policy_lists_are_let_in() {
    let stage = Stage::new();
    let mut object = policy("clients", "gw", &["mtls"], "ca.bundle");
    object["spec"]["default"]["verify"]["subjectAltNames"] = json!(["alice.test", "bob.test"]);
    stage.site.apply(object);
    let named = |name: &str| stage.ca.leaf("client").names(&[name]).issue();
    let (alice, bob, eve) = (named("alice.test"), named("BOB.test"), named("eve.test"));
    let scene = stage.start();
    for identity in [&alice, &bob] {
        assert_eq!(scene.tls(identity).try_get(scene.node.https()), Ended::Status(200));
    }
    for identity in [&eve, &scene.alice] {
        assert_eq!(scene.tls(identity).try_get(scene.node.https()), Ended::Alert(46));
    }
    scene.node.lines(2, |line| line["reason"] == "name_not_allowed");
}

#[test]
fn a_policy_beside_the_gateways_own_validation_is_conflicted() {
    let stage = Stage::new();
    let other = Ca::root("others");
    stage.site.bundle_map("others", &other.pem(), None);
    let mut object = gateway("gw", &[https("mtls", 443, None, "server")]);
    object["spec"]["tls"] = json!({"frontend": {"default": validation("others", None)}});
    stage.site.apply(object);
    let scene = stage.start();
    let shown = scene.node.status("FrontendTLSPolicy", "default", "clients");
    let (status, reason, message) = condition(&shown["status"]["conditions"], "Accepted").unwrap();
    assert_eq!((&*status, &*reason), ("False", "Conflicted"), "{message}");
    assert_eq!(scene.tls(&scene.alice).try_get(scene.node.https()), Ended::Alert(48));
    assert_eq!(scene.tls(&other.client("bob")).try_get(scene.node.https()), Ended::Status(200));
}

#[test]
fn a_reference_into_another_namespace_needs_a_grant() {
    let (backend, site) = (Backend::start(), Site::new());
    let there = |mut object: Value| {
        object["metadata"]["namespace"] = json!("there");
        object
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"}, "spec": {"ports": [{"port": 80}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "echo-0", "labels": {"kubernetes.io/service-name": "echo"}},
        "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"port": backend.address().port()}],
    });
    site.apply(there(service));
    site.apply(there(slice));
    let server = Ca::root("servers").server(&["gw.test"]);
    let data = [("tls.crt", server.cert_pem()), ("tls.key", server.key_pem().to_owned())];
    site.apply(there(secret("kubernetes.io/tls", "server", &data)));
    let mut listener = https("tls", 443, None, "server");
    listener["tls"]["certificateRefs"][0]["namespace"] = json!("there");
    site.apply(gateway("gw", &[listener, http("clear", 80)]));
    site.apply(route(
        "all",
        "gw",
        &json!([{"backendRefs": [{"name": "echo", "namespace": "there", "port": 80}]}]),
    ));
    let node = Node::on(&site).ready();
    let answer = Curl::to(node.http()).get("http://gw.test/");
    assert_eq!((answer.status, answer.reason()), (500, "backend_invalid"), "{answer:?}");
    assert_ne!(Curl::to(node.https()).get("https://gw.test/").exit, 0);
    let reasons = || {
        let gateway = node.status("Gateway", "default", "gw");
        let route = node.status("HTTPRoute", "default", "all");
        let listener = condition(&gateway["status"]["listeners"][0]["conditions"], "ResolvedRefs");
        let route = condition(&route["status"]["parents"][0]["conditions"], "ResolvedRefs");
        (listener.map(|shown| shown.1), route.map(|shown| shown.1))
    };
    let refused = Some("RefNotPermitted".to_owned());
    wait::soon("RefNotPermitted", || reasons() == (refused.clone(), refused.clone()));

    node.settle(|| {
        site.apply(there(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": {"name": "grant"},
            "spec": {
                "from": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"},
                    {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"},
                ],
                "to": [{"group": "", "kind": "Secret"}, {"group": "", "kind": "Service", "name": "echo"}],
            },
        })));
    });
    wait::soon("both to be served", || {
        Curl::to(node.http()).get("http://gw.test/").status == 200
            && Curl::to(node.https()).get("https://gw.test/").status == 200
    });
    let resolved = Some("ResolvedRefs".to_owned());
    wait::soon("ResolvedRefs", || reasons() == (resolved.clone(), resolved.clone()));
}

#[test]
fn a_backend_outside_the_cluster_is_served() {
    let (one, two, site) = (Backend::named("one"), Backend::named("two"), Site::new());
    let endpoint = |backend: &Backend| json!({"address": "127.0.0.1", "port": backend.address().port()});
    site.apply(json!({
        "apiVersion": "gateway.yett.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "outside"},
        "spec": {"endpoints": [endpoint(&one), endpoint(&two)]},
    }));
    site.apply(json!({
        "apiVersion": "gateway.yett.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "secure"},
        "spec": {"endpoints": [endpoint(&one)], "appProtocol": "https"},
    }));
    site.apply(gateway("gw", &[http("clear", 80)]));
    let reference = |name: &str| json!([{"group": "gateway.yett.dev", "kind": "Backend", "name": name}]);
    site.apply(route(
        "all",
        "gw",
        &json!([
            {"backendRefs": reference("outside")},
            {"matches": [{"path": {"value": "/secure"}}], "backendRefs": reference("secure")},
        ]),
    ));
    let node = Node::on(&site).ready();
    for _ in 0..20 {
        assert_eq!(Curl::to(node.http()).get("http://gw.test/").status, 200);
    }
    assert!(one.count() > 0 && two.count() > 0, "{} and {}", one.count(), two.count());
    // Without a BackendTLSPolicy there is nothing to verify the backend by.
    let answer = Curl::to(node.http()).get("http://gw.test/secure");
    assert_eq!((answer.status, answer.reason()), (500, "backend_invalid"), "{answer:?}");
}

#[test]
fn a_secret_may_name_files_and_follows_them() {
    let stage = Stage::new();
    let files = tempfile::TempDir::new().unwrap();
    let put = |identity: &gateway_tests::Identity| {
        for (name, text) in [("key.pem", identity.key_pem().to_owned()), ("cert.pem", identity.cert_pem())] {
            fs::write(files.path().join("draft"), text).unwrap();
            fs::rename(files.path().join("draft"), files.path().join(name)).unwrap();
        }
    };
    let servers = Ca::root("servers");
    let (first, second) = (servers.server(&["gw.test"]), servers.server(&["gw.test"]));
    put(&first);
    stage.site.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "server", "annotations": {
            "gateway.yett.dev/file.tls.crt": files.path().join("cert.pem"),
            "gateway.yett.dev/file.tls.key": files.path().join("key.pem"),
        }},
    }));
    let scene = stage.start();
    let shown = || scene.tls(&scene.alice).connect(scene.node.https()).ok()?.server_certificate();
    assert_eq!(shown().as_ref(), Some(first.leaf()));
    put(&second);
    wait::soon("the new certificate", || shown().as_ref() == Some(second.leaf()));
}

#[test]
fn a_listener_that_cannot_be_served_does_not_disturb_its_neighbour() {
    let stage = Stage::new();
    stage.site.apply(secret(
        "kubernetes.io/tls",
        "junk",
        &[("tls.crt", "junk".into()), ("tls.key", "junk".into())],
    ));
    let listeners = [https("mtls", 443, None, "server"), https("junk", 8443, None, "junk")];
    stage.site.apply(gateway("gw", &listeners));
    let scene = stage.start();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    let shown = scene.node.status("Gateway", "default", "gw");
    let listener =
        |index: usize, kind| condition(&shown["status"]["listeners"][index]["conditions"], kind).unwrap();
    assert_eq!(listener(0, "Programmed").0, "True");
    assert_eq!(
        (listener(1, "Programmed").0, listener(1, "ResolvedRefs").1),
        ("False".into(), "InvalidCertificateRef".into())
    );
    assert_eq!(
        condition(&shown["status"]["conditions"], "Accepted").unwrap().0,
        "True",
        "one good listener suffices"
    );
}
