//! Kubernetes for real: a cluster of its own programs, with a stand-in for kubelet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a cluster's steps took is worth knowing when a test fails")]

mod cluster;
