//! Revocation: CRLs checked once at load, an immutable index, and the gate that every request passes.
