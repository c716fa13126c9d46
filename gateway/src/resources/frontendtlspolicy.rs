//! FrontendTLSPolicy of `alb.networking.azure.io/v1`: client certificates and TLS versions for the listeners of a Gateway.

use serde::Deserialize;

use super::defaults;
use super::refs::{AgcTargetReference, SecretObjectReference};

/// `spec` of an `alb.networking.azure.io/v1` FrontendTLSPolicy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTlsPolicy {
    /// A Gateway, and which of its listeners.
    pub target_ref: AgcTargetReference,
    /// What holds unless something more specific says otherwise.
    #[serde(default)]
    pub default: Option<FrontendTlsPolicyConfig>,
    /// Part of the kind but supported nowhere: a policy that sets it is not accepted.
    #[serde(default, rename = "override")]
    pub overriding: Option<FrontendTlsPolicyConfig>,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTlsPolicyConfig {
    /// Absent: clients are not asked for a certificate.
    #[serde(default)]
    pub verify: Option<FrontendTlsVerify>,
    /// TLS versions and cipher suites.
    #[serde(default)]
    pub policy_type: FrontendPolicyType,
}

/// How client certificates are judged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTlsVerify {
    /// Object whose key `ca.crt` holds the trust anchors.
    pub ca_certificate_ref: SecretObjectReference,
    /// A certificate has to carry one of these names; empty takes any.
    #[serde(default)]
    pub subject_alt_names: Vec<String>,
}

/// TLS versions and cipher suites, by the name of a predefined set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct FrontendPolicyType {
    /// `2023-06` or `2023-06-S`.
    #[serde(default = "defaults::agc_policy_name")]
    pub name: String,
    /// `predefined`.
    #[serde(default = "defaults::agc_policy_type", rename = "type")]
    pub kind: String,
}

impl Default for FrontendPolicyType {
    fn default() -> FrontendPolicyType {
        FrontendPolicyType { name: defaults::agc_policy_name(), kind: defaults::agc_policy_type() }
    }
}
