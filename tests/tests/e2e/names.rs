//! Backends by name: where the name leads is asked of a name server, which may be wrong, slow, or gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::manifests::{gateway, http, route};
use gateway_tests::names::{Mood, Names};
use gateway_tests::ports::{self, Full};
use gateway_tests::{Backend, Http, Node, Site, wait};
use serde_json::json;

const NAME: &str = "app.test";
/// What is not to wait for anybody takes less, on a machine that does other things as well.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A port, and addresses that have it free.
fn places<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let port = ports::free();
    std::array::from_fn(|at| {
        let at = u8::try_from(at).expect("few") + 1;
        SocketAddr::from((Ipv4Addr::new(127, 0, 1, at), port))
    })
}

fn address(place: SocketAddr) -> Ipv4Addr {
    match place {
        SocketAddr::V4(place) => *place.ip(),
        SocketAddr::V6(_) => panic!("places are of IPv4"),
    }
}

/// A gateway whose requests go to the name, but those below `/near`, which go to a backend beside it.
struct World {
    names: Names,
    near: Backend,
    _site: Site,
    node: Node,
}

fn world(test: &str, port: u16, protocol: &str, settings: &str) -> Option<World> {
    let (names, near, site) = (Names::start(test)?, Backend::named("near"), Site::new());
    site.service("near", &[near.address()]);
    site.apply(json!({
        "apiVersion": "gateway.yett.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "app"},
        "spec": {"endpoints": [{"hostname": NAME, "port": port}], "appProtocol": protocol},
    }));
    site.apply(gateway("gw", &[http("clear", 80)]));
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/near"}}], "backendRefs": [{"name": "near", "port": 80}]},
        {"backendRefs": [{"group": "gateway.yett.dev", "kind": "Backend", "name": "app"}]},
    ]);
    site.apply(route("all", "gw", &rules));
    let node = Node::on(&site).settings(settings).resolving(&names.resolv_conf()).ready();
    Some(World { names, near, _site: site, node })
}

impl World {
    fn lead_to(&self, places: &[SocketAddr]) {
        let addresses: Vec<Ipv4Addr> = places.iter().copied().map(address).collect();
        self.names.set(NAME, &addresses);
    }

    fn client(&self) -> Http {
        Http::clear(self.node.http())
    }

    fn lookups(&self, result: &str) -> f64 {
        self.node.metrics().sum("yett_upstream_lookups_total", &[("result", result)])
    }
}

#[test]
fn a_name_that_leads_nowhere_is_503_at_once_and_served_as_soon_as_it_leads_somewhere() {
    let test = "a_name_that_leads_nowhere_is_503_at_once_and_served_as_soon_as_it_leads_somewhere";
    let [place] = places();
    let Some(world) = world(test, place.port(), "http", "workers = 1\n") else { return };
    let _backend = Backend::at("app", place);
    let client = world.client();
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = client.get("/");
        assert_eq!((answer.status.as_u16(), answer.reason()), (503, "no_endpoints"), "{answer:?}");
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    assert_eq!(world.lookups("failed"), 3.0, "it is not remembered that it leads nowhere");
    let failures =
        world.node.metrics().sum("yett_upstream_connect_failures_total", &[("reason", "no_endpoints")]);
    assert_eq!(failures, 3.0);
    assert!(world.node.log().contains("does not resolve"), "{}", world.node.log());
    world.lead_to(&[place]);
    assert_eq!(client.get("/").header("x-backend"), "app");
    assert!(world.node.log().contains("resolves again"), "{}", world.node.log());
}

#[test]
fn a_name_server_that_is_gone_costs_no_request_to_a_name_that_is_known() {
    let test = "a_name_server_that_is_gone_costs_no_request_to_a_name_that_is_known";
    let [place] = places();
    let Some(world) = world(test, place.port(), "http", "workers = 1\n") else { return };
    let mut backend = Backend::at("app", place);
    world.lead_to(&[place]);
    let client = world.client();
    assert_eq!(client.get("/").status, 200);
    for mood in [Mood::Gone, Mood::Quick] {
        // There, and knows nothing: no better than one that is not there.
        world.lead_to(&[]);
        world.names.mood(mood);
        world.names.wait_asked();
        // Its connections go with it, so that there have to be new ones.
        backend.stop();
        backend = Backend::at("app", place);
        let begun = Instant::now();
        assert_eq!(client.get("/").status, 200, "{mood:?}");
        assert!(begun.elapsed() < AT_ONCE, "{mood:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_name_that_moves_takes_its_requests_along() {
    for protocol in ["http", "kubernetes.io/h2c"] {
        let places: [SocketAddr; 2] = places();
        let start = if protocol == "http" { Backend::at } else { Backend::http2_at };
        let test = "a_name_that_moves_takes_its_requests_along";
        let Some(world) = world(test, places[0].port(), protocol, "workers = 1\n") else { return };
        let (first, mut second) = (start("first", places[0]), start("second", places[1]));
        world.lead_to(&places[..1]);
        let client = world.client();
        let served_by = |name: &str| {
            let answer = client.get("/");
            assert_eq!(answer.status, 200, "{protocol}: {answer:?}");
            answer.header("x-backend") == name
        };
        assert!(served_by("first"), "{protocol}");
        // Both are there and well, and the connection to the first is in use.
        world.lead_to(&places[1..]);
        wait::soon("the second address to be used", || served_by("second"));
        let before = first.count();
        for _ in 0..50 {
            assert!(served_by("second"), "{protocol}");
        }
        assert_eq!(first.count(), before, "{protocol}");
        // It moves back because the second one is gone: nobody is told to wait until that is noticed.
        world.lead_to(&places[..1]);
        second.stop();
        assert!(served_by("first"), "{protocol}");
    }
}

#[test]
fn a_slow_name_server_delays_nobody_else_and_holds_few_threads() {
    let test = "a_slow_name_server_delays_nobody_else_and_holds_few_threads";
    let [place] = places();
    let settings = "workers = 1\n[limits]\nconnect_timeout = \"2s\"\n";
    let Some(world) = world(test, place.port(), "http", settings) else { return };
    let _backend = Backend::at("app", place);
    world.lead_to(&[place]);
    world.names.mood(Mood::Gone);
    /// Ends the bystander, when something fails, too.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (near, is_over) = (world.client(), AtomicBool::new(false));
    thread::scope(|scope| {
        let over = Over(&is_over);
        let bystander = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert_eq!(near.get("/near").status, 200);
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        });
        let burst: Vec<_> = (0..50).map(|_| world.client().begin("/")).collect();
        for request in burst {
            let answer = request.finish().unwrap();
            assert_eq!((answer.status.as_u16(), answer.reason()), (504, "upstream_connect_timeout"));
        }
        assert!(world.names.asked() <= 8, "{} questions for 50 requests", world.names.asked());
        // Slow, and still within the time that connecting may take.
        world.names.mood(Mood::Slow(Duration::from_millis(300)));
        wait::soon("the name to be found", || world.client().get("/").status == 200);
        drop(over);
        let slowest = bystander.join().unwrap();
        assert!(slowest < AT_ONCE, "{slowest:?}");
    });
    assert!(world.near.count() > 10, "{}", world.near.count());
}

#[test]
fn of_several_addresses_those_that_live_share_the_work() {
    let test = "of_several_addresses_those_that_live_share_the_work";
    // One that refuses, one that neither takes nor refuses, two that live.
    let [dead, full, one, other] = places();
    let Some(world) = world(test, dead.port(), "http", "workers = 1\n") else { return };
    let (_full, one, other) = (Full::at(full), Backend::at("one", one), Backend::at("other", other));
    world.lead_to(&[dead, full, one.address(), other.address()]);
    let begun = Instant::now();
    let held: Vec<_> = (0..12).map(|_| world.client().begin("/held")).collect();
    wait::soon("all to have come", || one.count() + other.count() == 12);
    assert!(begun.elapsed() < Duration::from_secs(4), "nobody waits for the dead: {:?}", begun.elapsed());
    assert!(one.count() >= 3 && other.count() >= 3, "{} and {}", one.count(), other.count());
    one.release();
    other.release();
    for held in held {
        assert_eq!(held.finish().unwrap().status, 200);
    }
}
