//! Yett's promises, one file each, shown with real clients against the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod bodies;
mod check;
mod check_mutations;
mod documents;
mod drain;
mod examples;
mod fallback;
mod faults;
mod framing;
mod gateway_answers;
mod h2spec;
mod handshake_refusals;
mod headers;
mod identities;
mod limits;
mod observe;
mod open_connections;
mod pinning;
mod policies;
mod ports_and_names;
mod proxy_protocol;
mod reload;
mod resumption;
mod revocation;
mod revocation_lists;
mod revocation_policies;
mod routing;
mod service;
mod settings;
mod tls;
mod trust_changes;
mod upgrades;
mod uploads;
mod walkthrough;
