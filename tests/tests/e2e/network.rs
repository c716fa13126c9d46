//! A network that loses packets, parts, or goes away for a while: service comes back by itself.

use std::time::{Duration, Instant};

use gateway_tests::manifests::{gateway, http, route};
use gateway_tests::netns::Netns;
use gateway_tests::{Backend, Http, Node, Site, wait};
use serde_json::json;

/// Requests on a network that loses packets.
const LOSSY_REQUESTS: usize = 100;

/// A gateway whose one backend is at the other end of a wire; its rule has this timeout.
fn far(netns: &Netns, timeout: &str) -> (Backend, Site, Node) {
    let (backend, site) = (netns.backend("far"), Site::new());
    site.service("far", &[backend.address()]);
    site.apply(gateway("gw", &[http("clear", 80)]));
    let rules = json!([{"backendRefs": [{"name": "far", "port": 80}], "timeouts": {"request": timeout}}]);
    site.apply(route("all", "gw", &rules));
    let node = Node::on(&site).ready();
    (backend, site, node)
}

/// The next request is answered soon, and no connection to the backend is left over.
fn is_well(node: &Node, since: Instant) {
    wait::soon("service", || Http::clear(node.http()).get("/").status == 200);
    eprintln!("well after {:?}", since.elapsed());
    let open = || node.metrics().sum("yett_upstream_connections_active", &[]);
    wait::soon("connections that got stuck to be closed", || open() <= 2.0);
}

#[test]
fn a_backend_out_of_reach_is_504_in_time_and_served_when_it_is_back() {
    let test = "a_backend_out_of_reach_is_504_in_time_and_served_when_it_is_back";
    let Some(netns) = Netns::new(test) else { return };
    let (_backend, _site, node) = far(&netns, "1s");
    let kept = Http::clear(node.http());
    assert_eq!(kept.get("/").status, 200);
    for round in 0..2 {
        netns.lose(100);
        let begun = Instant::now();
        let answer = kept.get("/");
        let took = begun.elapsed();
        assert_eq!(answer.status, 504, "in round {round}: {answer:?}");
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
        netns.lose(0);
        is_well(&node, Instant::now());
        assert_eq!(kept.get("/").status, 200, "in round {round}");
    }
}

#[test]
fn a_wire_that_goes_down_and_up_leaves_nothing_stuck() {
    let Some(netns) = Netns::new("a_wire_that_goes_down_and_up_leaves_nothing_stuck") else { return };
    let (_backend, _site, node) = far(&netns, "1s");
    for _ in 0..3 {
        assert_eq!(Http::clear(node.http()).get("/").status, 200);
        netns.wire(false);
        let status = Http::clear(node.http()).get("/").status.as_u16();
        assert!([502, 503, 504].contains(&status), "{status}");
        netns.wire(true);
        is_well(&node, Instant::now());
    }
}

#[test]
fn one_packet_in_twenty_may_be_lost() {
    let Some(netns) = Netns::new("one_packet_in_twenty_may_be_lost") else { return };
    let (_backend, _site, node) = far(&netns, "20s");
    netns.lose(5);
    let kept = Http::clear(node.http());
    for number in 0..LOSSY_REQUESTS {
        let answer = kept.get("/bytes/40000");
        let (status, length) = (answer.status.as_u16(), answer.body.len());
        assert_eq!((status, length), (200, 40_000), "request {number}: {:?}", answer.broken);
    }
    netns.lose(0);
    is_well(&node, Instant::now());
}
