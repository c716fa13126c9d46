//! Connections, handshakes and refusals, by listener.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Reason;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::RouteMetrics;
use super::connection::ConnectionMetrics;
use super::http::ActiveRequest;
use super::shelf::{Buckets, Grid, Row, Shelf};
use crate::telemetry::connections::{KernelRecord, TcpInfo};
use crate::telemetry::labels::{ConnectionResult, DenyResult, TlsVersion, reason_index};

/// Handshake results: `ok`, then every reason.
const HANDSHAKE_RESULTS: usize = 1 + Reason::ALL.len();
const VERSIONS: usize = TlsVersion::ALL.len();

/// A listener, or a frontend where the listener is not known yet.
pub struct ListenerMetrics {
    name: Arc<str>,
    /// For requests that meet no rule.
    pub unrouted: Arc<RouteMetrics>,
    connections: Row,
    connections_active: IntGauge,
    handshakes: Grid<{ HANDSHAKE_RESULTS * VERSIONS * 2 }>,
    handshake_duration: [Histogram; 2],
    v1_certificates: IntCounter,
    refusals: Row,
    pub(super) requests_active: IntGauge,
    revoked_connections_closed: IntCounter,
    figures: ConnectionMetrics,
    deny: Row,
}

impl ListenerMetrics {
    pub(super) fn on(shelf: &mut Shelf, name: &str, unrouted: Arc<RouteMetrics>) -> Self {
        Self {
            name: name.into(),
            unrouted,
            connections: shelf.row(
                "yett_connections_total",
                "Connections that arrived, by what became of them",
                "result",
                ConnectionResult::ALL.iter().map(|result| result.as_str()),
            ),
            connections_active: shelf.gauge("yett_connections_active", "Connections that are open"),
            handshakes: shelf.grid(
                "yett_tls_handshakes_total",
                "TLS handshakes that ended, by result, version and whether a session was resumed",
                &["result", "version", "resumed"],
            ),
            handshake_duration: shelf.histograms(
                "yett_tls_handshake_duration_seconds",
                "Time of TLS handshakes that succeeded",
                Buckets::Handshakes,
                ("resumed", ["false", "true"]),
            ),
            v1_certificates: shelf.counter(
                "yett_tls_v1_client_certificates_total",
                "Handshakes with an X.509 version 1 client certificate that a trust anchor issued",
            ),
            refusals: shelf.row(
                "yett_http_refusals_total",
                "Requests that the gateway refused or that broke off, by reason",
                "reason",
                Reason::ALL.iter().map(|reason| reason.as_str()),
            ),
            requests_active: shelf.gauge("yett_http_requests_active", "Requests in progress"),
            revoked_connections_closed: shelf.counter(
                "yett_revocation_connections_closed_total",
                "Connections closed because their client certificate no longer holds",
            ),
            figures: ConnectionMetrics::on(shelf),
            deny: shelf.row(
                "yett_deny_connections_total",
                "Connections from networks on the deny list, by what became of them",
                "result",
                DenyResult::ALL.iter().map(|result| result.as_str()),
            ),
        }
    }

    /// `namespace/gateway/section`
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a connection that is served; it is active until the guard is dropped.
    pub fn accepted(self: &Arc<Self>) -> ActiveConnection {
        self.connections.at(ConnectionResult::Accepted as usize).inc();
        self.connections_active.inc();
        ActiveConnection(Arc::clone(self))
    }

    /// Counts a connection that is not served.
    pub fn turned_away(&self, result: ConnectionResult) {
        self.connections.at(result as usize).inc();
    }

    /// Counts what a connection that was served came to on the network; `rtt`: of its TCP handshake.
    pub fn connection_closed(&self, rtt: Option<Duration>, tcp: Option<&TcpInfo>, kernel: &KernelRecord) {
        self.figures.closed(rtt, tcp, kernel);
    }

    /// Counts a connection from a network on the deny list.
    pub fn on_deny_list(&self, result: DenyResult) {
        self.deny.at(result as usize).inc();
    }

    /// Counts a request as in progress until the guard is dropped.
    pub fn request(self: &Arc<Self>) -> ActiveRequest {
        ActiveRequest::of(Arc::clone(self))
    }

    /// Counts a handshake that succeeded.
    pub fn handshake_completed(&self, version: TlsVersion, resumed: bool, elapsed: Duration) {
        self.handshake(None, version, resumed).inc();
        self.handshake_duration[usize::from(resumed)].observe(elapsed.as_secs_f64());
    }

    /// Counts a handshake that failed.
    pub fn handshake_failed(&self, reason: Reason, version: TlsVersion) {
        self.handshake(Some(reason), version, false).inc();
    }

    /// Counts a client certificate of X.509 version 1.
    pub fn v1_certificate(&self) {
        self.v1_certificates.inc();
    }

    /// Counts a request that was refused or broke off. Errors answered inside the HTTP/2 library are counted by this
    /// alone: they have no log line.
    pub fn refused(&self, reason: Reason) {
        self.refusals.at(reason_index(reason)).inc();
    }

    /// Counts a connection that ends because its certificate no longer holds.
    pub fn closed_as_revoked(&self) {
        self.revoked_connections_closed.inc();
    }

    fn handshake(&self, reason: Option<Reason>, version: TlsVersion, resumed: bool) -> &IntCounter {
        let result = reason.map_or(0, |reason| 1 + reason_index(reason));
        let cell = (result * VERSIONS + version as usize) * 2 + usize::from(resumed);
        self.handshakes.at(cell, || {
            let resumed = if resumed { "true" } else { "false" };
            [reason.map_or("ok", Reason::as_str), version.as_str(), resumed]
        })
    }
}

impl std::fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListenerMetrics({})", self.name)
    }
}

/// An open connection: counted in `yett_connections_active` until dropped.
#[derive(Debug)]
pub struct ActiveConnection(Arc<ListenerMetrics>);

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.0.connections_active.dec();
    }
}
