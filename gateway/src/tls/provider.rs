//! The one cryptography provider: aws-lc-rs, with X25519MLKEM768 as the first key exchange group.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The provider of every TLS configuration, downstream and upstream.
pub fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// How signatures of certificates and handshakes are verified.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    PROVIDER.signature_verification_algorithms
}
