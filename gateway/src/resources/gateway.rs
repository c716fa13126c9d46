//! Gateway: listeners, their certificates, and who may attach to them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::defaults;
use super::meta::LabelSelector;
use super::refs::{LocalObjectReference, ObjectReference, SecretObjectReference};

/// `spec` of a `gateway.networking.k8s.io/v1` Gateway.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Name of the GatewayClass.
    pub gateway_class_name: String,
    /// 1 to 64, with distinct names.
    pub listeners: Vec<Listener>,
    /// Addresses asked for, at most 16; empty leaves the choice to the implementation.
    #[serde(default)]
    pub addresses: Vec<GatewayAddress>,
    /// What to put on things made for this Gateway.
    #[serde(default)]
    pub infrastructure: Option<GatewayInfrastructure>,
    /// TLS towards clients and towards backends, for the whole Gateway (GEP-91, GEP-3155).
    #[serde(default)]
    pub tls: Option<GatewayTls>,
    /// Which ListenerSets may attach; kept as written until ListenerSets are read.
    #[serde(default)]
    pub allowed_listeners: Option<serde_json::Value>,
}

/// One logical endpoint of a Gateway.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Unique within the Gateway.
    pub name: String,
    /// Exact (`a.test`) or with a leading wildcard label (`*.test`); absent matches every name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// 1 to 65535.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP` in any case, or a domain-prefixed name: see [`Listener::protocol`].
    #[serde(rename = "protocol")]
    pub protocol_name: String,
    /// TLS of this listener.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    #[serde(default = "defaults::allowed_routes")]
    pub allowed_routes: AllowedRoutes,
}

/// The protocols that the API names; they compare without regard to case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Cleartext HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// A TLS stream.
    Tls,
    /// A TCP stream.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Whatever else was written.
    Other,
}

impl Listener {
    /// The protocol by the API's names.
    pub fn protocol(&self) -> Protocol {
        const NAMED: [(&str, Protocol); 5] = [
            ("HTTP", Protocol::Http),
            ("HTTPS", Protocol::Https),
            ("TLS", Protocol::Tls),
            ("TCP", Protocol::Tcp),
            ("UDP", Protocol::Udp),
        ];
        let named = NAMED.iter().find(|(name, _)| self.protocol_name.eq_ignore_ascii_case(name));
        named.map_or(Protocol::Other, |(_, protocol)| *protocol)
    }
}

/// TLS of one listener.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Where the TLS session of the client ends.
    #[serde(default = "defaults::tls_mode")]
    pub mode: TlsMode,
    /// Secrets with certificate and key, at most 64.
    #[serde(default)]
    pub certificate_refs: Vec<SecretObjectReference>,
    /// Implementation-specific settings.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Where the TLS session of a client ends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum TlsMode {
    /// Here.
    Terminate,
    /// At the backend.
    Passthrough,
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct AllowedRoutes {
    /// From which namespaces.
    #[serde(default = "defaults::route_namespaces")]
    pub namespaces: RouteNamespaces,
    /// Of which kinds; empty means those that fit the protocol.
    #[serde(default)]
    pub kinds: Vec<RouteGroupKind>,
}

/// Namespaces from which routes may attach.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct RouteNamespaces {
    /// The rule.
    #[serde(default = "defaults::namespaces_from_same")]
    pub from: NamespacesFrom,
    /// For `Selector`, which namespaces by their labels.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
}

/// A set of namespaces, by rule.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum NamespacesFrom {
    /// Every namespace.
    All,
    /// The namespaces a selector takes.
    Selector,
    /// The Gateway's own.
    Same,
    /// None; not for routes, where the API does not offer it.
    None,
}

/// A kind of route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RouteGroupKind {
    /// API group.
    #[serde(default = "defaults::gateway_group")]
    pub group: String,
    /// Kind.
    pub kind: String,
}

/// An address asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct GatewayAddress {
    /// `IPAddress`, `Hostname`, or a domain-prefixed name.
    #[serde(default = "defaults::address_type", rename = "type")]
    pub kind: String,
    /// Empty asks for any address of the type.
    #[serde(default)]
    pub value: String,
}

/// What to put on things made for a Gateway.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayInfrastructure {
    /// At most 8.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// At most 16.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Parameters of this Gateway.
    #[serde(default)]
    pub parameters_ref: Option<LocalObjectReference>,
}

/// TLS for a whole Gateway.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct GatewayTls {
    /// Towards backends.
    #[serde(default)]
    pub backend: Option<GatewayBackendTls>,
    /// Towards clients.
    #[serde(default)]
    pub frontend: Option<FrontendTls>,
}

/// TLS towards backends.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayBackendTls {
    /// Secret with the certificate and key shown to backends that ask.
    #[serde(default)]
    pub client_certificate_ref: Option<SecretObjectReference>,
}

/// TLS towards clients: how their certificates are judged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTls {
    /// For every HTTPS listener whose port has no entry of its own.
    pub default: FrontendTlsConfig,
    /// For the HTTPS listeners of single ports, at most 64.
    #[serde(default)]
    pub per_port: Vec<FrontendTlsPort>,
}

/// TLS towards the clients of one port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct FrontendTlsPort {
    /// Unique within `perPort`.
    pub port: u16,
    /// Stands instead of the default.
    pub tls: FrontendTlsConfig,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct FrontendTlsConfig {
    /// Absent: clients are not asked for a certificate.
    #[serde(default)]
    pub validation: Option<FrontendValidation>,
}

/// How client certificates are judged (GEP-91).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FrontendValidation {
    /// 1 to 8 bundles of trust anchors.
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// What to do with a client that shows no valid certificate.
    #[serde(default = "defaults::frontend_validation_mode")]
    pub mode: FrontendValidationMode,
}

/// What to do with a client that shows no valid certificate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum FrontendValidationMode {
    /// Refuse it.
    AllowValidOnly,
    /// Let it in, unverified.
    AllowInsecureFallback,
}
