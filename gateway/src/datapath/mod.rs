//! The user-space half of the datapath: what is loaded into the kernel, kept in step with the configuration, and read
//! back; and what the kernel tells of a connection through its socket. So far it holds the object that the kernel programs
//! come in; nothing loads it yet.

pub mod object;
pub mod socket;

use std::os::fd::RawFd;
use std::time::Instant;

use crate::telemetry::connections::KernelRecord;

/// Where the kernel's notes on connections come from.
#[derive(Clone, Copy, Debug, Default)]
pub enum Datapath {
    /// From nowhere: no programs.
    #[default]
    Off,
}

/// What user space saw of a connection itself, for spans that begin in the kernel and end here.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it was accepted.
    pub accepted: Instant,
    /// When the first bytes from the client were read.
    pub first_read: Option<Instant>,
}

impl Datapath {
    /// What the kernel noted about a connection. To be asked before its descriptor is closed: the notes go with it.
    pub fn record(self, _socket: RawFd, _seen: Seen) -> KernelRecord {
        match self {
            Self::Off => KernelRecord::default(),
        }
    }
}
