//! Documents in, objects and problems out: one table a kind.

mod gateways;
mod http_routes;
mod others;

use proptest::prelude::*;

use super::*;

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: c
";

/// Documents that stand for a kind: what precedes the part under test, and how far that is indented.
fn gateway(rest: &str) -> String {
    format!("{}{}", GATEWAY.trim_start(), indent(rest, 2))
}

fn listener(rest: &str) -> String {
    gateway(&format!("listeners:\n- name: l\n  port: 443\n{}", indent(rest, 2)))
}

fn route(rest: &str) -> String {
    let head = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n";
    format!("{head}{}", indent(rest, 2))
}

fn rule(rest: &str) -> String {
    let rest = indent(rest, 2);
    route(&format!("rules:\n- {}", rest.trim_start()))
}

fn policy(rest: &str) -> String {
    let head =
        "apiVersion: alb.networking.azure.io/v1\nkind: FrontendTLSPolicy\nmetadata: {name: p}\nspec:\n";
    format!("{head}{}", indent(rest, 2))
}

fn object(api_version: &str, kind: &str, rest: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: o}}\n{rest}")
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// A row: what it shows, the document, and the problems as `code line field`, errors with `!`.
type Row = (&'static str, String, &'static [&'static str]);

fn check(table: Vec<Row>) {
    for (description, text, expected) in table {
        let (resources, problems) = Resources::from_text(&text);
        let found: Vec<String> = problems
            .iter()
            .map(|problem| {
                let mark = if problem.severity == Severity::Error { "!" } else { "" };
                format!("{}{mark} {} {}", problem.code.as_str(), problem.place.line, problem.field)
            })
            .collect();
        assert_eq!(found, expected, "{description}: {problems:#?}\n{text}");
        let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(
            resources.is_empty(),
            refused,
            "{description}: a fault and only a fault keeps the object out"
        );
    }
}

const TLS: &str = "tls: {certificateRefs: [{name: s}]}";

#[test]
fn documents_that_are_no_objects_of_ours() {
    let table: Vec<Row> = vec![
        ("text", "hello".to_owned(), &["YT0102! 1 "]),
        ("no kind", "apiVersion: v1".to_owned(), &["YT0102! 1 "]),
        ("no YAML", "a: [".to_owned(), &["YT0101! 1 "]),
        ("no metadata", "apiVersion: v1\nkind: Namespace".to_owned(), &["YT0105! 1 metadata"]),
        ("no name", "apiVersion: v1\nkind: Namespace\nmetadata: {}".to_owned(), &["YT0105! 3 metadata.name"]),
        (
            "a bad name",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: A_b}".to_owned(),
            &["YT0108! 3 metadata.name"],
        ),
        (
            "a bad label",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {x: a b}}".to_owned(),
            &["YT0108! 3 metadata.labels.x"],
        ),
        (
            "a bad time",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, creationTimestamp: today}".to_owned(),
            &["YT0108! 3 metadata.creationTimestamp"],
        ),
        (
            "another kind of ours to come",
            object("gateway.yett.dev/v1alpha1", "GatewayParameters", ""),
            &["YT0103! 2 kind"],
        ),
    ];
    check(table);
    for (kind, help) in [("Deployment", None), ("Gatewayy", Some("did you mean `Gateway`?"))] {
        let (_, problems) = Resources::from_text(&object("apps/v1", kind, ""));
        assert_eq!((problems[0].code, problems[0].severity), (Code::UnknownKind, Severity::Warning));
        assert_eq!(problems[0].help.as_deref(), help);
    }
}

#[test]
fn documents_do_not_hurt_each_other() {
    let good = |name: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let text = format!("{}---\na: [\n---\n{}---\nkind: x\n---\n{}", good("a"), good("b"), good("a"));
    let (resources, problems) = Resources::from_text(&text);
    assert_eq!(resources.namespaces.len(), 2);
    let found: Vec<_> = problems.iter().map(|problem| (problem.code, problem.place.line)).collect();
    assert_eq!(found, [(Code::Syntax, 5), (Code::NotAnObject, 11), (Code::Duplicate, 13)]);
    assert_eq!(problems[2].message, "Namespace a is described at line 1 already; that one stays in service");
}

#[test]
fn lists_are_taken_apart() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "B"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c", "labels": null}}
    ]}"#;
    let (resources, problems) = Resources::from_text(text);
    assert_eq!(resources.namespaces.len(), 2);
    assert_eq!((problems.len(), problems[0].place.line, problems[0].place.column), (1, 3, 64));
}

#[test]
fn objects_are_complete() {
    let (resources, problems) = Resources::from_text(&format!(
        "{}---\n{}",
        listener(&format!("protocol: https\n{TLS}")),
        rule("backendRefs: [{name: b, port: 80}]")
    ));
    assert!(problems.is_empty(), "{problems:?}");
    let gateway = resources.gateways.get("default", "g").unwrap();
    let listener = &gateway.spec.listeners[0];
    assert_eq!(listener.protocol(), gateway::Protocol::Https);
    assert_eq!(listener.allowed_routes.namespaces.from, gateway::NamespacesFrom::Same);
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!((tls.mode, tls.certificate_refs[0].kind.as_str()), (gateway::TlsMode::Terminate, "Secret"));
    let route = resources.http_routes.get("default", "r").unwrap();
    let backend = &route.spec.rules[0].backend_refs[0].backend;
    assert_eq!((backend.weight, backend.object.kind.as_str(), backend.object.port), (1, "Service", Some(80)));
    assert_eq!(route.spec.rules[0].matches[0].path.value, "/");
    assert_eq!(route.to_string(), "HTTPRoute default/r");
    assert_eq!(route.origin.locate("spec.rules[0].backendRefs[0].port").line, 17);
}

#[test]
fn a_secret_is_in_no_message() {
    for data in [
        "data: {k: hunter2!}",
        "data: {k: [hunter2]}",
        "stringData: {k: [hunter2]}",
        "data: hunter2",
        "stringData: {k: \"hunter2",
        "data: {k: !x hunter2}",
    ] {
        let (_, problems) = Resources::from_text(&object("v1", "Secret", data));
        assert!(!problems.is_empty(), "{data}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_a_document_is_answered(text in "\\PC*") {
        let _ = Resources::from_text(&text);
    }
}
