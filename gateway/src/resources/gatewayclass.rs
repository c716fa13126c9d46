//! GatewayClass: which controller answers for the Gateways that name it.

use serde::Deserialize;

use super::refs::ParametersReference;

/// `spec` of a `gateway.networking.k8s.io/v1` GatewayClass.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClass {
    /// Domain-prefixed name of the controller, e.g. `gateway.yett.dev/controller`.
    pub controller_name: String,
    /// Parameters of the class.
    #[serde(default)]
    pub parameters_ref: Option<ParametersReference>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
}
