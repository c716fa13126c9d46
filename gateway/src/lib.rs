//! Yett, a sidecar-free, eBPF-assisted mTLS gateway. `ARCHITECTURE.md` at the root of the repository is the map.
#![cfg_attr(
    any(test, feature = "fuzzing"),
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")
)]

#[macro_use]
mod codes;

pub mod admin;
pub mod app;
pub mod cli;
pub mod datapath;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod handover;
pub mod http;
pub mod listener;
pub mod model;
pub mod policy;
pub mod resources;
pub mod route;
pub mod runtime;
pub mod settings;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod translate;
pub mod upstream;
