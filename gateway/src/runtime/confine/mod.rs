//! A process gives up what it no longer needs, for good: the capabilities it was started with, the chance to gain others,
//! and the system calls that no gateway makes. So whoever got hold of it through a client's bytes would have little more
//! than its connections.
//!
//! A thread inherits what its maker has, and nothing can be taken from another. So the first thread confines itself before
//! it starts any, and those it starts give up the rest by themselves. A successor inherits everything.

mod filter;
#[cfg(test)]
mod tests;

use std::panic::resume_unwind;
use std::{io, thread};

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_bounding_set, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};

use super::panics;

/// What the control thread keeps of the capabilities it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// `CAP_NET_BIND_SERVICE`: a new configuration may ask for a port below 1024.
    Bind,
    /// `CAP_NET_ADMIN` too: addresses come and go with Gateways.
    BindAndAddresses,
}

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// `PR_SET_NO_NEW_PRIVS`.
    #[error("cannot rule out that programs give new privileges: {0}")]
    NoNewPrivileges(io::Error),
    /// capset(2).
    #[error("cannot give up capabilities: {0}")]
    Capabilities(io::Error),
    /// seccomp(2).
    #[error("cannot give up system calls: {0}")]
    Filter(#[from] filter::FilterError),
}

impl Keep {
    fn set(self) -> CapabilitySet {
        match self {
            Self::Bind => CapabilitySet::NET_BIND_SERVICE,
            Self::BindAndAddresses => CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_ADMIN,
        }
    }
}

/// Confines the calling thread, and all that it will start; a process calls it before it has started any. A kernel
/// without seccomp is logged and otherwise passed over.
///
/// # Errors
/// Something cannot be given up: the process must not go on.
pub fn process(keep: Keep) -> Result<(), ConfineError> {
    set_no_new_privs(true).map_err(|error| ConfineError::NoNewPrivileges(error.into()))?;
    reduce(keep.set()).map_err(|error| ConfineError::Capabilities(error.into()))?;
    match filter::install() {
        Ok(()) => {}
        Err(error) if error.is_unsupported() => {
            tracing::error!(%error, "this kernel cannot refuse system calls; the process goes on without that");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Gives up every capability of the calling thread, and of those it will start. Where that cannot be the process ends:
/// it could for the control thread, so something is very wrong.
pub fn thread() {
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if let Err(error) = set_capabilities(None, nothing) {
        tracing::error!(%error, "a thread cannot give up its capabilities; the process ends");
        panics::give_up();
    }
}

/// Calls on a thread without capabilities: those that `call` starts have none either, whoever's code they run.
///
/// # Errors
/// The system has no thread to give.
pub fn apart<T: Send>(call: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let named = thread::Builder::new().name("yett-apart".to_owned());
        let called = named.spawn_scoped(scope, || {
            self::thread();
            call()
        })?;
        Ok(called.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Reduces every set of capabilities to what is there of `keep`. It stays inheritable and ambient, so that a successor
/// has it whatever user runs it.
fn reduce(keep: CapabilitySet) -> Result<(), Errno> {
    let had = capabilities(None)?;
    let kept = had.permitted & keep;
    // While the thread may: the sets that bound what programs can give.
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            // Past the last one that the kernel knows it says EINVAL.
            let Ok(is_bound) = capability_is_in_bounding_set(capability) else { break };
            if is_bound && !keep.contains(capability) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
        let rootless = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
        set_capabilities_secure_bits(capabilities_secure_bits()? | rootless)?;
    }
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    clear_ambient_capability_set()?;
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    tracing::debug!(?kept, "capabilities reduced");
    Ok(())
}
