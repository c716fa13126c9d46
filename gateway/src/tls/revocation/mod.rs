//! Revocation: CRLs checked once at load, an immutable index, and the gate that every request passes.

/// What is known of revoked certificates.
pub mod index {
    /// The index; by default nobody is covered.
    #[derive(Debug, Default)]
    pub struct RevocationIndex;
}
