//! The kernel programs, run in the kernel: what the verifier says of them, what they decide about packets, what they
//! write into the maps, what they cost, and that they attach. Needs root; elsewhere each test says so and is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "figures are read by people, where the output of passing tests is shown"
)]

mod cost;
mod differential;
mod handshakes;
mod kernel;
mod live;
mod net;
mod object;
mod packets;
mod rules;
mod screen;
