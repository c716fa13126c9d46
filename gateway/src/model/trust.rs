//! Trust: anchors, revocation material, and verified certification paths (RFC 5280 §6).

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// What client certificates are verified against: the union of the objects that a listener's validation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// The objects it came from (`Secret ns/name`, joined by `, `): for logs, findings and metrics, never an identity.
    pub source: Arc<str>,
    /// Trust anchors, DER; at least one. They may share names and differ by key alone.
    pub anchors: Vec<CertificateDer<'static>>,
    /// Revocation material that stands beside the anchors (`ca.crl`); empty: nobody is checked.
    pub crls: Vec<CrlMaterial>,
}

/// Revocation lists as an object or file holds them, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlMaterial {
    /// Where it stands, as findings, logs and metrics name it: kind, name and key or path (`Secret ns/name ca.crl`,
    /// `RevocationPolicy ns/name /etc/crl/root.crl`).
    pub source: Arc<str>,
    /// The bytes: PEM with one or more `X509 CRL` blocks, or one DER CertificateList.
    pub data: Arc<[u8]>,
}

/// A certificate authority told apart by key and name together: SHA-256 over its SubjectPublicKeyInfo and its subject
/// Name, both DER. Neither alone is enough (authorities of equal name and different key exist).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerId(pub [u8; 32]);

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An issuer on a verified path, with what is needed to verify its CRLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerCertificate {
    /// Key and name.
    pub id: IssuerId,
    /// Subject Name, DER.
    pub name: Arc<[u8]>,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Arc<[u8]>,
    /// subjectKeyIdentifier, if present.
    pub key_id: Option<Arc<[u8]>>,
    /// Whether keyUsage allows signing CRLs; `None` without the extension (then it may, RFC 5280 §6.3.3 (f)).
    pub crl_sign: Option<bool>,
}

/// A certificate serial number without leading zero octets (RFC 5280 §4.1.2.2: at most 20; longer ones are kept too).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Arc<[u8]>);

impl Serial {
    /// From the content octets of the DER INTEGER.
    pub fn new(octets: &[u8]) -> Self {
        let start = octets.iter().position(|byte| *byte != 0).unwrap_or(octets.len());
        Self(octets[start..].into())
    }

    /// The octets, most significant first, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("00");
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A certificate of a verified path that revocation can concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCertificate {
    /// Who issued it; only an issuer whose key verified the signature stands here.
    pub issuer: Arc<IssuerCertificate>,
    /// Its serial number.
    pub serial: Serial,
    /// notAfter, Unix seconds.
    pub not_after: i64,
    /// Every GeneralName of every fullName of its cRLDistributionPoints, DER (RFC 5280 §4.2.1.13); empty
    /// without the extension. A CRL that is for one distribution point alone covers the certificates that name it.
    pub distribution_points: Vec<Box<[u8]>>,
}

/// A certification path that has been verified up to a trust anchor: leaf first, without the self-issued anchor.
/// Where the anchor is not self-issued the path goes on through the bundle, so that a CRL can name the anchor too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPath {
    /// Leaf first; never empty.
    pub certificates: Vec<PathCertificate>,
    /// The earliest notAfter of the path and of the anchor, Unix seconds.
    pub not_after: i64,
}
