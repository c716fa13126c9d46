//! The rules of one HTTPRoute, from document to model.
//!
//! A rule that asks for something unsupported is dropped, as the API's PartiallyInvalid has it, but its requests do
//! not fall to a lesser rule: where its matches are understood it stays and answers 500, because a request that was
//! to be redirected or to have a header removed must not reach a backend without. Only a match that cannot be
//! expressed (a regular expression) vanishes.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::backends::Backends;
use super::conditions::Fault;
use super::findings::{Code, Findings};
use crate::model::route::{Redirect, RedirectScheme, WeightedBackend};
use crate::model::{
    Action, Filter, HeaderEdit, Hostname, ObjectName, PathMatch, Reason, RequestMatch, Rule,
    route::PathRewrite,
};
use crate::resources::httproute::{
    HttpHeader, HttpHeaderFilter, HttpPathModifier, HttpRequestRedirect, HttpRouteFilter, HttpRouteMatch,
    HttpRouteRule, HttpValueMatch, PathMatchType, ValueMatchType,
};
use crate::resources::{HttpRoute, Object};

const UNSUPPORTED: &str = "UnsupportedValue";
const INCOMPATIBLE: &str = "IncompatibleFilters";

/// Fields that frame or route a message: changing them by filter would change where it ends or whom it is for.
const FRAMING_FIELDS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a route's rules come to.
#[derive(Debug)]
pub(super) struct Rules {
    /// Without hosts, which depend on the listener.
    pub(super) rules: Vec<Rule>,
    /// What is wrong with the rules that were dropped, by position.
    dropped: Vec<(usize, Fault)>,
    total: usize,
    /// Backend references that lead nowhere.
    pub(super) unresolved: Vec<Fault>,
}

impl Rules {
    /// Why the route is not accepted: none of its rules could be built.
    pub(super) fn refused(&self) -> Option<Fault> {
        let faults: Vec<Fault> = self.dropped.iter().map(|(_, fault)| fault.clone()).collect();
        (self.dropped.len() == self.total).then(|| Fault::merged(&faults)).flatten()
    }

    /// For the PartiallyInvalid condition: some rules were dropped, others stand. The API wants the first two words.
    pub(super) fn partially_invalid(&self) -> Option<String> {
        if self.dropped.is_empty() || self.dropped.len() == self.total {
            return None;
        }
        let words: Vec<&str> = self.dropped.iter().map(|(_, fault)| fault.message.as_str()).collect();
        Some(format!("Dropped Rule: {}", words.join("; ")))
    }
}

/// Builds every rule of the route.
pub(super) fn build(
    route: &Object<HttpRoute>,
    backends: &mut Backends<'_>,
    findings: &mut Findings,
) -> Rules {
    let name = ObjectName::new(route.meta.namespace.as_str(), route.meta.name.as_str());
    let created = route.meta.creation_timestamp.map(|time| time.as_second());
    let mut built = Rules {
        rules: Vec::new(),
        dropped: Vec::new(),
        total: route.spec.rules.len(),
        unresolved: Vec::new(),
    };
    for (index, rule) in route.spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        note_unapplied(route, rule, &field, findings);
        let (matches, mut faults) = matches(rule, &field);
        let parts = match parts(rule, &field) {
            Ok(parts) => parts,
            Err(fault) => {
                faults.push(fault);
                Parts::default()
            }
        };
        let action = action(route, rule, &field, parts.redirect, backends, &mut built.unresolved, findings);
        let action = match action {
            Ok(action) if faults.is_empty() => action,
            Ok(_) => Action::Refuse(Reason::RuleInvalid),
            Err(fault) => {
                faults.push(fault);
                Action::Refuse(Reason::RuleInvalid)
            }
        };
        for fault in &faults {
            findings.error(Code::RuleDropped, route, &fault.field, &fault.words);
        }
        built.dropped.extend(Fault::merged(&faults).map(|fault| (index, fault)));
        if matches.is_empty() {
            continue;
        }
        let timeouts = rule.timeouts.clone().unwrap_or_default();
        built.rules.push(Rule {
            route: name.clone(),
            created,
            index,
            name: rule.name.as_deref().map(Into::into),
            hosts: Vec::new(),
            matches,
            filters: parts.filters,
            action,
            request_timeout: timeouts.request,
            backend_timeout: timeouts.backend_request,
        });
    }
    built
}

fn note_unapplied(route: &Object<HttpRoute>, rule: &HttpRouteRule, field: &str, findings: &mut Findings) {
    if rule.retry.is_some() {
        let words = "retries are not supported yet; requests are tried once";
        findings.warning(Code::NotApplied, route, &format!("{field}.retry"), words);
    }
    if rule.session_persistence.is_some() {
        let words = "session persistence is not supported; requests go to any endpoint";
        findings.warning(Code::NotApplied, route, &format!("{field}.sessionPersistence"), words);
    }
}

/// The matches that could be built, and what is wrong with the others.
fn matches(rule: &HttpRouteRule, field: &str) -> (Vec<RequestMatch>, Vec<Fault>) {
    if rule.matches.is_empty() {
        let all = RequestMatch {
            path: PathMatch::Prefix("".into()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        };
        return (vec![all], Vec::new());
    }
    let mut built = Vec::new();
    let mut faults = Vec::new();
    for (index, written) in rule.matches.iter().enumerate() {
        match request_match(written, &format!("{field}.matches[{index}]")) {
            Ok(request) => built.push(request),
            Err(fault) => faults.push(fault),
        }
    }
    (built, faults)
}

fn request_match(written: &HttpRouteMatch, field: &str) -> Result<RequestMatch, Fault> {
    let path = path_match(written, &format!("{field}.path"))?;
    let method = match &written.method {
        None => None,
        Some(text) => Some(Method::from_bytes(text.as_bytes()).map_err(|_| {
            Fault::at(UNSUPPORTED, &format!("{field}.method"), format!("`{text}` is not a method"))
        })?),
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (index, header) in written.headers.iter().enumerate() {
        let field = format!("{field}.headers[{index}]");
        exact(header, &field)?;
        let (name, value) = field_of(&header.name, &header.value, &field)?;
        // Of equal names only the first counts (Gateway API, HTTPHeaderMatch).
        if headers.iter().all(|(known, _)| *known != name) {
            headers.push((name, value));
        }
    }
    let mut query: Vec<(std::sync::Arc<str>, std::sync::Arc<str>)> = Vec::new();
    for (index, parameter) in written.query_params.iter().enumerate() {
        exact(parameter, &format!("{field}.queryParams[{index}]"))?;
        if query.iter().all(|(known, _)| **known != *parameter.name) {
            query.push((parameter.name.as_str().into(), parameter.value.as_str().into()));
        }
    }
    Ok(RequestMatch { path, method, headers, query })
}

fn path_match(written: &HttpRouteMatch, field: &str) -> Result<PathMatch, Fault> {
    let value = written.path.value.as_str();
    let absolute = value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic());
    match written.path.kind {
        PathMatchType::RegularExpression => {
            Err(Fault::at(UNSUPPORTED, &format!("{field}.type"), "RegularExpression is not supported"))
        }
        _ if !absolute => Err(Fault::at(
            UNSUPPORTED,
            &format!("{field}.value"),
            format!("`{value}` is not an absolute path of printable ASCII characters"),
        )),
        PathMatchType::Exact => Ok(PathMatch::Exact(value.into())),
        PathMatchType::PathPrefix => Ok(PathMatch::Prefix(value.strip_suffix('/').unwrap_or(value).into())),
    }
}

fn exact(written: &HttpValueMatch, field: &str) -> Result<(), Fault> {
    match written.kind {
        ValueMatchType::Exact => Ok(()),
        ValueMatchType::RegularExpression => {
            Err(Fault::at(UNSUPPORTED, &format!("{field}.type"), "RegularExpression is not supported"))
        }
    }
}

fn field_of(name: &str, value: &str, field: &str) -> Result<(HeaderName, HeaderValue), Fault> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        Fault::at(UNSUPPORTED, &format!("{field}.name"), format!("`{name}` is not a field name"))
    })?;
    let value = HeaderValue::from_str(value).map_err(|_| {
        Fault::at(UNSUPPORTED, &format!("{field}.value"), "has characters that a field value may not have")
    })?;
    Ok((name, value))
}

/// What a rule's filters come to.
#[derive(Debug, Default)]
struct Parts {
    filters: Vec<Filter>,
    redirect: Option<Redirect>,
}

fn parts(rule: &HttpRouteRule, field: &str) -> Result<Parts, Fault> {
    let has = |wanted: &str| rule.filters.iter().any(|filter| filter.type_name() == wanted);
    if has("RequestRedirect") && has("URLRewrite") {
        let words = "RequestRedirect and URLRewrite exclude each other";
        return Err(Fault::at(INCOMPATIBLE, &format!("{field}.filters"), words));
    }
    let mut parts = Parts::default();
    for (index, written) in rule.filters.iter().enumerate() {
        let field = format!("{field}.filters[{index}]");
        match written {
            HttpRouteFilter::RequestRedirect(redirect) => {
                let prefixes = rule.matches.iter().all(|m| m.path.kind == PathMatchType::PathPrefix);
                parts.redirect =
                    Some(build_redirect(redirect, prefixes, &format!("{field}.requestRedirect"))?);
            }
            other => parts.filters.push(message_filter(other, &field)?),
        }
    }
    Ok(parts)
}

fn message_filter(written: &HttpRouteFilter, field: &str) -> Result<Filter, Fault> {
    match written {
        HttpRouteFilter::RequestHeaderModifier(edit) => {
            header_edit(edit, &format!("{field}.requestHeaderModifier")).map(Filter::RequestHeaders)
        }
        HttpRouteFilter::ResponseHeaderModifier(edit) => {
            header_edit(edit, &format!("{field}.responseHeaderModifier")).map(Filter::ResponseHeaders)
        }
        other => {
            let words = format!("filter {} is not supported here", other.type_name());
            Err(Fault::at(UNSUPPORTED, &format!("{field}.type"), words))
        }
    }
}

fn header_edit(written: &HttpHeaderFilter, field: &str) -> Result<HeaderEdit, Fault> {
    let list = |headers: &[HttpHeader], member: &str| -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
        let build = |(index, header): (usize, &HttpHeader)| {
            let field = format!("{field}.{member}[{index}]");
            let (name, value) = field_of(&header.name, &header.value, &field)?;
            changeable(&name, &format!("{field}.name"))?;
            Ok((name, value))
        };
        headers.iter().enumerate().map(build).collect()
    };
    let remove = |(index, name): (usize, &String)| {
        let field = format!("{field}.remove[{index}]");
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Fault::at(UNSUPPORTED, &field, format!("`{name}` is not a field name")))?;
        changeable(&name, &field)?;
        Ok(name)
    };
    Ok(HeaderEdit {
        set: list(&written.set, "set")?,
        add: list(&written.add, "add")?,
        remove: written.remove.iter().enumerate().map(remove).collect::<Result<_, Fault>>()?,
    })
}

fn changeable(name: &HeaderName, field: &str) -> Result<(), Fault> {
    if FRAMING_FIELDS.contains(&name.as_str()) {
        let words = format!("`{name}` frames or addresses the message and cannot be changed by a filter");
        return Err(Fault::at(UNSUPPORTED, field, words));
    }
    Ok(())
}

fn build_redirect(written: &HttpRequestRedirect, prefixes: bool, field: &str) -> Result<Redirect, Fault> {
    let fault = |member: &str, words: String| Fault::at(UNSUPPORTED, &format!("{field}.{member}"), words);
    let scheme = match written.scheme.as_deref() {
        None => None,
        Some("http") => Some(RedirectScheme::Http),
        Some("https") => Some(RedirectScheme::Https),
        Some(other) => return Err(fault("scheme", format!("`{other}` is not http or https"))),
    };
    let hostname = match written.hostname.as_deref() {
        None => None,
        Some(text) => match Hostname::parse(text) {
            Some(Hostname::Exact(name)) => Some(name),
            _ => return Err(fault("hostname", format!("`{text}` is not a host name"))),
        },
    };
    let path = match &written.path {
        None => None,
        Some(HttpPathModifier::ReplaceFullPath(text)) => Some(PathRewrite::Full(text.as_str().into())),
        Some(HttpPathModifier::ReplacePrefixMatch(text)) if prefixes => {
            Some(PathRewrite::Prefix(text.as_str().into()))
        }
        Some(HttpPathModifier::ReplacePrefixMatch(_)) => {
            return Err(fault(
                "path",
                "ReplacePrefixMatch needs matches of type PathPrefix alone".to_owned(),
            ));
        }
    };
    if let Some(PathRewrite::Full(text) | PathRewrite::Prefix(text)) = &path
        && !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(fault("path", "has characters that a path may not have".to_owned()));
    }
    let status = match written.status_code {
        301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(written.status_code).ok(),
        _ => None,
    };
    let Some(status) = status else {
        return Err(fault("statusCode", format!("{} is not 301, 302, 303, 307 or 308", written.status_code)));
    };
    Ok(Redirect { scheme, hostname, port: written.port, path, status })
}

fn action(
    route: &Object<HttpRoute>,
    rule: &HttpRouteRule,
    field: &str,
    redirect: Option<Redirect>,
    backends: &mut Backends<'_>,
    unresolved: &mut Vec<Fault>,
    findings: &mut Findings,
) -> Result<Action, Fault> {
    if let Some(redirect) = redirect {
        if rule.backend_refs.is_empty() {
            return Ok(Action::Redirect(redirect));
        }
        let words = "a rule that redirects has no backends";
        return Err(Fault::at(UNSUPPORTED, &format!("{field}.backendRefs"), words));
    }
    let mut weighted = Vec::new();
    let mut filter_fault = None;
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        let field = format!("{field}.backendRefs[{index}]");
        let target = backends.resolve(route, &reference.backend.object, &field, findings).map_err(|fault| {
            unresolved.push(fault);
            Reason::BackendInvalid
        });
        let mut filters = Vec::new();
        for (position, filter) in reference.filters.iter().enumerate() {
            match message_filter(filter, &format!("{field}.filters[{position}]")) {
                Ok(filter) => filters.push(filter),
                Err(fault) => filter_fault = filter_fault.or(Some(fault)),
            }
        }
        weighted.push(WeightedBackend { weight: reference.backend.weight, target, filters });
    }
    match filter_fault {
        Some(fault) => Err(fault),
        // Nobody takes a share: no backends, or all of weight 0.
        None if weighted.iter().all(|backend| backend.weight == 0) => {
            Ok(Action::Refuse(Reason::BackendInvalid))
        }
        None => Ok(Action::Forward(weighted)),
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
