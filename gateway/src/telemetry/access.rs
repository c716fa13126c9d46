//! The access log: one JSON object a line for every request, every refused handshake and every connection, schema
//! `"v":1`.
//!
//! An [`Outcome`] is begun with a request's head, told along the way what becomes of it, and writes its line and counts
//! once when it is dropped, so that no path forgets, not even the one on which the client goes away. A
//! [`HandshakeOutcome`] does the same for a handshake. Field names are those of the documentation; a field that is not
//! known is left out. Nothing secret is written: no header values but `host` and the request id, no query values unless
//! asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Identity;

mod connection;
mod handshake;
mod json;
mod request;
mod sink;

pub use handshake::HandshakeOutcome;
pub use request::Outcome;
pub use sink::{ACCESS_LOG_GATHER_MS, AccessTarget, Lines};

use super::labels::TlsVersion;
use super::metrics::Metrics;
use json::Object;
use sink::Sink;

/// How much of a path and of a name from the wire is logged.
const TEXT_BYTES_MAX: usize = 2048;

/// What a log in memory holds.
const IN_MEMORY_BYTES_MAX: usize = 8 << 20;

/// Takes lines; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    sink: Sink,
    query_values: bool,
    records_connections: bool,
    connections: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the target and starts the writer thread. Lines beyond `buffer_bytes_max` are dropped and counted.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn start(target: &AccessTarget, buffer_bytes_max: usize, metrics: &Arc<Metrics>) -> io::Result<Self> {
        Ok(Self::on(Sink::start(target, buffer_bytes_max, metrics)?))
    }

    /// A log that keeps its lines in memory.
    pub fn in_memory(metrics: &Arc<Metrics>) -> (Self, Lines) {
        let (sink, lines) = Sink::in_memory(IN_MEMORY_BYTES_MAX, metrics);
        (Self::on(sink), lines)
    }

    fn on(sink: Sink) -> Self {
        // The time of the start keeps numbers apart across restarts; the process id, where one process follows another
        // within a second.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let first = (started << 32) | (u64::from(std::process::id() & 0xff) << 24);
        let connections = Arc::new(AtomicU64::new(first));
        Self { sink, query_values: false, records_connections: true, connections }
    }

    /// Writes query values as they are; the default redacts them.
    #[must_use]
    pub fn with_query_values(mut self, shown: bool) -> Self {
        self.query_values = shown;
        self
    }

    /// Writes a record for each connection, or none; the default is to write them.
    #[must_use]
    pub fn with_connections(mut self, recorded: bool) -> Self {
        self.records_connections = recorded;
        self
    }

    /// A number for a new connection.
    pub fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Has the file opened again, after a rotation.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Writes what waits and ends; gives up at the deadline. Blocks.
    pub fn close(&self, deadline: Instant) {
        self.sink.close(deadline);
    }
}

/// Tells the connections of a process apart, in the order they came; shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    fn write(self, out: &mut Vec<u8>) {
        self.0.to_be_bytes().iter().for_each(|byte| json::hex(out, *byte));
    }
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What stays the same for all requests of a connection.
#[derive(Debug)]
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// The client's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// Present exactly on TLS connections.
    pub tls: Option<TlsFacts>,
    /// The client's certificate, if it sent one.
    pub client: Option<Client>,
}

impl Connection {
    /// A connection without TLS.
    pub fn cleartext(id: ConnectionId, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { id, peer, local, tls: None, client: None }
    }
}

/// Who the client says it is.
#[derive(Clone, Debug)]
pub struct Client {
    /// What its leaf certificate says.
    pub identity: Arc<Identity>,
    /// Whether a path to a trust anchor was verified. Without one `client.identity` is not logged.
    pub verified: bool,
}

/// What a handshake agreed on.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The protocol version.
    pub version: TlsVersion,
    /// Cipher suite, IANA's name.
    pub cipher: Option<&'static str>,
    /// Key exchange group, IANA's name.
    pub group: Option<&'static str>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The server name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
}

/// The members that every line begins with.
fn head(object: &mut Object<'_>, kind: &str, at: SystemTime, listener: &str) {
    object.number("v", 1);
    object.plain("ts", |out| timestamp(out, at));
    object.text("kind", kind);
    object.text("listener", listener);
}

fn connection(object: &mut Object<'_>, id: ConnectionId, peer: SocketAddr, who: Option<&Client>) {
    object.object("connection", |object| object.plain("id", |out| id.write(out)));
    client(object, peer, who);
}

fn client(object: &mut Object<'_>, peer: SocketAddr, client: Option<&Client>) {
    object.object("client", |object| {
        object.plain("addr", |out| address(out, peer));
        if let Some(Client { identity, verified }) = client {
            if *verified {
                object.text("identity", cut(&identity.name));
            }
            object.text("subject", cut(&identity.subject));
            object.text("issuer", cut(&identity.issuer));
            object.text("serial", cut(&identity.serial));
            object.text("fingerprint", &identity.fingerprint);
            object.boolean("verified", *verified);
        }
    });
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    // Writing into memory cannot fail.
    let _ = io::Write::write_fmt(out, format_args!("{address}"));
}

/// RFC 3339, UTC, milliseconds.
fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    static PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // Writing into memory cannot fail.
    let _ = PRINTER.print_timestamp(&at, out);
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests;
