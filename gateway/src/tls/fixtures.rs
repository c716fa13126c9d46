//! Listeners and a client for the tests of this module.

use std::sync::Arc;

use rcgen::{IsCa, KeyPair, SanType};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::pki::{Holder, bundle, params};
use super::{ServerTls, TicketKeys, TrustDomain, provider, server_tls};
use crate::model::secret::PrivateKeyPem;
use crate::model::{
    CertificateChain, ClientValidation, FrontendId, ObjectName, TlsTermination, ValidationMode,
};

/// A client that trusts every server and shows what it is given.
#[derive(Debug)]
pub(crate) struct Naive(pub(crate) Option<Arc<CertifiedKey>>);

impl ServerCertVerifier for Naive {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Naive {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

pub(crate) fn client(holder: Option<&Holder>, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let shown = holder.map(|holder| {
        let key = provider().key_provider.load_private_key(holder.key()).unwrap();
        Arc::new(CertifiedKey::new(holder.chain.clone(), key))
    });
    ClientConfig::builder_with_provider(provider().clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Naive(None)))
        .with_client_cert_resolver(Arc::new(Naive(shown)))
}

pub(crate) fn frontend() -> FrontendId {
    FrontendId { gateway: ObjectName::new("test-infra", "gateway-01"), port: 443 }
}

pub(crate) fn chain(
    source: &str,
    chain: Vec<CertificateDer<'static>>,
    key_pem: &str,
) -> Arc<CertificateChain> {
    let key = PrivateKeyPem::new(key_pem.as_bytes().to_vec());
    Arc::new(CertificateChain { source: source.into(), chain, key })
}

pub(crate) fn self_signed(names: &[SanType], key: &KeyPair) -> Arc<CertificateChain> {
    let mut params = params("server");
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = names.to_vec();
    let der = params.self_signed(key).unwrap().der().clone();
    chain("Secret test-infra/listener-tls-secret", vec![der], &key.serialize_pem())
}

pub(crate) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub(crate) fn termination(client: Option<ClientValidation>) -> TlsTermination {
    let names = [dns("*.org"), SanType::URI("*".try_into().unwrap())];
    TlsTermination { certificates: vec![self_signed(&names, &KeyPair::generate().unwrap())], client }
}

pub(crate) fn validating(trust: &Arc<TrustDomain>, listener: &str, tickets: &TicketKeys) -> ServerTls {
    let validation = ClientValidation {
        mode: trust.mode(),
        trust: trust.bundle().clone(),
        subject_alt_names: Vec::new(),
        revocation: None,
    };
    server_tls(&frontend(), listener, &termination(Some(validation)), Some(trust.clone()), tickets).unwrap()
}

pub(crate) fn domain(anchors: &[&CertificateDer<'static>], mode: ValidationMode) -> Arc<TrustDomain> {
    Arc::new(TrustDomain::new(bundle(anchors), mode, Vec::new()).unwrap())
}

pub(crate) fn tls(anchors: &[&CertificateDer<'static>], mode: ValidationMode) -> ServerTls {
    validating(&domain(anchors, mode), "https", &TicketKeys::generate().unwrap())
}
