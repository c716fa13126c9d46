//! What is listened on: frontends (a Gateway's port) and the listeners that share one.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::name::{Hostname, ObjectName};
use super::revocation::ClientRevocation;
use super::route::Rule;
use super::secret::PrivateKeyPem;
use super::trust::{CrlMaterial, TrustBundle};

/// Names a frontend across reloads: one Gateway's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendId {
    /// The Gateway.
    pub gateway: ObjectName,
    /// The listeners' port as the document has it (a port map may bind another).
    pub port: u16,
}

impl fmt::Display for FrontendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.gateway, self.port)
    }
}

/// What a frontend's sockets speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Cleartext HTTP/1.1, and HTTP/2 with prior knowledge.
    Http,
    /// TLS, then HTTP/1.1 or HTTP/2 by ALPN.
    Https,
}

/// A group of listeners behind the same sockets.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// Its name across reloads.
    pub id: FrontendId,
    /// What its sockets speak; the same for all its listeners.
    pub protocol: Protocol,
    /// Addresses to bind; never empty; may be unspecified (`0.0.0.0`, `::`).
    pub addresses: Vec<IpAddr>,
    /// The port to bind: `id.port`, or what a port map makes of it.
    pub bind_port: u16,
    /// Each connection begins with a PROXY header, which only trusted proxies may send.
    pub proxy_protocol: bool,
    /// The listeners that are accepted, with distinct hostnames.
    pub listeners: Vec<Listener>,
}

/// One accepted listener with the rules of every route attached to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// `namespace/gateway/section`, as metrics and logs show it.
    pub name: Arc<str>,
    /// `None` takes every host.
    pub hostname: Option<Hostname>,
    /// Present exactly on HTTPS listeners.
    pub tls: Option<TlsTermination>,
    /// Rules in no particular order; `route` puts them in the specification's.
    pub rules: Vec<Rule>,
}

/// How an HTTPS listener ends TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsTermination {
    /// Server certificates, at least one; the client's server name and signature schemes choose.
    pub certificates: Vec<Arc<CertificateChain>>,
    /// `None`: clients are not asked for a certificate.
    pub client: Option<ClientValidation>,
}

/// A server certificate with its chain and key.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateChain {
    /// The object it came from (`Secret ns/name`).
    pub source: Arc<str>,
    /// Leaf first; at least one.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyPem,
}

/// How client certificates are judged in the handshake.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientValidation {
    /// What happens to a client without a valid certificate.
    pub mode: ValidationMode,
    /// What a chain must lead to; holds at least one anchor.
    pub trust: Arc<TrustBundle>,
    /// If not empty, the leaf must carry one of these (DNS or URI subjectAltName, compared exactly; DNS names without
    /// regard to case).
    pub subject_alt_names: Vec<Arc<str>>,
    /// The policy on revoked certificates; `None`: what stands beside the anchors decides.
    pub revocation: Option<ClientRevocation>,
}

impl ClientValidation {
    /// The revocation material in force: a policy's replaces that beside the anchors.
    pub fn crls(&self) -> &[CrlMaterial] {
        self.revocation.as_ref().map_or(&self.trust.crls, |revocation| &revocation.crls)
    }
}

/// Gateway API `FrontendValidationModeType` (GEP-91).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValidationMode {
    /// A missing or invalid certificate ends the handshake.
    AllowValidOnly,
    /// Any client may go on; only verified ones are labelled as such.
    AllowInsecureFallback,
}
