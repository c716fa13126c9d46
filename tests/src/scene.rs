//! The setting of most tests: one mTLS listener on port 443, one route, one backend, one client CA.

use serde_json::json;

use crate::manifests::{gateway, https, policy, route, to};
use crate::node::Start;
use crate::{Backend, Ca, Curl, Identity, Node, Site, Tls};

/// A gateway that runs, with everything around it.
pub struct Scene {
    /// The CA of the clients.
    pub ca: Ca,
    /// A client's certificate with nothing wrong.
    pub alice: Identity,
    /// The backend behind the route.
    pub backend: Backend,
    /// The manifests.
    pub site: Site,
    /// The gateway.
    pub node: Node,
}

/// What a scene has before its gateway is started.
pub struct Stage {
    /// The CA of the clients.
    pub ca: Ca,
    /// The backend behind the route.
    pub backend: Backend,
    /// The manifests.
    pub site: Site,
}

impl Stage {
    /// One mTLS listener with an empty revocation list, number 1, beside its CA.
    pub fn new() -> Self {
        let ca = Ca::root("clients");
        let crl = ca.crl().pem();
        Self::of(ca, Some(&crl))
    }

    /// One mTLS listener whose clients are those of `ca`.
    pub fn of(ca: Ca, crl: Option<&str>) -> Self {
        Self::before(Backend::start(), ca, crl)
    }

    /// The same before another backend.
    pub fn before(backend: Backend, ca: Ca, crl: Option<&str>) -> Self {
        let site = Site::new();
        site.tls_secret("server", &Ca::root("servers").server(&["gw.test", "*.gw.test"]));
        site.bundle("ca.bundle", &ca.pem(), crl);
        site.service("echo", &[backend.address()]);
        site.apply(gateway("gw", &[https("mtls", 443, None, "server")]));
        site.apply(route("all", "gw", &to("echo")));
        site.apply(policy("clients", "gw", &["mtls"], "ca.bundle"));
        Self { ca, backend, site }
    }

    /// Starts the gateway.
    pub fn start(self) -> Scene {
        self.start_with(|start| start)
    }

    /// Starts the gateway with other arguments.
    pub fn start_with(self, with: impl FnOnce(Start) -> Start) -> Scene {
        let Self { ca, backend, site } = self;
        let node = with(Node::on(&site)).ready();
        let alice = ca.client("alice");
        Scene { ca, alice, backend, site, node }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Scene {
    /// The usual scene.
    pub fn start() -> Self {
        Stage::new().start()
    }

    /// Replaces the revocation list beside the CA, and waits until it has been read.
    pub fn publish(&self, crl: &str) {
        self.node.settle(|| self.site.bundle("ca.bundle", &self.ca.pem(), Some(crl)));
    }

    /// curl with this identity, bound for port 443.
    pub fn curl(&self, identity: &Identity) -> Curl {
        Curl::to(self.node.https()).cert(identity)
    }

    /// The rustls client with this identity and the usual server name.
    pub fn tls(&self, identity: &Identity) -> Tls {
        Tls::new().cert(identity).name("gw.test")
    }

    /// Puts a listener in clear text on port 80 beside the other, with the same routes.
    pub fn with_clear_listener(stage: &Stage) {
        let clear = json!({"name": "clear", "port": 80, "protocol": "HTTP"});
        stage.site.apply(gateway("gw", &[https("mtls", 443, None, "server"), clear]));
    }
}
