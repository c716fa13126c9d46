//! What the gateway tells of itself: metrics, the access log, the operational log and named happenings.
//!
//! Everything here is handed around as one [`Telemetry`]; there is no global registry. The data plane holds handles
//! that were resolved when its snapshot was built, so that a request increments counters and never looks one up.

use std::sync::Arc;

pub mod access;
pub mod certificates;
pub mod connections;
pub mod denied;
pub mod event;
pub mod labels;
pub mod listing;
pub mod log;
pub mod metrics;

pub use access::{AccessLog, AccessTarget, Connection, HandshakeOutcome, Outcome, TlsFacts};
pub use connections::OpenConnection;
pub use labels::{
    CertificateRole, CheckPhase, CheckResult, ConnectionEnd, ConnectionResult, CrlResult, DenyResult,
    EndpointState, HttpVersion, Limit, PanicPlace, ReloadResult, TlsVersion, UpgradeResult, Verdict,
};
pub use metrics::{
    BackendMetrics, CrlMetrics, FrontendMetrics, ListenerMetrics, Metrics, RouteMetrics, WorkerMetrics,
};

/// The sinks of the process, shared by all its parts.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters, gauges and histograms.
    pub metrics: Arc<Metrics>,
    /// One line a request, a refused handshake and a connection.
    pub access: AccessLog,
    /// Keeps repeated happenings from flooding the operational log.
    pub throttle: event::Throttle,
}

impl Telemetry {
    /// The sinks of a process.
    pub fn new(metrics: Arc<Metrics>, access: AccessLog) -> Arc<Self> {
        Arc::new(Self { metrics, access, throttle: event::Throttle::default() })
    }

    /// Sinks that keep everything in memory, and what the access log collects there: for tests.
    pub fn in_memory() -> (Arc<Self>, access::Lines) {
        let metrics = Metrics::new();
        let (access, lines) = AccessLog::in_memory(&metrics);
        (Self::new(metrics, access), lines)
    }
}
