//! What the data plane reads: one immutable value per generation.
