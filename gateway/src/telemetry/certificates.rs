//! A certificate in use, as `/certs` and the expiry metric show it.

use serde::Serialize;

use super::labels::CertificateRole;

/// One certificate in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The object it came from and its subject: `Secret ns/name CN=…`.
    pub name: String,
    /// What it is used for.
    #[serde(serialize_with = "role")]
    pub role: CertificateRole,
    /// Subject, RFC 4514 text.
    pub subject: String,
    /// Issuer, RFC 4514 text.
    pub issuer: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// notAfter, Unix seconds.
    pub not_after: i64,
}

fn role<S: serde::Serializer>(role: &CertificateRole, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.as_str())
}
