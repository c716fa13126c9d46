//! A client's connection as its requests see it: what they hold it by, and how it is told to end.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cut::Cut;
use super::guard::Intake;
use super::serve::{Client, Server};
use super::streams::Stream;
use super::tunnel::Tunnel;
use super::watch::Activity;
use crate::model::{Identity, Reason, Refusal, RevocationAnswer};
use crate::runtime::Pressure;
use crate::telemetry::{ConnectionEnd, ListenerMetrics};

/// A connection as its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) server: Rc<Server>,
    pub(super) client: Client,
    /// The peer's address as `x-forwarded-for` has it.
    pub(super) peer: HeaderValue,
    pub(super) peer_is_trusted: bool,
    client_cert: OnceCell<HeaderValue>,
    pub(super) activity: Rc<Activity>,
    /// What the guard of an HTTP/1.1 connection has to say.
    pub(super) intake: Rc<Intake>,
    /// What the connection goes on with when HTTP is done with it.
    pub(super) tunnel: RefCell<Option<Box<Tunnel>>>,
    ending: Cell<Ending>,
    /// Whether the gate has refused its client.
    is_refused: Cell<bool>,
    end: Notify,
}

/// Whether a connection is to end, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    /// With the last answer that is under way.
    InOrder,
    /// Without another word.
    AtOnce,
}

/// Keeps a connection busy until dropped; may end it then.
#[derive(Debug)]
pub struct Held {
    connection: Rc<Connection>,
    /// The stream of the request on HTTP/2.
    stream: Option<Rc<Stream>>,
    /// Whether the connection's clock sees the stream.
    answering: bool,
    /// Whether the answer is a backend's.
    relaying: bool,
    last: bool,
}

impl Connection {
    pub(super) fn new(server: Rc<Server>, client: Client) -> Rc<Self> {
        let address = client.facts.peer.ip().to_canonical();
        let activity = Activity::new(server.limits, Arc::clone(&server.telemetry.metrics));
        let connection = Rc::new(Self {
            peer: HeaderValue::from_str(&address.to_string())
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            peer_is_trusted: server.trusts(address),
            intake: Rc::new(Intake::new(Rc::clone(&activity))),
            activity,
            tunnel: RefCell::new(None),
            client_cert: OnceCell::new(),
            ending: Cell::new(Ending::No),
            is_refused: Cell::new(false),
            end: Notify::new(),
            server,
            client,
        });
        if connection.client.facts.tls.is_some() {
            connection.server.roll.enter(&connection);
        }
        connection
    }

    /// The certificate of a verified client as a structured field (RFC 9440 §2.1).
    pub(super) fn client_cert(&self, identity: &Identity) -> &HeaderValue {
        self.client_cert.get_or_init(|| {
            let text = format!(":{}:", BASE64_STANDARD.encode(&identity.certificate));
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
        })
    }

    /// Begins a request.
    pub(super) fn hold(self: &Rc<Self>) -> Held {
        self.activity.begin();
        self.client.open.request();
        Held {
            connection: Rc::clone(self),
            stream: self.activity.entered(),
            answering: false,
            relaying: false,
            last: false,
        }
    }

    /// The gate refuses the client: the connection ends, and is counted once however many requests are under way.
    pub(super) fn refuse_client(&self, listener: &ListenerMetrics, reason: Reason) {
        self.client.open.refuse(reason);
        if !self.is_refused.replace(true) {
            listener.closed_as_revoked();
        }
    }

    /// Whether the last answer is a 101.
    pub(super) fn switches(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    /// Waits until memory is so short that this connection must go. In each wave a quarter of those go that have read and
    /// written nothing since the one before, and when that does not help, of all.
    pub(super) async fn shed(&self) {
        const SHARES: u64 = 4;
        const PATIENT_WAVES: u64 = 16;
        let share = u64::from(self.client.facts.peer.port()) % SHARES;
        let mut moved = self.activity.moved();
        loop {
            let wave = self.server.pressure.wave().await;
            let before = std::mem::replace(&mut moved, self.activity.moved());
            if wave % SHARES == share && (moved == before || wave > PATIENT_WAVES) {
                return;
            }
        }
    }

    /// Breaks off what the refused client has under way, if that is how its listener answers.
    pub(super) fn part(&self, refusal: &Refusal, answer: RevocationAnswer) {
        let ending = match answer {
            RevocationAnswer::Http400 => return,
            RevocationAnswer::TlsAlert => Ending::AtOnce,
            // The answer to a request that is on its way ends the connection, and nobody misses it.
            RevocationAnswer::CloseConnections if self.awaits_request() => Ending::No,
            RevocationAnswer::CloseConnections => Ending::InOrder,
        };
        self.end(ending);
        if self.activity.cut(refusal) {
            self.end(Ending::AtOnce);
        }
        if self.ending.get() != Ending::No {
            self.client.open.end(ConnectionEnd::Revoked);
        }
    }

    /// Told of the client's refusal where its listener breaks off what is under way.
    pub(super) fn cut(&self) -> &Cut {
        self.activity.told()
    }

    /// Whether the connection ends without another word.
    pub(super) fn is_cut_off(&self) -> bool {
        self.ending.get() == Ending::AtOnce
    }

    /// Whether the first request is still to come, or another one's head has begun.
    fn awaits_request(&self) -> bool {
        !self.activity.has_begun() || self.intake.is_in_head()
    }

    /// Waits until it is told to end.
    pub(super) async fn ending(&self) {
        self.end.notified().await;
    }

    fn end(&self, how: Ending) {
        if self.ending.get() < how {
            self.ending.set(how);
            self.end.notify_one();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.roll.leave(self);
    }
}

impl Held {
    /// The stream on HTTP/2. On HTTP/1.1 the connection itself shows a client that does not read.
    pub(super) fn stream(&self) -> Option<&Stream> {
        self.stream.as_deref()
    }

    /// An answer with a body begins, perhaps a backend's, which is to be done by then.
    pub(super) fn answering(&mut self, deadline: Option<Instant>, is_relayed: bool) {
        if is_relayed {
            self.connection.activity.relay();
            self.relaying = true;
        }
        if let Some(stream) = &self.stream {
            stream.answering(deadline, is_relayed);
            self.connection.activity.watch(stream);
            self.answering = true;
        }
    }

    /// Told when the client is refused.
    pub(super) fn told(&self) -> &Cut {
        self.connection.activity.told()
    }

    pub(super) fn pressure(&self) -> &Arc<Pressure> {
        &self.connection.server.pressure
    }

    /// No more requests once this one's answer is written.
    pub(super) fn is_last(&mut self) {
        self.last = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.as_ref().filter(|_| self.answering) {
            self.connection.activity.unwatch(stream);
        }
        if self.relaying {
            self.connection.activity.relayed();
        }
        self.connection.activity.end();
        if self.last {
            self.connection.end(Ending::InOrder);
        }
    }
}
