//! Whether a list was signed by an issuer.

use rustls_pki_types::SubjectPublicKeyInfoDer;
use webpki::{Error, RawPublicKeyEntity};

use super::parse::CertificateList;
use crate::model::IssuerCertificate;

/// Why a list does not count as an issuer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Another authority's name stands in it.
    #[error("it names another issuer")]
    Name,
    /// keyUsage without cRLSign (RFC 5280 §6.3.3 (f)).
    #[error("the issuer's certificate does not allow it to sign CRLs")]
    NotForCrls,
    /// The algorithm is not one that we use, or not one for this kind of key.
    #[error("its signature algorithm is not supported")]
    Algorithm,
    /// The signature is not of this key over these octets.
    #[error("its signature is not the issuer's")]
    Signature,
}

/// Checks name, permission and signature, in this order. Algorithms: ECDSA on P-256, P-384 and P-521, RSA PKCS#1
/// v1.5 and PSS from 2048 bits, Ed25519, each with SHA-2; never SHA-1.
///
/// # Errors
/// If one of them is wrong.
pub fn verify(list: &CertificateList<'_>, issuer: &IssuerCertificate) -> Result<(), VerifyError> {
    if *list.issuer != *issuer.name {
        return Err(VerifyError::Name);
    }
    if issuer.crl_sign == Some(false) {
        return Err(VerifyError::NotForCrls);
    }
    let spki = SubjectPublicKeyInfoDer::from(&*issuer.spki);
    let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| VerifyError::Algorithm)?;
    for algorithm in webpki::ALL_VERIFICATION_ALGS {
        if *algorithm.signature_alg_id() != *list.algorithm {
            continue;
        }
        match key.verify_signature(*algorithm, list.signed, list.signature) {
            Ok(()) => return Ok(()),
            // One signature algorithm serves keys on several curves.
            Err(Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(VerifyError::Signature),
        }
    }
    Err(VerifyError::Algorithm)
}
