//! What Yett's daemon and its kernel programs share.
//!
//! `no_std` and free of dependencies, since the kernel programs compile it too. Today it holds the vocabulary of
//! refusals; packet parsing, flow keys and map values join it with the datapath.
#![no_std]

pub mod reason;

pub use reason::Reason;
