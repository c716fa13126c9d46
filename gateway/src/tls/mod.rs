//! TLS: server material, client verification, accepting, tickets.

pub mod revocation;
