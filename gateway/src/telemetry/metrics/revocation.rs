//! Revocation checks and the CRLs behind them.

use std::time::Duration;

use prometheus::{Gauge, Histogram, IntGauge};

use super::gauge;
use super::shelf::{Buckets, Row, Shelf};
use crate::telemetry::labels::{CheckPhase, CheckResult, CrlResult};

const PHASES: usize = CheckPhase::ALL.len();

/// Checks of client certificates.
#[derive(Debug)]
pub struct RevocationMetrics {
    checks: Box<[prometheus::IntCounter]>,
}

impl RevocationMetrics {
    pub(super) fn on(shelf: &mut Shelf) -> Self {
        let family = shelf.counters(
            "yett_revocation_checks_total",
            "Revocation checks of client certificates, by result and by when they were made",
            &["result", "phase"],
        );
        let checks = CheckResult::ALL
            .iter()
            .flat_map(|result| CheckPhase::ALL.iter().map(move |phase| (result, phase)))
            .map(|(result, phase)| family.with_label_values(&[result.as_str(), phase.as_str()]))
            .collect();
        Self { checks }
    }

    /// Counts a check.
    pub fn checked(&self, result: CheckResult, phase: CheckPhase) {
        self.checks[result as usize * PHASES + phase as usize].inc();
    }
}

/// A CRL by its configured name; a source with several lists shows their sums and their earliest dates.
pub struct CrlMetrics {
    entries: IntGauge,
    size: IntGauge,
    last_update: Gauge,
    next_update: Gauge,
    loads: Row,
    load_duration: Histogram,
}

impl CrlMetrics {
    pub(super) fn on(shelf: &mut Shelf) -> Self {
        Self {
            entries: shelf.gauge("yett_crl_entries", "Revoked certificates that a CRL in use lists"),
            size: shelf.gauge("yett_crl_size_bytes", "Size of a CRL in use, DER"),
            last_update: shelf
                .seconds("yett_crl_last_update_timestamp_seconds", "thisUpdate of a CRL in use, Unix time"),
            next_update: shelf
                .seconds("yett_crl_next_update_timestamp_seconds", "nextUpdate of a CRL in use, Unix time"),
            loads: shelf.row(
                "yett_crl_loads_total",
                "Attempts to load a CRL, by result",
                "result",
                CrlResult::ALL.iter().map(|result| result.as_str()),
            ),
            load_duration: shelf.histogram(
                "yett_crl_load_duration_seconds",
                "Time to read, verify and index a CRL",
                Buckets::Handshakes,
            ),
        }
    }

    /// Counts an attempt to load it.
    pub fn loaded(&self, result: CrlResult) {
        self.loads.at(result as usize).inc();
    }

    /// How long it took to read, verify and index it.
    pub fn load_took(&self, elapsed: Duration) {
        self.load_duration.observe(elapsed.as_secs_f64());
    }

    /// What is in use now. Times are Unix seconds; `next_update`: `None` shows 0.
    pub fn in_use(&self, entries: u64, size_bytes: u64, last_update: i64, next_update: Option<i64>) {
        self.entries.set(gauge(entries));
        self.size.set(gauge(size_bytes));
        self.last_update.set(last_update as f64);
        self.next_update.set(next_update.unwrap_or(0) as f64);
    }
}

impl std::fmt::Debug for CrlMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CrlMetrics(..)")
    }
}
