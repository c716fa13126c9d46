//! What the data plane reads: one immutable value per generation. A request takes one snapshot and keeps it to its end.
//!
//! `app::build` makes it of a plan and of parts that live longer than one plan: TLS configurations with their trust,
//! upstream handles, metric handles. It answers which listener a server name or a host belongs to, and which rule a
//! request meets; what follows from that is decided by `tls` and `http`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::model::route::{Redirect, WeightedBackend};
use crate::model::{BackendKey, Filter, FrontendId, Hostname, Listener, ObjectName, Protocol, Reason, Rule};
use crate::route::{HostMap, Table};
use crate::telemetry::{ListenerMetrics, RouteMetrics};
use crate::tls::ServerTls;
use crate::upstream::Upstream;

/// Everything that is served.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts the snapshots of the process.
    pub generation: u64,
    frontends: HashMap<FrontendId, Arc<ServedFrontend>>,
    sockets: HashMap<SocketAddr, FrontendId>,
    upstreams: HashMap<BackendKey, Arc<Upstream>>,
}

/// A frontend with its listeners.
#[derive(Debug)]
pub struct ServedFrontend {
    /// Its name across reloads.
    pub id: FrontendId,
    /// What its sockets speak.
    pub protocol: Protocol,
    /// Each connection begins with a PROXY header.
    pub proxy_protocol: bool,
    listeners: Vec<Arc<ServedListener>>,
    by_host: HostMap<usize>,
    /// For connections and refused handshakes before their listener is known.
    metrics: Arc<ListenerMetrics>,
    open: Arc<AtomicUsize>,
}

/// A listener as it is served.
#[derive(Debug)]
pub struct ServedListener {
    /// `namespace/gateway/section`
    pub name: Arc<str>,
    /// `None` takes every host.
    pub hostname: Option<Hostname>,
    /// Present exactly on HTTPS listeners.
    pub tls: Option<ServerTls>,
    /// What its requests meet.
    pub routes: Table<Arc<ServedRule>>,
    /// Its counters.
    pub metrics: Arc<ListenerMetrics>,
}

/// A rule as it is served.
#[derive(Debug)]
pub struct ServedRule {
    /// The route.
    pub route: ObjectName,
    /// Its position there.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// In the order they apply.
    pub filters: Vec<Filter>,
    /// What becomes of a request.
    pub action: ServedAction,
    /// Until the answer is complete. `None`: the default; zero: unbounded.
    pub request_timeout: Option<Duration>,
    /// For one exchange with a backend; zero: unbounded.
    pub backend_timeout: Option<Duration>,
    /// The route's counters on its listener.
    pub metrics: Arc<RouteMetrics>,
}

/// What becomes of a matched request.
#[derive(Debug)]
pub enum ServedAction {
    /// To one of the backends, by weight.
    Forward(Vec<ServedBackend>),
    /// To another place.
    Redirect(Redirect),
    /// Nowhere.
    Refuse(Reason),
}

/// A backendRef as it is served.
#[derive(Debug)]
pub struct ServedBackend {
    /// Share of the sum of weights.
    pub weight: u32,
    /// The backend, or why its share is refused.
    pub target: Result<Arc<Upstream>, Reason>,
    /// After the rule's.
    pub filters: Vec<Filter>,
}

impl Snapshot {
    /// Puts frontends, the addresses their sockets are bound to, and upstreams together. Upstreams are kept by key, so that the next build finds those it can
    /// keep; rules hold their own handles.
    pub fn new(
        generation: u64,
        frontends: impl IntoIterator<Item = ServedFrontend>,
        sockets: impl IntoIterator<Item = (SocketAddr, FrontendId)>,
        upstreams: impl IntoIterator<Item = Arc<Upstream>>,
    ) -> Self {
        Self {
            generation,
            frontends: frontends
                .into_iter()
                .map(|frontend| (frontend.id.clone(), Arc::new(frontend)))
                .collect(),
            sockets: sockets.into_iter().collect(),
            upstreams: upstreams.into_iter().map(|upstream| (upstream.key().clone(), upstream)).collect(),
        }
    }

    /// A frontend, if it is still served.
    pub fn frontend(&self, id: &FrontendId) -> Option<&Arc<ServedFrontend>> {
        self.frontends.get(id)
    }

    /// The frontend whose sockets are bound to this address.
    pub fn frontend_at(&self, bound: SocketAddr) -> Option<&Arc<ServedFrontend>> {
        self.frontends.get(self.sockets.get(&bound)?)
    }

    /// Every frontend, in no particular order.
    pub fn frontends(&self) -> impl Iterator<Item = &Arc<ServedFrontend>> {
        self.frontends.values()
    }

    /// The handle of a backend.
    pub fn upstream(&self, key: &BackendKey) -> Option<&Arc<Upstream>> {
        self.upstreams.get(key)
    }
}

impl ServedFrontend {
    /// Puts listeners of distinct hostnames together. `metrics`: those of the frontend itself.
    pub fn new(
        id: FrontendId,
        protocol: Protocol,
        listeners: Vec<ServedListener>,
        metrics: Arc<ListenerMetrics>,
    ) -> Self {
        let mut by_host = HostMap::default();
        for (index, listener) in listeners.iter().enumerate() {
            by_host.insert(listener.hostname.clone(), index);
        }
        let listeners = listeners.into_iter().map(Arc::new).collect();
        Self { id, protocol, proxy_protocol: false, listeners, by_host, metrics, open: Arc::default() }
    }

    /// Counts its connections together with those of the former frontend of this name.
    #[must_use]
    pub fn succeeding(mut self, former: Option<&Arc<Self>>) -> Self {
        if let Some(former) = former {
            self.open = Arc::clone(&former.open);
        }
        self
    }

    /// The same, behind a PROXY header or not.
    #[must_use]
    pub fn proxy_protocol(self, proxy_protocol: bool) -> Self {
        Self { proxy_protocol, ..self }
    }

    /// How many connections it has; counted by whoever lets them in.
    pub fn open(&self) -> &Arc<AtomicUsize> {
        &self.open
    }

    /// Its listeners, in no particular order.
    pub fn listeners(&self) -> &[Arc<ServedListener>] {
        &self.listeners
    }

    /// Counters for what happens before a listener is known.
    pub fn metrics(&self) -> &Arc<ListenerMetrics> {
        &self.metrics
    }

    /// The listener that a TLS client's server name (lower case) chooses: the most specific one. Without a name only
    /// the listener without hostname will do; `None` is an alert unrecognized_name.
    pub fn for_server_name(&self, name: Option<&str>) -> Option<&Arc<ServedListener>> {
        let index = match name {
            Some(name) => self.by_host.find(name.strip_suffix('.').unwrap_or(name)),
            None => self.by_host.any(),
        };
        index.map(|index| &self.listeners[*index])
    }

    /// The most specific listener for a host (lower case, no port, no trailing dot).
    pub fn for_host(&self, host: &str) -> Option<&Arc<ServedListener>> {
        self.by_host.find(host).map(|index| &self.listeners[*index])
    }
}

impl ServedListener {
    /// A listener of the plan with its parts. `route` gives the counters of a route on this listener, `upstream` the
    /// handle of a backend; a backend without one answers [`Reason::BackendInvalid`].
    pub fn new(
        listener: &Listener,
        tls: Option<ServerTls>,
        metrics: Arc<ListenerMetrics>,
        route: impl Fn(&ObjectName) -> Arc<RouteMetrics>,
        upstream: impl Fn(&BackendKey) -> Option<Arc<Upstream>>,
    ) -> Self {
        let served = |rule: &Rule| Arc::new(ServedRule::new(rule, route(&rule.route), &upstream));
        Self {
            name: Arc::clone(&listener.name),
            hostname: listener.hostname.clone(),
            tls,
            routes: Table::new(listener.rules.iter().map(|rule| (rule, served(rule)))),
            metrics,
        }
    }
}

impl ServedRule {
    /// A rule of the plan with its parts.
    pub fn new(
        rule: &Rule,
        metrics: Arc<RouteMetrics>,
        upstream: &impl Fn(&BackendKey) -> Option<Arc<Upstream>>,
    ) -> Self {
        use crate::model::Action;
        let backend = |backend: &WeightedBackend| ServedBackend {
            weight: backend.weight,
            target: backend
                .target
                .as_ref()
                .map_err(|reason| *reason)
                .and_then(|key| upstream(key).ok_or(Reason::BackendInvalid)),
            filters: backend.filters.clone(),
        };
        Self {
            route: rule.route.clone(),
            index: rule.index,
            name: rule.name.clone(),
            filters: rule.filters.clone(),
            action: match &rule.action {
                Action::Forward(backends) => ServedAction::Forward(backends.iter().map(backend).collect()),
                Action::Redirect(redirect) => ServedAction::Redirect(redirect.clone()),
                Action::Refuse(reason) => ServedAction::Refuse(*reason),
            },
            request_timeout: rule.request_timeout,
            backend_timeout: rule.backend_timeout,
            metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn frontend(hostnames: &[&str]) -> ServedFrontend {
        let metrics = Metrics::new();
        let listener = |hostname: &&str| ServedListener {
            name: (*hostname).into(),
            hostname: Hostname::parse(hostname),
            tls: None,
            routes: Table::default(),
            metrics: metrics.listener(hostname),
        };
        ServedFrontend::new(
            FrontendId { gateway: ObjectName::new("default", "gw"), port: 443 },
            Protocol::Https,
            hostnames.iter().map(listener).collect(),
            metrics.listener("default/gw:443"),
        )
    }

    #[test]
    fn the_most_specific_listener_is_chosen() {
        let hostnames = [
            "",
            "second-example.org",
            "*.wildcard.org",
            "fourth-example.wildcard.org",
            "*.deep.wildcard.org",
        ];
        let frontend = frontend(&hostnames);
        for (name, expected) in [
            (Some("second-example.org"), "second-example.org"),
            (Some("fourth-example.wildcard.org"), "fourth-example.wildcard.org"),
            (Some("third-example.wildcard.org"), "*.wildcard.org"),
            (Some("a.deep.wildcard.org"), "*.deep.wildcard.org"),
            (Some("deep.wildcard.org"), "*.wildcard.org"),
            (Some("wildcard.org"), ""),
            (Some("other.org"), ""),
            (Some("second-example.org."), "second-example.org"),
            (None, ""),
        ] {
            let found = frontend.for_server_name(name).map(|listener| listener.name.as_ref());
            assert_eq!(found, Some(expected), "{name:?}");
        }
        assert_eq!(&*frontend.for_host("a.wildcard.org").unwrap().name, "*.wildcard.org");
    }

    #[test]
    fn without_a_server_name_only_the_listener_without_hostname_will_do() {
        let frontend = frontend(&["example.org", "*.example.org"]);
        assert!(frontend.for_server_name(None).is_none());
        assert!(frontend.for_server_name(Some("example.com")).is_none());
        assert!(frontend.for_host("example.com").is_none());
    }
}
