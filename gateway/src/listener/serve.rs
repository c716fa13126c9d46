//! A connection's way from the accept queue to HTTP: its frontend, its TLS handshake if it has one, then `http::serve`.
//!
//! Every connection has its own record, and before it either those of its requests, which `http` logs, or that of a
//! refused handshake.

use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ProtocolVersion;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::accept::Arrival;
use super::handshakes::Handshakes;
use super::linger::ClientStream;
use super::proxy_protocol::{self, Malformed, ReadError};
use super::quota::Quotas;
use super::roster::Roster;
use super::socket::Socket;
use super::steer::Steer;
use crate::http::{self, Client, Server, Wire};
use crate::model::{Protocol, Reason};
use crate::policy::deny::{DenyList, Standing};
use crate::runtime::clock::with_cpu_time;
use crate::runtime::{Drained, Phase, Published, unix_now};
use crate::snapshot::{ServedFrontend, ServedListener};
use crate::telemetry::access::{self, Connection};
use crate::telemetry::event::{DenyListHit, LimitHit};
use crate::telemetry::{
    CheckPhase, CheckResult, ConnectionEnd, ConnectionResult, DenyResult, HandshakeOutcome, Limit,
    OpenConnection, Telemetry, TlsFacts, TlsVersion, WorkerMetrics,
};
use crate::tls::{self, Accepted, Alpn, Credential, Refused};

/// What a worker's connections need.
pub struct Worker {
    /// Its open connections.
    pub roster: Roster,
    /// Whose connections are not wanted.
    pub denied: Arc<Published<DenyList>>,
    /// Towards HTTP.
    pub server: Rc<Server>,
    /// Connections over all workers.
    pub quotas: Arc<Quotas>,
    /// Handshakes in flight.
    pub handshakes: Handshakes,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
    /// Counts the worker's connections, so that it is given no more than its share.
    pub steer: Rc<Steer>,
    /// The worker's counters.
    pub metrics: Arc<WorkerMetrics>,
    /// The process's phase.
    pub drained: Drained,
}

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, arrival: Arrival) {
    let (bound, deadline) = (arrival.bound, arrival.at + worker.handshake_timeout);
    let snapshot = worker.server.snapshots.load_full();
    let telemetry = &worker.server.telemetry;
    // Nobody listens there any more: the connection came in between the swap and the closing of the socket.
    let Some(frontend) = snapshot.frontend_at(bound).map(Arc::clone) else { return };
    drop(snapshot);
    let mut socket = Socket::take_up(arrival, telemetry, frontend.metrics(), &worker.roster);
    if is_denied(&worker, &socket, &frontend) {
        return;
    }
    let pledge = worker.server.pressure.pledge();
    let room = match &pledge {
        None => Err(Limit::MemoryPercentMax),
        Some(_) => worker.quotas.enter(frontend.open(), socket.client().ip()),
    };
    let counted = match room {
        Ok(counted) => counted,
        Err(limit) => return turn_away(telemetry, &socket, &frontend, limit),
    };
    worker.metrics.connection(socket.open().origin.is_local);
    let _share = worker.steer.share();
    let _active = frontend.metrics().accepted();
    let (id, metrics) = (frontend.id.clone(), Arc::clone(frontend.metrics()));
    let _counted = if frontend.proxy_protocol {
        // From here on the client is the one that the proxy tells of. On the heap for the same reason as below.
        let Some(client) = Box::pin(proxied(&worker, &mut socket, &frontend, deadline)).await else { return };
        if client != socket.client() {
            socket.open().proxied(client);
            if is_denied(&worker, &socket, &frontend) {
                return;
            }
        }
        drop(counted);
        match worker.quotas.enter(frontend.open(), client.ip()) {
            Ok(counted) => counted,
            Err(limit) => return turn_away(telemetry, &socket, &frontend, limit),
        }
    } else {
        counted
    };
    let open = Rc::clone(socket.open());
    match frontend.protocol {
        Protocol::Http => {
            let facts = Arc::new(Connection::cleartext(open.id, open.client(), open.origin.local));
            open.established(&facts, &metrics);
            let (stream, _) = ClientStream::new(socket, None);
            let (credential, wire) = (Credential::None, Wire::ByPreface);
            let client = Client { frontend: id, metrics, open, facts, credential, wire };
            drop(pledge);
            http::serve(Rc::clone(&worker.server), client, stream, worker.drained.clone()).await;
        }
        Protocol::Https => {
            // On the heap and gone with its end: a connection is idle far longer than it shakes hands.
            let Some((io, facts, credential, wire)) =
                Box::pin(handshake(&worker, socket, frontend, deadline)).await
            else {
                return;
            };
            drop(pledge);
            let client = Client { frontend: id, metrics, open, facts, credential, wire };
            http::serve(Rc::clone(&worker.server), client, io, worker.drained.clone()).await;
        }
    }
}

/// Whether the client is on the deny list and its connection is to be closed, with everything told.
fn is_denied(worker: &Worker, socket: &Socket, frontend: &ServedFrontend) -> bool {
    let client = socket.client().ip();
    let (metrics, telemetry) = (frontend.metrics(), &worker.server.telemetry);
    let standing = worker.denied.load().standing(client, unix_now());
    match standing {
        Standing::Clear => return false,
        Standing::Allowed => metrics.on_deny_list(DenyResult::Allowed),
        Standing::Observed(network) => {
            metrics.on_deny_list(DenyResult::Observed);
            DenyListHit { client, network, is_closed: false }.emit(telemetry);
        }
        Standing::Denied(network) => {
            metrics.on_deny_list(DenyResult::Denied);
            metrics.turned_away(ConnectionResult::Denied);
            socket.open().refuse(Reason::SourceDenied);
            socket.open().end(ConnectionEnd::Denied);
            DenyListHit { client, network, is_closed: true }.emit(telemetry);
        }
    }
    matches!(standing, Standing::Denied(_))
}

/// Closes a connection at once. Where that takes no handshake it is told why, if it reads that soon enough.
fn turn_away(telemetry: &Telemetry, socket: &Socket, frontend: &ServedFrontend, limit: Limit) {
    frontend.metrics().turned_away(ConnectionResult::Limited);
    socket.open().end(ConnectionEnd::Limited);
    LimitHit { limit, peer: Some(socket.client().ip()) }.emit(telemetry);
    if frontend.protocol == Protocol::Http {
        let socket = SockRef::from(&socket.tcp);
        // An empty queue takes all of it at once; what does not go out is not waited for.
        let _ = socket.send(http::answer::overloaded());
        let _ = socket.shutdown(Shutdown::Write);
    }
}

/// Reads the PROXY header and gives the client's address: the peer's own where the proxy speaks for itself. `None` if
/// there is none to be believed, with everything told.
async fn proxied(
    worker: &Worker,
    socket: &mut Socket,
    frontend: &ServedFrontend,
    deadline: Instant,
) -> Option<SocketAddr> {
    let telemetry = &worker.server.telemetry;
    let (open, peer) = (Rc::clone(socket.open()), socket.client());
    let outcome = HandshakeOutcome::begin(telemetry, frontend.metrics(), &open);
    if !worker.server.trusts(peer.ip()) {
        outcome.refuse(Reason::ProxyUntrusted, None);
        return None;
    }
    let (_place, shed) = worker.handshakes.enter();
    let mut drained = worker.drained.clone();
    let read = tokio::select! {
        biased;
        // Sent, not dropped: the place is still held here.
        Ok(()) = shed => {
            telemetry.metrics.limit_hit(Limit::HandshakesMax);
            outcome.refuse(Reason::HandshakeShed, None);
            return None;
        }
        () = drained.reached(Phase::Stopping) => {
            open.end(ConnectionEnd::CutOff);
            return None;
        }
        read = timeout_at(deadline, proxy_protocol::read(&mut socket.tcp)) => read,
    };
    match read {
        Ok(Ok(client)) => {
            outcome.proxied();
            Some(client.unwrap_or(peer))
        }
        // As with every connection that goes before it has said anything: it is counted as closed.
        Ok(Err(ReadError::Closed)) => {
            open.read_to_end();
            None
        }
        Ok(Err(ReadError::Malformed(fault))) => {
            if fault == Malformed::Long {
                telemetry.metrics.limit_hit(Limit::ProxyHeaderBytesMax);
            }
            tracing::debug!(%peer, %fault, "a PROXY header was refused");
            outcome.refuse(Reason::ProxyMalformed, None);
            None
        }
        Err(_) => {
            telemetry.metrics.limit_hit(Limit::HandshakeTimeout);
            outcome.refuse(Reason::HandshakeTimeout, None);
            None
        }
    }
}

type Secured = (TlsStream<ClientStream>, Arc<Connection>, Credential, Wire);

/// Shakes hands; `None` if that failed, with everything told and the alert delivered as far as it can be.
async fn handshake(
    worker: &Worker,
    socket: Socket,
    frontend: Arc<ServedFrontend>,
    deadline: Instant,
) -> Option<Secured> {
    let telemetry = &worker.server.telemetry;
    let open = Rc::clone(socket.open());
    let outcome = HandshakeOutcome::begin(telemetry, frontend.metrics(), &open);
    let (place, shed) = worker.handshakes.enter();
    let (stream, hearing) = ClientStream::new(socket, Some(place.heard()));
    let greeted = place.greeted();
    let select = |name: Option<&str>| {
        greeted();
        let listener = Arc::clone(frontend.for_server_name(name)?);
        let tls = listener.tls.clone()?;
        Some((listener, tls))
    };
    let mut drained = worker.drained.clone();
    // Outlives the choice below: with it goes the socket, whose record says how the connection ended.
    let mut accepting = pin!(with_cpu_time(tls::accept(stream, select, deadline, unix_now())));
    let accepted = tokio::select! {
        biased;
        // Sent, not dropped: the place is still held here.
        Ok(()) = shed => {
            telemetry.metrics.limit_hit(Limit::HandshakesMax);
            outcome.refuse(Reason::HandshakeShed, None);
            return None;
        }
        _ = worker.server.pressure.wave() => {
            telemetry.metrics.limit_hit(Limit::MemoryPercentMax);
            outcome.refuse(Reason::HandshakeShed, None);
            return None;
        }
        () = drained.reached(Phase::Stopping) => {
            open.end(ConnectionEnd::CutOff);
            return None;
        }
        accepted = accepting.as_mut() => accepted,
    };
    drop(place);
    hearing.end();
    let (accepted, cpu_time) = accepted;
    open.handshake_cpu(cpu_time);
    match accepted {
        Ok(accepted) => Some(complete(&open, outcome, accepted)),
        Err(refused) => {
            if refused.reason == Reason::HandshakeTimeout {
                telemetry.metrics.limit_hit(Limit::HandshakeTimeout);
            }
            if let Some(result) = CheckResult::of(refused.reason) {
                telemetry.metrics.revocation.checked(result, CheckPhase::Handshake);
            }
            refuse(outcome, *refused).await;
            None
        }
    }
}

fn complete(
    open: &OpenConnection,
    mut outcome: HandshakeOutcome,
    accepted: Accepted<ClientStream, Arc<ServedListener>>,
) -> Secured {
    let Accepted { io, tls, credential, x509_v1, listener } = accepted;
    outcome.hello(tls.server_name.as_deref());
    outcome.listener(&listener.metrics);
    if x509_v1 {
        listener.metrics.v1_certificate();
    }
    let client = credential.presented().map(|identity| access::Client {
        identity: Arc::clone(identity),
        verified: matches!(credential, Credential::Verified(_)),
    });
    let wire = match tls.alpn {
        Alpn::H2 => Wire::Http2,
        Alpn::Http1 => Wire::Http1,
    };
    let facts = TlsFacts {
        version: version(tls.version),
        cipher: tls.cipher,
        group: tls.group,
        resumed: tls.resumed,
        sni: tls.server_name,
        handshake: Duration::ZERO,
    };
    let facts = Arc::new(outcome.complete(facts, client));
    open.established(&facts, &listener.metrics);
    (io, facts, credential, wire)
}

async fn refuse(mut outcome: HandshakeOutcome, refused: Refused<ClientStream, Arc<ServedListener>>) {
    if refused.hello {
        outcome.hello(refused.server_name.as_deref());
    }
    if let Some(listener) = &refused.listener {
        outcome.listener(&listener.metrics);
    }
    if let Some(tls) = &refused.tls {
        outcome.version(version(tls.version));
    }
    if let Some(identity) = refused.identity {
        outcome.client(identity);
    }
    tracing::debug!(reason = %refused.reason, detail = refused.detail, "a handshake was refused");
    outcome.refuse(refused.reason, refused.alert);
    if let Some(mut stream) = refused.stream {
        // Lingers, so that a client that is still sending reads the alert; its own errors change nothing.
        let _ = stream.shutdown().await;
    }
}

fn version(version: ProtocolVersion) -> TlsVersion {
    match version {
        ProtocolVersion::TLSv1_3 => TlsVersion::Tls13,
        ProtocolVersion::TLSv1_2 => TlsVersion::Tls12,
        _ => TlsVersion::Unknown,
    }
}
