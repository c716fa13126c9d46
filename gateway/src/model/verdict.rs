//! What revocation data says of a certificate, and what a refused client is told.

use std::fmt;
use std::sync::Arc;

use super::Reason;

/// CRLReason (RFC 5280 §5.3.1); 7 is not used. An entry without one is `Unspecified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the names of RFC 5280 §5.3.1")]
pub enum RevocationReason {
    Unspecified = 0,
    KeyCompromise = 1,
    CaCompromise = 2,
    AffiliationChanged = 3,
    Superseded = 4,
    CessationOfOperation = 5,
    CertificateHold = 6,
    RemoveFromCrl = 8,
    PrivilegeWithdrawn = 9,
    AaCompromise = 10,
}

impl RevocationReason {
    /// The reason of a code; `None` for 7 and whatever RFC 5280 does not define.
    pub fn from_code(code: u8) -> Option<Self> {
        use RevocationReason::*;
        [
            Unspecified,
            KeyCompromise,
            CaCompromise,
            AffiliationChanged,
            Superseded,
            CessationOfOperation,
            CertificateHold,
            RemoveFromCrl,
            PrivilegeWithdrawn,
            AaCompromise,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == code)
    }

    /// The name of RFC 5280 §5.3.1.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::RemoveFromCrl => "removeFromCRL",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the revocation index says of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationStatus {
    /// Covered by current data and not listed, or its issuer is not covered and need not be.
    Good,
    /// Listed.
    Revoked(Revocation),
    /// The issuer must be covered and there is no usable data.
    Unknown,
    /// The issuer's data is past nextUpdate and the staleness allowance.
    Stale,
}

/// A CRL entry (RFC 5280 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// revocationDate, Unix seconds, where the index keeps it.
    pub revoked_at: Option<i64>,
    /// CRLNumber of the list, decimal or 0x-hexadecimal, where it has one.
    pub crl_number: Option<Arc<str>>,
}

/// A refusal on its way to the client: HTTP status and words by the reason, details as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// A sentence for people (RFC 9457 `detail`); nothing that the client must not know.
    pub detail: Arc<str>,
    /// For revoked certificates.
    pub revocation: Option<Revocation>,
}

impl Refusal {
    /// A refusal whose detail is the reason's title.
    pub fn new(reason: Reason) -> Self {
        Self { reason, detail: reason.title().into(), revocation: None }
    }

    /// A refusal with its own detail.
    pub fn with_detail(reason: Reason, detail: impl Into<Arc<str>>) -> Self {
        Self { reason, detail: detail.into(), revocation: None }
    }
}
