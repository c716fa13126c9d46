//! Clients of every kind that ask without pause: nothing that a soak does may cost one of them an answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Times;
use crate::client::Link;
use crate::websocket::WebSocket;
use crate::{Http, Tls, wait};

/// Where WebSockets are opened.
pub const SOCKET_PATH: &str = "/socket";
/// WebSockets that are kept from the first request to the last.
const SOCKETS_KEPT: usize = 4;
const UPLOAD_PIECES: usize = 4;
const UPLOAD_PIECE_BYTES: usize = 16 << 10;

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks again and again on one connection of HTTP/1.1.
    Http1,
    /// The same on one of HTTP/2.
    Http2,
    /// Sends bodies on one of HTTP/1.1 and reads them back.
    Upload1,
    /// The same on one of HTTP/2.
    Upload2,
    /// Makes a new connection for each request; every other one resumes a session.
    Connect,
    /// Sends messages on WebSockets that it has opened at the beginning, and reads them back.
    Sockets,
    /// Opens a WebSocket, does the same once, and closes it.
    OpenSocket,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Http1,
        Self::Http2,
        Self::Upload1,
        Self::Upload2,
        Self::Connect,
        Self::Sockets,
        Self::OpenSocket,
    ];

    /// As a table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, one connection",
            Self::Http2 => "HTTP/2, one connection",
            Self::Upload1 => "uploads, HTTP/1.1",
            Self::Upload2 => "uploads, HTTP/2",
            Self::Connect => "new connections",
            Self::Sockets => "WebSockets kept open",
            Self::OpenSocket => "new WebSockets",
        }
    }
}

/// What the clients met with.
#[derive(Default)]
pub struct Load {
    stop: AtomicBool,
    answered: [AtomicU64; Kind::ALL.len()],
    times: Mutex<Times>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Runs `work` while a client of each of these kinds asks; `tls`: how they connect.
    ///
    /// # Panics
    /// When `work` does.
    pub fn during<T>(&self, kinds: &[Kind], address: SocketAddr, tls: &Tls, work: impl FnOnce() -> T) -> T {
        /// Ends the clients when the work fails, too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        thread::scope(|scope| {
            let clients: Vec<_> =
                kinds.iter().map(|kind| scope.spawn(move || self.client(*kind, address, tls))).collect();
            let stop = Stop(&self.stop);
            wait::soon("the clients to have begun", || {
                let has_begun = |kind: &Kind| self.answered(*kind) > 0;
                kinds.iter().all(has_begun) || clients.iter().any(thread::ScopedJoinHandle::is_finished)
            });
            let done = work();
            drop(stop);
            for client in clients {
                if client.join().is_err() {
                    self.fail("a client broke down; see above".into());
                }
            }
            done
        })
    }

    /// How many requests of a kind were answered as they should be.
    pub fn answered(&self, kind: Kind) -> u64 {
        self.answered[kind as usize].load(Ordering::Relaxed)
    }

    /// How long requests on kept connections took.
    pub fn times(&self) -> String {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).summary()
    }

    /// How long all but one in a hundred of them took at most.
    pub fn p99(&self) -> Duration {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).percentile(99)
    }

    /// What went wrong so far.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, failure: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }

    /// Asks until told to stop. What breaks a connection that is kept ends it: it was not to break.
    fn client(&self, kind: Kind, address: SocketAddr, tls: &Tls) {
        let protocol = if matches!(kind, Kind::Http2 | Kind::Upload2) { "h2" } else { "http/1.1" };
        let tls = tls.clone().alpn(&[protocol]);
        match kind {
            Kind::Http1 | Kind::Http2 => {
                let kept = tls.open(address);
                self.ask(kind, true, |_| {
                    let begun = Instant::now();
                    get(&kept)?;
                    self.times.lock().unwrap_or_else(PoisonError::into_inner).add(begun.elapsed());
                    Ok(())
                });
            }
            Kind::Upload1 | Kind::Upload2 => {
                let kept = tls.open(address);
                self.ask(kind, true, |_| upload(&kept));
            }
            Kind::Connect => {
                let resuming = tls.clone().resuming();
                self.ask(kind, false, |turn| {
                    let tls = if turn.is_multiple_of(2) { &resuming } else { &tls };
                    get(&connect(tls, address)?.http())
                });
            }
            Kind::Sockets => {
                let opened: Result<Vec<_>, _> = (0..SOCKETS_KEPT).map(|_| socket(&tls, address)).collect();
                match opened {
                    Err(failure) => self.fail(format!("{}: {failure}", kind.name())),
                    Ok(mut kept) => self.ask(kind, true, |turn| {
                        let socket = &mut kept[turn % SOCKETS_KEPT];
                        echo(socket, &turn.to_be_bytes())
                    }),
                }
            }
            Kind::OpenSocket => self.ask(kind, false, |turn| {
                let mut socket = socket(&tls, address)?;
                echo(&mut socket, &turn.to_be_bytes())?;
                if socket.close() { Ok(()) } else { Err("not closed in good order".into()) }
            }),
        }
    }

    /// One request after another, which get their numbers.
    fn ask(&self, kind: Kind, is_kept: bool, mut request: impl FnMut(usize) -> Result<(), String>) {
        for turn in 1.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match request(turn) {
                Ok(()) => drop(self.answered[kind as usize].fetch_add(1, Ordering::Relaxed)),
                Err(failure) => {
                    self.fail(format!("{}, request {turn}: {failure}", kind.name()));
                    if is_kept {
                        return;
                    }
                }
            }
        }
    }
}

fn connect(tls: &Tls, address: SocketAddr) -> Result<Link, String> {
    tls.connect(address).map_err(|ended| format!("no handshake: {ended:?}"))
}

fn socket(tls: &Tls, address: SocketAddr) -> Result<WebSocket, String> {
    WebSocket::open(connect(tls, address)?, SOCKET_PATH)
}

fn echo(socket: &mut WebSocket, message: &[u8]) -> Result<(), String> {
    let back = socket.try_echo(message)?;
    if back == message { Ok(()) } else { Err(format!("{message:?} came back as {back:?}")) }
}

fn get(connection: &Http) -> Result<(), String> {
    let answer = connection.try_get("/").map_err(|error| format!("no answer: {error:?}"))?;
    match (answer.status.as_u16(), &answer.broken) {
        (200, None) => Ok(()),
        _ => Err(format!("{answer:?}")),
    }
}

fn upload(connection: &Http) -> Result<(), String> {
    let upload = connection.upload("/mirror", &[]);
    for _ in 0..UPLOAD_PIECES {
        upload.piece(vec![b'u'; UPLOAD_PIECE_BYTES])?;
    }
    let answer = upload.finish().map_err(|error| format!("no answer: {error:?}"))?;
    let length = answer.body.len();
    if answer.status != 200 || answer.broken.is_some() || length != UPLOAD_PIECES * UPLOAD_PIECE_BYTES {
        return Err(format!("{} with {length} bytes, broken: {:?}", answer.status, answer.broken));
    }
    Ok(())
}
