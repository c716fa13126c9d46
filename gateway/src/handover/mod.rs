//! What one process leaves to the next: descriptors with a kind and a name, over one unix socket, and the few words
//! that the two exchange about it.
//!
//! The sockets pair up before the successor is started, and everything is sent before that too, so that what is left is
//! on its way whatever becomes of its sender. Who leaves what, and what becomes of it, is decided elsewhere.
//!
//! ```text
//! predecessor → successor   Offer, as many as it takes
//! successor → predecessor   Verdict: ready, or why it is not
//! predecessor → successor   Relieved; from now on the successor alone speaks for both
//! ```

mod channel;
mod environment;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

pub use channel::{Channel, HandoverError, send_with};
pub use environment::{LISTEN_VARIABLES, VARIABLE, kept_by_manager, left_by_predecessor};

/// The version of what is exchanged. It goes up when an older reader would be misled; kinds that it does not know it
/// closes, and members that it does not know it passes over.
pub const HANDOVER_VERSION: u32 = 1;

/// Descriptors that one process may leave to another.
pub const HANDOVER_DESCRIPTORS_MAX: usize = 4096;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A listening socket of a frontend, `ADDRESS:PORT/NUMBER`: the number orders those of one address.
    Listener,
    /// The admin listener, `ADDRESS:PORT`.
    Admin,
    /// The admin socket, its path.
    AdminSocket,
    /// A file in memory with the secret that session tickets are sealed with, `tickets`.
    Tickets,
    /// A file in memory with the deny list, `deny`. Its owner changes it until its last word.
    Deny,
    /// A map of the datapath, its name there.
    Map,
    /// A link that attaches a program of the datapath, its name there.
    Link,
    /// A program of the datapath, its name there.
    Program,
    /// The lock on the names of the datapath, `lock`.
    Pins,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// A descriptor that is left.
#[derive(Debug)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub name: String,
    /// It.
    pub fd: OwnedFd,
}

/// What a process leaves beside descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its process id.
    pub process: u32,
    /// Upgrades so far by result, so that the count goes on.
    #[serde(default)]
    pub upgrades: BTreeMap<String, u64>,
    /// The SHA-256 of the object that the programs in the kernel are of; None: there are none.
    #[serde(default)]
    pub object: Option<String>,
}

/// What a successor says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It serves.
    Ready {
        /// Its process id.
        process: u32,
        /// The generation that it serves.
        generation: u64,
        /// Names (of a listener, its address) that it had no use for.
        left: Vec<String>,
    },
    /// It cannot serve, and ends.
    Failed {
        /// Why.
        words: String,
    },
}

/// The predecessor's last word: it no longer accepts, nor speaks for the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The successor has taken over.
    Relieved,
}
