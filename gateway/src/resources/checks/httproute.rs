//! Structure and rules of HTTPRoute (Gateway API v1.7.0 `httproute_types.go`, `shared_types.go`).

use std::time::Duration;

use super::form::{Form, path_fault};
use super::shared::*;
use super::{Faults, Schema, Shape, Union, Unknown, optional, quote, required};
use crate::resources::httproute::{
    HttpPathModifier, HttpRoute, HttpRouteFilter, HttpRouteRule, PathMatchType,
};
use crate::resources::object::Object;
use crate::resources::problem::Code;
use crate::resources::refs::{BackendObjectReference, ParentReference};

/// Matches of all rules together.
const MATCHES_MAX: usize = 128;

pub(in crate::resources) const HTTP_ROUTE: Schema = Schema::Object(&Shape::of(&object_fields(
    &METADATA,
    required(
        "spec",
        &Schema::Object(&Shape::of(&[
            optional("parentRefs", &Schema::List { item: &PARENT_REF, min: 0, max: 32 }),
            optional("hostnames", &Schema::List { item: &HOSTNAME, min: 0, max: 16 }),
            optional("rules", &Schema::List { item: &RULE, min: 1, max: 16 }),
            optional("useDefaultGateways", &ANY),
        ])),
    ),
)));

const PARENT_REF: Schema = Schema::Object(&Shape::of(&[
    optional("group", &GROUP),
    optional("kind", &KIND),
    optional("namespace", &NAMESPACE),
    required("name", &NAME),
    optional("sectionName", &SECTION),
    optional("port", &PORT),
]));

const RULE: Schema = Schema::Object(&Shape::of(&[
    optional("name", &SECTION),
    optional("matches", &Schema::List { item: &MATCH, min: 0, max: 64 }),
    optional("filters", &FILTERS),
    optional("backendRefs", &Schema::List { item: &HTTP_BACKEND_REF, min: 0, max: 16 }),
    optional(
        "timeouts",
        &Schema::Object(&Shape::of(&[optional("request", &DURATION), optional("backendRequest", &DURATION)])),
    ),
    optional(
        "retry",
        &Schema::Object(&Shape::of(&[
            optional(
                "codes",
                &Schema::Set { item: &Schema::Integer { min: 400, max: 599 }, max: usize::MAX },
            ),
            optional("attempts", &Schema::Integer { min: 0, max: i32::MAX as i64 }),
            optional("backoff", &DURATION),
        ])),
    ),
    optional("sessionPersistence", &ANY),
]));

// Strict: a match that lost a condition to a typing mistake takes requests that were meant for another rule.
const MATCH: Schema = Schema::Object(&Shape::strict(&[
    optional(
        "path",
        &Schema::Object(&Shape::strict(&[
            optional("type", &Schema::Word(&["Exact", "PathPrefix", "RegularExpression"])),
            optional("value", &Schema::Text { form: Form::Free, min: 0, max: 1024 }),
        ])),
    ),
    optional("headers", &Schema::Keyed { item: &HEADER_MATCH, key: "name", max: 16 }),
    optional("queryParams", &Schema::Keyed { item: &QUERY_MATCH, key: "name", max: 16 }),
    optional("method", &Schema::Word(&METHODS)),
]));

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

const HEADER_NAME: Schema = text(Form::HeaderName, 256);

macro_rules! value_match {
    ($value:expr) => {
        Schema::Object(&Shape::strict(&[
            optional("type", &Schema::Word(&["Exact", "RegularExpression"])),
            required("name", &HEADER_NAME),
            required("value", $value),
        ]))
    };
}

const HEADER_MATCH: Schema = value_match!(&text(Form::Free, 4096));
const QUERY_MATCH: Schema = value_match!(&text(Form::Free, 1024));

const FILTERS: Schema = Schema::List { item: &FILTER, min: 0, max: 16 };

const FILTER: Schema = Schema::Object(&Shape {
    fields: &[
        required("type", &Schema::Word(&FILTER_TYPES)),
        optional("requestHeaderModifier", &HEADER_FILTER),
        optional("responseHeaderModifier", &HEADER_FILTER),
        optional("requestMirror", &REQUEST_MIRROR),
        optional("requestRedirect", &REQUEST_REDIRECT),
        optional("urlRewrite", &URL_REWRITE),
        optional("cors", &CORS),
        optional("externalAuth", &ANY),
        optional("extensionRef", &LOCAL_REF),
    ],
    union: Some(Union {
        tag: "type",
        members: &[
            ("RequestHeaderModifier", "requestHeaderModifier"),
            ("ResponseHeaderModifier", "responseHeaderModifier"),
            ("RequestMirror", "requestMirror"),
            ("RequestRedirect", "requestRedirect"),
            ("URLRewrite", "urlRewrite"),
            ("CORS", "cors"),
            ("ExternalAuth", "externalAuth"),
            ("ExtensionRef", "extensionRef"),
        ],
    }),
    unknown: Unknown::Warn,
});

const FILTER_TYPES: [&str; 8] = [
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExternalAuth",
    "ExtensionRef",
];

const HEADER: Schema = Schema::Object(&Shape::of(&[
    required("name", &HEADER_NAME),
    required("value", &text(Form::HeaderValue, 4096)),
]));

const HEADER_FILTER: Schema = Schema::Object(&Shape::of(&[
    optional("set", &Schema::Keyed { item: &HEADER, key: "name", max: 16 }),
    optional("add", &Schema::Keyed { item: &HEADER, key: "name", max: 16 }),
    optional("remove", &Schema::Set { item: &HEADER_NAME, max: 16 }),
]));

const REQUEST_MIRROR: Schema = Schema::Object(&Shape::of(&[
    required("backendRef", &BACKEND_OBJECT_REF),
    optional("percent", &Schema::Integer { min: 0, max: 100 }),
    optional(
        "fraction",
        &Schema::Object(&Shape::of(&[
            required("numerator", &Schema::Integer { min: 0, max: i32::MAX as i64 }),
            optional("denominator", &Schema::Integer { min: 1, max: i32::MAX as i64 }),
        ])),
    ),
]));

const REQUEST_REDIRECT: Schema = Schema::Object(&Shape::of(&[
    optional("scheme", &Schema::Word(&["http", "https"])),
    optional("hostname", &PRECISE_HOSTNAME),
    optional("path", &PATH_MODIFIER),
    optional("port", &PORT),
    optional("statusCode", &Schema::Numbers(&[301, 302, 303, 307, 308])),
]));

const URL_REWRITE: Schema =
    Schema::Object(&Shape::of(&[optional("hostname", &PRECISE_HOSTNAME), optional("path", &PATH_MODIFIER)]));

const PATH_MODIFIER: Schema = Schema::Object(&Shape {
    fields: &[
        required("type", &Schema::Word(&["ReplaceFullPath", "ReplacePrefixMatch"])),
        optional("replaceFullPath", &REPLACEMENT),
        optional("replacePrefixMatch", &REPLACEMENT),
    ],
    union: Some(Union {
        tag: "type",
        members: &[("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")],
    }),
    unknown: Unknown::Warn,
});

const REPLACEMENT: Schema = Schema::Text { form: Form::Free, min: 0, max: 1024 };

const CORS: Schema = Schema::Object(&Shape::of(&[
    optional("allowOrigins", &Schema::Set { item: &text(Form::CorsOrigin, 253), max: 64 }),
    optional("allowCredentials", &BOOL),
    optional(
        "allowMethods",
        &Schema::Set {
            item: &Schema::Word(&[
                "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*",
            ]),
            max: 9,
        },
    ),
    optional("allowHeaders", &Schema::Set { item: &HEADER_NAME, max: 64 }),
    optional("exposeHeaders", &Schema::Set { item: &HEADER_NAME, max: 64 }),
    optional("maxAge", &Schema::Integer { min: 1, max: i32::MAX as i64 }),
]));

const BACKEND_OBJECT_REF: Schema = Schema::Object(&Shape::of(&[
    optional("group", &GROUP),
    optional("kind", &KIND),
    required("name", &NAME),
    optional("namespace", &NAMESPACE),
    optional("port", &PORT),
]));

const HTTP_BACKEND_REF: Schema = Schema::Object(&Shape::of(&[
    optional("group", &GROUP),
    optional("kind", &KIND),
    required("name", &NAME),
    optional("namespace", &NAMESPACE),
    optional("port", &PORT),
    optional("weight", &Schema::Integer { min: 0, max: 1_000_000 }),
    optional("filters", &FILTERS),
]));

/// The rules between the fields of an HTTPRoute.
pub(in crate::resources) fn http_route(route: &Object<HttpRoute>, faults: &mut Faults) {
    let spec = &route.spec;
    parents_differ(&spec.parent_refs, faults);
    let matches: usize = spec.rules.iter().map(|rule| rule.matches.len()).sum();
    if matches > MATCHES_MAX {
        let message = format!("the rules have {matches} matches together, more than {MATCHES_MAX}");
        faults.error(Code::OutOfBounds, "spec.rules", message);
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        let earlier = spec.rules.iter().take(index);
        if let Some(name) = &rule.name
            && let Some(first) = earlier.map(|rule| &rule.name).position(|other| other.as_ref() == Some(name))
        {
            faults.error(
                Code::NotUnique,
                format!("{path}.name"),
                format!("rule {first} has the name {} too", quote(name)),
            );
        }
        rule_fits(rule, &path, faults);
    }
}

/// References to one parent all name a section or none does, likewise a port, and no two name the same.
fn parents_differ(parents: &[ParentReference], faults: &mut Faults) {
    let same = |a: &ParentReference, b: &ParentReference| {
        (&a.group, &a.kind, &a.namespace, &a.name) == (&b.group, &b.kind, &b.namespace, &b.name)
    };
    for (index, parent) in parents.iter().enumerate() {
        let field = format!("spec.parentRefs[{index}]");
        for (first, other) in parents.iter().enumerate().take(index).filter(|(_, other)| same(other, parent))
        {
            if (&other.section_name, other.port) == (&parent.section_name, parent.port) {
                faults.error(Code::NotUnique, field, format!("repeats entry {first}"));
                break;
            }
            let alike = other.section_name.is_some() == parent.section_name.is_some()
                && other.port.is_some() == parent.port.is_some();
            if !alike {
                let message = format!(
                    "entry {first} refers to the same parent, so both have to give a `sectionName`, or both a `port`"
                );
                faults.error(Code::Contradiction, field, message);
                break;
            }
        }
    }
}

fn rule_fits(rule: &HttpRouteRule, path: &str, faults: &mut Faults) {
    for (index, condition) in rule.matches.iter().enumerate() {
        if matches!(condition.path.kind, PathMatchType::Exact | PathMatchType::PathPrefix)
            && let Some(fault) = path_fault(&condition.path.value)
        {
            let field = format!("{path}.matches[{index}].path.value");
            faults.error(Code::BadFormat, field, format!("{} {fault}", quote(&condition.path.value)));
        }
    }
    filters_fit(&rule.filters, rule, &format!("{path}.filters"), faults);
    let redirects = rule.filters.iter().any(|filter| matches!(filter, HttpRouteFilter::RequestRedirect(_)));
    if redirects && !rule.backend_refs.is_empty() {
        let message = "a rule that redirects takes no backends";
        faults.error(Code::Contradiction, format!("{path}.backendRefs"), message);
    }
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let field = format!("{path}.backendRefs[{index}]");
        service_has_port(&backend.backend.object, &field, faults);
        filters_fit(&backend.filters, rule, &format!("{field}.filters"), faults);
    }
    if let Some(timeouts) = &rule.timeouts
        && let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
        && request > Duration::ZERO
        && backend > request
    {
        let message = "must not be longer than `request`";
        faults.error(Code::Contradiction, format!("{path}.timeouts.backendRequest"), message);
    }
}

fn filters_fit(filters: &[HttpRouteFilter], rule: &HttpRouteRule, path: &str, faults: &mut Faults) {
    for (index, filter) in filters.iter().enumerate() {
        let field = format!("{path}[{index}]");
        let repeatable = matches!(
            filter,
            HttpRouteFilter::RequestMirror(_)
                | HttpRouteFilter::ExtensionRef(_)
                | HttpRouteFilter::ExternalAuth(_)
        );
        let alike = |other: &HttpRouteFilter| std::mem::discriminant(other) == std::mem::discriminant(filter);
        if !repeatable && filters.iter().take(index).any(alike) {
            faults.error(
                Code::NotUnique,
                field.clone(),
                format!("{} cannot be repeated", filter.type_name()),
            );
        }
        match filter {
            HttpRouteFilter::RequestMirror(mirror) => {
                service_has_port(&mirror.backend_ref, &format!("{field}.requestMirror.backendRef"), faults);
                if mirror.percent.is_some() && mirror.fraction.is_some() {
                    let message = "takes `percent` or `fraction`, not both";
                    faults.error(Code::Contradiction, format!("{field}.requestMirror"), message);
                }
                if mirror.fraction.is_some_and(|fraction| fraction.numerator > fraction.denominator) {
                    let message = "the numerator must not be greater than the denominator";
                    faults.error(Code::Contradiction, format!("{field}.requestMirror.fraction"), message);
                }
            }
            HttpRouteFilter::RequestRedirect(redirect) => {
                prefix_is_there(redirect.path.as_ref(), rule, &format!("{field}.requestRedirect"), faults);
            }
            HttpRouteFilter::UrlRewrite(rewrite) => {
                prefix_is_there(rewrite.path.as_ref(), rule, &format!("{field}.urlRewrite"), faults);
                if filters.iter().any(|other| matches!(other, HttpRouteFilter::RequestRedirect(_))) {
                    faults.error(
                        Code::Contradiction,
                        field,
                        "URLRewrite and RequestRedirect exclude each other",
                    );
                }
            }
            HttpRouteFilter::Cors(cors) => {
                for (name, list) in [
                    ("allowOrigins", &cors.allow_origins),
                    ("allowMethods", &cors.allow_methods),
                    ("allowHeaders", &cors.allow_headers),
                ] {
                    if list.len() > 1 && list.iter().any(|entry| entry == "*") {
                        faults.error(
                            Code::Contradiction,
                            format!("{field}.cors.{name}"),
                            "`*` has to stand alone",
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

/// Replacing a prefix needs a prefix: one match, by PathPrefix.
fn prefix_is_there(change: Option<&HttpPathModifier>, rule: &HttpRouteRule, path: &str, faults: &mut Faults) {
    let one_prefix = match rule.matches.as_slice() {
        [one] => one.path.kind == PathMatchType::PathPrefix,
        _ => false,
    };
    if matches!(change, Some(HttpPathModifier::ReplacePrefixMatch(_))) && !one_prefix {
        let message = "replacePrefixMatch needs a rule with exactly one match, of type PathPrefix";
        faults.error(Code::Contradiction, format!("{path}.path.replacePrefixMatch"), message);
    }
}

fn service_has_port(reference: &BackendObjectReference, path: &str, faults: &mut Faults) {
    if reference.group.is_empty() && reference.kind == "Service" && reference.port.is_none() {
        faults.error(Code::MissingField, format!("{path}.port"), "`port` is required for a Service");
    }
}
