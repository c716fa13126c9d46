//! Where descriptors wait for a process that has just been started: on standard input from its predecessor, or from
//! number 3 on where a service manager kept them (sd_listen_fds(3)).

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::process;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{socket_domain, socket_peercred, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::getuid;

use super::{Channel, HANDOVER_DESCRIPTORS_MAX, HandoverError};

/// Says to a successor that standard input is its end of the channel.
pub const VARIABLE: &str = "YETT_HANDOVER";

/// What a service manager says of descriptors that it passes, and to whom: not to be inherited by a successor.
pub const LISTEN_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The first descriptor that a service manager passes.
const FIRST: RawFd = 3;

/// The channel to a predecessor, if there is one. Standard input is empty afterwards. To be called once, within a
/// runtime.
///
/// # Errors
/// There should be one, but it is no channel, or not of this user.
pub fn left_by_predecessor() -> Result<Option<Channel>, HandoverError> {
    if env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    let system = |source: io::Error| HandoverError::System { doing: "use the channel", source };
    let stdin = io::stdin();
    let is = (|| {
        let packets = socket_type(&stdin)? == SocketType::SEQPACKET;
        Ok(packets && socket_domain(&stdin)? == AddressFamily::UNIX)
    })();
    if !is.map_err(|error: rustix::io::Errno| system(error.into()))? {
        return Err(system(io::Error::new(io::ErrorKind::InvalidInput, "standard input is no channel")));
    }
    // Whoever made the pair, which is nobody but the one who started us: a wrong start must not be one's own.
    let peer = socket_peercred(&stdin).map_err(|error| system(error.into()))?;
    if peer.uid != getuid() {
        return Err(HandoverError::Stranger);
    }
    let socket = stdin.as_fd().try_clone_to_owned().map_err(system)?;
    // Else the other end would not hear of this one's closing.
    let nothing = File::open("/dev/null").map_err(system)?;
    rustix::stdio::dup2_stdin(nothing).map_err(|error| system(error.into()))?;
    Channel::over(socket).map(Some).map_err(system)
}

/// The sockets that a service manager kept for this process, with their names. To be called once, at the start: what
/// the environment says of these numbers holds only as long as nothing else uses them.
pub fn kept_by_manager() -> Vec<(String, OwnedFd)> {
    let [process, count, names] = LISTEN_VARIABLES.map(|name| env::var(name).ok());
    if process.and_then(|process| process.parse().ok()) != Some(process::id()) {
        return Vec::new();
    }
    let count = count.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    let names = names.unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let numbers = (FIRST..).take(count.min(HANDOVER_DESCRIPTORS_MAX));
    numbers.filter_map(|number| Some((names.next().unwrap_or_default(), adopt(number)?))).collect()
}

/// Makes a descriptor ours that was passed by number, if it is a socket.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if !target.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
        return None;
    }
    #[allow(unsafe_code, reason = "a number is all that a service manager passes")]
    // SAFETY: it is open, as the line above shows, and the environment gives it to this process, which has not used it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    // It was passed on through an exec, and must not be by us: a successor gets it by name.
    fcntl_setfd(&fd, FdFlags::CLOEXEC).ok()?;
    Some(fd)
}
