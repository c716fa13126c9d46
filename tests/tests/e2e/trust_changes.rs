//! Turning client validation on, off or over while clients are there never leaves a door open.

use gateway_tests::client::Ended;
use gateway_tests::manifests::{gateway, http, https, policy, route, to};
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Ca, Node, Scene, Site, Tls, wait};

/// A TLS listener that asks for no certificate, and the CA that will be asked for.
struct Open {
    ca: Ca,
    backend: Backend,
    site: Site,
    node: Node,
}

fn open() -> Open {
    let (ca, backend, site) = (Ca::root("clients"), Backend::start(), Site::new());
    site.tls_secret("server", &Ca::root("servers").server(&["gw.test"]));
    site.bundle("ca.bundle", &ca.pem(), None);
    site.service("echo", &[backend.address()]);
    site.apply(gateway("gw", &[https("mtls", 443, None, "server")]));
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).ready();
    Open { ca, backend, site, node }
}

impl Open {
    fn close_the_door(&self) {
        self.node.settle(|| {
            self.site.apply(policy("clients", "gw", &["mtls"], "ca.bundle"));
        });
    }
}

#[test]
fn a_policy_holds_for_connections_that_were_there_before_it() {
    let this = open();
    let connections =
        ["http/1.1", "h2"].map(|alpn| Tls::new().name("gw.test").alpn(&[alpn]).open(this.node.https()));
    for connection in &connections {
        assert_eq!(connection.get("/").status, 200);
    }
    this.close_the_door();
    let before = this.backend.count();
    for connection in &connections {
        if let Ok(answer) = connection.try_get("/") {
            assert_eq!(answer.status, 400, "{answer:?}");
            assert_eq!(answer.reason(), "client_certificate_untrusted", "{answer:?}");
        }
    }
    assert_eq!(this.backend.count(), before, "a client without a certificate reached the backend");
}

#[test]
fn a_session_from_before_the_policy_is_no_way_around_it() {
    for tls in [Tls::v13(), Tls::v12()] {
        let this = open();
        let tls = tls.name("gw.test").resuming();
        assert_eq!(tls.try_get(this.node.https()), Ended::Status(200));
        assert!(tls.connect(this.node.https()).unwrap().resumed(), "sessions resume without a policy");
        this.close_the_door();
        let before = this.backend.count();
        assert_eq!(tls.try_get(this.node.https()), Ended::Alert(116));
        assert_eq!(this.backend.count(), before);
        let alice = this.ca.client("alice");
        assert_eq!(Tls::new().cert(&alice).name("gw.test").try_get(this.node.https()), Ended::Status(200));
    }
}

#[test]
fn a_listener_that_goes_takes_its_connections_along() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start();
    for alpn in ["http/1.1", "h2"] {
        let both = [https("mtls", 443, None, "server"), http("clear", 80)];
        scene.site.apply(gateway("gw", &both));
        let connection = wait::until("the listener", wait::SOON, || {
            let connection = scene.tls(&scene.alice).alpn(&[alpn]).connect(scene.node.https()).ok()?.http();
            connection.try_get("/").is_ok_and(|answer| answer.status == 200).then_some(connection)
        });
        scene.node.settle(|| {
            scene.site.apply(gateway("gw", &both[1..]));
        });
        let before = scene.backend.count();
        if let Ok(answer) = connection.try_get("/") {
            assert!([404, 421].contains(&answer.status.as_u16()), "{alpn}: {answer:?}");
        }
        assert_eq!(scene.backend.count(), before, "{alpn}: served by a listener that is gone");
    }
}

#[test]
fn replaced_anchors_turn_the_old_clients_away_and_let_the_new_ones_in() {
    let scene = Stage::of(Ca::root("clients"), None).start();
    let next = Ca::root("clients");
    let bob = next.client("bob");
    let old = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    assert_eq!(old.get("/").status, 200);
    scene.node.settle(|| scene.site.bundle("ca.bundle", &(scene.ca.pem() + &next.pem()), None));
    let new = scene.tls(&bob).alpn(&["h2"]).open(scene.node.https());
    assert_eq!(
        (old.get("/").status.as_u16(), new.get("/").status.as_u16()),
        (200, 200),
        "while both CAs count"
    );
    scene.node.settle(|| scene.site.bundle("ca.bundle", &next.pem(), None));
    let answer = old.get("/");
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (400, "client_certificate_untrusted"),
        "{answer:?}"
    );
    assert_eq!(new.get("/").status, 200, "its CA never left");
}
