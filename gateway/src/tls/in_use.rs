//! The certificates that a plan uses: for whoever watches their expiry.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;

use super::identity_of;
use crate::model::Plan;
use crate::telemetry::CertificateRole;
use crate::telemetry::certificates::Certificate;

/// Every certificate of a plan once, in order. Of a server's chain the leaf alone: what is above it expires later in
/// practice and is not the operator's to renew. What cannot be read is left out; the Report tells of it.
pub fn certificates_in_use(plan: &Plan) -> Vec<Certificate> {
    let mut found = BTreeSet::new();
    let listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    for tls in listeners.filter_map(|listener| listener.tls.as_ref()) {
        for chain in &tls.certificates {
            found.extend(
                chain.chain.first().and_then(|leaf| read(leaf, CertificateRole::Server, &chain.source)),
            );
        }
        if let Some(validation) = &tls.client {
            let trust = &validation.trust;
            found.extend(
                trust.anchors.iter().filter_map(|anchor| read(anchor, CertificateRole::Ca, &trust.source)),
            );
        }
    }
    found.into_iter().collect()
}

fn read(certificate: &CertificateDer<'_>, role: CertificateRole, source: &str) -> Option<Certificate> {
    let identity = identity_of(certificate);
    (identity.not_after != 0).then(|| Certificate {
        name: format!("{source} {}", identity.subject),
        role,
        subject: identity.subject.to_string(),
        issuer: identity.issuer.to_string(),
        serial: identity.serial.to_string(),
        fingerprint: identity.fingerprint.to_string(),
        not_after: identity.not_after,
    })
}
