//! Service: ports of a backend and the protocol spoken there.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::defaults;

/// `spec` of a core `v1` Service.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(default = "defaults::service_type", rename = "type")]
    pub kind: String,
    /// An address, `None` for a headless Service, or nothing yet.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// The name that an `ExternalName` Service stands for.
    #[serde(default)]
    pub external_name: Option<String>,
    /// Labels of the pods behind it.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Ports offered.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Needed when there are several; EndpointSlice ports are joined by it. Empty for the only port.
    #[serde(default)]
    pub name: String,
    /// What clients of the Service connect to.
    pub port: u16,
    /// What the pods listen on; `port` when absent.
    #[serde(default)]
    pub target_port: Option<IntOrString>,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "defaults::port_protocol")]
    pub protocol: String,
    /// `kubernetes.io/h2c`, `kubernetes.io/ws`, …
    #[serde(default)]
    pub app_protocol: Option<String>,
}

/// A port by number or by the name it has in the pod.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
pub enum IntOrString {
    /// By number.
    Int(u16),
    /// By name.
    String(String),
}
