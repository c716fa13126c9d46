//! Reloads under load. Each of them changes something that a client can see, which has to show in time; and nobody who
//! asks meanwhile may notice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::{Kind, Load, SOCKET_PATH};
use super::{Dice, Report, Times, slope};
use crate::manifests::{gateway, https, policy, route};
use crate::{Backend, Ca, Http, Identity, Node, Raw, Site, Tls, websocket};

/// How long a soak is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many reloads.
    pub reloads: usize,
    /// What they change is chosen by this.
    pub seed: u64,
    /// How soon a change must show.
    pub shows_within: Duration,
}

/// Fewer reloads than these say nothing of growth.
const RELOADS_FOR_A_SLOPE: usize = 200;
/// By how much the process may grow from one reload to the next.
const GROWTH_BYTES_MAX: f64 = 16.0 * 1024.0;
const GROWTH_FILES_MAX: f64 = 0.05;
/// Every how many reloads there is a line.
const PROGRESS: usize = 25;

/// Makes so many reloads.
///
/// # Panics
/// When the gateway does not start.
pub fn run(plan: &Plan) -> Report {
    let mut world = World::new();
    let (load, mut report, mut times) = (Load::default(), Report::default(), Times::default());
    let (mut sizes, mut files) = (Vec::new(), Vec::new());
    let (tls, address) = (world.tls(&world.alice), world.node.https());
    let begun = Instant::now();
    load.during(&Kind::ALL, address, &tls, || {
        let kept = [tls.clone().alpn(&["http/1.1"]).open(address), tls.clone().alpn(&["h2"]).open(address)];
        let mut dice = Dice::new(plan.seed);
        for number in 1..=plan.reloads {
            match world.change(dice.roll(3), &kept, plan.shows_within) {
                Ok(took) => times.add(took),
                Err(failure) => report.failures.push(format!("reload {number}: {failure}")),
            }
            world.sockets.iter().for_each(|sockets| drop(sockets.take()));
            sizes.push(world.node.resident_bytes());
            files.push(world.node.open_files());
            if number % PROGRESS == 0 || number == plan.reloads {
                let failed = report.failures.len() + load.failures().len();
                let answered: u64 = Kind::ALL.iter().map(|kind| load.answered(*kind)).sum();
                println!("{number}/{} reloads, {answered} requests, {failed} failed", plan.reloads);
            }
        }
    });
    report.failures.extend(load.failures());
    report.figure(
        "reloads",
        format!("{} in {:.0} s, seed {}", plan.reloads, begun.elapsed().as_secs_f64(), plan.seed),
    );
    report.figure("from the file to the client", times.summary());
    for kind in Kind::ALL {
        report.figure(kind.name(), format!("{} answered", load.answered(kind)));
    }
    report.figure("on kept connections", load.times());
    grown(&mut report, &sizes, &files);
    report
}

/// Growth, judged by the second half: the first one warms up.
fn grown(report: &mut Report, sizes: &[u64], files: &[u64]) {
    let half = sizes.len() / 2;
    let (bytes, count) = (slope(&sizes[half..]), slope(&files[half..]));
    let ends = |values: &[u64], unit: u64| {
        let end = |value: Option<&u64>| value.copied().unwrap_or_default() / unit;
        format!("{} to {}", end(values.first()), end(values.last()))
    };
    report.figure("memory", format!("{} MiB, {:.1} KiB a reload", ends(sizes, 1 << 20), bytes / 1024.0));
    report.figure("open files", format!("{}, {count:.3} a reload", ends(files, 1)));
    if sizes.len() >= RELOADS_FOR_A_SLOPE {
        report.expect(bytes <= GROWTH_BYTES_MAX, || format!("memory grows by {bytes:.0} bytes a reload"));
        report.expect(count <= GROWTH_FILES_MAX, || format!("open files grow by {count:.3} a reload"));
    }
}

/// The gateway, and what can be changed of it.
struct World {
    site: Site,
    node: Node,
    /// Held for as long as they are asked.
    _backends: [Backend; 2],
    /// WebSockets have servers of their own, which come and go with the backends.
    sockets: [Raw; 2],
    ca: Ca,
    servers: Ca,
    alice: Identity,
    backend: usize,
    revoked: Vec<Identity>,
}

const BACKENDS: [&str; 2] = ["one", "two"];

impl World {
    fn new() -> Self {
        let (site, ca, servers) = (Site::new(), Ca::root("clients"), Ca::root("servers"));
        let backends = BACKENDS.map(Backend::forgetful);
        let sockets = BACKENDS.map(|_| Raw::start(|wire, _| websocket::serve(wire)));
        for (name, (backend, sockets)) in BACKENDS.iter().zip(backends.iter().zip(&sockets)) {
            site.service(name, &[backend.address()]);
            site.service(&socket_service(name), &[sockets.address()]);
        }
        site.tls_secret("server", &servers.server(&["gw.test"]));
        site.bundle("ca.bundle", &ca.pem(), Some(&ca.crl().pem()));
        site.apply(gateway("gw", &[https("mtls", 443, None, "server")]));
        site.apply(routes(BACKENDS[0]));
        site.apply(policy("clients", "gw", &["mtls"], "ca.bundle"));
        let node = Node::on(&site).ready();
        let alice = ca.client("alice");
        Self { site, node, _backends: backends, sockets, ca, servers, alice, backend: 0, revoked: Vec::new() }
    }

    fn tls(&self, identity: &Identity) -> Tls {
        Tls::new().cert(identity).name("gw.test")
    }

    /// Changes one of three things and waits until it shows. Gives the time from the file to the client.
    fn change(&mut self, which: u64, kept: &[Http], within: Duration) -> Result<Duration, String> {
        match which {
            0 => self.another_backend(kept, within),
            1 => self.another_certificate(within),
            _ => self.another_revocation(within),
        }
    }

    fn another_backend(&mut self, kept: &[Http], within: Duration) -> Result<Duration, String> {
        self.backend = 1 - self.backend;
        let name = BACKENDS[self.backend];
        self.site.apply(routes(name));
        shows(within, || {
            let answers =
                kept.iter().map(|connection| connection.try_get("/").map_err(|error| error.to_string()));
            let answers = answers.collect::<Result<Vec<_>, _>>()?;
            match answers.iter().find(|answer| answer.status != 200) {
                Some(answer) => Err(format!("while backend {name} comes: {answer:?}")),
                None => Ok(answers.iter().all(|answer| answer.header("x-backend") == name)),
            }
        })
        .ok_or_else(|| format!("backend {name} does not answer"))?
    }

    fn another_certificate(&mut self, within: Duration) -> Result<Duration, String> {
        let fresh = self.servers.server(&["gw.test"]);
        self.site.tls_secret("server", &fresh);
        let (tls, address) = (self.tls(&self.alice), self.node.https());
        shows(within, || {
            let link = tls.connect(address).map_err(|ended| format!("no handshake: {ended:?}"))?;
            Ok(link.server_certificate().as_ref() == Some(fresh.leaf()))
        })
        .ok_or_else(|| "the new server certificate is not shown".to_owned())?
    }

    /// A client is revoked while its connection is open.
    fn another_revocation(&mut self, within: Duration) -> Result<Duration, String> {
        let victim = self.ca.client("victim");
        let connection = self.tls(&victim).open(self.node.https());
        let before = connection.try_get("/").map_err(|error| format!("before it is revoked: {error}"))?;
        if before.status != 200 {
            return Err(format!("before it is revoked: {before:?}"));
        }
        self.revoked.push(victim);
        let number = self.revoked.len() as u64 + 1;
        let list =
            self.revoked.iter().fold(self.ca.crl().number(number), |list, identity| list.revoke(identity));
        self.site.bundle("ca.bundle", &self.ca.pem(), Some(&list.pem()));
        shows(within, || {
            let answer = connection.try_get("/").map_err(|error| format!("instead of a refusal: {error}"))?;
            match (answer.status.as_u16(), answer.reason()) {
                (200, _) => Ok(false),
                (400, "certificate_revoked") => Ok(true),
                _ => Err(format!("instead of a refusal: {answer:?}")),
            }
        })
        .ok_or_else(|| "a revoked client is served".to_owned())?
    }
}

fn socket_service(backend: &str) -> String {
    format!("{backend}-sockets")
}

/// Everything goes to this backend, WebSockets to its server of those.
fn routes(backend: &str) -> Value {
    let sockets = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": SOCKET_PATH}}],
        "backendRefs": [{"name": socket_service(backend), "port": 80}],
    });
    let all = json!({"backendRefs": [{"name": backend, "port": 80}]});
    route("all", "gw", &json!([sockets, all]))
}

/// Looks until it shows, and gives the time that took; `None` when the time is over.
fn shows(
    within: Duration,
    mut look: impl FnMut() -> Result<bool, String>,
) -> Option<Result<Duration, String>> {
    let begun = Instant::now();
    while begun.elapsed() <= within {
        match look() {
            Ok(true) => return Some(Ok(begun.elapsed())),
            Ok(false) => {}
            Err(failure) => return Some(Err(failure)),
        }
    }
    None
}
