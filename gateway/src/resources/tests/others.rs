//! Policies and the core kinds.

use super::*;

#[test]
fn policies() {
    let target = "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}\n";
    let verify = "default: {verify: {caCertificateRef: {name: ca}}}";
    check(vec![
        ("a policy", policy(&format!("{target}{verify}")), &[]),
        ("an override is for translation", policy(&format!("{target}override: {{}}")), &[]),
        ("no target", policy(verify), &["YT0105! 4 spec.targetRef"]),
        (
            "an unknown set",
            policy(&format!("{target}default: {{policyType: {{name: 2024-01, type: predefined}}}}")),
            &["YT0107! 6 spec.default.policyType.name"],
        ),
        (
            "no reference",
            policy(&format!("{target}default: {{verify: {{}}}}")),
            &["YT0105! 6 spec.default.verify.caCertificateRef"],
        ),
        (
            "a typing mistake must not open the listener",
            policy(&format!("{target}default: {{verfiy: {{}}}}")),
            &["YT0104! 6 spec.default.verfiy"],
        ),
        (
            "a wrong indentation must not either",
            format!("{}{verify}\n", policy(target)),
            &["YT0104! 6 default"],
        ),
        (
            "another version",
            policy(&format!("{target}{verify}")).replace("azure.io/v1", "azure.io/v2"),
            &["YT0103! 1 apiVersion"],
        ),
    ]);
    let (_, problems) = Resources::from_text(&policy(&format!("{target}default: {{verfiy: {{}}}}")));
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `verify`?"));
    assert_eq!(problems[0].object, "FrontendTLSPolicy default/p");
    let (_, problems) = Resources::from_text(&format!("{}{verify}\n", policy(target)));
    assert_eq!(
        problems[0].help.as_deref(),
        Some("`spec` has a field of this name: is the indentation right?")
    );
}

fn revocation(spec: &str) -> String {
    object("gateway.yett.dev/v1alpha1", "RevocationPolicy", &format!("spec: {{{spec}}}"))
}

const TARGET: &str = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]";

#[test]
fn revocation_policies() {
    let sources = |sources: &str| revocation(&format!("{TARGET}, sources: [{sources}]"));
    let with = |more: &str| revocation(&format!("{TARGET}, sources: [{{crl: {{path: a.crl}}}}], {more}"));
    check(vec![
        ("files", sources("{crl: {path: crl/root.crl}}"), &[]),
        (
            "objects",
            sources("{crl: {secretRef: {name: s}}}, {crl: {configMapRef: {name: m, key: root.crl}}}"),
            &[],
        ),
        (
            "what is to come",
            sources(
                "{crl: {url: 'http://a.test/x', refresh: 10m}}, {crl: {distributionPoints: {allowedHosts: [a.test]}}}, \
                 {ocsp: {allowedHosts: [a.test], timeout: 300ms, mode: SoftFail}}",
            ),
            &[],
        ),
        (
            "everything said",
            with("depth: Leaf, onUnknown: Allow, maxStaleness: 1h30m, answer: TlsAlert"),
            &[],
        ),
        ("no source", revocation(&format!("{TARGET}, sources: []")), &["YT0109! 4 spec.sources"]),
        ("no sources", revocation(TARGET), &["YT0105! 4 spec.sources"]),
        (
            "no target",
            revocation("targetRefs: [], sources: [{crl: {path: a}}]"),
            &["YT0109! 4 spec.targetRefs"],
        ),
        (
            "another namespace's target",
            sources("{crl: {path: a}}").replace("name: g}", "name: g, namespace: n}"),
            &["YT0104! 4 spec.targetRefs[0].namespace"],
        ),
        ("an empty source", sources("{}"), &["YT0105! 4 spec.sources[0]"]),
        ("a source of nothing", sources("{crl: {}}"), &["YT0105! 4 spec.sources[0].crl"]),
        ("two in one", sources("{crl: {path: a}, ocsp: {}}"), &["YT0111! 4 spec.sources[0]"]),
        ("two places", sources("{crl: {path: a, secretRef: {name: s}}}"), &["YT0111! 4 spec.sources[0].crl"]),
        (
            "a file is followed",
            sources("{crl: {path: a, refresh: 1m}}"),
            &["YT0111! 4 spec.sources[0].crl.refresh"],
        ),
        ("an unknown answer", with("answer: Http403"), &["YT0107! 4 spec.answer"]),
        ("an unknown depth", with("depth: Root"), &["YT0107! 4 spec.depth"]),
        ("no duration", with("maxStaleness: 1d"), &["YT0108! 4 spec.maxStaleness"]),
        ("a typing mistake", with("onUnkown: Deny"), &["YT0104! 4 spec.onUnkown"]),
        ("another version", sources("{crl: {path: a}}").replace("v1alpha1", "v1"), &["YT0103! 1 apiVersion"]),
    ]);
    let (resources, _) = Resources::from_text(&sources("{crl: {path: a.crl}}"));
    let policy = &resources.revocation_policies.get("default", "o").unwrap().spec;
    assert_eq!(policy.max_staleness.as_secs(), 24 * 3600);
    assert_eq!(policy.paths().collect::<Vec<_>>(), ["a.crl"]);
}

#[test]
fn unreadable_policies_cover_what_they_may_have_meant() {
    let table = [
        (
            "the target is known",
            policy("targetRef: {group: g, kind: Gateway, name: g, sectionNames: [l]}\nx: 1"),
            [true, false, false],
        ),
        ("all sections", policy("targetRef: {kind: Gateway, name: g}"), [true, true, false]),
        (
            "half a list of sections",
            policy("targetRef: {kind: Gateway, name: g, sectionNames: [m, 1]}"),
            [true, true, false],
        ),
        (
            "another namespace",
            policy("targetRef: {kind: Gateway, name: g, namespace: n}"),
            [false, false, true],
        ),
        ("no target", policy("default: {}"), [true, true, true]),
        ("no YAML", policy("targetRef: {"), [true, true, true]),
        (
            "a good one",
            policy("targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}"),
            [false, false, false],
        ),
        ("another kind", gateway("x: 1"), [false, false, false]),
        ("of revocation", revocation(TARGET), [true, true, false]),
        (
            "one listener of revocation",
            revocation("targetRefs: [{name: g, sectionName: m}, {name: x}]"),
            [false, true, false],
        ),
        (
            "half a target of revocation",
            revocation("targetRefs: [{name: g, sectionName: m}, {}]"),
            [true, true, true],
        ),
        ("revocation of anything", revocation("sources: []"), [true, true, true]),
        ("revocation that is no YAML", revocation("targetRefs: ["), [true, true, true]),
        (
            "good revocation",
            revocation(&format!("{TARGET}, sources: [{{crl: {{path: a}}}}]")),
            [false, false, false],
        ),
    ];
    for (description, text, expected) in table {
        let (resources, _) = Resources::from_text(&text);
        let listeners = [("default", "g", "l"), ("default", "g", "m"), ("n", "g", "l")];
        let covered = listeners.map(|(namespace, gateway, listener)| {
            resources.unreadable_policies.iter().any(|policy| policy.may_cover(namespace, gateway, listener))
        });
        assert_eq!(covered, expected, "{description}");
    }
}

#[test]
fn core_kinds() {
    let service = |spec: &str| object("v1", "Service", &format!("spec: {spec}"));
    let slice = |rest: &str| object("discovery.k8s.io/v1", "EndpointSlice", rest);
    let grant =
        |spec: &str| object("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", &format!("spec: {spec}"));
    let backend = |spec: &str| object("gateway.yett.dev/v1alpha1", "Backend", &format!("spec: {spec}"));
    check(vec![
        (
            "a class",
            object(
                "gateway.networking.k8s.io/v1",
                "GatewayClass",
                "spec: {controllerName: gateway.yett.dev/controller}",
            ),
            &[],
        ),
        (
            "a class without path",
            object("gateway.networking.k8s.io/v1", "GatewayClass", "spec: {controllerName: yett}"),
            &["YT0108! 4 spec.controllerName"],
        ),
        ("a namespace", object("v1", "Namespace", ""), &[]),
        ("a Secret", object("v1", "Secret", "data: {ca.crt: aGVsbG8=}"), &[]),
        ("no base64", object("v1", "Secret", "data: {ca.crt: hunter2!}"), &["YT0108! 4 data[\"ca.crt\"]"]),
        (
            "a TLS Secret without key",
            object("v1", "Secret", "type: kubernetes.io/tls\nstringData: {tls.crt: x}"),
            &["YT0105! 1 data[\"tls.key\"]"],
        ),
        (
            "a TLS Secret with its key in a file",
            object("v1", "Secret", "type: kubernetes.io/tls\nstringData: {tls.crt: x}")
                .replace("{name: o}", "{name: o, annotations: {gateway.yett.dev/file.tls.key: k.pem}}"),
            &[],
        ),
        ("a bad key", object("v1", "ConfigMap", "data: {a/b: x}"), &["YT0108! 4 data[\"a/b\"]"]),
        (
            "a key in both",
            object("v1", "ConfigMap", "data: {a: x}\nbinaryData: {a: eA==}"),
            &["YT0110! 5 binaryData[\"a\"]"],
        ),
        ("a number as value", object("v1", "ConfigMap", "data: {a: 1}"), &["YT0106! 4 data.a"]),
        (
            "a Service",
            service("{clusterIP: 10.0.0.1, sessionAffinity: None, ports: [{port: 80, targetPort: http}]}"),
            &[],
        ),
        ("no ports", service("{}"), &["YT0105! 4 spec.ports"]),
        ("headless", service("{clusterIP: None}"), &[]),
        (
            "two ports without names",
            service("{ports: [{port: 80, name: a}, {port: 81}]}"),
            &["YT0105! 4 spec.ports[1].name"],
        ),
        (
            "two ports of one name",
            service("{ports: [{port: 80, name: a}, {port: 81, name: a}]}"),
            &["YT0110! 4 spec.ports[1].name"],
        ),
        ("an external name", service("{type: ExternalName}"), &["YT0105! 4 spec.externalName"]),
        (
            "a name with a dot",
            service("{ports: [{port: 80}]}").replace("name: o", "name: a.b"),
            &["YT0108! 3 metadata.name"],
        ),
        (
            "a slice",
            slice(
                "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]\nports: [{port: 80}]",
            ),
            &[],
        ),
        (
            "an address of the other family",
            slice("addressType: IPv4\nendpoints: [{addresses: ['::1']}]"),
            &["YT0108! 5 endpoints[0].addresses[0]"],
        ),
        ("no address type", slice("endpoints: []"), &["YT0105! 1 addressType"]),
        (
            "no address",
            slice("addressType: IPv6\nendpoints: [{addresses: []}]"),
            &["YT0109! 5 endpoints[0].addresses"],
        ),
        (
            "a grant",
            grant(
                "{from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: a}], to: [{group: '', kind: Secret}]}",
            ),
            &[],
        ),
        (
            "a typing mistake would widen the grant",
            grant(
                "{from: [{group: g, kind: Gateway, namespace: a}], to: [{group: '', kind: Secret, nam: s}]}",
            ),
            &["YT0104! 4 spec.to[0].nam"],
        ),
        (
            "a grant to nothing",
            grant("{from: [{group: g, kind: Gateway, namespace: a}], to: []}"),
            &["YT0109! 4 spec.to"],
        ),
        (
            "a backend",
            backend("{endpoints: [{address: 127.0.0.1, port: 8080}, {hostname: app.internal, port: 8443}]}"),
            &[],
        ),
        ("a backend nowhere", backend("{endpoints: [{port: 8080}]}"), &["YT0105! 4 spec.endpoints[0]"]),
        (
            "a backend in two places",
            backend("{endpoints: [{address: '::1', hostname: a, port: 8080}]}"),
            &["YT0111! 4 spec.endpoints[0]"],
        ),
        (
            "an unknown protocol",
            backend("{endpoints: [{address: '::1', port: 1}], appProtocol: h2c}"),
            &["YT0107! 4 spec.appProtocol"],
        ),
    ]);
}
