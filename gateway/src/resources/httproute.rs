//! HTTPRoute: which requests go where, and what is done to them on the way.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::defaults;
use super::refs::{BackendObjectReference, BackendRef, LocalObjectReference, ParentReference};

/// `spec` of a `gateway.networking.k8s.io/v1` HTTPRoute.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// What to attach to, at most 32.
    #[serde(default)]
    pub parent_refs: Vec<ParentReference>,
    /// Exact or wildcard names, at most 16; empty takes every name of the listener.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// 1 to 16.
    #[serde(default = "defaults::rules")]
    pub rules: Vec<HttpRouteRule>,
}

/// One rule: any of the matches, then the filters, then one of the backends.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Unique within the route.
    #[serde(default)]
    pub name: Option<String>,
    /// At most 64; a request that fits one of them fits the rule.
    #[serde(default = "defaults::matches")]
    pub matches: Vec<HttpRouteMatch>,
    /// At most 16, in order.
    #[serde(default)]
    pub filters: Vec<HttpRouteFilter>,
    /// At most 16.
    #[serde(default)]
    pub backend_refs: Vec<HttpBackendRef>,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Option<HttpRouteTimeouts>,
    /// When to try again.
    #[serde(default)]
    pub retry: Option<HttpRouteRetry>,
    /// Experimental; kept as written.
    #[serde(default)]
    pub session_persistence: Option<serde_json::Value>,
}

/// Conditions on a request that all have to hold.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// On the path.
    #[serde(default = "defaults::path_match")]
    pub path: HttpPathMatch,
    /// On header fields, at most 16.
    #[serde(default)]
    pub headers: Vec<HttpValueMatch>,
    /// On query parameters, at most 16.
    #[serde(default)]
    pub query_params: Vec<HttpValueMatch>,
    /// On the method, in capitals.
    #[serde(default)]
    pub method: Option<String>,
}

/// A condition on the path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct HttpPathMatch {
    /// How `value` is compared.
    #[serde(default = "defaults::path_match_type", rename = "type")]
    pub kind: PathMatchType,
    /// A path, or an expression.
    #[serde(default = "defaults::path_value")]
    pub value: String,
}

impl Default for HttpPathMatch {
    fn default() -> HttpPathMatch {
        defaults::path_match()
    }
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum PathMatchType {
    /// The whole path, byte by byte.
    Exact,
    /// Leading path elements, whole ones; a trailing slash is ignored.
    PathPrefix,
    /// By expression.
    RegularExpression,
}

/// A condition on a header field or a query parameter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct HttpValueMatch {
    /// How `value` is compared.
    #[serde(default = "defaults::value_match_type", rename = "type")]
    pub kind: ValueMatchType,
    /// Header names compare without regard to case, parameter names exactly.
    pub name: String,
    /// A value, or an expression.
    pub value: String,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum ValueMatchType {
    /// Byte by byte.
    Exact,
    /// By expression.
    RegularExpression,
}

/// What is done to a request or its answer; the document's `type` and the member it selects are one thing here.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "WrittenFilter")]
pub enum HttpRouteFilter {
    /// Change header fields of the request.
    RequestHeaderModifier(HttpHeaderFilter),
    /// Change header fields of the answer.
    ResponseHeaderModifier(HttpHeaderFilter),
    /// Send a copy of the request elsewhere.
    RequestMirror(HttpRequestMirror),
    /// Answer with a redirect.
    RequestRedirect(HttpRequestRedirect),
    /// Change host or path before forwarding.
    UrlRewrite(HttpUrlRewrite),
    /// Answer cross-origin questions.
    Cors(HttpCors),
    /// Ask a service whether the request may pass; experimental, kept as written.
    ExternalAuth(serde_json::Value),
    /// A filter of another API.
    ExtensionRef(LocalObjectReference),
}

impl HttpRouteFilter {
    /// The document's `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            HttpRouteFilter::RequestHeaderModifier(_) => "RequestHeaderModifier",
            HttpRouteFilter::ResponseHeaderModifier(_) => "ResponseHeaderModifier",
            HttpRouteFilter::RequestMirror(_) => "RequestMirror",
            HttpRouteFilter::RequestRedirect(_) => "RequestRedirect",
            HttpRouteFilter::UrlRewrite(_) => "URLRewrite",
            HttpRouteFilter::Cors(_) => "CORS",
            HttpRouteFilter::ExternalAuth(_) => "ExternalAuth",
            HttpRouteFilter::ExtensionRef(_) => "ExtensionRef",
        }
    }
}

/// Changes to header fields; at most 16 of each sort.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct HttpHeaderFilter {
    /// Replaces the field.
    #[serde(default)]
    pub set: Vec<HttpHeader>,
    /// Appends to the field.
    #[serde(default)]
    pub add: Vec<HttpHeader>,
    /// Removes the field.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// A header field.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct HttpHeader {
    /// Compared without regard to case.
    pub name: String,
    /// 1 to 4096 characters.
    pub value: String,
}

/// Copies of requests; neither percent nor fraction means all of them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequestMirror {
    /// Where the copies go.
    pub backend_ref: BackendObjectReference,
    /// 0 to 100.
    #[serde(default)]
    pub percent: Option<u8>,
    /// The share as a fraction.
    #[serde(default)]
    pub fraction: Option<Fraction>,
}

/// A fraction of a whole.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Fraction {
    /// At most the denominator.
    pub numerator: u32,
    /// At least 1.
    #[serde(default = "defaults::denominator")]
    pub denominator: u32,
}

/// Where to redirect to; what is absent is taken from the request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequestRedirect {
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Option<String>,
    /// A name without wildcard.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Change of the path.
    #[serde(default)]
    pub path: Option<HttpPathModifier>,
    /// Absent: by the scheme if there is one, else the listener's.
    #[serde(default)]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "defaults::redirect_status")]
    pub status_code: u16,
}

/// What to change before forwarding.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct HttpUrlRewrite {
    /// A name without wildcard.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Change of the path.
    #[serde(default)]
    pub path: Option<HttpPathModifier>,
}

/// A change of the path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "WrittenPathModifier")]
pub enum HttpPathModifier {
    /// The whole path becomes this.
    ReplaceFullPath(String),
    /// The prefix that the rule matched becomes this.
    ReplacePrefixMatch(String),
}

/// Cross-origin resource sharing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpCors {
    /// `scheme://host[:port]`, with wildcards, or `*` alone.
    #[serde(default)]
    pub allow_origins: Vec<String>,
    /// Whether credentials may be sent.
    #[serde(default)]
    pub allow_credentials: bool,
    /// Methods, or `*` alone.
    #[serde(default)]
    pub allow_methods: Vec<String>,
    /// Request fields, or `*` alone.
    #[serde(default)]
    pub allow_headers: Vec<String>,
    /// Answer fields that scripts may read.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// For how long a preflight answer may be cached.
    #[serde(default = "defaults::cors_max_age_s", rename = "maxAge")]
    pub max_age_s: u32,
}

/// A backend with its share and filters of its own.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct HttpBackendRef {
    /// Which backend, and its weight.
    #[serde(flatten)]
    pub backend: BackendRef,
    /// Applied to the requests of this backend only, at most 16.
    #[serde(default)]
    pub filters: Vec<HttpRouteFilter>,
}

/// Time limits; a zero duration turns a limit off.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteTimeouts {
    /// For the whole exchange with the client, all tries together.
    #[serde(default, deserialize_with = "duration")]
    pub request: Option<Duration>,
    /// For one try.
    #[serde(default, deserialize_with = "duration")]
    pub backend_request: Option<Duration>,
}

/// When to try again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct HttpRouteRetry {
    /// Answers that are tried again, 400 to 599.
    #[serde(default)]
    pub codes: Vec<u16>,
    /// Tries after the first; 0 turns retries off, absent is the implementation's choice.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// Wait before the next try.
    #[serde(default, deserialize_with = "duration")]
    pub backoff: Option<Duration>,
}

/// A duration as the Gateway API writes it (GEP-2257): one to four groups of up to five digits and `h`, `m`, `s` or
/// `ms`, such as `1h30m`. `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const GROUPS_MAX: usize = 4;
    const DIGITS_MAX: usize = 5;
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..GROUPS_MAX {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > DIGITS_MAX {
            return None;
        }
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        // `ms` before `m`: the longer unit wins, as in the pattern.
        let (unit_ms, tail) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .iter()
            .find_map(|(unit, ms)| tail.strip_prefix(unit).map(|tail| (*ms, tail)))?;
        total += Duration::from_millis(number * unit_ms);
        rest = tail;
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match parse_duration(&text) {
        Some(duration) => Ok(Some(duration)),
        None => Err(serde::de::Error::custom(format!("`{text}` is no duration such as 10s or 1h30m"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenFilter {
    #[serde(rename = "type")]
    kind: String,
    request_header_modifier: Option<HttpHeaderFilter>,
    response_header_modifier: Option<HttpHeaderFilter>,
    request_mirror: Option<HttpRequestMirror>,
    request_redirect: Option<HttpRequestRedirect>,
    url_rewrite: Option<HttpUrlRewrite>,
    cors: Option<HttpCors>,
    external_auth: Option<serde_json::Value>,
    extension_ref: Option<LocalObjectReference>,
}

impl TryFrom<WrittenFilter> for HttpRouteFilter {
    type Error = String;

    fn try_from(written: WrittenFilter) -> Result<HttpRouteFilter, String> {
        let filter = match written.kind.as_str() {
            "RequestHeaderModifier" => {
                written.request_header_modifier.map(HttpRouteFilter::RequestHeaderModifier)
            }
            "ResponseHeaderModifier" => {
                written.response_header_modifier.map(HttpRouteFilter::ResponseHeaderModifier)
            }
            "RequestMirror" => written.request_mirror.map(HttpRouteFilter::RequestMirror),
            "RequestRedirect" => written.request_redirect.map(HttpRouteFilter::RequestRedirect),
            "URLRewrite" => written.url_rewrite.map(HttpRouteFilter::UrlRewrite),
            "CORS" => written.cors.map(HttpRouteFilter::Cors),
            "ExternalAuth" => written.external_auth.map(HttpRouteFilter::ExternalAuth),
            "ExtensionRef" => written.extension_ref.map(HttpRouteFilter::ExtensionRef),
            other => return Err(format!("unknown filter type `{other}`")),
        };
        filter.ok_or_else(|| format!("a filter of type {} needs its member", written.kind))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPathModifier {
    #[serde(rename = "type")]
    kind: String,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

impl TryFrom<WrittenPathModifier> for HttpPathModifier {
    type Error = String;

    fn try_from(written: WrittenPathModifier) -> Result<HttpPathModifier, String> {
        match (written.kind.as_str(), written.replace_full_path, written.replace_prefix_match) {
            ("ReplaceFullPath", Some(path), None) => Ok(HttpPathModifier::ReplaceFullPath(path)),
            ("ReplacePrefixMatch", None, Some(path)) => Ok(HttpPathModifier::ReplacePrefixMatch(path)),
            (kind, _, _) => Err(format!("a path modifier of type {kind} needs exactly its own member")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("seconds", "10s", Some(10_000)),
            ("milliseconds", "300ms", Some(300)),
            ("minutes are not milliseconds", "1m", Some(60_000)),
            ("groups add up", "1h30m10s500ms", Some(5_410_500)),
            ("any order", "1s1h", Some(3_601_000)),
            ("zero", "0s", Some(0)),
            ("nothing", "", None),
            ("no unit", "10", None),
            ("no number", "s", None),
            ("fractions", "1.5s", None),
            ("negative", "-1s", None),
            ("six digits", "100000s", None),
            ("five groups", "1s1s1s1s1s", None),
            ("unknown unit", "1d", None),
            ("trailing blank", "1s ", None),
        ];
        for (description, text, expected) in table {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{description}");
        }
    }

    #[test]
    fn a_route_without_rules_matches_everything() {
        let route: HttpRoute = serde_json::from_str("{}").unwrap();
        assert_eq!(route.rules.len(), 1);
        assert_eq!(route.rules[0].matches.len(), 1);
        assert_eq!(route.rules[0].matches[0].path.kind, PathMatchType::PathPrefix);
        assert_eq!(route.rules[0].matches[0].path.value, "/");
    }
}
