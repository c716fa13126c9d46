//! A trust domain as rustls asks it: the client certificate verifier of a listener.
//!
//! The verifier is shared by all connections and is not called when a session is resumed, so it decides only whether a
//! full handshake may go on; what a connection's client is, resumed or not, `accept` asks the domain afterwards. Whether
//! certificates are revoked it asks only where a policy wants that answered in the handshake; the gate asks again. What
//! rustls's errors cannot carry (who was refused, and why in words) is left on the thread for the caller of
//! `process_new_packets`, which runs the verifier before it returns.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use webpki::RawPublicKeyEntity;

use super::certificate::Certificate;
use super::identity::identity_of;
use super::path_error::PathError;
use super::provider::algorithms;
use super::revocation::gate;
use super::trust::TrustDomain;
use crate::model::{Identity, Reason, RevocationAnswer, ValidationMode};

/// How many bytes of authority names are sent to clients as a hint which certificate to choose. A longer list is not
/// sent at all: then clients choose freely (RFC 8446 §4.2.4), and handshakes stay small.
pub const CA_HINTS_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    static REFUSED: Cell<Option<RefusedCertificate>> = const { Cell::new(None) };
}

/// The certificate that made the verifier fail.
#[derive(Debug)]
pub(super) struct RefusedCertificate {
    pub(super) identity: Arc<Identity>,
    pub(super) error: PathError,
}

/// What the verifier has just refused on this thread. To be taken in the same breath as the error.
pub(super) fn take_refused() -> Option<RefusedCertificate> {
    REFUSED.take()
}

/// The client certificate verifier of a trust domain.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    trust: Arc<TrustDomain>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(trust: Arc<TrustDomain>) -> Self {
        let hints = hints(&trust, CA_HINTS_BYTES_MAX);
        Self { trust, hints, algorithms: algorithms() }
    }

    fn refuse(&self, leaf: &CertificateDer<'_>, error: PathError) -> Error {
        let refusal = error.to_rustls().into();
        REFUSED.set(Some(RefusedCertificate { identity: Arc::new(identity_of(leaf)), error }));
        refusal
    }

    /// The key of a certificate of any version and with any extensions: whether it is trusted has been decided before,
    /// or is nobody's concern.
    fn with_key(
        &self,
        leaf: &CertificateDer<'_>,
        verify: impl FnOnce(&SubjectPublicKeyInfoDer<'_>) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(certificate) = Certificate::read(leaf) else {
            return Err(
                self.refuse(leaf, PathError::new(Reason::BadCertificate, "the certificate cannot be read"))
            );
        };
        verify(&SubjectPublicKeyInfoDer::from(certificate.spki)).map_err(|error| match error {
            Error::InvalidCertificate(_) => {
                let words = "the handshake was not signed by the certificate's key";
                self.refuse(leaf, PathError::new(Reason::BadSignature, words))
            }
            other => other,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.trust.mode() == ValidationMode::AllowValidOnly
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let falls_back = self.trust.mode() == ValidationMode::AllowInsecureFallback;
        let tells_revoked = self.trust.answer() == RevocationAnswer::TlsAlert;
        if falls_back && !tells_revoked {
            return Ok(ClientCertVerified::assertion());
        }
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain: Vec<CertificateDer<'_>> = chain.map(|der| CertificateDer::from(&**der)).collect();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match self.trust.verify_chain(&chain, now) {
            Ok(verified) if tells_revoked => match gate::judge_path(&verified.path, &self.trust, now) {
                Ok(()) => Ok(ClientCertVerified::assertion()),
                Err(refusal) => Err(self.refuse(end_entity, refusal.into())),
            },
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(_) if falls_back => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(self.refuse(end_entity, error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.with_key(leaf, |key| verify_tls12_signature(message, key, signed, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.with_key(leaf, |key| verify_tls13_signature_with_raw_key(message, key, signed, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// In TLS 1.2 a scheme does not fix the curve (RFC 8446 §4.2.3), so every algorithm of the scheme may be the one.
fn verify_tls12_signature(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    use SignatureScheme::{ML_DSA_44, ML_DSA_65, ML_DSA_87};
    // Defined for TLS 1.3 alone.
    let later = matches!(signed.scheme, ML_DSA_44 | ML_DSA_65 | ML_DSA_87);
    let candidates = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme && !later);
    let Some((_, candidates)) = candidates else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let key = RawPublicKeyEntity::try_from(key).map_err(|_| CertificateError::BadEncoding)?;
    let verified = candidates
        .iter()
        .any(|candidate| key.verify_signature(*candidate, message, signed.signature()).is_ok());
    if verified {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

fn hints(trust: &TrustDomain, bytes_max: usize) -> Vec<DistinguishedName> {
    let mut names: Vec<&[u8]> = Vec::new();
    for anchor in trust.anchors() {
        if !names.contains(&&*anchor.subject) {
            names.push(&anchor.subject);
        }
    }
    let hints: Vec<_> = names.into_iter().map(DistinguishedName::in_sequence).collect();
    let bytes: usize = hints.iter().map(|hint| hint.as_ref().len() + 2).sum();
    if bytes <= bytes_max { hints } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pki::{Ca, bundle};

    #[test]
    fn hints_are_distinct_and_short() {
        let (one, twin, other) = (Ca::root("root"), Ca::root("root"), Ca::root("other"));
        let trust = TrustDomain::new(
            bundle(&[&one.der, &twin.der, &other.der]),
            ValidationMode::AllowValidOnly,
            Vec::new(),
        )
        .unwrap();
        let names = hints(&trust, CA_HINTS_BYTES_MAX);
        assert_eq!(names.len(), 2);
        assert_eq!(names[0].as_ref(), Certificate::read(&one.der).unwrap().subject);
        assert!(hints(&trust, 20).is_empty());
    }
}
