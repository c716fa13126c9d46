//! A process that is killed, or that stands still: what others get meanwhile, and how soon there is service again.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use gateway_tests::client::Ended;
use gateway_tests::manifests::{gateway, http, route};
use gateway_tests::{Http, Node, Scene, Site, wait};
use serde_json::json;

const KILLS: usize = 5;

#[test]
fn killed_in_the_midst_of_traffic_it_serves_again_within_a_second() {
    let mut scene = Scene::start();
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let connection = scene.tls(&scene.alice).open(scene.node.https());
        let under_way = connection.begin("/hang");
        wait::soon("a request under way", || scene.node.metrics().sum("yett_connections_active", &[]) > 0.0);
        scene.node.signal("KILL");
        scene.node.ended(Duration::from_secs(10));
        assert!(under_way.finish().is_err());
        let begun = Instant::now();
        scene.node.start_again();
        wait::soon("service", || scene.tls(&scene.alice).try_get(scene.node.https()) == Ended::Status(200));
        times.push(begun.elapsed());
    }
    eprintln!("killed, and back after {times:?}");
    assert!(times.iter().min().unwrap() < &Duration::from_secs(1), "{times:?}");
    assert!(scene.node.yett(&["status"]).contains("gw"), "its admin socket is the new process's");
}

/// As the system presents a process that is stopped: connections are made, and nobody reads.
#[test]
fn a_backend_that_stands_still_is_504_at_the_routes_timeout_and_its_connection_is_not_used_again() {
    const REQUESTS: usize = 3;
    let still = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    site.service("still", &[still.local_addr().unwrap()]);
    site.apply(gateway("gw", &[http("clear", 80)]));
    let rules = json!([{"backendRefs": [{"name": "still", "port": 80}], "timeouts": {"request": "1s"}}]);
    site.apply(route("all", "gw", &rules));
    let node = Node::on(&site).ready();
    for _ in 0..REQUESTS {
        let connection = Http::clear(node.http());
        let begun = Instant::now();
        let answer = connection.get("/");
        let took = begun.elapsed();
        assert_eq!((answer.status.as_u16(), answer.reason()), (504, "upstream_timeout"), "{answer:?}");
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    }
    let open = || node.metrics().sum("yett_upstream_connections_active", &[]);
    wait::soon("connections that gave no answer to be closed", || open() < 1.0);
    still.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| still.accept().ok()).count(), REQUESTS);
}
