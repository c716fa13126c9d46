//! Turning client validation on, off or over while clients are there never leaves a door open.

use gateway_tests::client::Ended;
use gateway_tests::manifests::{gateway, http, https, policy, route, to};
use gateway_tests::scene::Stage;
use gateway_tests::soak::load::{Kind, Load, SOCKET_PATH};
use gateway_tests::{Backend, Ca, Identity, Node, Raw, Scene, Site, Tls, wait, websocket};
use serde_json::json;

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

/// The server's certificate and the clients' authority are both replaced, as one does it: what comes is trusted before
/// what goes is taken away. Clients that know of both lose nothing; those that were left behind are told.
#[test]
fn a_certificate_and_an_authority_that_are_replaced_under_load_cost_only_those_left_behind() {
    let mut old = Ca::root("clients");
    let authorities = [Ca::root("servers"), Ca::root("servers")];
    let stage = Stage::of(Ca::root("clients"), None);
    let sockets = Raw::start(|wire, _| websocket::serve(wire));
    stage.site.service("sockets", &[sockets.address()]);
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": SOCKET_PATH}}], "backendRefs": [{"name": "sockets", "port": 80}]},
        {"backendRefs": [{"name": "echo", "port": 80}]},
    ]);
    stage.site.apply(route("all", "gw", &rules));
    stage.site.tls_secret("server", &authorities[1].server(&["gw.test"]));
    stage.site.bundle("ca.bundle", &old.pem(), None);
    let scene = stage.start();
    let secure = scene.node.https();
    let as_client = |identity: &Identity| scene.tls(identity).trusting(&[&authorities[0], &authorities[1]]);
    for round in 0..3 {
        // The same name, another key.
        let new = Ca::root("clients");
        let left_behind = as_client(&old.client("left behind"));
        scene.node.settle(|| scene.site.bundle("ca.bundle", &(old.pem() + &new.pem()), None));
        let load = Load::default();
        load.during(&Kind::ALL, secure, &as_client(&new.client("both")), || {
            let open = ["http/1.1", "h2"].map(|alpn| left_behind.clone().alpn(&[alpn]).open(secure));
            assert!(open.iter().all(|connection| connection.get("/before").status == 200), "round {round}");
            let fresh = authorities[round % 2].server(&["gw.test"]);
            let shown = || left_behind.connect(secure).unwrap().server_certificate();
            let before = shown();
            scene.node.settle(|| scene.site.tls_secret("server", &fresh));
            assert_ne!(before, shown(), "round {round}");
            assert_eq!(shown().as_ref(), Some(fresh.leaf()), "round {round}");
            scene.node.settle(|| scene.site.bundle("ca.bundle", &new.pem(), None));
            for connection in &open {
                let answer = connection.get("/after");
                let told = (answer.status.as_u16(), answer.reason());
                assert_eq!(told, (400, "client_certificate_untrusted"), "round {round}: {answer:?}");
            }
            let ended = left_behind.try_get(secure);
            assert!(matches!(ended, Ended::Alert(48 | 51)), "round {round}: {ended:?}");
            assert!(!scene.backend.any(|request| request.target == "/after"), "it reached the backend");
            let answered = || Kind::ALL.map(|kind| load.answered(kind));
            let so_far = answered();
            wait::soon("every client to go on", || {
                let more = |(now, before): (&u64, &u64)| now > before;
                !load.failures().is_empty() || answered().iter().zip(&so_far).all(more)
            });
        });
        assert!(load.failures().is_empty(), "round {round}: {:?}", load.failures());
        old = new;
    }
}
