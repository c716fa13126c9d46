//! The operational log on standard error.
