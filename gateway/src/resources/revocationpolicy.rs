//! RevocationPolicy of `gateway.yett.dev/v1alpha1`: where revocation data comes from, and what follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::defaults;
use super::httproute::parse_duration;
use super::refs::PolicyTargetReference;

/// `spec` of a `gateway.yett.dev/v1alpha1` RevocationPolicy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RevocationPolicy {
    /// Gateways of the policy's namespace, or listeners of theirs (GEP-713, direct attachment).
    pub target_refs: Vec<PolicyTargetReference>,
    /// Which certificates of a path are looked up.
    #[serde(default)]
    pub depth: RevocationDepth,
    /// What becomes of clients of an issuer that there is no usable data of.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// How long data past its nextUpdate still decides.
    #[serde(default = "defaults::staleness_max", deserialize_with = "duration")]
    pub max_staleness: Duration,
    /// How a client is refused.
    #[serde(default)]
    pub answer: RevocationAnswer,
    /// Where the data comes from. No order: the strictest answer wins.
    pub sources: Vec<RevocationSource>,
    /// What stands at the paths that `sources` name, by path as written: put there by the source of the documents,
    /// since nothing that reads the policy afterwards looks at files.
    #[serde(skip)]
    pub files: BTreeMap<String, Result<Vec<CrlFile>, String>>,
}

/// A file that a path names, or one in the directory that it names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CrlFile {
    /// Where it is, as log and report name it.
    pub name: String,
    /// What is in it.
    pub data: Arc<[u8]>,
}

/// Which certificates of a path are looked up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub enum RevocationDepth {
    /// The client's and the intermediates above it.
    #[default]
    Chain,
    /// The client's alone.
    Leaf,
}

/// What becomes of clients of an issuer that there is no usable data of.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub enum OnUnknown {
    /// They are refused.
    #[default]
    Deny,
    /// They pass.
    Allow,
}

/// How a client is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub enum RevocationAnswer {
    /// Each request by HTTP 400; what is under way finishes.
    #[default]
    Http400,
    /// By HTTP 400, and what is under way is broken off.
    CloseConnections,
    /// In the handshake by an alert; an open connection is closed.
    TlsAlert,
}

/// Where revocation data comes from; one of the members is set.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct RevocationSource {
    /// Certificate revocation lists.
    #[serde(default)]
    pub crl: Option<CrlSource>,
    /// A responder (RFC 6960).
    #[serde(default)]
    pub ocsp: Option<OcspSource>,
}

/// Where lists come from; one of the members is set, `refresh` aside.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CrlSource {
    /// A Secret.
    #[serde(default)]
    pub secret_ref: Option<CrlReference>,
    /// A ConfigMap.
    #[serde(default)]
    pub config_map_ref: Option<CrlReference>,
    /// A file, or a directory whose files that end in `.crl` are meant; relative to the manifest.
    #[serde(default)]
    pub path: Option<String>,
    /// To fetch by HTTP.
    #[serde(default)]
    pub url: Option<String>,
    /// How often `url` is fetched, a duration.
    #[serde(default)]
    pub refresh: Option<String>,
    /// What the certificates themselves name (RFC 5280 §4.2.1.13).
    #[serde(default)]
    pub distribution_points: Option<AllowedHosts>,
}

/// An object of the policy's namespace that holds lists.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct CrlReference {
    /// Its name.
    pub name: String,
    /// One key; without it every key that ends in `.crl`.
    #[serde(default)]
    pub key: Option<String>,
}

/// Hosts that may be asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedHosts {
    /// Their names.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
}

/// An OCSP responder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OcspSource {
    /// Hosts that a certificate may name as its responder.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Asked instead of what certificates name.
    #[serde(default)]
    pub url: Option<String>,
    /// How long the first request may wait for the answer, a duration.
    #[serde(default)]
    pub timeout: Option<String>,
    /// What follows from no answer: `HardFail` or `SoftFail`.
    #[serde(default)]
    pub mode: Option<String>,
}

impl RevocationPolicy {
    /// The paths that the sources name, as written.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| source.crl.as_ref()?.path.as_deref())
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| serde::de::Error::custom("is no duration such as 24h"))
}
