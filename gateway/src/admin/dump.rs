//! The plan as JSON: what is served. Private keys are not in it, nor header values that look like credentials.

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::model::backend::BackendProtocol;
use crate::model::route::{PathRewrite, RedirectScheme, WeightedBackend};
use crate::model::{
    Action, Filter, Frontend, HeaderEdit, Listener, PathMatch, Plan, Protocol, RequestMatch, Rule,
    ValidationMode,
};

/// Stands for a value that is not shown.
const REDACTED: &str = "<redacted>";

/// Values of headers whose name contains one of these are not shown.
const SECRET_NAMES: [&str; 7] = ["auth", "cookie", "token", "secret", "key", "password", "session"];

pub(super) fn plan(plan: &Plan) -> Value {
    let backends = plan.backends.values().map(|backend| {
        let protocol = match backend.protocol {
            BackendProtocol::Http1 => "http",
            BackendProtocol::H2c => "kubernetes.io/h2c",
        };
        let endpoints = texts(&backend.endpoints);
        json!({"key": backend.key.to_string(), "protocol": protocol, "endpoints": endpoints})
    });
    json!({
        "frontends": plan.frontends.values().map(frontend).collect::<Vec<_>>(),
        "backends": backends.collect::<Vec<_>>(),
    })
}

fn frontend(frontend: &Frontend) -> Value {
    let protocol = match frontend.protocol {
        Protocol::Http => "HTTP",
        Protocol::Https => "HTTPS",
    };
    json!({
        "id": frontend.id.to_string(),
        "protocol": protocol,
        "addresses": texts(&frontend.addresses),
        "bindPort": frontend.bind_port,
        "proxyProtocol": frontend.proxy_protocol,
        "listeners": frontend.listeners.iter().map(listener).collect::<Vec<_>>(),
    })
}

fn listener(listener: &Listener) -> Value {
    let tls = listener.tls.as_ref().map(|tls| {
        let certificates = tls.certificates.iter();
        let client = tls.client.as_ref().map(|client| {
            let mode = match client.mode {
                ValidationMode::AllowValidOnly => "AllowValidOnly",
                ValidationMode::AllowInsecureFallback => "AllowInsecureFallback",
            };
            json!({
                "mode": mode,
                "trust": client.trust.source,
                "anchors": client.trust.anchors.len(),
                "crls": client.crls().iter().map(|crl| &crl.source).collect::<Vec<_>>(),
                "revocationPolicy": client.revocation.as_ref().map(|revocation| &revocation.rules.policy),
                "subjectAltNames": client.subject_alt_names,
            })
        });
        json!({"certificates": certificates.map(|chain| &chain.source).collect::<Vec<_>>(), "client": client})
    });
    json!({
        "name": listener.name,
        "hostname": listener.hostname.as_ref().map(ToString::to_string),
        "tls": tls,
        "rules": listener.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn rule(rule: &Rule) -> Value {
    let hosts =
        rule.hosts.iter().map(|host| host.matches.as_ref().map_or("*".to_owned(), ToString::to_string));
    json!({
        "route": rule.route.to_string(),
        "index": rule.index,
        "name": rule.name,
        "hosts": hosts.collect::<Vec<_>>(),
        "matches": rule.matches.iter().map(request_match).collect::<Vec<_>>(),
        "filters": rule.filters.iter().map(filter).collect::<Vec<_>>(),
        "action": action(&rule.action),
        "requestTimeoutMs": rule.request_timeout.map(|span| span.as_millis() as u64),
        "backendTimeoutMs": rule.backend_timeout.map(|span| span.as_millis() as u64),
    })
}

fn request_match(found: &RequestMatch) -> Value {
    let path = match &found.path {
        PathMatch::Exact(path) => json!({"exact": path}),
        PathMatch::Prefix(path) if path.is_empty() => json!({"prefix": "/"}),
        PathMatch::Prefix(path) => json!({"prefix": path}),
    };
    json!({
        "path": path,
        "method": found.method.as_ref().map(http::Method::as_str),
        "headers": found.headers.iter().map(header).collect::<Vec<_>>(),
        "query": found.query.iter().map(|(name, _)| json!({"name": name, "value": REDACTED})).collect::<Vec<_>>(),
    })
}

fn filter(filter: &Filter) -> Value {
    match filter {
        Filter::RequestHeaders(edit) => json!({"requestHeaders": header_edit(edit)}),
        Filter::ResponseHeaders(edit) => json!({"responseHeaders": header_edit(edit)}),
    }
}

fn header_edit(edit: &HeaderEdit) -> Value {
    json!({
        "set": edit.set.iter().map(header).collect::<Vec<_>>(),
        "add": edit.add.iter().map(header).collect::<Vec<_>>(),
        "remove": edit.remove.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
    })
}

fn header((name, value): &(HeaderName, HeaderValue)) -> Value {
    let secret = value.is_sensitive() || SECRET_NAMES.iter().any(|part| name.as_str().contains(part));
    let value = if secret { REDACTED.into() } else { String::from_utf8_lossy(value.as_bytes()) };
    json!({"name": name.as_str(), "value": value})
}

fn action(action: &Action) -> Value {
    match action {
        Action::Forward(backends) => json!({"forward": backends.iter().map(weighted).collect::<Vec<_>>()}),
        Action::Redirect(redirect) => {
            let scheme = redirect.scheme.map(|scheme| match scheme {
                RedirectScheme::Http => "http",
                RedirectScheme::Https => "https",
            });
            let path = redirect.path.as_ref().map(|path| match path {
                PathRewrite::Full(path) => json!({"full": path}),
                PathRewrite::Prefix(path) => json!({"prefix": path}),
            });
            let (hostname, port, status) = (&redirect.hostname, redirect.port, redirect.status.as_u16());
            json!({"redirect": {"scheme": scheme, "hostname": hostname, "port": port, "path": path, "status": status}})
        }
        Action::Refuse(reason) => json!({"refuse": reason.as_str()}),
    }
}

fn weighted(backend: &WeightedBackend) -> Value {
    let target = match &backend.target {
        Ok(key) => json!({"backend": key.to_string()}),
        Err(reason) => json!({"refuse": reason.as_str()}),
    };
    json!({
        "weight": backend.weight,
        "target": target,
        "filters": backend.filters.iter().map(filter).collect::<Vec<_>>(),
    })
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::secret::PrivateKeyPem;
    use crate::model::{CertificateChain, FrontendId, ObjectName, TlsTermination};

    #[test]
    fn keys_and_credentials_are_left_out() {
        let chain = CertificateChain {
            source: "Secret ns/tls".into(),
            chain: Vec::new(),
            key: PrivateKeyPem::new(b"SECRET KEY".to_vec()),
        };
        let header = |name: &'static str, value: &'static str| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let set = vec![
            header("authorization", "Bearer SECRET"),
            header("x-api-key", "SECRET"),
            header("x-plain", "shown"),
        ];
        let rule = Rule {
            route: ObjectName::new("ns", "route"),
            created: None,
            index: 0,
            name: None,
            hosts: Vec::new(),
            matches: Vec::new(),
            filters: vec![Filter::RequestHeaders(HeaderEdit { set, ..HeaderEdit::default() })],
            action: Action::Refuse(crate::model::Reason::BackendInvalid),
            request_timeout: None,
            backend_timeout: None,
        };
        let listener = Listener {
            name: "ns/gw/l".into(),
            hostname: None,
            tls: Some(TlsTermination { certificates: vec![Arc::new(chain)], client: None }),
            rules: vec![rule],
        };
        let id = FrontendId { gateway: ObjectName::new("ns", "gw"), port: 443 };
        let frontend = Frontend {
            id: id.clone(),
            protocol: Protocol::Https,
            addresses: vec!["::".parse().unwrap()],
            bind_port: 8443,
            proxy_protocol: false,
            listeners: vec![listener],
        };
        let dump = plan(&Plan { frontends: [(id, frontend)].into(), backends: Default::default() });
        let text = dump.to_string();
        assert!(!text.contains("SECRET"), "{text}");
        let listener = &dump["frontends"][0]["listeners"][0];
        assert_eq!(listener["tls"]["certificates"][0], "Secret ns/tls");
        assert_eq!(listener["rules"][0]["filters"][0]["requestHeaders"]["set"][2]["value"], "shown");
        assert_eq!(listener["rules"][0]["action"]["refuse"], "backend_invalid");
    }
}
