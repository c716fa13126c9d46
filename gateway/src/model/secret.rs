//! Private key material in transit between a document and the TLS library.

use std::fmt;
use zeroize::Zeroizing;

/// A PEM private key. It can be compared (so that an unchanged listener keeps its TLS state) and is wiped when
/// dropped, but neither printed nor serialized; only `tls::material` opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(Zeroizing<Vec<u8>>);

impl PrivateKeyPem {
    /// Takes the bytes of a PEM file that holds a private key.
    pub fn new(pem: Vec<u8>) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The PEM text. For `tls::material` alone.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(..)")
    }
}
