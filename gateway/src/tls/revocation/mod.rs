//! Revocation: CRLs checked once at load, an immutable index, and the gate that every request passes.

pub mod index;

pub use index::RevocationIndex;
