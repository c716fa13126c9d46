//! A client's connection from accept to close: what is known of it while it is open, and the one record at its end.
//!
//! An [`OpenConnection`] is begun when a socket is accepted and told along the way what becomes of it. Whoever holds the
//! socket closes the connection with the kernel's last figures: that writes one line of the access log and counts once.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Telemetry;
use super::access::{Client, Connection, ConnectionId};
use super::labels::{ConnectionEnd, HttpVersion, TlsVersion, Verdict};
use super::metrics::ListenerMetrics;
use crate::model::Reason;

/// What the kernel says of a TCP connection (tcp(7), TCP_INFO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// As in /proc/net/tcp: 1 is ESTABLISHED.
    pub state: u8,
    /// Smoothed round trip time; at accept that of the handshake.
    pub rtt: Duration,
    /// The shortest one, where one was measured.
    pub min_rtt: Option<Duration>,
    /// Bytes of the stream that came in, in order; and one for its end.
    pub bytes_received: u64,
    /// Bytes of payload that were sent, repeated ones too.
    pub bytes_sent: u64,
    /// Of them, repeated.
    pub bytes_retransmitted: u64,
    /// Packets that came in.
    pub segments_in: u32,
    /// Packets that went out.
    pub segments_out: u32,
    /// Packets that were sent again.
    pub retransmits: u32,
    /// Packets that came in out of order.
    pub out_of_order: u32,
    /// Packets that were delivered with a mark of congestion (RFC 3168).
    pub delivered_ce: u32,
}

impl TcpInfo {
    /// Bytes that the client sent; `ended`: the end of its stream was read.
    pub fn bytes_in(&self, ended: bool) -> u64 {
        const CLOSE: u8 = 7;
        const CLOSE_WAIT: u8 = 8;
        const LAST_ACK: u8 = 9;
        const CLOSING: u8 = 11;
        // In these states the end has come, read or not. A closed socket does not tell whether it was a reset.
        let counted = match self.state {
            CLOSE_WAIT | LAST_ACK | CLOSING => true,
            CLOSE => ended,
            _ => false,
        };
        self.bytes_received.saturating_sub(counted.into())
    }

    /// Bytes that were sent to the client, each once.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_sent.saturating_sub(self.bytes_retransmitted)
    }
}

/// What the kernel's programs noted of a connection. Nothing while the datapath is off; a member that is absent is not
/// known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelRecord {
    /// SYNs until the handshake was complete.
    pub syn_tries: Option<u32>,
    /// From the first SYN to the end of the TCP handshake.
    pub syn_to_established: Option<Duration>,
    /// From there until it was accepted: the wait in the queue.
    pub established_to_accept: Option<Duration>,
    /// From the first SYN to the first bytes of the client.
    pub syn_to_hello: Option<Duration>,
    /// From there until they were read.
    pub hello_to_read: Option<Duration>,
    /// What came from the client as on the wire.
    pub wire_in: Option<Wire>,
    /// Packets in which the client closed its window.
    pub zero_windows: Option<u32>,
}

/// A count as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Packets.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
}

/// How a connection came.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The peer of the socket.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// The worker that serves it.
    pub worker: usize,
    /// Whether the worker runs on the CPU that handled its packets.
    pub is_local: bool,
    /// Round trip time of the TCP handshake.
    pub rtt: Option<Duration>,
}

/// A connection that is open.
#[derive(Debug)]
pub struct OpenConnection {
    telemetry: Arc<Telemetry>,
    /// Its number.
    pub id: ConnectionId,
    /// How it came.
    pub origin: Origin,
    /// The frontend's, for the histograms.
    frontend: Arc<ListenerMetrics>,
    at: SystemTime,
    accepted: Instant,
    client: Cell<SocketAddr>,
    listener: RefCell<Arc<ListenerMetrics>>,
    facts: RefCell<Option<Arc<Connection>>>,
    failed: RefCell<Option<FailedHandshake>>,
    handshake_cpu: Cell<Option<Duration>>,
    http: Cell<Option<HttpVersion>>,
    requests: Cell<u64>,
    reason: Cell<Option<Reason>>,
    end: Cell<Option<ConnectionEnd>>,
    first_read: Cell<Option<Instant>>,
    read_to_end: Cell<bool>,
}

/// What is known of a client whose handshake failed.
#[derive(Clone, Debug)]
pub struct FailedHandshake {
    /// The server name that it asked for.
    pub sni: Option<Arc<str>>,
    /// The protocol version, where one was agreed on.
    pub version: TlsVersion,
    /// The certificate that it sent.
    pub client: Option<Client>,
}

impl OpenConnection {
    /// Begins when a socket was accepted, on the frontend with these metrics.
    pub fn begin(telemetry: &Arc<Telemetry>, frontend: &Arc<ListenerMetrics>, origin: Origin) -> Rc<Self> {
        Rc::new(Self {
            telemetry: Arc::clone(telemetry),
            id: telemetry.access.connection_id(),
            origin,
            frontend: Arc::clone(frontend),
            at: SystemTime::now(),
            accepted: Instant::now(),
            client: Cell::new(origin.peer),
            listener: RefCell::new(Arc::clone(frontend)),
            facts: RefCell::default(),
            failed: RefCell::default(),
            handshake_cpu: Cell::default(),
            http: Cell::default(),
            requests: Cell::default(),
            reason: Cell::default(),
            end: Cell::default(),
            first_read: Cell::default(),
            read_to_end: Cell::default(),
        })
    }

    /// The client is not the peer but the one that a trusted proxy tells of.
    pub fn proxied(&self, client: SocketAddr) {
        self.client.set(client);
    }

    /// The client's address.
    pub fn client(&self) -> SocketAddr {
        self.client.get()
    }

    /// The connection stands, on this listener: its handshake is done, or it needs none.
    pub fn established(&self, facts: &Arc<Connection>, listener: &Arc<ListenerMetrics>) {
        *self.facts.borrow_mut() = Some(Arc::clone(facts));
        *self.listener.borrow_mut() = Arc::clone(listener);
    }

    /// The handshake ended without a connection.
    pub(super) fn handshake_failed(
        &self,
        reason: Reason,
        failed: FailedHandshake,
        listener: &Arc<ListenerMetrics>,
    ) {
        self.refuse(reason);
        // That a client went away shows on the stream as well, and there first.
        self.end(match reason {
            Reason::HandshakeClosed => ConnectionEnd::ClientClosed,
            _ => ConnectionEnd::HandshakeRefused,
        });
        *self.failed.borrow_mut() = Some(failed);
        *self.listener.borrow_mut() = Arc::clone(listener);
    }

    /// The handshake took so much CPU time.
    pub fn handshake_cpu(&self, spent: Duration) {
        self.handshake_cpu.set(Some(spent));
    }

    /// It speaks this version of HTTP.
    pub fn speaks(&self, http: HttpVersion) {
        self.http.set(Some(http));
    }

    /// A request began.
    pub fn request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// The client is refused. The first reason stays.
    pub fn refuse(&self, reason: Reason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
    }

    /// It ends so. What is told first stays: what follows is its consequence. Only a drain may still end otherwise: when
    /// its time is over the connection is cut off.
    pub fn end(&self, end: ConnectionEnd) {
        let is_overtaken = |told| told == ConnectionEnd::Drained && end == ConnectionEnd::CutOff;
        if self.end.get().is_none_or(is_overtaken) {
            self.end.set(Some(end));
        }
    }

    /// Bytes of the client were read.
    pub fn heard(&self) {
        if self.first_read.get().is_none() {
            self.first_read.set(Some(Instant::now()));
        }
    }

    /// The end of the client's stream was read. After a reset every read ends, and that is no end of the stream.
    pub fn read_to_end(&self) {
        if self.end.get() != Some(ConnectionEnd::ClientReset) {
            self.read_to_end.set(true);
        }
    }

    /// When it was accepted, and when bytes of the client were first read.
    pub fn seen(&self) -> (Instant, Option<Instant>) {
        (self.accepted, self.first_read.get())
    }

    /// The socket is about to be closed: writes the record and counts. To be called once.
    pub fn close(&self, tcp: Option<TcpInfo>, kernel: KernelRecord) {
        let end = self.end.get().unwrap_or(ConnectionEnd::Aborted);
        if end.was_served() {
            self.frontend.connection_closed(self.origin.rtt, tcp.as_ref(), &kernel);
        }
        self.telemetry.access.connection_closed(&Account { open: self, end: Some(end), tcp, kernel });
    }

    /// What is known of it now: a JSON object with the names of its record.
    pub fn describe(&self, tcp: Option<TcpInfo>, kernel: KernelRecord) -> Vec<u8> {
        Account { open: self, end: None, tcp, kernel }.json()
    }

    /// What the client is granted.
    fn verdict(&self) -> Verdict {
        match (self.end.get(), self.reason.get()) {
            (Some(ConnectionEnd::Limited), _) => Verdict::Limited,
            (Some(ConnectionEnd::Denied), _) => Verdict::Denied,
            (_, Some(Reason::HandshakeClosed)) | (_, None) => Verdict::Allowed,
            (_, Some(_)) => Verdict::Refused,
        }
    }
}

/// A connection with its figures, for its record.
pub(super) struct Account<'a> {
    pub(super) open: &'a OpenConnection,
    /// How it ended, if it has.
    pub(super) end: Option<ConnectionEnd>,
    pub(super) tcp: Option<TcpInfo>,
    pub(super) kernel: KernelRecord,
}

/// What the record says that is known before the end too.
pub(super) struct Known {
    pub(super) at: SystemTime,
    pub(super) age: Duration,
    pub(super) listener: Arc<ListenerMetrics>,
    pub(super) client: SocketAddr,
    pub(super) facts: Option<Arc<Connection>>,
    pub(super) failed: Option<FailedHandshake>,
    pub(super) handshake_cpu: Option<Duration>,
    pub(super) http: Option<HttpVersion>,
    pub(super) requests: u64,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<Reason>,
    pub(super) read_to_end: bool,
}

impl OpenConnection {
    pub(super) fn known(&self) -> Known {
        Known {
            at: self.at,
            age: self.accepted.elapsed(),
            listener: Arc::clone(&self.listener.borrow()),
            client: self.client.get(),
            facts: self.facts.borrow().clone(),
            failed: self.failed.borrow().clone(),
            handshake_cpu: self.handshake_cpu.get(),
            http: self.http.get(),
            requests: self.requests.get(),
            verdict: self.verdict(),
            reason: self.reason.get(),
            read_to_end: self.read_to_end.get(),
        }
    }
}
