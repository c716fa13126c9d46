//! The walk-through: its manifests give the plan and the statuses that it promises.

use serde_json::json;

use super::testing::{self, base64, brief, pki, status, yaml};
use super::translate;
use crate::model::{Action, BackendKey, ObjectName, Plan, Protocol, ValidationMode};
use crate::resources::Resources;

const GATEWAY: &str = include_str!("../../../tests/data/walkthrough/10-gateway.yaml");
const ROUTE: &str = include_str!("../../../tests/data/walkthrough/20-httproute.yaml");
const POLICY: &str = include_str!("../../../tests/data/walkthrough/30-frontendtlspolicy.yaml");

/// What the user of the walk-through has besides the three manifests.
fn surroundings(ca: &str, crl: Option<&str>, server: (&str, &str)) -> String {
    let crl = crl.map(|crl| format!("  ca.crl: {}\n", base64(crl))).unwrap_or_default();
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: ca.bundle, namespace: test-infra}}
data:
  ca.crt: {}
{crl}---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: listener-tls-secret, namespace: test-infra}}
data:
  tls.crt: {}
  tls.key: {}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: test-infra}}
spec: {{ports: [{{port: 80, targetPort: 3000}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: echo-1, namespace: test-infra, labels: {{kubernetes.io/service-name: echo}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1]}}]
ports: [{{port: 3000}}]
",
        base64(ca),
        base64(server.0),
        base64(server.1)
    )
}

fn walkthrough(surroundings: &str) -> Resources {
    yaml(&[GATEWAY, ROUTE, POLICY, surroundings].join("\n---\n"))
}

fn whole_walkthrough() -> Resources {
    let ca = pki::ca("contoso-root");
    let server = pki::ca("other").server("server", &["a.test"]);
    walkthrough(&surroundings(&ca.pem(), Some(&ca.crl()), (&server.pem(), &server.key_pem())))
}

fn the_listener(plan: &Plan) -> &crate::model::Listener {
    let frontends: Vec<_> = plan.frontends.values().collect();
    let [frontend] = frontends.as_slice() else { panic!("{} frontends", frontends.len()) };
    assert_eq!((frontend.bind_port, frontend.protocol), (443, Protocol::Https));
    assert_eq!(frontend.addresses, testing::facts().bind_addresses);
    let [listener] = frontend.listeners.as_slice() else { panic!("{} listeners", frontend.listeners.len()) };
    listener
}

#[test]
fn the_walkthrough_is_planned() {
    let resources = whole_walkthrough();
    let (plan, report) = translate(&resources, &testing::bound(&resources));
    assert_eq!(report.findings, []);
    let listener = the_listener(&plan);
    assert_eq!(&*listener.name, "test-infra/gateway-01/mtls-listener");
    assert_eq!(listener.hostname, None);
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(&*tls.certificates[0].source, "Secret test-infra/listener-tls-secret");
    let client = tls.client.as_ref().unwrap();
    assert_eq!(client.mode, ValidationMode::AllowValidOnly);
    assert_eq!((client.trust.anchors.len(), client.trust.crls.len()), (1, 1));
    assert_eq!(&*client.trust.source, "Secret test-infra/ca.bundle");
    assert_eq!(&*client.trust.crls[0].source, "Secret test-infra/ca.bundle ca.crl");
    let key = BackendKey::Service(ObjectName::new("test-infra", "echo"), 80);
    let Action::Forward(backends) = &listener.rules[0].action else { panic!("{:?}", listener.rules) };
    assert_eq!(backends[0].target, Ok(key.clone()));
    assert_eq!(plan.backends[&key].endpoints[0].to_string(), "127.0.0.1:3000");
}

#[test]
fn the_walkthrough_has_the_statuses_it_prints() {
    let resources = whole_walkthrough();
    let (_, report) = translate(&resources, &testing::bound(&resources));
    let generation = 0;
    let yes = |kind: &str, message: &str| json!({"type": kind, "status": "True", "reason": kind, "message": message, "observedGeneration": generation});
    let expected = json!({
        "addresses": [
            {"type": "IPAddress", "value": "192.0.2.1"},
            {"type": "IPAddress", "value": "2001:db8::1"},
        ],
        "conditions": [yes("Accepted", "Valid Gateway"), yes("Programmed", "The Gateway is served")],
        "listeners": [{
            "name": "mtls-listener",
            "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
            "attachedRoutes": 1,
            "conditions": [
                yes("ResolvedRefs", ""),
                yes("Accepted", "Listener is accepted"),
                yes("Programmed", "Listener is served"),
            ],
        }],
    });
    assert_eq!(status(&report, "Gateway", "test-infra", "gateway-01"), expected);
    let expected = json!({"parents": [{
        "parentRef": {
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "namespace": "test-infra",
            "name": "gateway-01",
        },
        "controllerName": "alb.networking.azure.io/alb-controller",
        "conditions": [
            yes("ResolvedRefs", ""),
            yes("Accepted", "Route is Accepted"),
            yes("Programmed", "Route is served"),
        ],
    }]});
    assert_eq!(status(&report, "HTTPRoute", "test-infra", "https-route"), expected);
    let expected = json!({"conditions": [yes("Accepted", "Valid FrontendTLSPolicy")]});
    assert_eq!(status(&report, "FrontendTLSPolicy", "test-infra", "mtls-policy"), expected);
    assert_eq!(report.objects.len(), 3);
}

#[test]
fn before_binding_nothing_is_programmed() {
    let (plan, report) = translate(&whole_walkthrough(), &testing::facts());
    assert_eq!(plan.frontends.len(), 1);
    let gateway = status(&report, "Gateway", "test-infra", "gateway-01");
    assert_eq!(brief(&gateway, "Accepted"), "True/Accepted");
    assert_eq!(brief(&gateway, "Programmed"), "False/Pending");
    assert_eq!(brief(&gateway["listeners"][0], "Programmed"), "False/Pending");
    let route = status(&report, "HTTPRoute", "test-infra", "https-route");
    assert_eq!(brief(&route["parents"][0], "Programmed"), "False/Pending");
}

#[test]
fn without_its_ca_the_walkthrough_is_not_served_at_all() {
    let ca = pki::ca("contoso-root");
    let server = ca.server("server", &["a.test"]);
    let full = surroundings(&ca.pem(), None, (&server.pem(), &server.key_pem()));
    let table = [
        ("no bundle", full.replace("name: ca.bundle", "name: other")),
        ("no key ca.crt", full.replace("ca.crt:", "root.crt:")),
        ("no certificate in it", surroundings("nothing", None, (&server.pem(), &server.key_pem()))),
        ("an empty bundle", surroundings("", None, (&server.pem(), &server.key_pem()))),
    ];
    for (description, surroundings) in table {
        let (plan, report) = translate(&walkthrough(&surroundings), &testing::facts());
        assert_eq!(plan, Plan::default(), "{description}");
        let gateway = status(&report, "Gateway", "test-infra", "gateway-01");
        let listener = &gateway["listeners"][0];
        assert_eq!(brief(listener, "Accepted"), "False/NoValidCACertificate", "{description}");
        assert_eq!(brief(listener, "ResolvedRefs"), "False/InvalidCACertificateRef", "{description}");
        assert_eq!(brief(listener, "Programmed"), "False/Invalid", "{description}");
        assert_eq!(listener["attachedRoutes"], 1, "{description}");
        assert_eq!(brief(&gateway, "Accepted"), "False/ListenersNotValid", "{description}");
        let policy = status(&report, "FrontendTLSPolicy", "test-infra", "mtls-policy");
        assert_eq!(brief(&policy, "Accepted"), "False/InvalidCertificateRef", "{description}");
        assert!(report.findings.iter().any(|f| f.object.contains("mtls-policy")), "{description}");
    }
}
