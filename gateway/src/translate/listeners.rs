//! Listeners: what each asks for, how those of one Gateway exclude each other, and their status.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::World;
use super::certificates::{Certificates, ServerCertificate};
use super::conditions::{Conditions, Fault};
use super::findings::{Code, Findings};
use super::gateway::GatewayState;
use crate::model::{ClientValidation, Hostname, Protocol};
use crate::resources::gateway::{self as written, RouteGroupKind, TlsMode};
use crate::resources::{Gateway, HttpRoute, Kind, Object, defaults};

/// One listener on its way from document to plan.
#[derive(Debug)]
pub(super) struct ListenerState<'a> {
    pub(super) spec: &'a written::Listener,
    pub(super) index: usize,
    /// `None`: the protocol is not supported.
    pub(super) protocol: Option<Protocol>,
    /// `None`: every host. What could not be read is refused.
    pub(super) hostname: Option<Hostname>,
    /// Kinds of routes that may attach.
    pub(super) kinds: Vec<RouteGroupKind>,
    /// Why it is not accepted.
    pub(super) refused: Option<Fault>,
    /// Another listener of the Gateway that excludes it.
    pub(super) conflict: Option<Fault>,
    /// References that lead nowhere.
    pub(super) unresolved: Vec<Fault>,
    /// Those that could be used.
    pub(super) certificates: Vec<Arc<ServerCertificate>>,
    /// How clients are judged; `None`: they are not asked for a certificate.
    pub(super) client: Option<ClientValidation>,
    /// Listeners of the same port whose TLS settings a client may mix up with these.
    overlapping: Option<Fault>,
    /// Its connections begin with a PROXY header.
    pub(super) proxy_protocol: bool,
    /// Routes that are accepted here.
    pub(super) attached: usize,
}

/// The listeners of a Gateway, each for itself.
pub(super) fn read<'a>(gateway: &'a Object<Gateway>, findings: &mut Findings) -> Vec<ListenerState<'a>> {
    let listeners = gateway.spec.listeners.iter().enumerate();
    listeners.map(|(index, spec)| read_one(gateway, index, spec, findings)).collect()
}

fn read_one<'a>(
    gateway: &'a Object<Gateway>,
    index: usize,
    spec: &'a written::Listener,
    findings: &mut Findings,
) -> ListenerState<'a> {
    let at = |field: &str| format!("spec.listeners[{index}].{field}");
    let protocol = match spec.protocol() {
        written::Protocol::Http => Some(Protocol::Http),
        written::Protocol::Https => Some(Protocol::Https),
        written::Protocol::Tls
        | written::Protocol::Tcp
        | written::Protocol::Udp
        | written::Protocol::Other => None,
    };
    let hostname = spec.hostname.as_deref().filter(|text| !text.is_empty());
    let (kinds, bad_kinds) = supported_kinds(spec, protocol, &at("allowedRoutes.kinds"));
    let mode = spec.tls.as_ref().map(|tls| tls.mode);
    let mut state = ListenerState {
        spec,
        index,
        protocol,
        hostname: hostname.and_then(Hostname::parse),
        kinds,
        refused: None,
        conflict: None,
        unresolved: Vec::from_iter(bad_kinds),
        certificates: Vec::new(),
        client: None,
        overlapping: None,
        proxy_protocol: false,
        attached: 0,
    };
    for fault in &state.unresolved {
        findings.error(Code::ListenerRefused, gateway, &at("allowedRoutes.kinds"), &fault.words);
    }
    if protocol.is_none() {
        let words = format!("{} is not supported; HTTP and HTTPS are", spec.protocol_name);
        state.refuse(gateway, Fault::at("UnsupportedProtocol", &at("protocol"), words), "protocol", findings);
    } else if let Some(text) = hostname
        && state.hostname.is_none()
    {
        let words = format!("`{text}` is not a host name");
        state.refuse(gateway, Fault::at("UnsupportedValue", &at("hostname"), words), "hostname", findings);
    } else if protocol == Some(Protocol::Https) && mode == Some(TlsMode::Passthrough) {
        let words = "Passthrough is not supported; Terminate is";
        state.refuse(gateway, Fault::at("UnsupportedValue", &at("tls.mode"), words), "tls.mode", findings);
    }
    state
}

fn supported_kinds(
    spec: &written::Listener,
    protocol: Option<Protocol>,
    field: &str,
) -> (Vec<RouteGroupKind>, Option<Fault>) {
    let http_route =
        RouteGroupKind { group: defaults::GATEWAY_GROUP.to_owned(), kind: HttpRoute::KIND.to_owned() };
    let supported = if protocol.is_some() { vec![http_route] } else { Vec::new() };
    if spec.allowed_routes.kinds.is_empty() {
        return (supported, None);
    }
    let (good, bad): (Vec<_>, Vec<_>) =
        spec.allowed_routes.kinds.iter().partition(|kind| supported.contains(kind));
    let mut kinds: Vec<RouteGroupKind> = Vec::new();
    for kind in good {
        if !kinds.contains(kind) {
            kinds.push(kind.clone());
        }
    }
    let names: Vec<String> = bad.iter().map(|kind| format!("{}/{}", kind.group, kind.kind)).collect();
    let fault = (!bad.is_empty()).then(|| {
        let words = format!("{} cannot attach to protocol {}", names.join(", "), spec.protocol_name);
        Fault::at("InvalidRouteKinds", field, words)
    });
    (kinds, fault)
}

/// Marks the listeners of a Gateway that exclude each other: all of them lose, so that none of them takes over what
/// was meant for another. Listeners of unsupported protocols take no part.
pub(super) fn settle_conflicts(gateway: &mut GatewayState<'_>, findings: &mut Findings) {
    let mut by_port: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (index, listener) in gateway.listeners.iter().enumerate() {
        if listener.protocol.is_some() {
            by_port.entry(listener.spec.port).or_default().push(index);
        }
    }
    for (port, group) in by_port {
        for &index in &group {
            let listener = &gateway.listeners[index];
            let others =
                group.iter().filter(|other| **other != index).map(|other| &gateway.listeners[*other]);
            let others: Vec<&ListenerState<'_>> = others.collect();
            let conflict = conflict(port, listener, &others);
            if let Some(fault) = conflict {
                let field = format!("spec.listeners[{index}]");
                findings.error(Code::ListenerConflict, gateway.object, &field, &fault.words);
                gateway.listeners[index].conflict = Some(fault);
            }
        }
    }
}

fn conflict(port: u16, listener: &ListenerState<'_>, others: &[&ListenerState<'_>]) -> Option<Fault> {
    let field = format!("spec.listeners[{}]", listener.index);
    if let Some(other) = others.iter().find(|other| other.protocol != listener.protocol) {
        let words =
            format!("port {port} has protocol {} by listener {}", other.spec.protocol_name, other.spec.name);
        return Some(Fault::at("ProtocolConflict", &format!("{field}.protocol"), words));
    }
    // A host name that could not be read equals none; the listener is refused for itself.
    let mine = |listener: &ListenerState<'_>| listener.refused.is_none().then(|| listener.hostname.clone());
    let same = others.iter().find(|other| mine(listener).is_some() && mine(other) == mine(listener))?;
    let host = listener.hostname.as_ref().map_or_else(|| "every host".to_owned(), ToString::to_string);
    let words = format!("listener {} has {host} on port {port} as well", same.spec.name);
    Some(Fault::at("HostnameConflict", &format!("{field}.hostname"), words))
}

/// Reads the certificates of every HTTPS listener of the Gateway.
pub(super) fn read_certificates(
    gateway: &mut GatewayState<'_>,
    certificates: &mut Certificates<'_>,
    findings: &mut Findings,
) {
    let object = gateway.object;
    for listener in &mut gateway.listeners {
        if listener.protocol != Some(Protocol::Https) {
            continue;
        }
        let at = format!("spec.listeners[{}].tls.certificateRefs", listener.index);
        let references = listener.spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificate_refs);
        for (index, reference) in references.iter().enumerate() {
            let field = format!("{at}[{index}]");
            match certificates.resolve(object, reference, &field, "InvalidCertificateRef", findings) {
                Ok(certificate) => listener.certificates.push(certificate),
                Err(fault) => listener.unresolved.push(fault),
            }
        }
        if references.is_empty() && listener.refused.is_none() {
            let words = "an HTTPS listener needs a certificate";
            findings.error(Code::CertificateUnusable, object, &at, words);
            listener.unresolved.push(Fault::at("InvalidCertificateRef", &at, words));
        }
    }
    if let Some(tls) = object.spec.tls.as_ref().and_then(|tls| tls.backend.as_ref())
        && let Some(reference) = &tls.client_certificate_ref
    {
        let field = "spec.tls.backend.clientCertificateRef";
        let outcome = certificates.resolve(object, reference, field, "InvalidClientCertificateRef", findings);
        match outcome {
            Ok(_) => {
                findings.warning(Code::NotApplied, object, field, "TLS to backends is not supported yet");
            }
            Err(fault) => gateway.unresolved.push(fault),
        }
    }
}

/// Marks HTTPS listeners of one port whose host names, or whose certificates' names, overlap: a client that reuses
/// a connection (RFC 9113 §9.1.1) can come to the wrong one, where it is answered 421 (GEP-3567).
pub(super) fn mark_overlaps(gateway: &mut GatewayState<'_>) {
    let https = |listener: &ListenerState<'_>| listener.protocol == Some(Protocol::Https);
    for index in 0..gateway.listeners.len() {
        let listener = &gateway.listeners[index];
        let others: Vec<&ListenerState<'_>> = gateway
            .listeners
            .iter()
            .filter(|other| other.index != index && https(other) && other.spec.port == listener.spec.port)
            .collect();
        if https(listener) {
            let overlapping = overlapping(listener, &others);
            gateway.listeners[index].overlapping = overlapping;
        }
    }
}

fn overlapping(listener: &ListenerState<'_>, others: &[&ListenerState<'_>]) -> Option<Fault> {
    let list = |overlap: &dyn Fn(&ListenerState<'_>) -> bool| {
        let names: Vec<&str> =
            others.iter().filter(|other| overlap(other)).map(|other| other.spec.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let certificates = list(&|other| {
        let names = |listener: &ListenerState<'_>| -> Vec<Hostname> {
            listener.certificates.iter().flat_map(|certificate| certificate.names.clone()).collect()
        };
        let theirs = names(other);
        names(listener).iter().any(|name| theirs.iter().any(|other| name.intersection(other).is_some()))
    });
    if let Some(names) = certificates {
        let words = format!("the certificate is also good for names of the certificates of {names}");
        return Some(Fault::new("OverlappingCertificates", words));
    }
    let hosts = list(&|other| match (&listener.hostname, &other.hostname) {
        (Some(a), Some(b)) => a.intersection(b).is_some(),
        _ => true,
    });
    hosts.map(|names| Fault::new("OverlappingHostnames", format!("the host name overlaps that of {names}")))
}

/// Refuses the listeners of a port that another Gateway, or another port bound as the same, holds already.
pub(super) fn refuse_port(gateway: &mut GatewayState<'_>, port: u16, words: &str, findings: &mut Findings) {
    let object = gateway.object;
    for listener in gateway.listeners.iter_mut().filter(|listener| listener.spec.port == port) {
        let field = format!("spec.listeners[{}].port", listener.index);
        findings.error(Code::PortTaken, object, &field, words);
        if listener.refused.is_none() {
            listener.refused = Some(Fault::at("PortUnavailable", &field, words));
        }
    }
}

impl ListenerState<'_> {
    fn refuse(&mut self, gateway: &Object<Gateway>, fault: Fault, field: &str, findings: &mut Findings) {
        let field = format!("spec.listeners[{}].{field}", self.index);
        findings.error(Code::ListenerRefused, gateway, &field, &fault.words);
        self.refused = Some(fault);
    }

    /// Whether it claims its port from other Gateways: it could be served if its references were good.
    pub(super) fn claims_port(&self) -> bool {
        self.protocol.is_some() && self.conflict.is_none()
    }

    /// Why Accepted is False.
    pub(super) fn not_accepted(&self) -> Option<Fault> {
        self.refused.clone().or_else(|| self.conflict.clone())
    }

    /// Why it cannot be served, sockets aside.
    pub(super) fn fault(&self) -> Option<Fault> {
        let unusable =
            self.kinds.is_empty() || (self.protocol == Some(Protocol::Https) && self.certificates.is_empty());
        self.not_accepted().or_else(|| if unusable { Fault::merged(&self.unresolved) } else { None })
    }

    /// Its entry in the Gateway's status.
    pub(super) fn status(&self, gateway: &GatewayState<'_>, world: World<'_>) -> ListenerStatus<'_> {
        let mut conditions = Conditions::new(gateway.object.meta.generation);
        conditions.unless("ResolvedRefs", Fault::merged(&self.unresolved).as_ref(), "");
        conditions.unless("Accepted", self.not_accepted().as_ref(), "Listener is accepted");
        let programmed = gateway.not_programmed(world, self);
        conditions.unless("Programmed", programmed.as_ref(), "Listener is served");
        // These two are said only when True, as with every condition that tells of something abnormal.
        if let Some(fault) = &self.conflict {
            conditions.yes("Conflicted", fault.reason, fault.message.clone());
        }
        if let Some(fault) = &self.overlapping {
            conditions.yes("OverlappingTLSConfig", fault.reason, fault.message.clone());
        }
        ListenerStatus {
            name: &self.spec.name,
            supported_kinds: &self.kinds,
            attached_routes: self.attached,
            conditions,
        }
    }
}

/// Gateway API `ListenerStatus`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListenerStatus<'a> {
    name: &'a str,
    supported_kinds: &'a [RouteGroupKind],
    attached_routes: usize,
    conditions: Conditions,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, base64, brief, listener, pki, status, yaml};
    use crate::translate::translate;

    fn gateway(listeners: &str) -> String {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: web}}\n\
             spec: {{gatewayClassName: c, listeners: [{listeners}]}}\n"
        )
    }

    fn secret(name: &str, names: &[&str]) -> String {
        let server = pki::ca("root").server("leaf", names);
        let (certificate, key) = (base64(server.pem()), base64(server.key_pem()));
        format!(
            "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}, namespace: web}}\n\
             data: {{tls.crt: {certificate}, tls.key: {key}}}\n"
        )
    }

    #[test]
    fn protocols_and_kinds() {
        let route = "{group: gateway.networking.k8s.io, kind: HTTPRoute}";
        let table = [
            ("HTTP", "protocol: HTTP".to_owned(), "True/Accepted", "True/ResolvedRefs", 1, "True/Accepted"),
            (
                "TCP",
                "protocol: TCP".to_owned(),
                "False/UnsupportedProtocol",
                "True/ResolvedRefs",
                0,
                "False/ListenersNotValid",
            ),
            (
                "of somebody's",
                "protocol: invalid.example/proto".to_owned(),
                "False/UnsupportedProtocol",
                "True/ResolvedRefs",
                0,
                "False/ListenersNotValid",
            ),
            (
                "the kind that is served",
                format!("protocol: HTTP, allowedRoutes: {{kinds: [{route}]}}"),
                "True/Accepted",
                "True/ResolvedRefs",
                1,
                "True/Accepted",
            ),
            (
                "one kind that is not",
                format!("protocol: HTTP, allowedRoutes: {{kinds: [{route}, {{kind: GRPCRoute}}]}}"),
                "True/Accepted",
                "False/InvalidRouteKinds",
                1,
                "True/Accepted",
            ),
            (
                "no kind that is",
                "protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}".to_owned(),
                "True/Accepted",
                "False/InvalidRouteKinds",
                0,
                "True/Accepted",
            ),
        ];
        for (description, spec, accepted, resolved, kinds, gateway_accepted) in table {
            let resources = yaml(&gateway(&format!("{{name: l, port: 80, {spec}}}")));
            let (plan, report) = translate(&resources, &testing::bound(&resources));
            let status = listener(&report, "web", "g", "l");
            assert_eq!(brief(&status, "Accepted"), accepted, "{description}");
            assert_eq!(brief(&status, "ResolvedRefs"), resolved, "{description}");
            assert_eq!(status["supportedKinds"].as_array().unwrap().len(), kinds, "{description}");
            assert_eq!(plan.frontends.len(), kinds, "{description}");
            let programmed = if kinds == 1 { "True/Programmed" } else { "False/Invalid" };
            assert_eq!(brief(&status, "Programmed"), programmed, "{description}");
            let gateway = super::super::testing::status(&report, "Gateway", "web", "g");
            assert_eq!(brief(&gateway, "Accepted"), gateway_accepted, "{description}");
        }
    }

    #[test]
    fn one_good_listener_makes_a_gateway() {
        let resources =
            yaml(&gateway("{name: l, port: 80, protocol: HTTP}, {name: bad, port: 81, protocol: invalid/x}"));
        let (_, report) = translate(&resources, &testing::bound(&resources));
        let gateway = status(&report, "Gateway", "web", "g");
        assert_eq!(brief(&gateway, "Accepted"), "True/ListenersNotValid");
        assert_eq!(brief(&gateway, "Programmed"), "True/Programmed");
        assert_eq!(brief(&listener(&report, "web", "g", "l"), "Accepted"), "True/Accepted");
    }

    #[test]
    fn listeners_that_exclude_each_other_all_lose() {
        let tls = "tls: {certificateRefs: [{name: s}]}";
        let table = [
            ("other hosts", "protocol: HTTP, hostname: a.test", "protocol: HTTP, hostname: b.test", "-"),
            ("host and none", "protocol: HTTP, hostname: a.test", "protocol: HTTP", "-"),
            (
                "protocols",
                "protocol: HTTP, hostname: a.test",
                &format!("protocol: HTTPS, {tls}"),
                "True/ProtocolConflict",
            ),
            ("an unsupported protocol takes no part", "protocol: HTTP", "protocol: TCP", "-"),
        ];
        for (description, a, b, conflicted) in table {
            let listeners = format!(
                "{{name: a, port: 80, {a}}}, {{name: b, port: 80, {b}}}, {{name: c, port: 81, protocol: HTTP}}"
            );
            let resources = yaml(&format!("{}{}", gateway(&listeners), secret("s", &["a.test"])));
            let (plan, report) = translate(&resources, &testing::facts());
            let first = listener(&report, "web", "g", "a");
            assert_eq!(brief(&first, "Conflicted"), conflicted, "{description}");
            if conflicted != "-" {
                assert_eq!(
                    brief(&listener(&report, "web", "g", "b"), "Conflicted"),
                    conflicted,
                    "{description}"
                );
                assert_eq!(brief(&first, "Accepted"), "False/ProtocolConflict", "{description}");
                assert_eq!(plan.frontends.len(), 1, "{description}");
            }
            assert_eq!(
                brief(&listener(&report, "web", "g", "c"), "Accepted"),
                "True/Accepted",
                "{description}"
            );
        }
    }

    #[test]
    fn equal_host_names_conflict() {
        let listeners =
            "{name: a, port: 80, protocol: HTTP, hostname: a.test}, {name: b, port: 81, protocol: HTTP}";
        let mut resources = yaml(&gateway(listeners));
        // The documents' own checks refuse equal listeners; an API server would too. Nothing may depend on it.
        let mut gateway = (**resources.gateways.get("web", "g").unwrap()).clone();
        let mut twin = gateway.spec.listeners[0].clone();
        twin.name = "twin".to_owned();
        twin.hostname = Some("A.test".to_owned());
        gateway.spec.listeners.push(twin);
        resources.gateways = Default::default();
        resources.gateways.insert(std::sync::Arc::new(gateway)).unwrap();
        let (plan, report) = translate(&resources, &testing::facts());
        for name in ["a", "twin"] {
            let status = listener(&report, "web", "g", name);
            assert_eq!(brief(&status, "Conflicted"), "True/HostnameConflict");
            assert_eq!(brief(&status, "Accepted"), "False/HostnameConflict");
        }
        assert_eq!(plan.frontends.len(), 1);
    }

    #[test]
    fn tls_that_overlaps_is_said() {
        let table = [
            ("other names", ("a.test", "a"), ("b.test", "b"), "-"),
            ("wildcard over name", ("\"*.test\"", "a"), ("b.test", "b"), "True/OverlappingHostnames"),
            ("one certificate for both", ("a.test", "a"), ("b.test", "a"), "True/OverlappingCertificates"),
            ("a wildcard certificate", ("a.test", "a"), ("b.test", "wild"), "True/OverlappingCertificates"),
        ];
        let secrets =
            [secret("a", &["a.test"]), secret("b", &["b.test"]), secret("wild", &["*.test"])].concat();
        for (description, a, b, expected) in table {
            let one = |name: &str, (host, secret): (&str, &str)| {
                format!(
                    "{{name: {name}, port: 443, protocol: HTTPS, hostname: {host}, tls: {{certificateRefs: [{{name: {secret}}}]}}}}"
                )
            };
            let resources =
                yaml(&format!("{}{secrets}", gateway(&format!("{}, {}", one("a", a), one("b", b)))));
            let (_, report) = translate(&resources, &testing::facts());
            for name in ["a", "b"] {
                let status = listener(&report, "web", "g", name);
                assert_eq!(brief(&status, "OverlappingTLSConfig"), expected, "{description}");
                assert_eq!(brief(&status, "Accepted"), "True/Accepted", "{description}");
            }
        }
    }
}
