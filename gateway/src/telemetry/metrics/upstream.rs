//! Exchanges with backends.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Reason;
use prometheus::{Histogram, IntCounter, IntGauge};

use super::http::common_code;
use super::shelf::{Buckets, Grid, Row, Shelf, whole};
use crate::telemetry::labels::{COMMON_CODES, EndpointState, code_index};

/// Why no connection to an endpoint was made.
const CONNECT_FAILURES: [Reason; 5] = [
    Reason::UpstreamConnectFailed,
    Reason::UpstreamConnectTimeout,
    Reason::UpstreamProtocol,
    Reason::Overloaded,
    Reason::NoEndpoints,
];
/// What came of looking a name up.
const LOOKUPS: [&str; 2] = ["ok", "failed"];

/// A backend.
pub struct BackendMetrics {
    name: Arc<str>,
    requests: Grid<{ COMMON_CODES.len() }>,
    duration: Histogram,
    connections_active: IntGauge,
    connect_failures: Row,
    lookups: Row,
    endpoints: Box<[IntGauge]>,
    retries: IntCounter,
}

impl BackendMetrics {
    pub(super) fn on(shelf: &mut Shelf, name: &str) -> Self {
        let endpoints =
            shelf.gauges("yett_upstream_endpoints", "Endpoints of a backend, by state", &["state"]);
        Self {
            name: name.into(),
            requests: shelf.grid(
                "yett_upstream_requests_total",
                "Exchanges with a backend, by the status of its answer; code 0: without one",
                &["code"],
            ),
            duration: shelf.histogram(
                "yett_upstream_request_duration_seconds",
                "Time from sending a request to the head of the backend's answer",
                Buckets::Requests,
            ),
            connections_active: shelf
                .gauge("yett_upstream_connections_active", "Open connections to a backend"),
            connect_failures: shelf.row(
                "yett_upstream_connect_failures_total",
                "Connections to a backend that could not be made, by reason",
                "reason",
                CONNECT_FAILURES.iter().map(|reason| reason.as_str()),
            ),
            lookups: shelf.row(
                "yett_upstream_lookups_total",
                "Lookups of the names of a backend's endpoints, by result",
                "result",
                LOOKUPS,
            ),
            endpoints: EndpointState::ALL
                .iter()
                .map(|state| endpoints.with_label_values(&[state.as_str()]))
                .collect(),
            retries: shelf
                .counter("yett_upstream_retries_total", "Requests that were sent again to a backend"),
        }
    }

    /// The text of the backend's key.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts an exchange; `code`: 0 where no answer came. `elapsed` ends with the head of the answer.
    pub fn exchange(&self, code: u16, elapsed: Duration) {
        match code_index(code) {
            Some(column) => self.requests.at(column, || [common_code(column)]).inc(),
            None if code < 600 => self.requests.rare(&[&code.to_string()]).inc(),
            None => self.requests.rare(&["_other"]).inc(),
        }
        self.duration.observe(elapsed.as_secs_f64());
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connected(self: &Arc<Self>) -> ActiveUpstream {
        self.connections_active.inc();
        ActiveUpstream(Arc::clone(self))
    }

    /// Counts a connection that could not be made; a reason that is none of connecting counts as
    /// `upstream_connect_failed`.
    pub fn connect_failed(&self, reason: Reason) {
        let index = CONNECT_FAILURES.iter().position(|other| *other == reason).unwrap_or(0);
        self.connect_failures.at(index).inc();
    }

    /// Counts a lookup of an endpoint's name.
    pub fn looked_up(&self, found: bool) {
        self.lookups.at(usize::from(!found)).inc();
    }

    /// Counts a request that is sent again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// How many endpoints are in a state.
    pub fn endpoints(&self, state: EndpointState, count: usize) {
        self.endpoints[state as usize].set(whole(count as u64));
    }
}

impl std::fmt::Debug for BackendMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendMetrics({})", self.name)
    }
}

/// An open connection to a backend: counted until dropped.
#[derive(Debug)]
pub struct ActiveUpstream(Arc<BackendMetrics>);

impl Drop for ActiveUpstream {
    fn drop(&mut self) {
        self.0.connections_active.dec();
    }
}
