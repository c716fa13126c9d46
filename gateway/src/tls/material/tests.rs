use std::time::Duration;

use rcgen::{KeyPair, SanType};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::io::duplex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::*;
use crate::model::ValidationMode;
use crate::tls::accept;
use crate::tls::fixtures::{Naive, chain, client, dns, domain, frontend, self_signed, termination};
use crate::tls::pki::{Ca, now};

#[tokio::test]
async fn the_certificate_that_fits() {
    let ecdsa = || KeyPair::generate().unwrap();
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let certificates = vec![
        self_signed(&[dns("first.test")], &ecdsa()),
        self_signed(&[dns("*.org")], &rsa),
        self_signed(&[dns("*.org"), SanType::URI("*".try_into().unwrap())], &ecdsa()),
        self_signed(&[dns("www.example.org"), dns("example.org")], &rsa),
    ];
    let expected = |index: usize| certificates[index].chain[0].clone();
    let termination = TlsTermination { certificates: certificates.clone(), client: None };
    let tls = server_tls(&frontend(), "https", &termination, None, &TicketKeys::generate().unwrap()).unwrap();
    let rsa_alone = |mut config: ClientConfig| {
        let mut provider = (**provider()).clone();
        provider.cipher_suites.retain(|suite| suite.suite().as_str().unwrap().contains("_RSA_"));
        config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Naive(None)))
            .with_client_cert_resolver(config.client_auth_cert_resolver.clone());
        config.resumption = Resumption::disabled();
        config
    };
    let any = client(None, &version::TLS13);
    let deadline = Instant::now() + Duration::from_secs(20);
    for (name, config, certificate) in [
        ("example.org", any.clone(), 3),
        ("api.org", any.clone(), 2),
        ("api.org", rsa_alone(any.clone()), 1),
        ("a.b.org", any.clone(), 0),
        ("10.0.0.1", any.clone(), 0),
        ("10.0.0.1", rsa_alone(any.clone()), 1),
    ] {
        let (near, far) = duplex(64 * 1024);
        let connector = TlsConnector::from(Arc::new(config));
        let connect = connector.connect(ServerName::try_from(name).unwrap(), far);
        let (accepted, stream) =
            tokio::join!(accept(near, |_| Some(((), tls.clone())), deadline, now()), connect);
        accepted.map(drop).map_err(|refused| refused.detail).expect(name);
        let stream = stream.unwrap();
        let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
        assert_eq!(*shown, expected(certificate), "{name}");
    }
}

#[test]
fn material_that_cannot_be_used_names_its_source() {
    let good = termination(None).certificates[0].clone();
    let tickets = TicketKeys::generate().unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let source = "Secret test-infra/broken";
    for (description, certificate, words) in [
        ("no chain", chain(source, Vec::new(), &other), "certificate cannot be read"),
        ("no PEM", chain(source, good.chain.clone(), "x"), "private key cannot be read"),
        ("another key", chain(source, good.chain.clone(), &other), "not that of the certificate"),
    ] {
        let termination = TlsTermination { certificates: vec![good.clone(), certificate], client: None };
        let error = server_tls(&frontend(), "https", &termination, None, &tickets).unwrap_err().to_string();
        assert!(error.contains(source) && error.contains(words), "{description}: {error}");
    }
    let none = TlsTermination { certificates: Vec::new(), client: None };
    assert!(server_tls(&frontend(), "https", &none, None, &tickets).is_err());
    let trust = domain(&[&Ca::root("root").der], ValidationMode::AllowValidOnly);
    let unasked = server_tls(&frontend(), "https", &termination(None), Some(trust), &tickets);
    assert!(matches!(unasked, Err(MaterialError::Trust { .. })));
}
