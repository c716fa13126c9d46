//! Why a client's chain is not accepted, and the two tables that carry it on: from webpki's errors to our reasons, and
//! from our reasons to the errors by which rustls chooses the alert.

use std::borrow::Cow;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, OtherError};

use crate::model::{Reason, Refusal};

/// A chain is not accepted. Displays as a sentence without the client's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct PathError {
    reason: Reason,
    words: Cow<'static, str>,
}

impl PathError {
    pub(super) fn new(reason: Reason, words: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, words: words.into() }
    }

    /// The reason that logs, metrics and the alert go by.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The error that makes rustls send the alert that belongs to the reason.
    pub(super) fn to_rustls(&self) -> CertificateError {
        match self.reason {
            Reason::UnknownCa => CertificateError::UnknownIssuer,
            Reason::CertificateExpired => CertificateError::Expired,
            Reason::CertificateNotYetValid => CertificateError::NotValidYet,
            Reason::BadSignature => CertificateError::BadSignature,
            Reason::WrongUsage => CertificateError::InvalidPurpose,
            Reason::BadCertificate => CertificateError::BadEncoding,
            Reason::CertificateRevoked | Reason::CertificateOnHold => CertificateError::Revoked,
            _ => CertificateError::Other(OtherError(Arc::new(self.clone()))),
        }
    }

    /// The alert that the client gets (RFC 8446 §6).
    pub fn alert(&self) -> u8 {
        AlertDescription::from(self.to_rustls()).into()
    }
}

/// A path that verifies and whose certificates are not in force, where the handshake is to tell.
impl From<Refusal> for PathError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.reason, refusal.detail.to_string())
    }
}

impl From<webpki::Error> for PathError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error;
        let (reason, words) = match error {
            Error::UnknownIssuer => (Reason::UnknownCa, "no path leads to a trust anchor"),
            Error::CertExpired { .. } => {
                (Reason::CertificateExpired, "a certificate of the chain, or its trust anchor, has expired")
            }
            Error::CertNotValidYet { .. } => (
                Reason::CertificateNotYetValid,
                "a certificate of the chain, or its trust anchor, is not valid yet",
            ),
            // A key of another kind than the signature's did not make the signature.
            Error::InvalidSignatureForPublicKey
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => (
                Reason::BadSignature,
                "a signature of the chain was not made by the key of the issuer of that name",
            ),
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                (Reason::WrongUsage, "the extended key usage does not include client authentication")
            }
            Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::MalformedExtensions => {
                (Reason::BadCertificate, "a certificate of the chain is not well-formed")
            }
            Error::UnsupportedCertVersion => (
                Reason::CertificateUnknown,
                "a certificate of the chain is of an X.509 version that is not accepted",
            ),
            Error::CaUsedAsEndEntity => {
                (Reason::CertificateUnknown, "a certificate authority's certificate is used as a client's")
            }
            Error::EndEntityUsedAsCa => {
                (Reason::CertificateUnknown, "a certificate of the chain may not issue certificates")
            }
            Error::UnsupportedSignatureAlgorithmContext(_) => {
                (Reason::CertificateUnknown, "a signature algorithm of the chain is not accepted")
            }
            Error::NameConstraintViolation => {
                (Reason::CertificateUnknown, "a name is outside the constraints of its issuer")
            }
            Error::PathLenConstraintViolated => {
                (Reason::CertificateUnknown, "the chain is longer than an issuer of it allows")
            }
            other => {
                return Self::new(
                    Reason::CertificateUnknown,
                    format!("the chain is not acceptable: {other}"),
                );
            }
        };
        Self::new(reason, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_alert_that_the_interface_promises() {
        for (reason, alert) in [
            (Reason::UnknownCa, 48),
            (Reason::CertificateExpired, 45),
            (Reason::CertificateNotYetValid, 45),
            (Reason::BadSignature, 51),
            (Reason::WrongUsage, 43),
            (Reason::BadCertificate, 42),
            (Reason::NameNotAllowed, 46),
            (Reason::CertificateUnknown, 46),
            (Reason::CertificateRevoked, 44),
            (Reason::CertificateOnHold, 44),
            (Reason::RevocationStatusUnknown, 46),
            (Reason::CrlExpired, 46),
        ] {
            assert_eq!(PathError::new(reason, "").alert(), alert, "{reason}");
        }
    }
}
