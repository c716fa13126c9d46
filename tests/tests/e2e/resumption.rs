//! Sessions resume, on every worker; what they resume is judged anew.

use gateway_tests::client::{Ended, OpenSsl, Tls};
use gateway_tests::manifests::{gateway, https, policy};
use gateway_tests::scene::Stage;
use gateway_tests::{Ca, Scene, wait};
use tempfile::TempDir;

#[test]
fn a_resumed_session_of_a_client_revoked_meanwhile_reads_400() {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    let folder = TempDir::new().unwrap();
    let versions = ["-tls1_2", "-tls1_3"];
    for version in versions {
        let session = folder.path().join(version);
        let first = OpenSsl::to(scene.node.https()).cert(&mallory).arg(version).save(&session).get("/");
        assert_eq!(first.status(), Some(200), "{version}: {first:?}");
        assert!(!first.resumed());
    }
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    let before = scene.backend.count();
    for version in versions {
        let session = folder.path().join(version);
        // No certificate on the command line: what is known of the client comes from the session alone.
        let again = OpenSsl::to(scene.node.https()).arg(version).resume(&session).get("/");
        assert!(again.resumed(), "{version}: {again:?}");
        assert_eq!(again.status(), Some(400), "{version}: {again:?}");
        assert!(again.output.contains("yett-reason: certificate_revoked"), "{version}: {again:?}");
    }
    assert_eq!(scene.backend.count(), before, "a revoked client's request reached the backend");
    let lines = scene.node.lines(2, |line| line["reason"] == "certificate_revoked");
    assert!(lines.iter().all(|line| line["tls"]["resumed"] == true), "{lines:?}");
}

#[test]
fn sessions_outlive_a_new_list_and_resume_on_every_worker() {
    let scene = Stage::new().start_with(|start| start.arg("--workers").arg("2"));
    for (version, tls) in [("1.3", Tls::v13()), ("1.2", Tls::v12())] {
        let tls = tls.cert(&scene.alice).name("gw.test").resuming();
        let first = tls.connect(scene.node.https()).unwrap();
        assert!(!first.resumed());
        assert_eq!(first.get("/"), Ended::Status(200));
        scene.publish(&scene.ca.crl().number(if version == "1.3" { 2 } else { 3 }).pem());
        for attempt in 0..16 {
            let link = tls.connect(scene.node.https()).unwrap();
            assert!(link.resumed(), "TLS {version}, attempt {attempt}: a full handshake");
            assert_eq!(link.get("/"), Ended::Status(200));
            let forwarded = scene.backend.last().header("client-cert");
            assert_eq!(forwarded, [scene.alice.client_cert_header()], "the certificate of a resumed session");
        }
    }
}

#[test]
fn early_data_is_never_accepted() {
    let scene = Scene::start();
    let tls = Tls::v13().cert(&scene.alice).name("gw.test").resuming().early_data();
    assert_eq!(tls.try_get(scene.node.https()), Ended::Status(200));
    let link = tls.connect(scene.node.https()).unwrap();
    assert!(link.resumed());
    assert!(!link.early_data_accepted());
}

#[test]
fn a_ticket_of_one_listener_opens_no_other() {
    let stage = Stage::new();
    let other = Ca::root("others");
    stage.site.bundle("other.bundle", &other.pem(), None);
    let listeners = [https("mtls", 443, None, "server"), https("other", 8443, None, "server")];
    stage.site.apply(gateway("gw", &listeners));
    stage.site.apply(policy("others", "gw", &["other"], "other.bundle"));
    let scene = stage.start();
    for tls in [Tls::v13(), Tls::v12()] {
        let tls = tls.cert(&scene.alice).name("gw.test").resuming();
        assert_eq!(tls.try_get(scene.node.https()), Ended::Status(200));
        assert!(matches!(tls.try_get(scene.node.address(8443)), Ended::Alert(48)));
        // The failed attempt may cost the client its ticket; the first listener still serves it.
        assert_eq!(tls.try_get(scene.node.https()), Ended::Status(200));
    }
}

#[test]
fn a_ticket_dies_with_the_anchors_it_was_given_under() {
    let scene = Stage::of(Ca::root("clients"), None).start();
    let replacement = Ca::root("clients");
    for tls in [Tls::v13(), Tls::v12()] {
        scene.site.bundle("ca.bundle", &scene.ca.pem(), None);
        let tls = tls.cert(&scene.alice).name("gw.test").resuming();
        wait::soon("the first anchors", || tls.try_get(scene.node.https()) == Ended::Status(200));
        scene.node.settle(|| scene.site.bundle("ca.bundle", &replacement.pem(), None));
        let ended = tls.try_get(scene.node.https());
        assert!(matches!(ended, Ended::Alert(48 | 51)), "{ended:?}");
    }
}
