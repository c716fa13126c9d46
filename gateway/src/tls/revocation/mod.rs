//! Revocation: CRLs checked once at load, an immutable index, and the gate that every request passes.

pub mod crl;
pub mod feed;
pub mod gate;
pub mod index;
pub mod wanted;

pub use feed::{CrlEvent, CrlOutcome, CrlSummary, Feed};
pub use gate::{Admitted, admit};
pub use index::RevocationIndex;
pub use wanted::{WANTED, Want, Wants};
