//! Reading and verifying certificate revocation lists (RFC 5280 §5), in one pass over the DER and without copying it.
//!
//! In: the DER of a CertificateList, and an issuer's name and key. Out: its parts, what keeps us from using it,
//! whether the signature is the issuer's. Which list is newer, what to keep and whom to tell is decided by `feed`.

mod der;
mod extension;
mod parse;
mod verify;

pub use parse::{CertificateList, Entries, Fault, ParseError};
pub use verify::{VerifyError, verify};

/// The largest revocation material that is read, octets: PEM or DER, all blocks together.
pub const CRL_BYTES_MAX: usize = 128 << 20;

#[cfg(test)]
mod tests;
