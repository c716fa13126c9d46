//! EndpointSlice: the addresses behind a Service.

use serde::Deserialize;

use super::defaults;

/// Label of an EndpointSlice that names the Service it belongs to, in its own namespace.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A `discovery.k8s.io/v1` EndpointSlice.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// What the addresses are.
    pub address_type: AddressType,
    /// At most 1000.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Ports of every endpoint, at most 100.
    #[serde(default)]
    pub ports: Vec<EndpointPort>,
}

/// What the addresses of a slice are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// Names.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// 1 to 100; consumers take the first.
    pub addresses: Vec<String>,
    /// Whether it can take traffic.
    #[serde(default)]
    pub conditions: EndpointConditions,
    /// Name of the endpoint within the Service.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Node it runs on.
    #[serde(default)]
    pub node_name: Option<String>,
    /// Zone it runs in.
    #[serde(default)]
    pub zone: Option<String>,
}

/// State of an endpoint; absent means unknown.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct EndpointConditions {
    /// Ready for traffic.
    #[serde(default)]
    pub ready: Option<bool>,
    /// As ready, without regard to termination.
    #[serde(default)]
    pub serving: Option<bool>,
    /// Being stopped.
    #[serde(default)]
    pub terminating: Option<bool>,
}

impl EndpointConditions {
    /// Whether the endpoint takes traffic: unknown counts as ready, as the API asks.
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }
}

/// One port of a slice.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// Name of the Service's port.
    #[serde(default)]
    pub name: String,
    /// The number; absent means every port.
    #[serde(default)]
    pub port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "defaults::port_protocol")]
    pub protocol: String,
    /// `kubernetes.io/h2c`, `kubernetes.io/ws`, …
    #[serde(default)]
    pub app_protocol: Option<String>,
}
