//! TLS: server material, client verification, accepting, tickets.

mod certificate;
mod chains;
pub mod identity;
mod path_error;
pub mod peer;
#[cfg(test)]
pub(crate) mod pki;
mod provider;
pub mod revocation;
pub mod trust;

pub use chains::{CHAIN_CACHE_ENTRIES_MAX, VerifiedChain};
pub use identity::identity_of;
pub use path_error::PathError;
pub use peer::{Credential, Peer};
pub use provider::provider;
pub use trust::{TrustDomain, TrustError};
