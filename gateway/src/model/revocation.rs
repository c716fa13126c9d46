//! How the revocation of client certificates is judged where a policy says so. Without one, the lists that stand beside
//! a bundle's anchors are looked up, and issuers that no list covers are not checked.

use std::sync::Arc;

use super::trust::CrlMaterial;

/// A listener's revocation policy with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRevocation {
    /// What follows from the data.
    pub rules: RevocationRules,
    /// The data, not judged yet.
    pub crls: Vec<CrlMaterial>,
    /// Whether all data that the policy names is there. If not, nobody is known not to be revoked.
    pub is_complete: bool,
}

/// What follows from revocation data. Every issuer of a path has to be covered; `on_unknown` says what happens to clients
/// of one that is not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RevocationRules {
    /// The policy (`RevocationPolicy ns/name`).
    pub policy: Arc<str>,
    /// Which certificates of a path are looked up.
    pub depth: RevocationDepth,
    /// Without usable data of an issuer.
    pub on_unknown: OnUnknown,
    /// How long data past its nextUpdate still decides, seconds.
    pub staleness_max_s: i64,
    /// How a client is refused.
    pub answer: RevocationAnswer,
}

/// Which certificates of a path are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationDepth {
    /// Leaf and intermediates.
    Chain,
    /// The leaf alone.
    Leaf,
}

/// What becomes of clients of an issuer without usable data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnUnknown {
    /// They are refused.
    Deny,
    /// They pass; that they did is counted.
    Allow,
}

/// How a client is refused for its revocation status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationAnswer {
    /// Each request by HTTP 400; requests under way finish.
    Http400,
    /// By HTTP 400, and requests under way are broken off.
    CloseConnections,
    /// In the handshake by an alert; an open connection is closed without HTTP.
    TlsAlert,
}

/// How current a policy's data is, as its status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationFreshness {
    /// Whether all of it is usable and before its nextUpdate, and every anchor is covered.
    pub is_fresh: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// Words for people.
    pub message: String,
}
