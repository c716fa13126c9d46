//! Named happenings: one struct each, which logs and counts together, so that neither is forgotten. What a client or a
//! network can repeat at will is logged at most once in [`THROTTLE_WINDOW_S`] for each source, with a count.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Telemetry;
use super::labels::{CrlResult, Limit, ReloadResult, UpgradeResult};
use crate::model::deny::{DenyChange, DenyOutcome};
use crate::model::{Finding, FrontendId, Report, Severity};

/// Repeated happenings of one source are logged once in this time.
pub const THROTTLE_WINDOW_S: u64 = 10;

/// So many sources are told apart; more share one.
pub const THROTTLE_KEYS_MAX: usize = 1024;

/// Why the configuration was put in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It was read, for the first time or again.
    Reload,
    /// The same documents were looked at again, since time or the system may have changed what becomes of them. That is
    /// no reload: it is not counted, and logged only where it found something else.
    Refresh,
}

/// The configuration was put in service.
#[derive(Debug)]
pub struct ConfigReloaded<'a> {
    /// Why.
    pub occasion: Occasion,
    /// What became of it.
    pub result: ReloadResult,
    /// The generation that is served now.
    pub generation: u64,
    /// What was found.
    pub report: &'a Report,
    /// What was found the time before: the same findings are not logged again.
    pub former: Option<&'a Report>,
    /// From the first look at the files to the swap.
    pub elapsed: Duration,
    /// Now, Unix seconds.
    pub now: i64,
}

impl ConfigReloaded<'_> {
    /// Logs and counts.
    pub fn emit(&self, telemetry: &Telemetry) {
        let metrics = &telemetry.metrics;
        match self.occasion {
            Occasion::Reload => metrics.config.reloaded(self.result, self.generation, self.now),
            Occasion::Refresh => metrics.config.generation(self.generation),
        }
        if self.occasion == Occasion::Refresh
            && self.former.is_some_and(|former| former.findings == self.report.findings)
        {
            return;
        }
        let left_out = metrics.config.findings(self.report);
        metrics.limit_hits(Limit::FindingMetricsMax, left_out as u64);
        let known = |finding: &Finding| self.former.is_some_and(|former| former.findings.contains(finding));
        self.report.findings.iter().filter(|finding| !known(finding)).for_each(log_finding);
        let count =
            |severity| self.report.findings.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let (generation, elapsed_ms) = (self.generation, millis(self.elapsed));
        match self.result {
            ReloadResult::Ok => {
                tracing::info!(generation, warnings, elapsed_ms, "configuration in service");
            }
            ReloadResult::Partial => {
                tracing::warn!(
                    generation,
                    errors,
                    warnings,
                    elapsed_ms,
                    "configuration in service but for its errors"
                );
            }
            ReloadResult::Rejected => {
                tracing::error!(generation, errors, "no part of the configuration can be served");
            }
        }
    }
}

fn log_finding<'a>(finding: &'a Finding) {
    let Finding { code, severity, file, line, column, object, field, message, help } = finding;
    // What is not known is left out of the line.
    let (file, help) = (file.as_deref(), help.as_deref());
    let (line, column) = (file.map(|_| line), file.map(|_| column));
    let some = |text: &'a str| Some(text).filter(|text| !text.is_empty());
    let (object, field) = (some(object), some(field));
    match severity {
        Severity::Error => tracing::error!(code, file, line, column, object, field, help, "{message}"),
        Severity::Warning => tracing::warn!(code, file, line, column, object, field, help, "{message}"),
    }
}

/// A CRL is in use now.
#[derive(Debug)]
pub struct CrlLoaded<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Its issuer's name.
    pub issuer: Option<&'a str>,
    /// CRLNumber.
    pub number: Option<&'a str>,
    /// How many certificates it lists.
    pub entries: usize,
    /// Its size, DER.
    pub size_bytes: usize,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    pub next_update: Option<i64>,
}

impl CrlLoaded<'_> {
    /// Logs and counts. The gauges are set by [`super::CrlMetrics::in_use`], since a source may hold several lists.
    pub fn emit(&self, telemetry: &Telemetry) {
        telemetry.metrics.crl(self.source).loaded(CrlResult::Ok);
        let Self { source, issuer, number, entries, size_bytes, this_update, next_update } = *self;
        let (this_update, next_update) = (rfc3339(this_update), next_update.map(rfc3339));
        tracing::info!(source, issuer, number, entries, size_bytes, this_update, next_update, "CRL in use");
    }
}

/// A CRL was not taken.
#[derive(Debug)]
pub struct CrlRejected<'a> {
    /// Its configured name.
    pub source: &'a str,
    /// Its issuer's name, if it could be read.
    pub issuer: Option<&'a str>,
    /// Why, as the metric has it.
    pub result: CrlResult,
    /// Why, for people.
    pub detail: &'a str,
    /// Whether an earlier list goes on being used; otherwise the clients of its bundle are refused.
    pub former_kept: bool,
}

impl CrlRejected<'_> {
    /// Logs and counts.
    pub fn emit(&self, telemetry: &Telemetry) {
        telemetry.metrics.crl(self.source).loaded(self.result);
        let Self { source, issuer, detail, .. } = *self;
        let result = self.result.as_str();
        if self.former_kept {
            tracing::error!(source, issuer, result, detail, "CRL rejected, the former one stays in use");
        } else {
            tracing::error!(
                source,
                issuer,
                result,
                detail,
                "CRL rejected and none in use: its clients are refused"
            );
        }
    }
}

/// A listener's sockets are bound.
#[derive(Debug)]
pub struct ListenerBound<'a> {
    /// The frontend.
    pub frontend: &'a FrontendId,
    /// Where.
    pub address: SocketAddr,
    /// How many sockets, one for each worker.
    pub sockets: usize,
    /// How many of them a former process has left.
    pub inherited: usize,
}

impl ListenerBound<'_> {
    /// Logs.
    pub fn emit(&self, _telemetry: &Telemetry) {
        let Self { frontend, address, sockets, inherited } = self;
        let inherited = Some(inherited).filter(|count| **count > 0);
        if address.port() == frontend.port {
            tracing::info!(%frontend, %address, sockets, inherited, "listening");
        } else {
            let (mapped, bound) = (frontend.port, address.port());
            tracing::info!(%frontend, %address, sockets, inherited, "listening; port {mapped} is mapped to {bound}");
        }
    }
}

/// A listener's sockets could not be bound.
#[derive(Debug)]
pub struct ListenerFailed<'a> {
    /// The frontend.
    pub frontend: &'a FrontendId,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub error: &'a dyn std::error::Error,
}

impl ListenerFailed<'_> {
    /// Logs; throttled, since binding is tried again and again.
    pub fn emit(&self, telemetry: &Telemetry) {
        let Self { frontend, address, error } = self;
        let source = format!("{frontend} {address} {error}");
        if let Some(repeated) = telemetry.throttle.admit("listener_failed", source, Instant::now()) {
            tracing::error!(%frontend, %address, error = %error, repeated, "cannot listen");
        }
    }
}

/// This process has taken over from another.
#[derive(Debug)]
pub struct TakenOver {
    /// The predecessor's process id.
    pub predecessor: u32,
    /// From the start of this process's control loop.
    pub elapsed: Duration,
}

impl TakenOver {
    /// Logs and counts.
    pub fn emit(&self, telemetry: &Telemetry) {
        telemetry.metrics.upgraded(UpgradeResult::Ok);
        let (predecessor, elapsed_ms) = (self.predecessor, millis(self.elapsed));
        tracing::info!(predecessor, elapsed_ms, "taken over");
    }
}

/// No successor has taken over; this process serves on.
#[derive(Debug)]
pub struct UpgradeFailed<'a> {
    /// What became of it, as the metric has it.
    pub result: UpgradeResult,
    /// Why.
    pub error: &'a dyn std::error::Error,
}

impl UpgradeFailed<'_> {
    /// Logs and counts.
    pub fn emit(&self, telemetry: &Telemetry) {
        telemetry.metrics.upgraded(self.result);
        let result = self.result.as_str();
        tracing::error!(result, error = %self.error, "no upgrade; this process serves on");
    }
}

/// The process begins to drain.
#[derive(Debug)]
pub struct DrainBegun<'a> {
    /// What asked for it: a signal's name, `admin socket`.
    pub cause: &'a str,
    /// How long it may take.
    pub timeout: Duration,
}

impl DrainBegun<'_> {
    /// Logs.
    pub fn emit(&self, _telemetry: &Telemetry) {
        tracing::info!(cause = self.cause, timeout_ms = millis(self.timeout), "draining");
    }
}

/// The process has drained, or gave up.
#[derive(Debug)]
pub struct DrainEnded {
    /// How long it took.
    pub elapsed: Duration,
    /// Connections that were cut off at the deadline.
    pub cut_off: usize,
}

impl DrainEnded {
    /// Logs and counts.
    pub fn emit(&self, telemetry: &Telemetry) {
        let (elapsed_ms, cut_off) = (millis(self.elapsed), self.cut_off);
        if cut_off == 0 {
            tracing::info!(elapsed_ms, "drained");
        } else {
            telemetry.metrics.limit_hit(Limit::DrainTimeout);
            tracing::warn!(elapsed_ms, cut_off, "drain timed out");
        }
    }
}

/// Memory has become short, or is no longer.
#[derive(Debug)]
pub struct MemoryPressure {
    /// Which of the two.
    pub is_high: bool,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that may be.
    pub limit: u64,
}

impl MemoryPressure {
    /// Shows and logs.
    pub fn emit(&self, telemetry: &Telemetry) {
        let Self { is_high, used, limit } = *self;
        telemetry.metrics.memory_pressure(is_high);
        if is_high {
            tracing::warn!(used, limit, "memory is short: new work is turned away");
        } else {
            tracing::info!(used, limit, "memory is no longer short");
        }
    }
}

/// The deny list was changed by hand.
#[derive(Debug)]
pub struct DenyListChanged<'a> {
    /// What was asked.
    pub change: &'a DenyChange,
    /// What came of it.
    pub outcome: &'a DenyOutcome,
}

/// So many networks of a change are named in the log.
const NETWORKS_NAMED_MAX: usize = 16;

impl DenyListChanged<'_> {
    /// Logs.
    pub fn emit(&self, _telemetry: &Telemetry) {
        let (action, networks, ttl_s) = match self.change {
            DenyChange::Add { networks, ttl_s } => ("added", networks, *ttl_s),
            DenyChange::Remove(networks) => ("removed", networks, None),
        };
        let DenyOutcome { changed, entries, left_out, .. } = self.outcome;
        let (count, left_out) = (networks.len(), left_out.len());
        let named: Vec<String> = networks.iter().take(NETWORKS_NAMED_MAX).map(ToString::to_string).collect();
        let networks = named.join(" ");
        tracing::info!(action, count, changed, left_out, entries, ttl_s, networks, "deny list changed");
    }
}

/// A client on the deny list connected.
#[derive(Debug)]
pub struct DenyListHit {
    /// The client.
    pub client: IpAddr,
    /// The network that it is in.
    pub network: IpNet,
    /// Whether its connection is closed.
    pub is_closed: bool,
}

impl DenyListHit {
    /// Logs, throttled by client.
    pub fn emit(&self, telemetry: &Telemetry) {
        let Self { client, network, is_closed } = self;
        if let Some(repeated) = telemetry.throttle.admit("deny_list", client.to_string(), Instant::now()) {
            tracing::info!(%client, %network, is_closed, repeated, "a client on the deny list");
        }
    }
}

/// A limit was hit.
#[derive(Debug)]
pub struct LimitHit {
    /// Which.
    pub limit: Limit,
    /// Who caused it, if a peer did.
    pub peer: Option<IpAddr>,
}

impl LimitHit {
    /// Counts; logs, throttled by limit and peer.
    pub fn emit(&self, telemetry: &Telemetry) {
        telemetry.metrics.limit_hit(self.limit);
        let (limit, peer) = (self.limit.as_str(), self.peer.map(|peer| peer.to_string()));
        let source = peer.clone().unwrap_or_default();
        if let Some(repeated) = telemetry.throttle.admit(limit, source, Instant::now()) {
            tracing::warn!(limit, peer, repeated, "limit hit");
        }
    }
}

/// Lets the first of repeated happenings through and counts the rest.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<(&'static str, String), Burst>>);

#[derive(Debug)]
struct Burst {
    logged: Instant,
    since: u64,
}

impl Throttle {
    /// Whether to log now: `Some` with how many of the same were passed over since the last line.
    pub fn admit(&self, happening: &'static str, source: String, now: Instant) -> Option<u64> {
        const WINDOW: Duration = Duration::from_secs(THROTTLE_WINDOW_S);
        let mut bursts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bursts.len() >= THROTTLE_KEYS_MAX {
            bursts.retain(|_, burst| now.saturating_duration_since(burst.logged) < WINDOW);
        }
        // Sources without number share one burst rather than memory without end.
        let source = if bursts.len() >= THROTTLE_KEYS_MAX { String::new() } else { source };
        let Some(burst) = bursts.get_mut(&(happening, source.clone())) else {
            bursts.insert((happening, source), Burst { logged: now, since: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(burst.logged) < WINDOW {
            burst.since += 1;
            return None;
        }
        burst.logged = now;
        Some(std::mem::take(&mut burst.since))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_and_the_rest_counted() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (description, source, seconds, expected) in [
            ("first", "a", 0, Some(0)),
            ("again", "a", 1, None),
            ("another source", "b", 1, Some(0)),
            ("again", "a", 9, None),
            ("after the window", "a", 10, Some(2)),
            ("again", "a", 11, None),
            ("much later", "a", 60, Some(1)),
        ] {
            let admitted = throttle.admit("happening", source.to_owned(), at(seconds));
            assert_eq!(admitted, expected, "{description} at {seconds}");
        }
    }

    #[test]
    fn sources_without_number_are_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let logged = (0..10_000).filter(|n| throttle.admit("x", n.to_string(), now).is_some()).count();
        assert!(logged <= THROTTLE_KEYS_MAX + 1, "{logged}");
        assert!(throttle.0.lock().unwrap().len() <= THROTTLE_KEYS_MAX + 1);
    }

    #[test]
    fn a_reload_counts_and_shows_its_findings() {
        let (telemetry, _) = Telemetry::in_memory();
        let finding = Finding {
            code: "YT0104",
            severity: Severity::Error,
            file: Some("gateway.yaml".into()),
            line: 7,
            column: 5,
            object: "Gateway default/gw".into(),
            field: "spec.listeners".into(),
            message: "unknown field".into(),
            help: None,
        };
        let report = Report { findings: vec![finding], objects: Vec::new() };
        let reload = |result, report: &Report| {
            let elapsed = Duration::ZERO;
            let (occasion, now) = (Occasion::Reload, 1_700_000_000);
            ConfigReloaded { occasion, result, generation: 3, report, former: None, elapsed, now }
                .emit(&telemetry);
            telemetry.metrics.render()
        };
        let text = reload(ReloadResult::Partial, &report);
        for series in [
            "yett_config_reloads_total{result=\"partial\"} 1",
            "yett_config_last_reload_successful 0",
            "yett_config_last_reload_success_timestamp_seconds 0",
            "yett_config_generation 3",
            "yett_config_findings{code=\"YT0104\",field=\"spec.listeners\",file=\"gateway.yaml\",line=\"7\",\
             object=\"Gateway default/gw\",severity=\"error\"} 1",
        ] {
            assert!(text.contains(series), "{series} in\n{text}");
        }
        let text = reload(ReloadResult::Ok, &Report::default());
        assert!(text.contains("yett_config_last_reload_successful 1"));
        assert!(text.contains("yett_config_last_reload_success_timestamp_seconds 1700000000"));
        assert!(!text.contains("yett_config_findings{"));
        let (occasion, result, elapsed) = (Occasion::Refresh, ReloadResult::Partial, Duration::ZERO);
        let former = Some(&Report::default());
        ConfigReloaded { occasion, result, generation: 4, report: &report, former, elapsed, now: 0 }
            .emit(&telemetry);
        let text = telemetry.metrics.render();
        assert!(text.contains("yett_config_reloads_total{result=\"partial\"} 1"), "a refresh is no reload");
        assert!(
            text.contains("yett_config_generation 4") && text.contains("yett_config_findings{"),
            "{text}"
        );
    }

    #[test]
    fn a_limit_is_counted_each_time() {
        let (telemetry, _) = Telemetry::in_memory();
        for _ in 0..5 {
            LimitHit { limit: Limit::HandshakesMax, peer: None }.emit(&telemetry);
        }
        assert!(telemetry.metrics.render().contains("yett_limit_hits_total{limit=\"handshakes_max\"} 5"));
    }
}
