//! The upstream side: endpoints, pools, exchanges.
//!
//! In come a backend of the snapshot and a request of an admitted client; out comes the backend's answer, the
//! connection itself where both agreed to leave HTTP, or an [`UpstreamError`] with its reason. [`Pool::lease`] chooses an endpoint and [`Lease::exchange`] sends one request to
//! it: everything about connections stays behind these two. Which backend a request goes to, what is done to its
//! headers and how long it may take is decided by `http`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Backend, BackendKey, BackendProtocol, Endpoint};
use crate::telemetry::{BackendMetrics, EndpointState};

pub mod body;
mod connect;
mod endpoint;
pub mod error;
pub mod h1;
mod names;
pub mod pick;
pub mod pool;
pub mod switched;

pub use body::UpstreamBody;
pub use error::UpstreamError;
pub use pool::{Exchanged, Lease, Limits, Pool};
pub use switched::Switched;

/// A backend as the data plane sees it. A snapshot keeps the handle of the former one where nothing changed, and each
/// worker keeps its pool under the handle's number.
#[derive(Debug)]
pub struct Upstream {
    id: u64,
    backend: Arc<Backend>,
    /// Endpoints as logs show them, in the order of the backend's.
    labels: Vec<Arc<str>>,
    metrics: Arc<BackendMetrics>,
}

impl Upstream {
    /// A handle with a number of its own.
    pub fn new(backend: Arc<Backend>, metrics: Arc<BackendMetrics>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let labels = backend.endpoints.iter().map(|endpoint| endpoint.to_string().into()).collect();
        metrics.endpoints(EndpointState::Healthy, backend.endpoints.len());
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), backend, labels, metrics }
    }

    /// Told apart from every other handle of the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name across reloads.
    pub fn key(&self) -> &BackendKey {
        &self.backend.key
    }

    /// What it was made from: a handle can be kept as long as this is equal.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Its name in logs and metrics.
    pub fn label(&self) -> &Arc<str> {
        self.metrics.name()
    }

    /// What its endpoints speak.
    pub fn protocol(&self) -> BackendProtocol {
        self.backend.protocol
    }

    /// Its ready endpoints with their text.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = (&Endpoint, &Arc<str>)> {
        self.backend.endpoints.iter().zip(&self.labels)
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<BackendMetrics> {
        &self.metrics
    }
}
