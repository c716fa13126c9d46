//! Server material: the rustls configuration of a listener, made of its certificates, keys and trust.
//!
//! The only place where private keys are opened. A configuration does not change; the same inputs make one that opens
//! the same tickets.

use std::cmp::Reverse;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{ServerConfig, SignatureAlgorithm, version};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate::{AltName, Certificate, Reader, SEQUENCE};
use super::provider::provider;
use super::tickets::TicketKeys;
use super::trust::TrustDomain;
use super::verifier::ClientVerifier;
use crate::model::{CertificateChain, FrontendId, RevocationAnswer, TlsTermination};

/// Protocols offered by ALPN, the preferred one first.
pub(super) const ALPN_H2: &[u8] = b"h2";
pub(super) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// TLS of one listener, ready to accept with.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Certificates, tickets, protocols, and the verifier of `trust`.
    pub config: Arc<ServerConfig>,
    /// What client certificates are verified against; `None`: clients are not asked for one.
    pub trust: Option<Arc<TrustDomain>>,
}

/// A listener's TLS cannot be set up. Names the certificate's source where it is at fault.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// There is nothing to serve.
    #[error("{listener} has no server certificate")]
    NoCertificate {
        /// The listener.
        listener: String,
    },
    /// The policy asks for client certificates and no trust domain was given, or the reverse.
    #[error("{listener}: trust and client validation do not belong together")]
    Trust {
        /// The listener.
        listener: String,
    },
    /// The chain is empty or its leaf is not DER.
    #[error("{certificate}: the certificate cannot be read")]
    Certificate {
        /// The source of the certificate.
        certificate: Arc<str>,
    },
    /// The PEM holds no private key that is understood.
    #[error("{certificate}: the private key cannot be read: {cause}")]
    Key {
        /// The source of the certificate.
        certificate: Arc<str>,
        /// What is wrong; never a part of the key.
        cause: String,
    },
    /// Key and certificate are not a pair.
    #[error("{certificate}: the private key is not that of the certificate")]
    Mismatch {
        /// The source of the certificate.
        certificate: Arc<str>,
    },
    /// rustls does not take the configuration.
    #[error("{listener}: {source}")]
    Config {
        /// The listener.
        listener: String,
        /// Why not.
        source: rustls::Error,
    },
}

impl MaterialError {
    /// The sources of the certificates that are at fault; all of the listener's where it cannot be told which.
    pub fn certificates(&self, termination: &TlsTermination) -> Vec<String> {
        match self {
            Self::Certificate { certificate }
            | Self::Key { certificate, .. }
            | Self::Mismatch { certificate } => {
                vec![certificate.to_string()]
            }
            Self::NoCertificate { .. } | Self::Trust { .. } | Self::Config { .. } => {
                termination.certificates.iter().map(|chain| chain.source.to_string()).collect()
            }
        }
    }
}

/// Makes a listener's TLS. `listener` is its name within the frontend; `trust` is present exactly if the termination
/// validates clients.
///
/// # Errors
/// If a certificate or key cannot be used: such a listener must not be served.
pub fn server_tls(
    frontend: &FrontendId,
    listener: &str,
    termination: &TlsTermination,
    trust: Option<Arc<TrustDomain>>,
    tickets: &TicketKeys,
) -> Result<ServerTls, MaterialError> {
    let name = || format!("{frontend} {listener}");
    if trust.is_some() != termination.client.is_some() {
        return Err(MaterialError::Trust { listener: name() });
    }
    let certificates =
        termination.certificates.iter().map(|chain| ServerCertificate::load(chain, provider()));
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(MaterialError::NoCertificate { listener: name() });
    }
    let builder = ServerConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|source| MaterialError::Config { listener: name(), source })?;
    let builder = match &trust {
        Some(trust) => builder.with_client_cert_verifier(Arc::new(ClientVerifier::new(trust.clone()))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ServerCertificates(certificates)));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let context = ticket_context(frontend, listener, trust.as_deref());
    let told_in_handshake = trust.clone().filter(|trust| trust.answer() == RevocationAnswer::TlsAlert);
    config.ticketer = Arc::new(tickets.ticketer(context, told_in_handshake));
    // One is enough: clients that open many connections get one with each. A request that comes with the ticket could
    // be replayed, so there is none (0-RTT).
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(ServerTls { config: Arc::new(config), trust })
}

/// What tickets are bound to.
fn ticket_context(frontend: &FrontendId, listener: &str, trust: Option<&TrustDomain>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [&*frontend.gateway.namespace, &*frontend.gateway.name, listener] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(&frontend.port.to_be_bytes());
    context.update(&[u8::from(trust.is_some())]);
    context.update(&trust.map_or([0; 32], TrustDomain::id));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The certificates of a listener.
#[derive(Debug)]
struct ServerCertificates(Vec<ServerCertificate>);

#[derive(Debug)]
struct ServerCertificate {
    key: Arc<CertifiedKey>,
    /// dNSName subjectAltNames in lower case; names of any other kind choose nothing.
    names: Vec<String>,
}

impl ServerCertificate {
    fn load(chain: &CertificateChain, provider: &CryptoProvider) -> Result<Self, MaterialError> {
        let source = || chain.source.clone();
        let leaf = chain.chain.first().and_then(|der| Certificate::read(der));
        let leaf = leaf.ok_or_else(|| MaterialError::Certificate { certificate: source() })?;
        let key = PrivateKeyDer::from_pem_slice(chain.key.expose())
            .map_err(|error| MaterialError::Key { certificate: source(), cause: error.to_string() })?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| MaterialError::Key { certificate: source(), cause: error.to_string() })?;
        if !is_key_of(&*key, &leaf) {
            return Err(MaterialError::Mismatch { certificate: source() });
        }
        let names = leaf.alt_names().filter_map(|name| match name {
            AltName::Dns(name) => Some(name.to_ascii_lowercase()),
            AltName::Uri(_) => None,
        });
        Ok(Self { names: names.collect(), key: Arc::new(CertifiedKey::new(chain.chain.clone(), key)) })
    }

    /// How well it fits a server name: 2 exactly, 1 by a wildcard for one label (RFC 9525 §6.3), 0 not at all.
    fn fits(&self, server_name: &str) -> u8 {
        let parent = server_name.split_once('.').map(|(_, parent)| parent);
        let fit = |name: &String| {
            if name == server_name {
                2
            } else {
                u8::from(name.strip_prefix("*.").is_some_and(|suffix| Some(suffix) == parent))
            }
        };
        self.names.iter().map(fit).max().unwrap_or(0)
    }
}

impl ResolvesServerCert for ServerCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let server_name = server_name.trim_end_matches('.');
        let usable = |certificate: &&ServerCertificate| {
            certificate.key.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // Of equally fitting ones that with the cheaper signature, then the first.
        let rank = |(index, certificate): &(usize, &ServerCertificate)| {
            let cheap = certificate.key.key.algorithm() != SignatureAlgorithm::RSA;
            (certificate.fits(server_name), cheap, Reverse(*index))
        };
        let best = self.0.iter().filter(usable).enumerate().max_by_key(rank);
        // With none that the client can verify rustls finds the fault itself and says handshake_failure.
        best.map(|(_, certificate)| certificate).or(self.0.first()).map(|certificate| certificate.key.clone())
    }
}

/// Whether a key belongs to a certificate. The key bits are compared and not the algorithm identifiers, which can be
/// written in more than one way; a key that does not tell its public half is taken at its word.
fn is_key_of(key: &dyn SigningKey, certificate: &Certificate<'_>) -> bool {
    let bits = |spki: &[u8]| {
        let mut parts = Reader(Reader(spki).value(SEQUENCE)?);
        parts.next()?;
        parts.next().map(|(_, _, bits)| bits.to_vec())
    };
    key.public_key().is_none_or(|spki| bits(&spki) == bits(certificate.spki))
}

#[cfg(test)]
mod tests;
