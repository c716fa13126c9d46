//! Backend of `gateway.yett.dev/v1alpha1`: where to forward to, outside any cluster.

use serde::Deserialize;

use super::defaults;

/// `spec` of a `gateway.yett.dev/v1alpha1` Backend.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// At least one.
    pub endpoints: Vec<BackendEndpoint>,
    /// `http`, `kubernetes.io/h2c`, `kubernetes.io/ws` or `https`.
    #[serde(default = "defaults::backend_protocol")]
    pub app_protocol: String,
}

/// Where to connect.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct BackendEndpoint {
    /// An IP address; this or `hostname`.
    #[serde(default)]
    pub address: Option<String>,
    /// A name to resolve; this or `address`.
    #[serde(default)]
    pub hostname: Option<String>,
    /// 1 to 65535.
    pub port: u16,
}
