//! The harness of Yett's end-to-end tests: a PKI, a recording backend, real clients and the real
//! `yett` binary as a child process, all on loopback.
//!
//! In comes what a test wants to show (manifests, certificates, requests); out goes what an
//! outsider can see: answers, alerts, what reached the backend, status files, metrics and log
//! lines. Nothing here looks into the gateway's private modules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so does what it stands on"
)]

pub mod backend;
pub mod binary;
pub mod bystander;
pub mod checked;
pub mod client;
pub mod go;
pub mod kube;
pub mod load;
pub mod manifests;
pub mod metrics;
pub mod names;
pub mod netns;
pub mod node;
pub mod pki;
pub mod ports;
mod process;
pub mod raw;
pub mod scene;
pub mod soak;
pub mod tools;
pub mod wait;
pub mod websocket;

pub use backend::Backend;
pub use bystander::Bystander;
pub use client::{Answer, Bridge, Curl, Frames, Http, OpenSsl, Tls};
pub use manifests::Site;
pub use node::Node;
pub use pki::{Ca, Identity};
pub use raw::{Raw, Wire};
pub use scene::Scene;
