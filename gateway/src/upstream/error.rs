//! What goes wrong with a backend, and what the client is told of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Reason;

/// Why there is no answer of the backend.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// There is nobody to ask.
    #[error("no ready endpoint")]
    NoEndpoints,
    /// As many connections as may be are open to the endpoint.
    #[error("{endpoint}: {connections_max} connections are open already")]
    ConnectionsMax {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The limit.
        connections_max: usize,
    },
    /// The name, the connection or the protocol's beginning failed.
    #[error("connecting to {endpoint}: {cause}")]
    Connect {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What the system said.
        cause: io::Error,
    },
    /// No connection in time.
    #[error("connecting to {endpoint} took more than {timeout:?}")]
    ConnectTimeout {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The limit.
        timeout: Duration,
    },
    /// The request's own body failed: the client is to blame.
    #[error("reading the request's body: {0}")]
    RequestBody(hyper::Error),
    /// The connection ended before the answer's head.
    #[error("{endpoint} closed before it answered: {cause}")]
    Closed {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What was met.
        cause: hyper::Error,
    },
    /// The answer is no HTTP.
    #[error("{endpoint} answered nonsense: {cause}")]
    Malformed {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What was met.
        cause: hyper::Error,
    },
    /// A 101 that nobody asked for: what follows it would be taken for answers to other clients.
    #[error("{endpoint} switched protocols unasked")]
    UnaskedUpgrade {
        /// The endpoint.
        endpoint: Arc<str>,
    },
}

impl UpstreamError {
    /// The reason that the client is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoEndpoints => Reason::NoEndpoints,
            Self::ConnectionsMax { .. } => Reason::Overloaded,
            Self::Connect { .. } => Reason::UpstreamConnectFailed,
            Self::ConnectTimeout { .. } => Reason::UpstreamConnectTimeout,
            Self::RequestBody(_) => Reason::ClientClosed,
            Self::Closed { .. } => Reason::UpstreamClosed,
            Self::Malformed { .. } | Self::UnaskedUpgrade { .. } => Reason::UpstreamProtocol,
        }
    }

    /// Sorts what hyper's client met between a request's head and its answer's.
    pub(super) fn exchange(endpoint: &Arc<str>, cause: hyper::Error) -> Self {
        if cause.is_user() {
            Self::RequestBody(cause)
        } else if cause.is_parse() || cause.is_parse_too_large() {
            Self::Malformed { endpoint: Arc::clone(endpoint), cause }
        } else {
            Self::Closed { endpoint: Arc::clone(endpoint), cause }
        }
    }
}
