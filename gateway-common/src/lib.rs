//! What Yett's daemon and its kernel programs share: the vocabulary of refusals, the parser of packets, the keys and
//! values of the maps between them, and the decisions that the kernel takes with them.
//!
//! `no_std` and free of dependencies, since the kernel programs compile it too; nothing here can panic, since the
//! verifier refuses a program that could. Decisions are pure (time is an argument), so the tests on the host run the
//! code that the kernel runs. With the feature `aya` the map types are what aya's maps take.
#![no_std]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")
)]

#[cfg(test)]
extern crate std;

pub mod decide;
pub mod flow;
pub mod key;
pub mod object;
pub mod parse;
#[cfg(feature = "aya")]
mod pod;
pub mod reason;
pub mod value;

pub use reason::Reason;
