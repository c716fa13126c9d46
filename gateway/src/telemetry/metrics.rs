//! Metrics in Prometheus' text form. [`Metrics`] owns a registry of its own; each area has a struct of typed handles.
//!
//! Handles of listeners, routes, backends, CRLs and workers are asked for by name when a snapshot is built and live as
//! long as somebody holds them: an unchanged name gets the same handle again, and the series of a deleted object are
//! shown by one more scrape and then vanish. Nothing on the path of a request looks anything up.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, Registry, TextEncoder};

mod config;
mod connection;
mod datapath;
mod http;
mod listener;
mod revocation;
mod shelf;
mod upstream;

pub use self::config::ConfigMetrics;
pub use self::datapath::{DatapathMetrics, FrontendMetrics};
pub use self::http::{ActiveRequest, RouteMetrics};
pub use self::listener::{ActiveConnection, ListenerMetrics};
pub use self::revocation::{CrlMetrics, RevocationMetrics};
pub use self::upstream::{ActiveUpstream, BackendMetrics};

use super::labels::{Limit, PanicPlace, UpgradeResult};
use shelf::{Row, Shelf, whole};

/// The route label of requests that met no rule.
pub const NO_ROUTE: &str = "_none";

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    /// Reloads and findings.
    pub config: ConfigMetrics,
    /// The programs in the kernel.
    pub datapath: DatapathMetrics,
    /// Revocation checks.
    pub revocation: RevocationMetrics,
    limits: Row,
    panics: Row,
    memory_pressure: prometheus::IntGauge,
    upgrades: Row,
    access_log_dropped: prometheus::IntCounter,
    deny_entries: prometheus::IntGauge,
    listeners: Family<String, ListenerMetrics>,
    routes: Family<(String, String), RouteMetrics>,
    backends: Family<String, BackendMetrics>,
    crls: Family<String, CrlMetrics>,
    configured_crls: Mutex<Vec<Arc<CrlMetrics>>>,
    workers: Family<usize, WorkerMetrics>,
    frontends: Family<String, FrontendMetrics>,
}

impl Metrics {
    /// An empty set with a registry of its own.
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        register(&registry, Box::new(ProcessCollector::for_self()));
        let mut shelf = Shelf::new(&registry, &[]);
        shelf.info("yett_build_info", "What this binary is; always 1", &build_labels());
        let metrics = Self {
            config: ConfigMetrics::on(&mut shelf),
            datapath: DatapathMetrics::on(&mut shelf),
            revocation: RevocationMetrics::on(&mut shelf),
            limits: shelf.row(
                "yett_limit_hits_total",
                "How often a named limit was hit",
                "limit",
                Limit::ALL.iter().map(|limit| limit.as_str()),
            ),
            panics: shelf.row(
                "yett_panics_total",
                "Panics: faults of this program, each of which cost a task",
                "where",
                PanicPlace::ALL.iter().map(|place| place.as_str()),
            ),
            memory_pressure: shelf
                .gauge("yett_memory_pressure", "1 while memory is so short that new work is turned away"),
            upgrades: shelf.row(
                "yett_upgrades_total",
                "Upgrades to a successor process, by result; the count is handed on",
                "result",
                UpgradeResult::ALL.iter().map(|result| result.as_str()),
            ),
            access_log_dropped: shelf.counter(
                "yett_access_log_dropped_total",
                "Access log lines dropped because the log could not be written fast enough",
            ),
            deny_entries: shelf.gauge("yett_deny_entries", "Entries of the deny list"),
            listeners: Family::default(),
            routes: Family::default(),
            backends: Family::default(),
            crls: Family::default(),
            configured_crls: Mutex::default(),
            workers: Family::default(),
            frontends: Family::default(),
            registry,
        };
        // What is on this shelf stays for the life of the process.
        shelf.keep();
        Arc::new(metrics)
    }

    /// The handles of a listener (`namespace/gateway/section`, or the frontend where its listener is not known yet).
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let unrouted = self.route(name, NO_ROUTE);
        self.listeners.handle(name.to_owned(), || {
            let mut shelf = Shelf::new(&self.registry, &[("listener", name)]);
            (ListenerMetrics::on(&mut shelf, name, unrouted), shelf)
        })
    }

    /// The handles of a route (`namespace/name`) as it stands on a listener.
    pub fn route(&self, listener: &str, route: &str) -> Arc<RouteMetrics> {
        self.routes.handle((listener.to_owned(), route.to_owned()), || {
            let mut shelf = Shelf::new(&self.registry, &[("listener", listener), ("route", route)]);
            (RouteMetrics::on(&mut shelf, route), shelf)
        })
    }

    /// The handles of a backend, by the text of its key.
    pub fn backend(&self, key: &str) -> Arc<BackendMetrics> {
        self.backends.handle(key.to_owned(), || {
            let mut shelf = Shelf::new(&self.registry, &[("backend", key)]);
            (BackendMetrics::on(&mut shelf, key), shelf)
        })
    }

    /// The handles of a CRL, by its configured name (`Secret ns/name ca.crl`).
    pub fn crl(&self, source: &str) -> Arc<CrlMetrics> {
        self.crls.handle(source.to_owned(), || {
            let mut shelf = Shelf::new(&self.registry, &[("crl", source)]);
            (CrlMetrics::on(&mut shelf), shelf)
        })
    }

    /// Says which CRLs are configured: their series stay though nobody else holds them, those of others go.
    pub fn crls<'a>(&self, sources: impl IntoIterator<Item = &'a str>) {
        let handles: Vec<_> = sources.into_iter().map(|source| self.crl(source)).collect();
        *self.configured_crls.lock().unwrap_or_else(PoisonError::into_inner) = handles;
    }

    /// The handles of a worker, by its index.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        self.workers.handle(index, || {
            let mut shelf = Shelf::new(&self.registry, &[("worker", &index.to_string())]);
            (WorkerMetrics::on(&mut shelf), shelf)
        })
    }

    /// The handles of a front end as the programs in the kernel counted it.
    pub fn frontend(&self, name: &str) -> Arc<FrontendMetrics> {
        self.frontends.handle(name.to_owned(), || {
            let mut shelf = Shelf::new(&self.registry, &[("frontend", name)]);
            (FrontendMetrics::on(&mut shelf), shelf)
        })
    }

    /// Counts that a limit was hit.
    pub fn limit_hit(&self, limit: Limit) {
        self.limit_hits(limit, 1);
    }

    /// Counts that a limit was hit several times.
    pub fn limit_hits(&self, limit: Limit, times: u64) {
        self.limits.at(limit as usize).inc_by(times);
    }

    /// Counts a panic.
    pub fn panicked(&self, place: PanicPlace) {
        self.panics.at(place as usize).inc();
    }

    /// Shows whether memory is short.
    pub fn memory_pressure(&self, is_high: bool) {
        self.memory_pressure.set(i64::from(is_high));
    }

    /// Counts an upgrade.
    pub fn upgraded(&self, result: UpgradeResult) {
        self.upgrades.at(result as usize).inc();
    }

    /// How many upgrades there were by result: for the successor, which goes on counting.
    pub fn upgrades(&self) -> BTreeMap<String, u64> {
        let count =
            |result: &UpgradeResult| (result.as_str().to_owned(), self.upgrades.at(*result as usize).get());
        UpgradeResult::ALL.iter().map(count).collect()
    }

    /// Goes on from what a predecessor counted.
    pub fn upgrades_before(&self, counts: &BTreeMap<String, u64>) {
        for result in UpgradeResult::ALL {
            self.upgrades.at(*result as usize).inc_by(counts.get(result.as_str()).copied().unwrap_or(0));
        }
    }

    /// Shows how many entries the deny list has.
    pub fn deny_entries(&self, count: usize) {
        self.deny_entries.set(gauge(count as u64));
    }

    /// Counts a line that the access log had no room for.
    pub(super) fn access_log_dropped(&self) {
        self.access_log_lost();
        self.limit_hit(Limit::AccessLogBufferBytesMax);
    }

    /// Counts a line that could not be written.
    pub(super) fn access_log_lost(&self) {
        self.access_log_dropped.inc();
    }

    /// All series in the text exposition format 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Vec::with_capacity(64 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot write the metrics");
        }
        // Only after the series were shown once more, so that the last increments are not lost.
        self.listeners.sweep();
        self.routes.sweep();
        self.backends.sweep();
        self.crls.sweep();
        self.workers.sweep();
        String::from_utf8(text).unwrap_or_default()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

/// A worker's connections.
#[derive(Debug)]
pub struct WorkerMetrics {
    local: Row,
}

impl WorkerMetrics {
    fn on(shelf: &mut Shelf) -> Self {
        let local = shelf.row(
            "yett_worker_connections_total",
            "Connections taken up by a worker; local: on the CPU that received the SYN",
            "local",
            ["false", "true"],
        );
        Self { local }
    }

    /// Counts a connection that the worker took up; `local`: on the CPU that received its SYN.
    pub fn connection(&self, local: bool) {
        self.local.at(usize::from(local)).inc();
    }
}

/// Handles by name, kept as long as somebody outside holds them and until the scrape after that.
struct Family<K, T>(Mutex<Entries<K, T>>);

struct Entries<K, T> {
    handles: HashMap<K, (Arc<T>, Shelf)>,
    /// At this many entries unheld ones make way even when nobody scrapes.
    sweep_at: usize,
}

/// A family this small is never swept for its size alone.
const SWEEP_AT_MIN: usize = 256;

impl<K, T> Default for Family<K, T> {
    fn default() -> Self {
        Self(Mutex::new(Entries { handles: HashMap::new(), sweep_at: SWEEP_AT_MIN }))
    }
}

impl<K: Hash + Eq, T> Family<K, T> {
    /// The handle of that name, made if it is not there.
    fn handle(&self, key: K, make: impl FnOnce() -> (T, Shelf)) -> Arc<T> {
        let mut entries = self.lock();
        if let Some((handle, _)) = entries.handles.get(&key) {
            return Arc::clone(handle);
        }
        if entries.handles.len() >= entries.sweep_at {
            entries.sweep();
        }
        let (value, shelf) = make();
        let handle = Arc::new(value);
        entries.handles.insert(key, (Arc::clone(&handle), shelf));
        handle
    }

    /// Drops the series of handles that nobody holds.
    fn sweep(&self) {
        self.lock().sweep();
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, T>> {
        // A panic cannot leave the map half changed in a way that matters: at worst a series is missing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, T> Entries<K, T> {
    fn sweep(&mut self) {
        // New references come through the family's lock alone, so a count of one stays one.
        self.handles.retain(|_, (handle, _)| Arc::strong_count(handle) > 1);
        self.sweep_at = SWEEP_AT_MIN.max(self.handles.len() * 2);
    }
}

fn register(registry: &Registry, collector: Box<dyn Collector>) -> bool {
    match registry.register(collector) {
        Ok(()) => true,
        Err(error) => {
            // Traffic is worth more than a series: the handle works, it is just not shown.
            tracing::error!(%error, "cannot register a metric");
            false
        }
    }
}

/// Version, revision, compiler and features, as the labels of `yett_build_info`.
pub fn build_labels() -> [(&'static str, &'static str); 4] {
    [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("YETT_REVISION").unwrap_or("unknown")),
        ("rustc", option_env!("YETT_RUSTC").unwrap_or("unknown")),
        ("features", "file,http1,http2"),
    ]
}

/// A size or count as a gauge takes it.
fn gauge(value: u64) -> i64 {
    whole(value)
}

#[cfg(test)]
mod tests;
