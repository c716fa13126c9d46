//! Who a client is, as logs and backends are told.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// What a client's leaf certificate says. Holding one says nothing about trust: see `tls::Credential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// First URI subjectAltName, else first DNS one, else the subject.
    pub name: Arc<str>,
    /// Subject, RFC 4514 text.
    pub subject: Arc<str>,
    /// Issuer, RFC 4514 text.
    pub issuer: Arc<str>,
    /// Serial number, lower-case hexadecimal without leading zeros.
    pub serial: Arc<str>,
    /// SHA-256 of the DER certificate, lower-case hexadecimal.
    pub fingerprint: Arc<str>,
    /// notAfter, Unix seconds.
    pub not_after: i64,
    /// The leaf certificate, DER.
    pub certificate: CertificateDer<'static>,
}
