use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::fixtures::{client, dns, domain, frontend, termination, tls, validating};
use crate::tls::pki::{Ca, Holder, bundle, now, openssl_v1};
use crate::tls::revocation::admit;
use crate::tls::{TicketKeys, TrustDomain, provider, server_tls};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

type Outcome = Result<Accepted<DuplexStream, ()>, Box<Refused<DuplexStream, ()>>>;

/// One connection: what became of it here, and the alert that the client read.
async fn connect(config: &ClientConfig, tls: &ServerTls) -> (Outcome, Option<AlertDescription>) {
    connect_at(config, tls, "example.org", now()).await
}

async fn connect_at(
    config: &ClientConfig,
    tls: &ServerTls,
    name: &'static str,
    now: i64,
) -> (Outcome, Option<AlertDescription>) {
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let mut outcome = accept(near, |_| Some(((), tls.clone())), soon(), now).await;
        match &mut outcome {
            Ok(accepted) => accepted.io.write_all(b"hello").await.unwrap(),
            Err(refused) => drop(refused.stream.take()),
        }
        outcome
    };
    let client = async {
        let connector = TlsConnector::from(Arc::new(config.clone()));
        let mut greeting = [0; 5];
        let result = match connector.connect(ServerName::try_from(name).unwrap(), far).await {
            Ok(mut stream) => stream.read_exact(&mut greeting).await.map(drop),
            Err(error) => Err(error),
        };
        match result.err()?.downcast::<Error>().ok()? {
            Error::AlertReceived(alert) => Some(alert),
            other => panic!("{other}"),
        }
    };
    tokio::join!(server, client)
}

#[tokio::test]
async fn refusals_end_in_the_promised_alerts() {
    let root = Ca::root("root");
    let tls = tls(&[&root.der], ValidationMode::AllowValidOnly);
    let plain = || root.client("c", |_| {});
    let damaged = {
        let mut holder = plain();
        holder.chain[0] = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        holder
    };
    let other_key = Holder { key_pem: KeyPair::generate().unwrap().serialize_pem(), ..plain() };
    let table = [
        ("no certificate", None, Reason::NoCertificate, 116),
        ("an unknown authority", Some(Ca::root("other").client("c", |_| {})), Reason::UnknownCa, 48),
        ("an authority of equal name", Some(Ca::root("root").client("c", |_| {})), Reason::BadSignature, 51),
        (
            "expired",
            Some(root.client("c", |params| params.not_after = rcgen::date_time_ymd(2024, 1, 1))),
            Reason::CertificateExpired,
            45,
        ),
        (
            "not valid yet",
            Some(root.client("c", |params| params.not_before = rcgen::date_time_ymd(2048, 1, 1))),
            Reason::CertificateNotYetValid,
            45,
        ),
        (
            "for servers",
            Some(root.client("c", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
            Reason::WrongUsage,
            43,
        ),
        ("unreadable", Some(damaged), Reason::BadCertificate, 42),
        ("somebody else's", Some(other_key), Reason::BadSignature, 51),
        (
            "an authority's own",
            Some(root.client("c", |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained))),
            Reason::CertificateUnknown,
            46,
        ),
    ];
    for (description, holder, reason, alert) in &table {
        for version in VERSIONS {
            let (outcome, read) = connect(&client(holder.as_ref(), version), &tls).await;
            let refused = outcome.expect_err(description);
            let what = format!("{description}, {version:?}: {}", refused.detail);
            assert_eq!((refused.reason, read.map(u8::from)), (*reason, Some(*alert)), "{what}");
            assert_eq!(refused.alert, read, "{what}");
            assert_eq!(refused.identity.is_some(), holder.is_some(), "{what}");
            assert_eq!(refused.tls.map(|tls| tls.version), Some(version.version), "{what}");
            assert_eq!(refused.server_name.as_deref(), Some("example.org"), "{what}");
            assert!(refused.listener.is_some() && refused.hello, "{what}");
        }
    }
}

#[tokio::test]
async fn names_that_the_policy_does_not_allow() {
    let root = Ca::root("root");
    let allowed = vec!["good.test".into()];
    let trust = TrustDomain::new(bundle(&[&root.der]), ValidationMode::AllowValidOnly, allowed).unwrap();
    let tls = validating(&Arc::new(trust), "https", &TicketKeys::generate().unwrap());
    for version in VERSIONS {
        let good = root.client("c", |params| params.subject_alt_names = vec![dns("good.test")]);
        let bad = root.client("c", |params| params.subject_alt_names = vec![dns("bad.test")]);
        assert!(connect(&client(Some(&good), version), &tls).await.0.is_ok());
        let (outcome, alert) = connect(&client(Some(&bad), version), &tls).await;
        let refused = outcome.unwrap_err();
        assert_eq!((refused.reason, alert.map(u8::from)), (Reason::NameNotAllowed, Some(46)));
        assert_eq!(&*refused.identity.unwrap().name, "bad.test");
    }
}

#[tokio::test]
async fn a_verified_client_and_what_was_agreed_on() {
    let root = Ca::root("root");
    let holder = root.intermediate("middle", |_| {}).client("c", |_| {});
    let tls = tls(&[&root.der], ValidationMode::AllowValidOnly);
    for (version, cipher, group) in [
        (&version::TLS13, "TLS_AES_256_GCM_SHA384", "X25519MLKEM768"),
        (&version::TLS12, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "x25519"),
    ] {
        for (offered, chosen) in
            [(&[][..], Alpn::Http1), (&["http/1.1"], Alpn::Http1), (&["http/1.1", "h2"], Alpn::H2)]
        {
            let mut config = client(Some(&holder), version);
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let accepted = connect(&config, &tls).await.0.unwrap();
            assert_eq!(accepted.tls.version, version.version);
            assert_eq!((accepted.tls.cipher, accepted.tls.group), (Some(cipher), Some(group)));
            assert_eq!((accepted.tls.alpn, accepted.tls.resumed, accepted.x509_v1), (chosen, false, false));
            let Credential::Verified(peer) = &accepted.credential else {
                panic!("{:?}", accepted.credential)
            };
            assert_eq!(&*peer.identity().subject, "CN=c");
            assert!(admit(&accepted.credential, tls.trust.as_ref(), now()).is_ok());
        }
    }
}

#[tokio::test]
async fn v1_certificates_of_openssl() {
    let (root, holder) = openssl_v1("/CN=contoso-root", "/CN=contoso-client");
    let tls = tls(&[&root], ValidationMode::AllowValidOnly);
    for version in VERSIONS {
        let config = client(Some(&holder), version);
        for resumed in [false, true] {
            let accepted = connect(&config, &tls).await.0.unwrap();
            assert_eq!((accepted.tls.resumed, accepted.x509_v1), (resumed, true), "{version:?}");
            assert!(matches!(accepted.credential, Credential::Verified(_)));
        }
        let stolen =
            Holder { chain: holder.chain.clone(), key_pem: KeyPair::generate().unwrap().serialize_pem() };
        let (outcome, alert) = connect(&client(Some(&stolen), version), &tls).await;
        assert_eq!((outcome.unwrap_err().reason, alert.map(u8::from)), (Reason::BadSignature, Some(51)));
    }
}

#[tokio::test]
async fn fallback_lets_everybody_on_and_calls_only_the_verified_verified() {
    let root = Ca::root("root");
    let tls = tls(&[&root.der], ValidationMode::AllowInsecureFallback);
    let (_, v1) = openssl_v1("/CN=other", "/CN=v1");
    let critical = root.client("critical", |params| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    });
    let table = [
        (None, ""),
        (Some(root.client("good", |_| {})), "verified"),
        (Some(Ca::root("root").client("twin", |_| {})), "unverified"),
        (Some(root.client("old", |p| p.not_after = rcgen::date_time_ymd(2024, 1, 1))), "unverified"),
        (Some(critical), "unverified"),
        (Some(v1), "unverified"),
    ];
    for (holder, expected) in &table {
        for version in VERSIONS {
            let config = client(holder.as_ref(), version);
            for resumed in [false, true] {
                let accepted = connect(&config, &tls).await.0.unwrap();
                let found = match &accepted.credential {
                    Credential::None => "",
                    Credential::Unverified(_) => "unverified",
                    Credential::Verified(_) => "verified",
                };
                assert_eq!((found, accepted.tls.resumed), (*expected, resumed), "{version:?}");
            }
        }
    }
    // Whoever shows a certificate must have its key, and a certificate without a key cannot be shown.
    let stolen = Holder { key_pem: KeyPair::generate().unwrap().serialize_pem(), ..root.client("c", |_| {}) };
    let junk = Holder { chain: vec![CertificateDer::from(vec![1, 2, 3])], ..root.client("c", |_| {}) };
    for version in VERSIONS {
        let (outcome, alert) = connect(&client(Some(&stolen), version), &tls).await;
        assert_eq!((outcome.unwrap_err().reason, alert.map(u8::from)), (Reason::BadSignature, Some(51)));
        let (outcome, alert) = connect(&client(Some(&junk), version), &tls).await;
        assert_eq!((outcome.unwrap_err().reason, alert.map(u8::from)), (Reason::BadCertificate, Some(42)));
    }
}

#[tokio::test]
async fn tickets_are_good_for_the_same_listener_and_rules_alone() {
    let (root, twin) = (Ca::root("root"), Ca::root("root"));
    let holder = root.client("c", |_| {});
    let tickets = TicketKeys::generate().unwrap();
    let strict = || domain(&[&root.der], ValidationMode::AllowValidOnly);
    let made = |trust: Arc<TrustDomain>, listener: &str| validating(&trust, listener, &tickets);
    for version in VERSIONS {
        for (description, second, resumes) in [
            ("rebuilt from equal inputs", made(strict(), "https"), true),
            ("another listener", made(strict(), "other"), false),
            (
                "another authority of equal name beside",
                {
                    let both = [&root.der, &twin.der];
                    made(domain(&both, ValidationMode::AllowValidOnly), "https")
                },
                false,
            ),
            (
                "another mode",
                made(domain(&[&root.der], ValidationMode::AllowInsecureFallback), "https"),
                false,
            ),
            ("another process", validating(&strict(), "https", &TicketKeys::generate().unwrap()), false),
        ] {
            let config = client(Some(&holder), version);
            assert!(!connect(&config, &made(strict(), "https")).await.0.unwrap().tls.resumed);
            let accepted = connect(&config, &second).await.0.unwrap();
            assert_eq!(accepted.tls.resumed, resumes, "{description}, {version:?}");
            assert!(matches!(accepted.credential, Credential::Verified(_)), "{description}");
        }
    }
    // The authority is gone: the ticket opens to nothing, and the full handshake fails.
    let config = client(Some(&holder), &version::TLS13);
    assert!(connect(&config, &made(strict(), "https")).await.0.is_ok());
    let gone = made(domain(&[&twin.der], ValidationMode::AllowValidOnly), "https");
    assert_eq!(connect(&config, &gone).await.0.unwrap_err().reason, Reason::BadSignature);
    // A session without a certificate is not worth one.
    let none = client(None, &version::TLS13);
    let open = server_tls(&frontend(), "https", &termination(None), None, &tickets).unwrap();
    assert!(connect(&none, &open).await.0.is_ok());
    let outcome = connect(&none, &made(strict(), "https")).await.0;
    assert_eq!(outcome.unwrap_err().reason, Reason::NoCertificate);
}

#[tokio::test]
async fn one_ticket_and_no_early_data() {
    let root = Ca::root("root");
    let tls = tls(&[&root.der], ValidationMode::AllowValidOnly);
    assert_eq!((tls.config.send_tls13_tickets, tls.config.max_early_data_size), (1, 0));
    assert!(!tls.config.session_storage.can_cache());
    let mut config = client(Some(&root.client("c", |_| {})), &version::TLS13);
    config.enable_early_data = true;
    assert!(connect(&config, &tls).await.0.is_ok());
    assert!(connect(&config, &tls).await.0.unwrap().tls.resumed);
}

#[tokio::test]
async fn a_session_outlives_its_certificate_and_the_gate_refuses_it() {
    let root = Ca::root("root");
    let holder = root.client("c", |params| params.not_after = rcgen::date_time_ymd(2048, 1, 1));
    let tickets = TicketKeys::generate().unwrap();
    let after = 2_461_449_601;
    for (mode, version) in [ValidationMode::AllowValidOnly, ValidationMode::AllowInsecureFallback]
        .into_iter()
        .flat_map(|mode| VERSIONS.map(|version| (mode, version)))
    {
        let config = client(Some(&holder), version);
        let trust = domain(&[&root.der], mode);
        assert!(connect(&config, &validating(&trust, "https", &tickets)).await.0.is_ok());
        // Another cache, as on another node.
        let trust = domain(&[&root.der], mode);
        let tls = validating(&trust, "https", &tickets);
        let accepted = connect_at(&config, &tls, "example.org", after).await.0.unwrap();
        assert!(accepted.tls.resumed);
        let admitted = admit(&accepted.credential, Some(&trust), after);
        match mode {
            ValidationMode::AllowValidOnly => {
                assert_eq!(admitted.unwrap_err().reason, Reason::ClientCertificateExpired);
            }
            ValidationMode::AllowInsecureFallback => {
                assert!(matches!(accepted.credential, Credential::Unverified(_)));
                assert_eq!(admitted.unwrap().identity(), None);
            }
        }
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_listener() {
    let tls =
        server_tls(&frontend(), "https", &termination(None), None, &TicketKeys::generate().unwrap()).unwrap();
    for (name, seen) in [("EXAMPLE.org", Some("example.org")), ("10.0.0.1", None)] {
        let (near, far) = duplex(64 * 1024);
        let mut asked = None;
        let server = accept(
            near,
            |name| {
                asked = Some(name.map(str::to_owned));
                Some((7, tls.clone()))
            },
            soon(),
            now(),
        );
        let connector = TlsConnector::from(Arc::new(client(None, &version::TLS13)));
        let (accepted, _) = tokio::join!(server, connector.connect(ServerName::try_from(name).unwrap(), far));
        let accepted = accepted.unwrap();
        assert_eq!((accepted.listener, accepted.tls.server_name.as_deref()), (7, seen));
        assert_eq!(asked, Some(seen.map(str::to_owned)));
        assert!(matches!(accepted.credential, Credential::None));
    }
}

#[tokio::test]
async fn nobody_serves_the_name() {
    let (near, far) = duplex(64 * 1024);
    let server = async {
        let outcome = accept(near, |_| None::<((), ServerTls)>, soon(), now()).await;
        outcome
            .map(drop)
            .map_err(|refused| (refused.reason, refused.alert, refused.server_name, refused.hello))
    };
    let connector = TlsConnector::from(Arc::new(client(None, &version::TLS13)));
    let connect = connector.connect(ServerName::try_from("nobody.test").unwrap(), far);
    let (refused, client) = tokio::join!(server, connect);
    let alert = AlertDescription::UnrecognisedName;
    assert_eq!(
        refused.unwrap_err(),
        (Reason::UnrecognizedName, Some(alert), Some("nobody.test".into()), true)
    );
    assert_eq!(client.unwrap_err().downcast::<Error>().unwrap(), Error::AlertReceived(alert));
}

#[tokio::test]
async fn handshakes_that_are_none() {
    let root = Ca::root("root");
    let tls = tls(&[&root.der], ValidationMode::AllowValidOnly);
    for (description, octets, close, deadline, reason, alert) in [
        (
            "cleartext HTTP",
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            false,
            soon(),
            Reason::HandshakeProtocol,
            true,
        ),
        ("nothing", b"", true, soon(), Reason::HandshakeClosed, false),
        ("half a record", b"\x16\x03\x01\x02", true, soon(), Reason::HandshakeClosed, false),
        ("a silent client", b"", false, Instant::now(), Reason::HandshakeTimeout, false),
    ] {
        let (near, mut far) = duplex(1024);
        far.write_all(octets).await.unwrap();
        if close {
            far.shutdown().await.unwrap();
        }
        let outcome = accept(near, |_| Some(((), tls.clone())), deadline, now()).await;
        let mut refused = outcome.expect_err(description);
        assert_eq!((refused.reason, refused.alert.is_some()), (reason, alert), "{description}");
        assert!(!refused.hello && refused.listener.is_none());
        drop(refused.stream.take());
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.first() == Some(&21), alert, "{description}: the alert was written");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_or_objects() {
    let root = Ca::root("root");
    let tls = tls(&[&root.der], ValidationMode::AllowValidOnly);
    // A client that does not trust us says so.
    let roots = rustls::RootCertStore {
        roots: vec![webpki::anchor_from_trusted_cert(&root.der).unwrap().to_owned()],
    };
    let strict = ClientConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(strict));
    let connect = connector.connect(ServerName::try_from("example.org").unwrap(), far);
    let (outcome, _) = tokio::join!(accept(near, |_| Some(((), tls.clone())), soon(), now()), connect);
    let refused = outcome.unwrap_err();
    assert_eq!((refused.reason, refused.alert), (Reason::PeerAlert, None), "{}", refused.detail);
    assert!(refused.tls.is_some());

    // No protocol in common.
    let mut config = client(None, &version::TLS13);
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    let (outcome, alert) = self::connect(&config, &tls).await;
    let refused = outcome.unwrap_err();
    assert_eq!(
        (refused.reason, refused.alert, alert.map(u8::from)),
        (Reason::HandshakeProtocol, alert, Some(120))
    );
}
