//! Revocation policies, by table.

use std::sync::Arc;

use super::super::testing::{self, base64, brief, condition, listener, pki, status, yaml};
use crate::model::{
    ClientRevocation, OnUnknown, Plan, RevocationAnswer, RevocationDepth, RevocationFreshness,
};
use crate::resources::Resources;
use crate::resources::revocationpolicy::CrlFile;
use crate::translate::{holds_list, translate};

fn surroundings() -> String {
    let ca = pki::ca("root");
    let server = ca.server("leaf", &["a.test"]);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, namespace: web}}
spec:
  gatewayClassName: c
  listeners:
  - {{name: plain, port: 80, protocol: HTTP}}
  - {{name: a, port: 443, protocol: HTTPS, hostname: a.test, tls: {{certificateRefs: [{{name: server}}]}}}}
  - {{name: b, port: 443, protocol: HTTPS, hostname: b.test, tls: {{certificateRefs: [{{name: server}}]}}}}
  - {{name: open, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
---
apiVersion: alb.networking.azure.io/v1
kind: FrontendTLSPolicy
metadata: {{name: clients, namespace: web}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: Gateway, name: g, sectionNames: [a, b]}}
  default: {{verify: {{caCertificateRef: {{name: ca}}}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca, namespace: web}}
data: {{ca.crt: {pem}, ca.crl: {crl}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: lists, namespace: web}}
data: {{one.crl: {crl}, two.crl: {crl}, other: {crl}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: lists, namespace: elsewhere}}
data: {{one.crl: {crl}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: lists, namespace: web}}
binaryData: {{one.crl: {crl}}}
data: {{zero.crl: x, other: x}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: server, namespace: web}}
data: {{tls.crt: {crt}, tls.key: {key}}}
",
        pem = base64(ca.pem()),
        crl = base64(ca.crl()),
        crt = base64(server.pem()),
        key = base64(server.key_pem()),
    )
}

fn policy(name: &str, section: Option<&str>, rest: &str) -> String {
    let section = section.map(|section| format!(", sectionName: {section}")).unwrap_or_default();
    format!(
        "---\napiVersion: gateway.yett.dev/v1alpha1\nkind: RevocationPolicy\nmetadata: {{name: {name}, namespace: web}}\n\
         spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: g{section}}}], {rest}}}\n"
    )
}

fn client<'a>(plan: &'a Plan, name: &str) -> Option<&'a crate::model::ClientValidation> {
    let mut listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    listeners.find(|listener| *listener.name == *format!("web/g/{name}"))?.tls.as_ref()?.client.as_ref()
}

fn revocation<'a>(plan: &'a Plan, name: &str) -> Option<&'a ClientRevocation> {
    client(plan, name)?.revocation.as_ref()
}

/// The policy whose word a listener goes by; `-`: none.
fn owner(plan: &Plan, name: &str) -> String {
    revocation(plan, name)
        .map_or("-".to_owned(), |found| found.rules.policy.replace("RevocationPolicy web/", ""))
}

/// `status/reason` of the conditions of each ancestor of a policy.
fn ancestors(report: &crate::model::Report, name: &str, kind: &str) -> Vec<String> {
    let status = status(report, "RevocationPolicy", "web", name);
    status["ancestors"].as_array().unwrap().iter().map(|ancestor| brief(ancestor, kind)).collect()
}

const LISTS: &str = "sources: [{crl: {secretRef: {name: lists}}}]";

#[test]
fn sources() {
    let secret = ["Secret web/lists one.crl", "Secret web/lists two.crl"];
    let map = ["ConfigMap web/lists one.crl", "ConfigMap web/lists zero.crl"];
    let both = [secret, map].concat();
    let table: [(&str, &str, &[&str], bool); 11] = [
        ("a Secret", "{crl: {secretRef: {name: lists}}}", &secret, true),
        ("a key of it", "{crl: {secretRef: {name: lists, key: other}}}", &["Secret web/lists other"], true),
        ("a ConfigMap", "{crl: {configMapRef: {name: lists}}}", &map, true),
        ("a key of that", "{crl: {configMapRef: {name: lists, key: one.crl}}}", &map[..1], true),
        ("both", "{crl: {secretRef: {name: lists}}}, {crl: {configMapRef: {name: lists}}}", &both, true),
        ("a missing Secret", "{crl: {secretRef: {name: gone}}}", &[], false),
        ("a missing key", "{crl: {secretRef: {name: lists, key: gone.crl}}}", &[], false),
        ("no list in it", "{crl: {secretRef: {name: server}}}", &[], false),
        (
            "one good, one missing",
            "{crl: {configMapRef: {name: lists}}}, {crl: {configMapRef: {name: gone}}}",
            &map,
            false,
        ),
        ("the bundle itself", "{crl: {secretRef: {name: ca}}}", &["Secret web/ca ca.crl"], true),
        ("a path that nobody has read", "{crl: {path: x.crl}}", &[], false),
    ];
    for (description, sources, expected, complete) in table {
        let text = format!("{}{}", surroundings(), policy("p", Some("a"), &format!("sources: [{sources}]")));
        let (plan, report) = translate(&yaml(&text), &testing::facts());
        let found = revocation(&plan, "a").unwrap();
        let names: Vec<&str> = found.crls.iter().map(|crl| &*crl.source).collect();
        assert_eq!((names.as_slice(), found.is_complete), (expected, complete), "{description}");
        let crls: Vec<_> = client(&plan, "a").unwrap().crls().iter().map(|crl| &*crl.source).collect();
        assert_eq!(crls, expected, "{description}: the policy replaces ca.crl");
        let beside: Vec<_> = client(&plan, "b").unwrap().crls().iter().map(|crl| &*crl.source).collect();
        assert_eq!(beside, ["Secret web/ca ca.crl"], "{description}: for its own listener alone");
        assert_eq!(ancestors(&report, "p", "Accepted"), ["True/Accepted"], "{description}");
        let resolved = if complete { "True/ResolvedRefs" } else { "False/InvalidSourceRef" };
        assert_eq!(ancestors(&report, "p", "ResolvedRefs"), [resolved], "{description}");
        let told = report.findings.iter().any(|finding| finding.code == "YT0223" && finding.line > 0);
        assert_eq!(told, !complete, "{description}");
    }
}

#[test]
fn files_are_what_the_source_of_the_documents_has_found() {
    let text = format!("{}{}", surroundings(), policy("p", Some("a"), "sources: [{crl: {path: crl}}]"));
    let file = |name: &str| CrlFile { name: name.to_owned(), data: Arc::from(&b"x"[..]) };
    for (description, files, expected) in [
        ("two files", Ok(vec![file("/etc/crl/a.crl"), file("/etc/crl/b.crl")]), Some(2)),
        ("an empty directory", Ok(Vec::new()), None),
        ("not to be read", Err("denied".to_owned()), None),
    ] {
        let mut resources = yaml(&text);
        let mut object = (**resources.revocation_policies.get("web", "p").unwrap()).clone();
        object.spec.files.insert("crl".to_owned(), files);
        resources.revocation_policies = Default::default();
        resources.revocation_policies.insert(Arc::new(object)).unwrap();
        let (plan, _) = translate(&resources, &testing::facts());
        let found = revocation(&plan, "a").unwrap();
        assert_eq!(found.is_complete.then_some(found.crls.len()), expected, "{description}");
        if expected.is_some() {
            assert_eq!(&*found.crls[1].source, "RevocationPolicy web/p /etc/crl/b.crl");
        }
    }
}

#[test]
fn rules_are_as_written() {
    let text =
        |rest: &str| yaml(&format!("{}{}", surroundings(), policy("p", None, &format!("{LISTS}{rest}"))));
    let (plan, _) = translate(&text(""), &testing::facts());
    let rules = &revocation(&plan, "a").unwrap().rules;
    assert_eq!((rules.depth, rules.on_unknown), (RevocationDepth::Chain, OnUnknown::Deny));
    assert_eq!((rules.answer, rules.staleness_max_s), (RevocationAnswer::Http400, 86_400));
    let (plan, _) = translate(&text(", depth: Leaf, onUnknown: Allow, maxStaleness: 90m"), &testing::facts());
    let rules = &revocation(&plan, "b").unwrap().rules;
    assert_eq!((rules.depth, rules.on_unknown), (RevocationDepth::Leaf, OnUnknown::Allow));
    assert_eq!(rules.staleness_max_s, 5400);
    for (word, answer) in [
        ("Http400", RevocationAnswer::Http400),
        ("CloseConnections", RevocationAnswer::CloseConnections),
        ("TlsAlert", RevocationAnswer::TlsAlert),
    ] {
        let (plan, report) = translate(&text(&format!(", answer: {word}")), &testing::facts());
        let found = revocation(&plan, "a").unwrap();
        assert_eq!((found.rules.answer, found.is_complete), (answer, true), "{word}");
        assert_eq!(ancestors(&report, "p", "Accepted"), ["True/Accepted"], "{word}");
    }
}

#[test]
fn a_policy_that_cannot_be_followed_yet_lets_nobody_pass() {
    for (source, field) in [
        ("crl: {url: 'http://a.test/x'}", "spec.sources[1].crl.url"),
        ("crl: {distributionPoints: {allowedHosts: [a.test]}}", "spec.sources[1].crl.distributionPoints"),
        ("ocsp: {allowedHosts: [a.test], mode: SoftFail}", "spec.sources[1].ocsp"),
    ] {
        let rest =
            format!("onUnknown: Allow, sources: [{{crl: {{secretRef: {{name: lists}}}}}}, {{{source}}}]");
        let text = format!("{}{}", surroundings(), policy("p", Some("a"), &rest));
        let (plan, report) = translate(&yaml(&text), &testing::facts());
        let found = revocation(&plan, "a").unwrap();
        assert_eq!((found.rules.on_unknown, found.is_complete), (OnUnknown::Deny, false), "{source}");
        assert_eq!(found.crls, [], "{source}");
        assert_eq!(ancestors(&report, "p", "Accepted"), ["False/UnsupportedValue"], "{source}");
        let finding = report.findings.iter().find(|finding| finding.code == "YT0214").unwrap();
        assert_eq!(finding.field, field);
        assert_eq!(brief(&listener(&report, "web", "g", "a"), "Accepted"), "True/Accepted", "it is served");
    }
}

#[test]
fn who_has_a_say() {
    let aged = |policy: String, created: &str| {
        policy.replace("namespace: web}", &format!("namespace: web, creationTimestamp: '{created}'}}"))
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let table = [
        ("alone", vec![policy("p", None, LISTS)], ["p", "p"], vec!["True/Accepted"]),
        ("one listener", vec![policy("p", Some("b"), LISTS)], ["-", "p"], vec!["True/Accepted"]),
        (
            "the older one",
            vec![aged(policy("p", None, LISTS), late), aged(policy("q", None, LISTS), early)],
            ["q", "q"],
            vec!["False/Conflicted", "True/Accepted"],
        ),
        (
            "of equal age the first by name",
            vec![policy("p", Some("a"), LISTS), policy("q", Some("a"), LISTS)],
            ["p", "-"],
            vec!["True/Accepted", "False/Conflicted"],
        ),
        (
            "the more specific one, whatever its age",
            vec![aged(policy("p", None, LISTS), early), aged(policy("q", Some("b"), LISTS), late)],
            ["p", "q"],
            vec!["True/Accepted", "True/Accepted"],
        ),
        (
            "the older one even if it cannot be followed",
            vec![
                aged(policy("p", Some("a"), "sources: [{ocsp: {}}]"), early),
                aged(policy("q", Some("a"), LISTS), late),
            ],
            ["p", "-"],
            vec!["False/UnsupportedValue", "False/Conflicted"],
        ),
        (
            "an unknown listener",
            vec![policy("p", Some("x"), LISTS)],
            ["-", "-"],
            vec!["False/TargetNotFound"],
        ),
        ("one without TLS", vec![policy("p", Some("plain"), LISTS)], ["-", "-"], vec!["False/Invalid"]),
        (
            "an unknown Gateway",
            vec![policy("p", None, LISTS).replace("name: g}", "name: x}")],
            ["-", "-"],
            vec!["False/TargetNotFound"],
        ),
        (
            "another kind",
            vec![policy("p", None, LISTS).replace("kind: Gateway,", "kind: Service,")],
            ["-", "-"],
            vec!["False/Invalid"],
        ),
    ];
    for (description, policies, owners, accepted) in table {
        let text = format!("{}{}", surroundings(), policies.concat());
        let (plan, report) = translate(&yaml(&text), &testing::facts());
        assert_eq!([owner(&plan, "a"), owner(&plan, "b")], owners, "{description}");
        assert!(client(&plan, "open").is_none(), "{description}");
        let found: Vec<String> = ["p", "q"]
            .iter()
            .take(policies.len())
            .flat_map(|name| ancestors(&report, name, "Accepted"))
            .collect();
        assert_eq!(found, accepted, "{description}");
        for accepted in accepted.iter().filter(|accepted| accepted.starts_with("False")) {
            let told = report.findings.iter().any(|finding| finding.code == "YT0214" && finding.line > 0);
            assert!(told, "{description}: {accepted}");
        }
    }
}

#[test]
fn several_targets_each_have_their_status() {
    let target = |section: &str| {
        format!("{{group: gateway.networking.k8s.io, kind: Gateway, name: g, sectionName: {section}}}")
    };
    let text = policy("p", Some("a"), LISTS)
        .replace(&target("a"), &[target("a"), target("x"), target("open")].join(", "));
    let (plan, report) = translate(&yaml(&format!("{}{text}", surroundings())), &testing::facts());
    assert_eq!(owner(&plan, "a"), "p");
    let accepted = ancestors(&report, "p", "Accepted");
    assert_eq!(accepted, ["True/Accepted", "False/TargetNotFound", "True/Accepted"]);
    let status = status(&report, "RevocationPolicy", "web", "p");
    let ancestor = &status["ancestors"][0];
    assert_eq!(ancestor["controllerName"], "gateway.yett.dev/controller");
    let expected = serde_json::json!({
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "web", "name": "g", "sectionName": "a",
    });
    assert_eq!(ancestor["ancestorRef"], expected);
    let unused = report.findings.iter().find(|finding| finding.code == "YT0221").unwrap();
    assert!(unused.message.contains("listener open"), "{unused}");
}

#[test]
fn how_current_the_data_is_comes_from_the_facts() {
    let resources = yaml(&format!("{}{}", surroundings(), policy("p", None, LISTS)));
    let mut facts = testing::facts();
    let (_, report) = translate(&resources, &facts);
    assert_eq!(ancestors(&report, "p", "RevocationDataFresh"), ["False/NotInForce"]);
    for (is_fresh, reason, expected) in
        [(true, "DataFresh", "True/DataFresh"), (false, "DataExpired", "False/DataExpired")]
    {
        let fresh = RevocationFreshness { is_fresh, reason, message: "so it is".to_owned() };
        facts.revocation.insert("RevocationPolicy web/p".to_owned(), fresh);
        let (_, report) = translate(&resources, &facts);
        assert_eq!(ancestors(&report, "p", "RevocationDataFresh"), [expected]);
        let status = status(&report, "RevocationPolicy", "web", "p");
        assert_eq!(condition(&status["ancestors"][0], "RevocationDataFresh")["message"], "so it is");
    }
}

#[test]
fn a_policy_that_cannot_be_read_closes_its_listeners() {
    for (description, broken, served) in [
        ("one listener", policy("p", Some("a"), &format!("{LISTS}, x: 1")), [false, true]),
        ("the Gateway", policy("p", None, &format!("{LISTS}, depth: Root")), [false, false]),
        ("nobody knows which", policy("p", None, "sources: ["), [false, false]),
        ("another Gateway", policy("p", None, "x: 1").replace("name: g}", "name: x}"), [true, true]),
    ] {
        let (resources, problems) = Resources::from_text(&format!("{}{broken}", surroundings()));
        assert!(!problems.is_empty(), "{description}");
        let (plan, report) = translate(&resources, &testing::facts());
        assert_eq!(["a", "b"].map(|name| client(&plan, name).is_some()), served, "{description}");
        let open = listener(&report, "web", "g", "open");
        assert_eq!(brief(&open, "Accepted"), "True/Accepted", "{description}: it asks for no certificates");
        for (name, served) in ["a", "b"].into_iter().zip(served) {
            let expected = if served { "True/Accepted" } else { "False/UnreadablePolicy" };
            assert_eq!(brief(&listener(&report, "web", "g", name), "Accepted"), expected, "{description}");
        }
    }
}

#[test]
fn what_the_documents_hold_is_told_by_the_names_of_the_plan() {
    let text = format!("{}{}", surroundings(), policy("p", None, LISTS));
    let resources = yaml(&text);
    let (plan, _) = translate(&resources, &testing::facts());
    let found = client(&plan, "a").unwrap();
    for material in found.crls().iter().chain(&found.trust.crls) {
        assert!(holds_list(&resources, &material.source), "{}", material.source);
    }
    for (source, held) in [
        ("ConfigMap web/lists one.crl", true),
        ("Secret web/lists gone.crl", false),
        ("Secret web/gone ca.crl", false),
        ("ConfigMap web/ca ca.crl", false),
        ("RevocationPolicy web/p /lists/a.crl", false),
        ("Secret web/lists", false),
        ("", false),
    ] {
        assert_eq!(holds_list(&resources, source), held, "{source}");
    }
}
