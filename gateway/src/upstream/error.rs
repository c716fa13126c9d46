//! What goes wrong with a backend, and what the client is told of it.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::RequestBody;
use super::h1::Broken;
use crate::model::Reason;
use crate::telemetry::Limit;

/// What was met, in whose words ever.
pub type Cause = Box<dyn Error + Send + Sync>;

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
    /// As many connections as may be are being made to the endpoint.
    #[error("{endpoint}: {connects_max} connections are being made already")]
    ConnectsMax {
        /// The endpoint.
        endpoint: Arc<str>,
        /// The limit.
        connects_max: usize,
    },
    /// The endpoint's name leads nowhere, and never did as far as is remembered.
    #[error("{endpoint} does not resolve: {why}")]
    Unresolved {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What the resolver said.
        why: Arc<str>,
    },
    /// The connection or the protocol's beginning failed.
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
    RequestBody(Cause),
    /// The connection ended before the answer's head.
    #[error("{endpoint} closed before it answered: {cause}")]
    Closed {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What was met.
        cause: Cause,
    },
    /// The answer is not HTTP, or not without ambiguity.
    #[error("{endpoint} gave a malformed answer: {cause}")]
    Malformed {
        /// The endpoint.
        endpoint: Arc<str>,
        /// What was met.
        cause: Cause,
    },
}

impl UpstreamError {
    /// The reason that the client is told.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoEndpoints | Self::Unresolved { .. } => Reason::NoEndpoints,
            Self::ConnectionsMax { .. } | Self::ConnectsMax { .. } => Reason::Overloaded,
            Self::Connect { .. } => Reason::UpstreamConnectFailed,
            Self::ConnectTimeout { .. } => Reason::UpstreamConnectTimeout,
            Self::RequestBody(_) => Reason::ClientClosed,
            Self::Closed { .. } => Reason::UpstreamClosed,
            Self::Malformed { .. } => Reason::UpstreamProtocol,
        }
    }

    /// The limit that was hit, if it was one.
    pub(super) fn limit(&self) -> Option<Limit> {
        match self {
            Self::ConnectionsMax { .. } => Some(Limit::UpstreamConnectionsMax),
            Self::ConnectsMax { .. } => Some(Limit::UpstreamConnectsMax),
            Self::ConnectTimeout { .. } => Some(Limit::ConnectTimeout),
            _ => None,
        }
    }

    /// Sorts what was met on HTTP/1.1 between a request's head and its answer's.
    pub(super) fn http1<B: RequestBody>(endpoint: &Arc<str>, broken: Broken<B>) -> Self {
        let endpoint = Arc::clone(endpoint);
        match broken {
            Broken::Unanswered(_, cause) | Broken::Ended(cause) => {
                Self::Closed { endpoint, cause: cause.into() }
            }
            Broken::Malformed(fault) => Self::Malformed { endpoint, cause: fault.into() },
            Broken::Body(cause) => Self::RequestBody(cause.into()),
            Broken::BodyLength => Self::RequestBody("it is not as long as it said".into()),
        }
    }

    /// The same on HTTP/2.
    pub(super) fn http2(endpoint: &Arc<str>, cause: hyper::Error) -> Self {
        let endpoint = Arc::clone(endpoint);
        if cause.is_user() {
            Self::RequestBody(cause.into())
        } else if cause.is_parse() || cause.is_parse_too_large() {
            Self::Malformed { endpoint, cause: cause.into() }
        } else {
            Self::Closed { endpoint, cause: cause.into() }
        }
    }
}
