//! The reference types that the kinds share (Gateway API `object_reference_types.go`, `shared_types.go`).
//!
//! Groups and kinds are complete after reading (see [`defaults`]); namespaces stay as written, because only
//! the holder knows which one is meant by none: ask [`namespace_or`].

use serde::{Deserialize, Serialize};

use super::defaults;

/// The namespace a reference means: its own, or that of the object it stands in.
pub fn namespace_or<'a>(written: Option<&'a str>, holder: &'a str) -> &'a str {
    written.unwrap_or(holder)
}

/// Names the parent a route wants to attach to, a Gateway unless it says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group; empty for the core group.
    #[serde(default = "defaults::gateway_group")]
    pub group: String,
    /// Kind of the parent.
    #[serde(default = "defaults::gateway_kind")]
    pub kind: String,
    /// The route's own namespace when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the parent.
    pub name: String,
    /// One listener of the parent, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// The listeners of the parent on this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Names a backend, a Service unless it says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct BackendObjectReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Kind of the backend.
    #[serde(default = "defaults::service_kind")]
    pub kind: String,
    /// Name of the backend.
    pub name: String,
    /// The namespace of the holder when absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Port of the backend; required for a Service, where it is the Service's port, not the target port.
    #[serde(default)]
    pub port: Option<u16>,
}

/// A backend with its share of the traffic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct BackendRef {
    /// Which backend.
    #[serde(flatten)]
    pub object: BackendObjectReference,
    /// Share relative to the sum of the weights; 0 takes no traffic.
    #[serde(default = "defaults::weight")]
    pub weight: u32,
}

/// Names a Secret, unless it says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct SecretObjectReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Kind of the object.
    #[serde(default = "defaults::secret_kind")]
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// The namespace of the holder when absent.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// Names an object of any kind in any namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ObjectReference {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// The namespace of the holder when absent.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// Names an object in the holder's namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct LocalObjectReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}

/// Names the parameters of a GatewayClass.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ParametersReference {
    /// API group.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Absent for kinds without a namespace.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// What a policy is attached to, in the policy's own namespace (GEP-713), with an optional part of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Kind of the target.
    pub kind: String,
    /// Name of the target.
    pub name: String,
    /// A listener of a Gateway, a port of a Service.
    #[serde(default)]
    pub section_name: Option<String>,
}

/// What an `alb.networking.azure.io` policy is attached to (`CustomTargetRef` there): several sections at once.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgcTargetReference {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind of the target.
    pub kind: String,
    /// Name of the target.
    pub name: String,
    /// The policy's namespace when absent.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Listeners of a Gateway, ports of a Service; empty means the whole target.
    #[serde(default)]
    pub section_names: Vec<String>,
}
