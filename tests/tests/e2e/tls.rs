//! Versions, key exchange, signatures and ALPN.

use gateway_tests::client::Ended;
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Curl, OpenSsl, Scene, Tls};
use rustls::crypto::aws_lc_rs::kx_group;

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let scene = Scene::start();
    for (argument, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let session = OpenSsl::to(scene.node.https()).cert(&scene.alice).arg(argument).get("/");
        assert_eq!((session.protocol(), session.status()), (protocol, Some(200)), "{session:?}");
    }
    let old = OpenSsl::to(scene.node.https())
        .cert(&scene.alice)
        .arg("-tls1_1")
        .arg("-cipher")
        .arg("ALL:@SECLEVEL=0");
    let session = old.get("/");
    // protocol_version, or handshake_failure.
    assert!(matches!(session.alert(), Some(70 | 40)) && session.status().is_none(), "{session:?}");
}

#[test]
fn the_hybrid_key_exchange_is_preferred_and_the_classic_ones_work() {
    let scene = Scene::start();
    let preferred = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
    assert_eq!(preferred.group(), "X25519MLKEM768");
    assert_eq!(preferred.get("/"), Ended::Status(200));
    for (name, group) in [
        ("X25519MLKEM768", kx_group::X25519MLKEM768),
        ("X25519", kx_group::X25519),
        ("secp256r1", kx_group::SECP256R1),
        ("secp384r1", kx_group::SECP384R1),
    ] {
        let link = Tls::group(group).cert(&scene.alice).name("gw.test").connect(scene.node.https()).unwrap();
        assert_eq!(link.group(), name);
        assert_eq!(link.get("/"), Ended::Status(200));
    }
    scene.node.lines(5, |line| line["tls"]["group"].is_string());
}

#[test]
fn alpn_chooses_the_protocol_and_without_it_http_1_1_is_spoken() {
    let scene = Scene::start();
    let tls = scene.tls(&scene.alice);
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let link = tls.clone().alpn(offered).connect(scene.node.https()).unwrap();
        assert_eq!(link.alpn().as_deref(), chosen, "offered {offered:?}");
        let http = link.http();
        let answer = http.get("/");
        assert_eq!(answer.status, 200, "offered {offered:?}");
    }
    let ended = tls.alpn(&["spdy/3"]).try_get(scene.node.https());
    assert_eq!(ended, Ended::Alert(120), "no_application_protocol");
}

#[test]
fn http_2_is_not_spoken_where_alpn_did_not_choose_it() {
    let scene = Scene::start();
    let mut link = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
    let answer = link.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap_or_default();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer:?}");
    let mut link = scene.tls(&scene.alice).alpn(&["h2"]).connect(scene.node.https()).unwrap();
    let answer = link.exchange(b"GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap_or_default();
    assert!(!answer.contains("HTTP/1.1 "), "{answer:?}");
    assert_eq!(scene.backend.count(), 0);
}

#[test]
fn an_rsa_server_and_an_rsa_ca_work_like_ec_ones() {
    let ca = Ca::root_with("clients", gateway_tests::pki::Key::Rsa);
    let crl = ca.crl().pem();
    let stage = Stage::of(ca, Some(&crl));
    let usage = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    stage
        .site
        .tls_secret("server", &Ca::root("servers").leaf("gw").names(&["gw.test"]).rsa().usage(usage).issue());
    let scene = stage.start();
    for version in ["1.2", "1.3"] {
        let curl = scene.curl(&scene.alice).arg(&format!("--tlsv{version}")).with("--tls-max", version);
        assert_eq!(curl.get("https://gw.test/").status, 200, "TLS {version}");
    }
    scene.publish(&scene.ca.crl().number(2).revoke(&scene.alice).pem());
    let answer = Curl::to(scene.node.https()).cert(&scene.alice).get("https://gw.test/");
    assert_eq!(answer.reason(), "certificate_revoked", "{answer:?}");
}
