//! Whether a connection's client may go on: the gate as connections meet it, on each request and, where the listener
//! breaks off what is under way, whenever something has changed.
//!
//! In: a connection and a snapshot. Out: what the gate says, counted; for a client that is refused on a listener of such
//! a policy, a cut connection.

use std::sync::Arc;

use super::connection::Connection;
use crate::model::{Protocol, Reason, Refusal, RevocationAnswer};
use crate::runtime::unix_now;
use crate::snapshot::{ServedFrontend, ServedListener, Snapshot};
use crate::telemetry::{CheckPhase, CheckResult};
use crate::tls::revocation::gate::{Admitted, admit};
use crate::tls::{Credential, TrustDomain};

/// A client that is refused before its request is looked at. The connection ends.
pub(super) struct Unwelcome {
    /// What it is told.
    pub(super) refusal: Refusal,
    /// It is not told in HTTP.
    pub(super) is_silent: bool,
}

impl From<Reason> for Unwelcome {
    fn from(reason: Reason) -> Self {
        Self { refusal: Refusal::new(reason), is_silent: false }
    }
}

/// The frontend, as long as it is served and still speaks what the connection does.
pub(super) fn frontend<'s>(
    snapshot: &'s Snapshot,
    connection: &Connection,
) -> Result<&'s ServedFrontend, Unwelcome> {
    let client = &connection.client;
    snapshot
        .frontend(&client.frontend)
        .map(|frontend| &**frontend)
        .filter(|frontend| (frontend.protocol == Protocol::Https) == client.facts.tls.is_some())
        .ok_or_else(|| Reason::RouteNotFound.into())
}

/// The listener that the connection's server name chooses now, whose trust the client has to satisfy; none in clear.
pub(super) fn own_listener<'s>(
    frontend: &'s ServedFrontend,
    connection: &Connection,
) -> Result<Option<&'s ServedListener>, Unwelcome> {
    let Some(tls) = &connection.client.facts.tls else { return Ok(None) };
    // With its listener gone there is nothing that could admit the client.
    match frontend.for_server_name(tls.sni.as_deref()) {
        Some(listener) => Ok(Some(listener)),
        None => Err(Reason::MisdirectedRequest.into()),
    }
}

/// Passes the gate of the connection's own listener; a client that is refused loses its connection.
pub(super) fn admitted<'c>(
    connection: &'c Connection,
    own: Option<&ServedListener>,
) -> Result<Admitted<'c>, Unwelcome> {
    let domain = own.and_then(domain);
    let admitted = judged(connection, domain);
    let (Err(refusal), Some(own), Some(domain)) = (&admitted, own, domain) else {
        return admitted.map_err(|refusal| Unwelcome { refusal, is_silent: false });
    };
    let refusal = refusal.clone();
    connection.refuse_client(&own.metrics, refusal.reason);
    connection.part(&refusal, domain.answer());
    Err(Unwelcome { refusal, is_silent: domain.answer() == RevocationAnswer::TlsAlert })
}

/// Judges the client of an open connection again, if its listener breaks off what a refused client has under way.
pub(super) fn look_again(connection: &Connection, snapshot: &Snapshot) {
    let own = frontend(snapshot, connection).and_then(|frontend| own_listener(frontend, connection));
    if let Ok(Some(own)) = own
        && domain(own).is_some_and(|domain| domain.answer() != RevocationAnswer::Http400)
    {
        // A refusal has had its effect on the connection.
        drop(admitted(connection, Some(own)));
    }
}

fn domain(listener: &ServedListener) -> Option<&Arc<TrustDomain>> {
    listener.tls.as_ref()?.trust.as_ref()
}

/// Passes the gate, and counts if it had to judge anew.
fn judged<'c>(
    connection: &'c Connection,
    domain: Option<&Arc<TrustDomain>>,
) -> Result<Admitted<'c>, Refusal> {
    let credential = &connection.client.credential;
    let evaluations = || match credential {
        Credential::Verified(peer) => peer.evaluations(),
        Credential::None | Credential::Unverified(_) => 0,
    };
    let before = evaluations();
    let admitted = admit(credential, domain, unix_now());
    if evaluations() != before {
        let phase = match &connection.client.facts.tls {
            _ if before > 0 => CheckPhase::Live,
            Some(tls) if tls.resumed => CheckPhase::Resumption,
            _ => CheckPhase::Handshake,
        };
        let fault = match &admitted {
            Ok(admitted) => admitted.unchecked(),
            Err(refusal) => Some(refusal.reason),
        };
        if let Some(result) = fault.map_or(Some(CheckResult::Good), CheckResult::of) {
            connection.server.telemetry.metrics.revocation.checked(result, phase);
        }
    }
    admitted
}
