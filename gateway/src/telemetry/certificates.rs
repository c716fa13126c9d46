//! The certificates that a plan uses: for `/certs` and the expiry metric.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::labels::CertificateRole;
use crate::model::Plan;

/// One certificate in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The object it came from and its subject: `Secret ns/name CN=…`.
    pub name: String,
    /// What it is used for.
    #[serde(serialize_with = "role")]
    pub role: CertificateRole,
    /// Subject, as x509-parser prints it.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// notBefore, Unix seconds.
    pub not_before: i64,
    /// notAfter, Unix seconds.
    pub not_after: i64,
}

/// Every certificate of a plan once, in order; what cannot be read is left out (the Report tells of it).
pub fn certificates_of(plan: &Plan) -> Vec<Certificate> {
    let mut found = BTreeSet::new();
    let listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    for tls in listeners.filter_map(|listener| listener.tls.as_ref()) {
        for chain in &tls.certificates {
            // The leaf alone: it expires first in practice, and clients hold the rest to be the server's affair.
            found.extend(
                chain.chain.first().and_then(|leaf| read(leaf, CertificateRole::Server, &chain.source)),
            );
        }
        if let Some(validation) = &tls.client {
            let trust = &validation.trust;
            let anchors = trust.anchors.iter();
            found.extend(anchors.filter_map(|anchor| read(anchor, CertificateRole::Ca, &trust.source)));
        }
    }
    found.into_iter().collect()
}

fn read(certificate: &CertificateDer<'_>, role: CertificateRole, source: &str) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject().to_string();
    Some(Certificate {
        name: format!("{source} {subject}"),
        role,
        issuer: parsed.issuer().to_string(),
        serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        subject,
    })
}

fn role<S: serde::Serializer>(role: &CertificateRole, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.as_str())
}
