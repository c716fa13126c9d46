//! HTTPRoutes.

use super::*;

#[test]
fn http_routes() {
    let parents = |list: &str| route(&format!("parentRefs: {list}"));
    check(vec![
        ("nothing at all", route("hostnames: []"), &[]),
        ("a backend", rule("backendRefs: [{name: b, port: 80}]"), &[]),
        ("no rules", route("rules: []"), &["YT0109! 5 spec.rules"]),
        ("a bad host name", route("hostnames: ['a.test', '*']"), &["YT0108! 5 spec.hostnames[1]"]),
        (
            "17 host names",
            route(&format!("hostnames: [{}]", ["a.test"; 17].join(", "))),
            &["YT0109! 5 spec.hostnames"],
        ),
        ("two parents", parents("[{name: g}, {name: h}]"), &[]),
        ("two sections", parents("[{name: g, sectionName: a}, {name: g, sectionName: b}]"), &[]),
        ("two ports", parents("[{name: g, port: 80}, {name: g, port: 81}]"), &[]),
        ("a parent twice", parents("[{name: g}, {name: g}]"), &["YT0110! 5 spec.parentRefs[1]"]),
        (
            "a parent and a section of it",
            parents("[{name: g}, {name: g, sectionName: a}]"),
            &["YT0111! 5 spec.parentRefs[1]"],
        ),
        ("a parent without name", parents("[{sectionName: a}]"), &["YT0105! 5 spec.parentRefs[0].name"]),
        (
            "a Service without port",
            rule("backendRefs: [{name: b}]"),
            &["YT0105! 6 spec.rules[0].backendRefs[0].port"],
        ),
        (
            "another kind without port",
            rule("backendRefs: [{group: gateway.yett.dev, kind: Backend, name: b}]"),
            &[],
        ),
        (
            "too heavy",
            rule("backendRefs: [{name: b, port: 80, weight: 1000001}]"),
            &["YT0109! 6 spec.rules[0].backendRefs[0].weight"],
        ),
        ("a name twice", route("rules: [{name: a}, {name: a}]"), &["YT0110! 5 spec.rules[1].name"]),
        (
            "a relative path",
            rule("matches: [{path: {value: a}}]"),
            &["YT0108! 6 spec.rules[0].matches[0].path.value"],
        ),
        (
            "an expression may be anything",
            rule("matches: [{path: {type: RegularExpression, value: 'a//[b]'}}]"),
            &[],
        ),
        (
            "an unknown type of match",
            rule("matches: [{path: {type: Prefix, value: /}}]"),
            &["YT0107! 6 spec.rules[0].matches[0].path.type"],
        ),
        (
            "a method in small letters",
            rule("matches: [{method: get}]"),
            &["YT0107! 6 spec.rules[0].matches[0].method"],
        ),
        (
            "a header twice",
            rule("matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]"),
            &["YT0110! 6 spec.rules[0].matches[0].headers[1].name"],
        ),
        (
            "a bad header name",
            rule("matches: [{headers: [{name: ':a', value: b}]}]"),
            &["YT0108! 6 spec.rules[0].matches[0].headers[0].name"],
        ),
        (
            "a typing mistake would widen the match",
            rule("matches: [{header: [{name: a, value: b}]}]"),
            &["YT0104! 6 spec.rules[0].matches[0].header"],
        ),
        (
            "129 matches",
            route(&format!(
                "rules: [{0}, {0}, {{matches: [{{}}]}}]",
                format_args!("{{matches: [{}]}}", ["{}"; 64].join(", "))
            )),
            &["YT0109! 5 spec.rules"],
        ),
        ("timeouts", rule("timeouts: {request: 10s, backendRequest: 10s}"), &[]),
        ("no limit for the whole", rule("timeouts: {request: 0s, backendRequest: 10s}"), &[]),
        (
            "a try longer than the whole",
            rule("timeouts: {request: 10s, backendRequest: 11s}"),
            &["YT0111! 6 spec.rules[0].timeouts.backendRequest"],
        ),
        ("a bad duration", rule("timeouts: {request: 10}"), &["YT0106! 6 spec.rules[0].timeouts.request"]),
        ("retries", rule("retry: {codes: [500, 503], attempts: 2, backoff: 100ms}"), &[]),
        (
            "a code twice and one out of range",
            rule("retry: {codes: [500, 500, 399]}"),
            &["YT0109! 6 spec.rules[0].retry.codes[2]", "YT0110! 6 spec.rules[0].retry.codes[1]"],
        ),
    ]);
}

#[test]
fn filters_of_http_routes() {
    let filters = |list: &str| rule(&format!("filters: {list}"));
    let redirect = "{type: RequestRedirect, requestRedirect: {statusCode: 301}}";
    let rewrite =
        "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}";
    check(vec![
        (
            "header changes",
            filters(
                "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}}]",
            ),
            &[],
        ),
        (
            "a type without its member",
            filters("[{type: RequestHeaderModifier}]"),
            &["YT0105! 6 spec.rules[0].filters[0].requestHeaderModifier"],
        ),
        (
            "another's member",
            filters("[{type: RequestRedirect, requestRedirect: {}, urlRewrite: {}}]"),
            &["YT0111! 6 spec.rules[0].filters[0].urlRewrite"],
        ),
        ("an unknown type", filters("[{type: Redirect}]"), &["YT0107! 6 spec.rules[0].filters[0].type"]),
        (
            "a value with a line break",
            filters(
                "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\nc\"}]}}]",
            ),
            &["YT0108! 6 spec.rules[0].filters[0].requestHeaderModifier.set[0].value"],
        ),
        (
            "a header set twice",
            filters(
                "[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}, {name: a, value: c}]}}]",
            ),
            &["YT0110! 6 spec.rules[0].filters[0].requestHeaderModifier.set[1].name"],
        ),
        (
            "a status that is none",
            filters("[{type: RequestRedirect, requestRedirect: {statusCode: 304}}]"),
            &["YT0107! 6 spec.rules[0].filters[0].requestRedirect.statusCode"],
        ),
        (
            "a redirect with backends",
            rule(&format!("filters: [{redirect}]\nbackendRefs: [{{name: b, port: 80}}]")),
            &["YT0111! 7 spec.rules[0].backendRefs"],
        ),
        (
            "redirect and rewrite",
            filters(&format!("[{redirect}, {rewrite}]")),
            &["YT0111! 6 spec.rules[0].filters[1]"],
        ),
        (
            "a redirect twice",
            filters(&format!("[{redirect}, {redirect}]")),
            &["YT0110! 6 spec.rules[0].filters[1]"],
        ),
        (
            "mirrors may repeat",
            filters(&format!(
                "[{0}, {0}]",
                "{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}"
            )),
            &[],
        ),
        (
            "percent and fraction",
            filters(
                "[{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 1, fraction: {numerator: 101}}}]",
            ),
            &[
                "YT0111! 6 spec.rules[0].filters[0].requestMirror",
                "YT0111! 6 spec.rules[0].filters[0].requestMirror.fraction",
            ],
        ),
        ("a prefix replaced", filters(&format!("[{rewrite}]")), &[]),
        (
            "no prefix to replace",
            rule(&format!("matches: [{{path: {{type: Exact, value: /a}}}}]\nfilters: [{rewrite}]")),
            &["YT0111! 7 spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch"],
        ),
        (
            "two prefixes to replace",
            rule(&format!(
                "matches: [{{}}, {{}}]\nbackendRefs: [{{name: b, port: 80, filters: [{rewrite}]}}]"
            )),
            &["YT0111! 7 spec.rules[0].backendRefs[0].filters[0].urlRewrite.path.replacePrefixMatch"],
        ),
        (
            "a modifier of the other type",
            filters(&format!("[{}]", rewrite.replace("type: ReplacePrefixMatch", "type: ReplaceFullPath"))),
            &[
                "YT0105! 6 spec.rules[0].filters[0].urlRewrite.path.replaceFullPath",
                "YT0111! 6 spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch",
            ],
        ),
        (
            "origins",
            filters("[{type: CORS, cors: {allowOrigins: ['https://*.a.test'], allowMethods: ['*']}}]"),
            &[],
        ),
        (
            "any origin and another",
            filters("[{type: CORS, cors: {allowOrigins: ['*', 'https://a.test']}}]"),
            &["YT0111! 6 spec.rules[0].filters[0].cors.allowOrigins"],
        ),
        (
            "what is for translation",
            filters(
                "[{type: ExternalAuth, externalAuth: {protocol: HTTP}}, {type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}]",
            ),
            &[],
        ),
    ]);
}
