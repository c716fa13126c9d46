//! Policies, by table.

use super::super::testing::{self, base64, brief, condition, listener, pki, status, yaml};
use crate::model::{ClientValidation, Plan};
use crate::resources::Resources;
use crate::translate::translate;

fn surroundings(gateway_tls: &str) -> String {
    let ca = pki::ca("root");
    let server = ca.server("leaf", &["a.test"]);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, namespace: web}}
spec:
  gatewayClassName: c
{gateway_tls}
  listeners:
  - {{name: plain, port: 80, protocol: HTTP}}
  - {{name: a, port: 443, protocol: HTTPS, hostname: a.test, tls: {{certificateRefs: [{{name: server}}]}}}}
  - {{name: b, port: 443, protocol: HTTPS, hostname: b.test, tls: {{certificateRefs: [{{name: server}}]}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca, namespace: web}}
data: {{ca.crt: {ca}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca2, namespace: web}}
data: {{ca.crt: {ca2}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca, namespace: elsewhere}}
data: {{ca.crt: {ca}}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: server, namespace: web}}
data: {{tls.crt: {crt}, tls.key: {key}}}
",
        ca = base64(ca.pem()),
        ca2 = base64(pki::ca("second").pem()),
        crt = base64(server.pem()),
        key = base64(server.key_pem()),
    )
}

fn policy(name: &str, target: &str, config: &str) -> String {
    format!(
        "---\napiVersion: alb.networking.azure.io/v1\nkind: FrontendTLSPolicy\nmetadata: {{name: {name}, namespace: web}}\n\
         spec: {{targetRef: {{group: gateway.networking.k8s.io, kind: Gateway, name: g{target}}}, {config}}}\n"
    )
}

fn verify(reference: &str) -> String {
    format!("default: {{verify: {{caCertificateRef: {{{reference}}}}}}}")
}

fn served<'a>(plan: &'a Plan, name: &str) -> Option<Option<&'a ClientValidation>> {
    let mut listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    let found = listeners.find(|listener| *listener.name == *format!("web/g/{name}"))?;
    Some(found.tls.as_ref().and_then(|tls| tls.client.as_ref()))
}

/// `open`, `verified` or `absent`.
fn state(plan: &Plan, name: &str) -> &'static str {
    match served(plan, name) {
        None => "absent",
        Some(None) => "open",
        Some(Some(_)) => "verified",
    }
}

#[test]
fn targets_and_contents() {
    let good = verify("name: ca");
    let other_type = |policy_type: &str| {
        format!("default: {{verify: {{caCertificateRef: {{name: ca}}}}, policyType: {{{policy_type}}}}}")
    };
    let overriding = "override: {verify: {caCertificateRef: {name: ca}}}";
    let table = [
        ("the whole Gateway", "", good.clone(), "True/Accepted", "verified", "verified"),
        ("one listener", ", sectionNames: [a]", good.clone(), "True/Accepted", "verified", "open"),
        ("both listeners", ", sectionNames: [b, a]", good.clone(), "True/Accepted", "verified", "verified"),
        (
            "an unknown listener",
            ", sectionNames: [x]",
            good.clone(),
            "False/InvalidTargetReference",
            "open",
            "open",
        ),
        (
            "one that is not TLS",
            ", sectionNames: [plain]",
            good.clone(),
            "False/InvalidTargetReference",
            "open",
            "open",
        ),
        (
            "one known, one unknown",
            ", sectionNames: [x, a]",
            good.clone(),
            "True/Accepted",
            "verified",
            "open",
        ),
        (
            "a strict type",
            "",
            other_type("name: 2023-06-S, type: predefined"),
            "True/Accepted",
            "verified",
            "verified",
        ),
        ("nothing at all", "", "default: {}".to_owned(), "True/Accepted", "open", "open"),
        (
            "override",
            ", sectionNames: [a]",
            overriding.to_owned(),
            "False/OverrideNotSupported",
            "absent",
            "open",
        ),
        (
            "default and override",
            ", sectionNames: [a]",
            format!("{good}, override: {{}}"),
            "False/OverrideNotSupported",
            "absent",
            "open",
        ),
        (
            "a missing CA",
            ", sectionNames: [a]",
            verify("name: gone"),
            "False/InvalidCertificateRef",
            "absent",
            "open",
        ),
        (
            "a CA elsewhere",
            "",
            verify("name: ca, namespace: elsewhere"),
            "False/RefNotPermitted",
            "absent",
            "absent",
        ),
        (
            "a CA of another kind",
            "",
            verify("kind: Service, name: ca"),
            "False/InvalidKind",
            "absent",
            "absent",
        ),
    ];
    for (description, target, config, accepted, a, b) in table {
        let resources = yaml(&format!("{}{}", surroundings(""), policy("p", target, &config)));
        let (plan, report) = translate(&resources, &testing::facts());
        let status = status(&report, "FrontendTLSPolicy", "web", "p");
        assert_eq!(brief(&status, "Accepted"), accepted, "{description}: {status}");
        assert_eq!((state(&plan, "a"), state(&plan, "b")), (a, b), "{description}");
        assert_eq!(state(&plan, "plain"), "open", "{description}");
        for (name, state) in [("a", a), ("b", b)] {
            let accepted = brief(&listener(&report, "web", "g", name), "Accepted");
            assert_eq!(accepted == "True/Accepted", state != "absent", "{description}: {accepted}");
        }
        let names_all = !target.contains('x') && !target.contains("plain");
        assert_eq!(brief(&status, "ResolvedRefs") == "-", names_all, "{description}");
        if accepted.starts_with("False") || !names_all {
            assert!(
                report.findings.iter().any(|f| f.object == "FrontendTLSPolicy web/p" && f.line > 0),
                "{description}"
            );
        }
    }
}

#[test]
fn wrong_types_do_not_open_a_listener() {
    // The documents' own checks refuse such a policy and keep what can be told of it.
    let text = format!(
        "{}{}",
        surroundings(""),
        policy(
            "p",
            ", sectionNames: [a]",
            "default: {verify: {caCertificateRef: {name: ca}}, policyType: {name: 2099-01, type: predefined}}"
        )
    );
    let (resources, problems) = Resources::from_text(&text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let (plan, report) = translate(&resources, &testing::facts());
    assert_eq!((state(&plan, "a"), state(&plan, "b")), ("absent", "open"));
    let status = listener(&report, "web", "g", "a");
    assert_eq!(brief(&status, "Accepted"), "False/NoValidCACertificate");
    // And with a Gateway that says itself how clients are verified, it has no say.
    let own = "  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: \"\", kind: Secret, name: ca}]}}}}";
    let text = text.replace("  gatewayClassName: c\n", &format!("  gatewayClassName: c\n{own}\n"));
    let (plan, _) = translate(&Resources::from_text(&text).0, &testing::facts());
    assert_eq!((state(&plan, "a"), state(&plan, "b")), ("verified", "verified"));
}

#[test]
fn who_has_a_say() {
    let own = "  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: \"\", kind: Secret, name: ca2}]}}}}";
    let (plan, report) = translate(
        &yaml(&format!("{}{}", surroundings(own), policy("p", "", &verify("name: ca")))),
        &testing::facts(),
    );
    let status_of =
        |report: &crate::model::Report, name: &str| status(report, "FrontendTLSPolicy", "web", name);
    assert_eq!(brief(&status_of(&report, "p"), "Accepted"), "False/Conflicted");
    assert_eq!(&*served(&plan, "a").unwrap().unwrap().trust.source, "Secret web/ca2");

    // The oldest wins a listener; what it leaves alone stays with the younger.
    let old = policy("z-old", ", sectionNames: [a]", &verify("name: ca"))
        .replace("namespace: web", "namespace: web, creationTimestamp: 2026-01-01T00:00:00Z");
    let young = policy("a-young", "", &verify("name: ca2"));
    let lost = policy("b-lost", ", sectionNames: [a]", &verify("name: ca2"));
    let text = format!("{}{old}{young}{lost}", surroundings(""));
    let (plan, report) = translate(&yaml(&text), &testing::facts());
    assert_eq!(&*served(&plan, "a").unwrap().unwrap().trust.source, "Secret web/ca");
    assert_eq!(&*served(&plan, "b").unwrap().unwrap().trust.source, "Secret web/ca2");
    assert_eq!(brief(&status_of(&report, "z-old"), "Accepted"), "True/Accepted");
    assert_eq!(brief(&status_of(&report, "a-young"), "Accepted"), "True/Accepted");
    assert_eq!(brief(&status_of(&report, "a-young"), "Conflicted"), "True/Conflicted");
    assert_eq!(brief(&status_of(&report, "b-lost"), "Accepted"), "False/Conflicted");
    let message = condition(&status_of(&report, "b-lost"), "Accepted")["message"].to_string();
    assert!(message.contains("FrontendTLSPolicy web/z-old"), "{message}");

    // The oldest wins even if it cannot be followed.
    let (plan, _) = translate(&yaml(&text.replacen("{name: ca}", "{name: gone}", 1)), &testing::facts());
    assert_eq!((state(&plan, "a"), state(&plan, "b")), ("absent", "verified"));
}

#[test]
fn a_policy_of_another_namespace_needs_a_grant() {
    let far = policy("p", ", namespace: web", &verify("name: gone"))
        .replace("name: p, namespace: web", "name: p, namespace: elsewhere");
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: web}\n\
                 spec: {from: [{group: alb.networking.azure.io, kind: FrontendTLSPolicy, namespace: elsewhere}], \
                 to: [{group: gateway.networking.k8s.io, kind: Gateway}]}\n";
    for (description, grant, reason, a) in [
        ("without", "", "False/RefNotPermitted", "open"),
        ("with", grant, "False/InvalidCertificateRef", "absent"),
    ] {
        let resources = yaml(&format!("{}{far}{grant}", surroundings("")));
        let (plan, report) = translate(&resources, &testing::facts());
        let status = status(&report, "FrontendTLSPolicy", "elsewhere", "p");
        assert_eq!(brief(&status, "Accepted"), reason, "{description}");
        assert_eq!(state(&plan, "a"), a, "{description}");
    }
}

#[test]
fn targets_that_are_none() {
    let table = [
        ("missing", ("name: g", "name: other"), "False/InvalidTargetReference"),
        ("another kind", ("kind: Gateway, name: g", "kind: Service, name: g"), "False/InvalidKind"),
        ("another group", ("group: gateway.networking.k8s.io, ", "group: x.test, "), "False/InvalidGroup"),
    ];
    for (description, (from, to), reason) in table {
        let resources =
            yaml(&format!("{}{}", surroundings(""), policy("p", "", &verify("name: ca")).replace(from, to)));
        let (plan, report) = translate(&resources, &testing::facts());
        let policy = status(&report, "FrontendTLSPolicy", "web", "p");
        assert_eq!(brief(&policy, "Accepted"), reason, "{description}");
        assert_eq!(state(&plan, "a"), "open", "{description}");
        // In a cluster such a policy may be somebody else's.
        let cluster = crate::model::Facts { file_mode: false, ..testing::facts() };
        let (_, report) = translate(&resources, &cluster);
        assert_eq!(report.objects, [], "{description}");
    }
}

#[test]
fn names_are_handed_on() {
    let config = "default: {verify: {caCertificateRef: {name: ca}, subjectAltNames: [client.test]}}";
    let (plan, _) =
        translate(&yaml(&format!("{}{}", surroundings(""), policy("p", "", config))), &testing::facts());
    assert_eq!(served(&plan, "a").unwrap().unwrap().subject_alt_names, ["client.test".into()]);
}
