//! The configuration: reloads, findings, certificates in use.

use std::sync::{Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec};

use super::gauge;
use super::shelf::{Row, Shelf};
use crate::model::{Finding, Report, Severity};
use crate::telemetry::certificates::Certificate;
use crate::telemetry::labels::ReloadResult;

/// Findings beyond this many have no series of their own.
pub(super) const FINDING_METRICS_MAX: usize = 100;

/// Longer label values are cut; fields and objects may be as long as a document.
const LABEL_BYTES_MAX: usize = 200;

/// Reloads, findings, certificates.
#[derive(Debug)]
pub struct ConfigMetrics {
    reloads: Row,
    last_successful: IntGauge,
    last_success: Gauge,
    generation: IntGauge,
    findings: Mutex<IntGaugeVec>,
    certificates: Mutex<GaugeVec>,
}

impl ConfigMetrics {
    pub(super) fn on(shelf: &mut Shelf) -> Self {
        Self {
            reloads: shelf.row(
                "yett_config_reloads_total",
                "Reloads of the configuration, by result",
                "result",
                ReloadResult::ALL.iter().map(|result| result.as_str()),
            ),
            last_successful: shelf.gauge(
                "yett_config_last_reload_successful",
                "1 where the last reload found no error, else 0",
            ),
            last_success: shelf.seconds(
                "yett_config_last_reload_success_timestamp_seconds",
                "When a reload last found no error, Unix time",
            ),
            generation: shelf
                .gauge("yett_config_generation", "The generation of the snapshot that is served"),
            findings: Mutex::new(shelf.gauges(
                "yett_config_findings",
                "Faults and oddities of the configuration, by place",
                &["severity", "code", "file", "line", "object", "field"],
            )),
            certificates: Mutex::new(shelf.seconds_by(
                "yett_certificate_not_after_timestamp_seconds",
                "When a certificate in use expires, Unix time",
                &["role", "name"],
            )),
        }
    }

    /// Counts a reload. `now`: Unix seconds; `generation`: of the snapshot served after it.
    pub fn reloaded(&self, result: ReloadResult, generation: u64, now: i64) {
        self.reloads.at(result as usize).inc();
        self.last_successful.set(i64::from(result == ReloadResult::Ok));
        if result == ReloadResult::Ok {
            self.last_success.set(now as f64);
        }
        self.generation(generation);
    }

    /// The generation of the snapshot that is served.
    pub fn generation(&self, generation: u64) {
        self.generation.set(gauge(generation));
    }

    /// Replaces the findings; errors come first where there are too many. Returns how many have no series.
    pub fn findings(&self, report: &Report) -> usize {
        let family = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        family.reset();
        let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
        let warnings = report.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        for finding in errors.chain(warnings).take(FINDING_METRICS_MAX) {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let Finding { code, file, line, object, field, .. } = finding;
            let file = cut(file.as_deref().unwrap_or_default());
            family
                .with_label_values(&[severity, code, file, &line.to_string(), cut(object), cut(field)])
                .inc();
        }
        report.findings.len().saturating_sub(FINDING_METRICS_MAX)
    }

    /// Replaces the certificates in use. Of several under one name the one that expires first is shown.
    pub fn certificates(&self, certificates: &[Certificate]) {
        let family = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        family.reset();
        for certificate in certificates {
            let gauge = family.with_label_values(&[certificate.role.as_str(), cut(&certificate.name)]);
            let not_after = certificate.not_after as f64;
            if gauge.get() == 0.0 || not_after < gauge.get() {
                gauge.set(not_after);
            }
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LABEL_BYTES_MAX)]
}
