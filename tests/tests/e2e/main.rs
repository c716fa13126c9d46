//! Yett's promises, one file each, shown with real clients against the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
