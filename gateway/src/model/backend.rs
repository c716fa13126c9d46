//! Where requests go.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::name::ObjectName;

/// Names a backend across reloads: a Service's port or an own `Backend`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendKey {
    /// A port of a Service.
    Service(ObjectName, u16),
    /// A `gateway.yett.dev` Backend.
    Backend(ObjectName),
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name, port) => write!(f, "{name}:{port}"),
            Self::Backend(name) => write!(f, "{name}"),
        }
    }
}

/// A backend with its ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name across reloads; also the metric label.
    pub key: BackendKey,
    /// What its endpoints speak.
    pub protocol: BackendProtocol,
    /// Ready endpoints; may be empty (then requests get 503).
    pub endpoints: Vec<Endpoint>,
}

/// What a backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendProtocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`).
    H2c,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address or name; a name is resolved when connecting.
    pub host: EndpointHost,
    /// TCP port.
    pub port: u16,
}

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointHost {
    /// A literal address.
    Address(IpAddr),
    /// A DNS name.
    Name(Arc<str>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            EndpointHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            EndpointHost::Address(address) => write!(f, "{address}:{}", self.port),
            EndpointHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
