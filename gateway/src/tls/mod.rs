//! TLS: server material, client verification, accepting, tickets.

pub mod accept;
mod certificate;
mod chains;
mod code;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod identity;
mod in_use;
pub mod material;
mod path_error;
pub mod peer;
#[cfg(test)]
pub(crate) mod pki;
mod provider;
pub mod revocation;
pub mod tickets;
pub mod trust;
mod verifier;

pub use accept::{Accepted, Alpn, Refused, TlsFacts, accept};
pub use chains::{CHAIN_CACHE_ENTRIES_MAX, VerifiedChain};
pub use code::Code;
pub use identity::identity_of;
pub use in_use::certificates_in_use;
pub use material::{MaterialError, ServerTls, server_tls};
pub use path_error::PathError;
pub use peer::{Credential, Peer};
pub use provider::provider;
pub use tickets::{TICKET_KEY_ROTATION_S, TicketKeys};
pub use trust::{TrustDomain, TrustError};
pub use verifier::CA_HINTS_BYTES_MAX;
