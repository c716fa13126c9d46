//! Rules, by table.

use std::time::Duration;

use super::super::testing::{self, brief, condition, status, yaml};
use super::*;
use crate::model::{Plan, Report};
use crate::resources::Resources;
use crate::translate::translate;

const SURROUNDINGS: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: web}
spec: {gatewayClassName: c, listeners: [{name: l, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.yett.dev/v1alpha1
kind: Backend
metadata: {name: b, namespace: web}
spec: {endpoints: [{address: 127.0.0.1, port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: web}
spec:
  parentRefs: [{name: g}]
";
const BACKEND: &str = "backendRefs: [{group: gateway.yett.dev, kind: Backend, name: b}]";

fn route(rules: &str) -> Resources {
    yaml(&format!("{SURROUNDINGS}  rules: [{rules}]\n"))
}

fn translated(rules: &str) -> (Vec<Rule>, Plan, Report) {
    let resources = route(rules);
    let (mut plan, report) = translate(&resources, &testing::bound(&resources));
    let rules = plan.frontends.values_mut().next().unwrap().listeners[0].rules.clone();
    (rules, plan, report)
}

fn parent(report: &Report) -> serde_json::Value {
    status(report, "HTTPRoute", "web", "r")["parents"][0].clone()
}

#[test]
fn matches_are_built() {
    let (rules, _, report) = translated(
        "{matches: [{path: {type: Exact, value: /a/}, method: POST, headers: [{name: X-One, value: b c}],
             queryParams: [{name: q, value: v}]},
           {path: {value: /p/}}, {path: {value: /}}, {}], name: first,
           timeouts: {request: 10s, backendRequest: 500ms}, backendRefs: [{group: gateway.yett.dev, kind: Backend, name: b}]},
         {}",
    );
    let prefix = |path: &str| RequestMatch {
        path: PathMatch::Prefix(path.into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    };
    let exact = RequestMatch {
        path: PathMatch::Exact("/a/".into()),
        method: Some(Method::POST),
        headers: vec![(HeaderName::from_static("x-one"), HeaderValue::from_static("b c"))],
        query: vec![("q".into(), "v".into())],
    };
    assert_eq!(rules[0].matches, [exact, prefix("/p"), prefix(""), prefix("")]);
    assert_eq!((rules[0].index, rules[0].name.as_deref()), (0, Some("first")));
    assert_eq!(rules[0].request_timeout, Some(Duration::from_secs(10)));
    assert_eq!(rules[0].backend_timeout, Some(Duration::from_millis(500)));
    assert_eq!((rules[1].index, rules[1].matches.as_slice()), (1, &[prefix("")][..]));
    assert_eq!(brief(&parent(&report), "Accepted"), "True/Accepted");
}

#[test]
fn filters_are_built() {
    let (rules, _, _) = translated(&format!(
        "{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-A, value: '1'}}], add: [{{name: x-b, value: '2'}}], remove: [X-C]}}}},
           {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-d, value: '3'}}]}}}}], {BACKEND}}},
         {{filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https, hostname: b.test, port: 8443, statusCode: 301, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}}}], matches: [{{path: {{value: /old}}}}]}}",
    ));
    let name = HeaderName::from_static;
    let value = HeaderValue::from_static;
    let edit = HeaderEdit {
        set: vec![(name("x-a"), value("1"))],
        add: vec![(name("x-b"), value("2"))],
        remove: vec![name("x-c")],
    };
    let answer = HeaderEdit { set: vec![(name("x-d"), value("3"))], ..HeaderEdit::default() };
    assert_eq!(rules[0].filters, [Filter::RequestHeaders(edit), Filter::ResponseHeaders(answer)]);
    let redirect = Redirect {
        scheme: Some(RedirectScheme::Https),
        hostname: Some("b.test".into()),
        port: Some(8443),
        path: Some(PathRewrite::Prefix("/new".into())),
        status: StatusCode::MOVED_PERMANENTLY,
    };
    assert_eq!(rules[1].action, Action::Redirect(redirect));
}

#[test]
fn what_is_not_supported_is_refused_and_does_not_fall_through() {
    let bad = [
        ("a path expression", "matches: [{path: {type: RegularExpression, value: '/a.*'}}]", None),
        (
            "a header expression",
            "matches: [{headers: [{type: RegularExpression, name: x, value: 'a.*'}]}]",
            None,
        ),
        (
            "a query expression",
            "matches: [{queryParams: [{type: RegularExpression, name: x, value: 'a.*'}]}]",
            None,
        ),
        (
            "one match of two",
            "matches: [{path: {value: /x}}, {path: {type: RegularExpression, value: '/a.*'}}]",
            Some("/x"),
        ),
        (
            "rewriting",
            "matches: [{path: {value: /x}}], filters: [{type: URLRewrite, urlRewrite: {hostname: b.test}}]",
            Some("/x"),
        ),
        (
            "a foreign filter",
            "filters: [{type: ExtensionRef, extensionRef: {group: x.test, kind: Y, name: z}}]",
            Some(""),
        ),
        (
            "changing what frames a message",
            "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Content-Length]}}]",
            Some(""),
        ),
        (
            "changing the host by header",
            "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b.test}]}}]",
            Some(""),
        ),
    ];
    for (description, rule, refused) in bad {
        let bad_rule = format!("{{{rule}, {BACKEND}}}");
        // Alone it takes the route with it.
        let (rules, plan, report) = translated(&bad_rule);
        assert_eq!(rules, [], "{description}");
        assert!(plan.backends.is_empty(), "{description}");
        let status = parent(&report);
        assert_eq!(brief(&status, "Accepted"), "False/UnsupportedValue", "{description}");
        assert_eq!(brief(&status, "PartiallyInvalid"), "-", "{description}");
        let words = condition(&status, "Accepted")["message"].to_string();
        assert!(words.contains("spec.rules[0]."), "{description}: {words}");
        assert!(
            report.findings.iter().any(|f| f.code == "YT0218" && f.field.starts_with("spec.rules[0].")),
            "{description}"
        );

        // Beside a good one it is dropped, and what is understood of it is answered 500.
        let (rules, _, report) = translated(&format!("{{{BACKEND}}}, {bad_rule}"));
        let status = parent(&report);
        assert_eq!(brief(&status, "Accepted"), "True/Accepted", "{description}");
        assert_eq!(brief(&status, "PartiallyInvalid"), "True/UnsupportedValue", "{description}");
        let words = condition(&status, "PartiallyInvalid")["message"].as_str().unwrap().to_owned();
        assert!(
            words.starts_with("Dropped Rule") && words.contains("spec.rules[1]."),
            "{description}: {words}"
        );
        let kept = rules.iter().find(|rule| rule.index == 1);
        assert_eq!(kept.is_some(), refused.is_some(), "{description}");
        if let (Some(kept), Some(path)) = (kept, refused) {
            assert_eq!(kept.action, Action::Refuse(Reason::RuleInvalid), "{description}");
            assert_eq!(kept.matches.len(), 1, "{description}");
            assert_eq!(kept.matches[0].path, PathMatch::Prefix(path.into()), "{description}");
            assert_eq!(kept.filters, [], "{description}");
        }
    }
}

/// Rules that the documents' own checks refuse already, as they would come from elsewhere.
#[test]
fn contradictions_are_refused_here_too() {
    let table = [
        (
            "redirect and rewrite",
            serde_json::json!({"filters": [
                {"type": "RequestRedirect", "requestRedirect": {}},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "b.test"}},
            ]}),
            "IncompatibleFilters",
        ),
        (
            "redirect and backends",
            serde_json::json!({
                "filters": [{"type": "RequestRedirect", "requestRedirect": {}}],
                "backendRefs": [{"group": "gateway.yett.dev", "kind": "Backend", "name": "b"}],
            }),
            "UnsupportedValue",
        ),
        (
            "a redirect of a backend",
            serde_json::json!({"backendRefs": [{
                "group": "gateway.yett.dev", "kind": "Backend", "name": "b",
                "filters": [{"type": "RequestRedirect", "requestRedirect": {}}],
            }]}),
            "UnsupportedValue",
        ),
        (
            "a scheme of its own",
            serde_json::json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "gopher"}}]}),
            "UnsupportedValue",
        ),
        (
            "a status of its own",
            serde_json::json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 200}}]}),
            "UnsupportedValue",
        ),
        (
            "a line break in a redirect",
            serde_json::json!({"filters": [{"type": "RequestRedirect", "requestRedirect":
                {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a\r\nx: y"}}}]}),
            "UnsupportedValue",
        ),
        (
            "a prefix where none is matched",
            serde_json::json!({
                "matches": [{"path": {"type": "Exact", "value": "/a"}}],
                "filters": [{"type": "RequestRedirect", "requestRedirect":
                    {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}}],
            }),
            "UnsupportedValue",
        ),
        ("a relative path", serde_json::json!({"matches": [{"path": {"value": "a"}}]}), "UnsupportedValue"),
        (
            "a line break in a value",
            serde_json::json!({"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier":
                {"set": [{"name": "x", "value": "a\r\nb"}]}}]}),
            "UnsupportedValue",
        ),
    ];
    for (description, rule, reason) in table {
        let mut resources = route("{}");
        let mut broken = (**resources.http_routes.get("web", "r").unwrap()).clone();
        broken.spec.rules = vec![serde_json::from_value(rule).unwrap()];
        resources.http_routes = Default::default();
        resources.http_routes.insert(std::sync::Arc::new(broken)).unwrap();
        let (plan, report) = translate(&resources, &testing::facts());
        assert_eq!(brief(&parent(&report), "Accepted"), format!("False/{reason}"), "{description}");
        assert_eq!(plan.frontends.values().next().unwrap().listeners[0].rules, [], "{description}");
    }
}

#[test]
fn what_has_no_effect_yet_is_said() {
    let (rules, _, report) = translated(&format!("{{retry: {{attempts: 2}}, {BACKEND}}}"));
    assert!(matches!(rules[0].action, Action::Forward(_)));
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((finding.code, finding.field.as_str()), ("YT0221", "spec.rules[0].retry"));
}
