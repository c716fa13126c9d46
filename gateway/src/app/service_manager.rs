//! Tells the service manager how the process fares, by the protocol of sd_notify(3): datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nobody listens, and nothing is sent.
//!
//! Where a successor takes over, the old process names it as the main one (MAINPID), and from then on the new one alone
//! speaks. Listening sockets are kept with the manager (FDSTORE), so that they outlive a process that dies.
//!
//! What is told: READY once traffic is taken, RELOADING and READY around each configuration taken up, STOPPING when a
//! drain begins, STATUS in words, and WATCHDOG from a task of the control thread, so that a control loop that hangs
//! goes silent. Nothing here waits: a manager that does not read misses messages.

use std::cell::Cell;
use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::process;
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};

use crate::handover::send_with;

/// Sockets in one message.
const KEPT_AT_ONCE_MAX: usize = 64;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// READY was told once.
    started: Cell<bool>,
    /// Another process speaks for the service: the one before this, or the one after.
    mute: Cell<bool>,
}

impl ServiceManager {
    /// The one that started this process, as the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let socket = match connect(name.as_encoded_bytes()) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, socket = %name.display(), "the service manager cannot be told anything");
                return Self::default();
            }
        };
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), process::id());
        Self { socket: Some(socket), watchdog, ..Self::default() }
    }

    /// Says nothing for now: a predecessor speaks.
    pub(super) fn hush(&self) {
        self.mute.set(true);
    }

    /// Speaks from now on: the predecessor has named this process as the main one.
    pub(super) fn speak(&self) {
        self.mute.set(false);
    }

    /// Names the successor as the service's main process, and says nothing more. Its READY completes the change.
    pub(super) fn succeeded_by(&self, process: u32) {
        self.send(&format!("MAINPID={process}"));
        self.mute.set(true);
    }

    /// Has the sockets of an address kept for whoever is started after this process.
    pub(super) fn keep(&self, address: SocketAddr, sockets: &[TcpListener]) {
        let message = format!("FDSTORE=1\nFDNAME={}", store_name(address));
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        for some in descriptors.chunks(KEPT_AT_ONCE_MAX) {
            self.send_with(&message, some);
        }
    }

    /// Has the sockets of an address kept no longer.
    pub(super) fn forget(&self, address: SocketAddr) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={}", store_name(address)));
    }

    /// A configuration is about to be taken up; [`ServiceManager::serving`] must follow. A manager that still waits for
    /// the start is not told.
    pub(super) fn reloading(&self) {
        if !self.started.get() {
            return;
        }
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=Taking up a configuration"));
    }

    /// A configuration was taken up, or not. The first time that traffic is taken completes the start; after that every
    /// reload is complete whatever came of it, since what was served before is.
    pub(super) fn serving(&self, ready: bool, status: &str) {
        self.started.set(self.started.get() || ready);
        let state = if self.started.get() { "READY=1\n" } else { "" };
        // A line's end would begin another assignment.
        self.send(&format!("{state}STATUS={}", status.replace('\n', " ")));
    }

    /// The process is about to end, and takes at most so long.
    pub(super) fn stopping(&self, at_most: Duration) {
        let (seconds, microseconds) = (at_most.as_secs(), at_most.as_micros());
        let status = format!("Draining, for at most {seconds} s");
        // Else a manager with a shorter limit of its own would cut off what the drain is waiting for.
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={microseconds}\nSTATUS={status}"));
    }

    /// Says twice in every period of the manager's watchdog that the process lives, while `progress` holds. Runs on
    /// the task's thread for as long as that turns.
    pub(super) async fn keep_alive(self: Rc<Self>, progress: impl Fn() -> bool) {
        let Some(period) = self.watchdog else { return };
        let mut beat = interval(period / 2);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            if progress() {
                self.send("WATCHDOG=1");
            }
        }
    }

    fn send(&self, message: &str) {
        self.send_with(message, &[]);
    }

    fn send_with(&self, message: &str, descriptors: &[BorrowedFd<'_>]) {
        if let Some(socket) = &self.socket
            && !self.mute.get()
            && let Err(error) = send_with(socket, message.as_bytes(), descriptors)
        {
            tracing::debug!(%error, "a message to the service manager was lost");
        }
    }
}

/// The name that an address's sockets are kept under. A colon separates names.
fn store_name(address: SocketAddr) -> String {
    format!("listener-{address}").replace(':', "_")
}

/// A socket connected to the manager's: a path, or a name that begins with `@` in the abstract namespace.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let address = match name {
        [b'@', rest @ ..] => net::SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => {
            use std::os::unix::ffi::OsStrExt;
            net::SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?
        }
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither an absolute path nor @NAME")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The watchdog's period, where it is meant for the process `own`.
fn watchdog(microseconds: Option<String>, process: Option<String>, own: u32) -> Option<Duration> {
    let microseconds = microseconds?.parse::<u64>().ok().filter(|microseconds| *microseconds > 0)?;
    let ours = process.is_none_or(|process| process.parse() == Ok(own));
    ours.then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager, and what it is told next.
    fn overheard() -> (ServiceManager, impl Fn() -> Option<String>) {
        let (socket, end) = UnixDatagram::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        let told = move || {
            let mut message = [0; 128];
            let length = end.recv(&mut message).ok()?;
            Some(String::from_utf8_lossy(&message[..length]).into_owned())
        };
        (ServiceManager { socket: Some(socket), ..Default::default() }, told)
    }

    #[test]
    fn the_watchdog_is_ours_or_none() {
        let seconds = Duration::from_secs;
        for (description, microseconds, process, expected) in [
            ("none", None, None, None),
            ("ours", Some("30000000"), Some("7"), Some(seconds(30))),
            ("anybody's", Some("2000000"), None, Some(seconds(2))),
            ("another process's", Some("30000000"), Some("8"), None),
            ("off", Some("0"), Some("7"), None),
            ("no number", Some("often"), Some("7"), None),
        ] {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            assert_eq!(watchdog(owned(microseconds), owned(process), 7), expected, "{description}");
        }
    }

    #[test]
    fn both_kinds_of_names_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let abstract_name = format!("yett-notify-{}", process::id());
        let by_name =
            UnixDatagram::bind_addr(&net::SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        for (name, end) in
            [(path.to_str().unwrap().to_owned(), by_path), (format!("@{abstract_name}"), by_name)]
        {
            let socket = connect(name.as_bytes()).unwrap();
            ServiceManager { socket: Some(socket), ..Default::default() }.serving(true, "Serving");
            let mut message = [0; 64];
            let length = end.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1\nSTATUS=Serving", "{name}");
        }
        assert!(connect(b"relative").is_err());
    }

    #[test]
    fn the_start_is_complete_once_and_then_every_reload() {
        let (manager, told) = overheard();
        manager.reloading();
        assert_eq!(told(), None, "the start is not complete");
        manager.serving(false, "a");
        assert_eq!(told().unwrap(), "STATUS=a");
        manager.serving(true, "b");
        assert_eq!(told().unwrap(), "READY=1\nSTATUS=b");
        manager.reloading();
        let reloading = told().unwrap();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        manager.serving(false, "c");
        assert_eq!(told().unwrap(), "READY=1\nSTATUS=c", "what was served before is");
        manager.stopping(Duration::from_millis(1500));
        assert_eq!(
            told().unwrap(),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=Draining, for at most 1 s"
        );
    }

    #[test]
    fn one_process_speaks() {
        let (manager, told) = overheard();
        manager.hush();
        manager.serving(true, "a");
        manager.stopping(Duration::ZERO);
        assert_eq!(told(), None, "a predecessor speaks");
        manager.speak();
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let address = listener.local_addr().unwrap();
        manager.keep(address, &[listener]);
        let name = format!("listener-[__1]_{}", address.port());
        assert_eq!(told().unwrap(), format!("FDSTORE=1\nFDNAME={name}"));
        manager.forget(address);
        assert_eq!(told().unwrap(), format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        manager.succeeded_by(7);
        assert_eq!(told().unwrap(), "MAINPID=7");
        manager.serving(true, "b");
        assert_eq!(told(), None, "the successor speaks");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_silent_without_progress() {
        let (socket, end) = UnixDatagram::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        let watchdog = Some(Duration::from_secs(30));
        let manager = Rc::new(ServiceManager { socket: Some(socket), watchdog, ..Default::default() });
        let beats = || std::iter::from_fn(|| end.recv(&mut [0; 16]).ok()).count();
        for (progress, expected) in [(true, 3), (false, 0)] {
            let task = Rc::clone(&manager).keep_alive(|| progress);
            let _ = tokio::time::timeout(Duration::from_secs(31), task).await;
            assert_eq!(beats(), expected, "progress: {progress}");
        }
    }
}
