//! The programs attached in each of the ways that there are: the same answers, and counts of what was done.

use aya::EbpfLoader;
use aya::programs::{Xdp, XdpMode};
use gateway_tests::{Http, Node, wait};

use super::{Held, Place, Wired, object};
use crate::walkthrough::{CHECKS, Ground};

/// The setting, the program and the mode that the metric names.
const WAYS: [(&str, &str, &str); 4] = [
    ("xdp-native", "ingress_xdp", "native"),
    ("xdp-skb", "ingress_xdp", "skb"),
    ("tcx", "ingress_tc", "tcx"),
    ("clsact", "ingress_tc", "clsact"),
];
const CONNECTIONS: usize = 20;

/// The walk-through in a place, attached in one way.
fn walk_through(test: &str, attach: &str) {
    let Some(place) = Place::new(test) else { return };
    let ground = Ground {
        address: place.netns.far_address(),
        backend: place.netns.near_address(),
        start: &|start| place.start(start, attach),
    };
    for check in CHECKS {
        check(&ground);
    }
    gateway::datapath::clean(Some(&place.pins()), &[]).unwrap();
}

#[test]
fn the_walk_through_over_xdp_in_the_driver() {
    walk_through("the_walk_through_over_xdp_in_the_driver", "xdp-native");
}

#[test]
fn the_walk_through_over_xdp_on_an_skb() {
    walk_through("the_walk_through_over_xdp_on_an_skb", "xdp-skb");
}

#[test]
fn the_walk_through_over_tcx() {
    walk_through("the_walk_through_over_tcx", "tcx");
}

#[test]
fn the_walk_through_over_a_filter() {
    walk_through("the_walk_through_over_a_filter", "clsact");
}

#[test]
fn counts_match_what_was_done_and_an_end_leaves_nothing() {
    let test = "counts_match_what_was_done_and_an_end_leaves_nothing";
    for (attach, program, mode) in WAYS {
        let Some(mut wired) = Wired::new(test, attach) else { return };
        let expected = [(program, mode), ("track", "cgroup"), ("wire", "cgroup")];
        assert_eq!(
            wired.attached(),
            expected.map(|(program, mode)| (program.into(), mode.into())),
            "{attach}"
        );
        wired.connect(CONNECTIONS);
        let records = wired.scene.node.records(CONNECTIONS, |_| true);
        let connections = CONNECTIONS as f64;
        wired.scene.node.wait_metric("yett_bpf_connections_total", &[], connections);
        assert_eq!(wired.count("syns_total", &[]), connections, "{attach}");
        assert_eq!(wired.count("connections_total", &[]), connections, "{attach}");
        // A packet that comes after the end of its connection is looked up among the listening sockets too.
        assert!((connections..=connections + 2.0).contains(&wired.count("chosen_total", &[])), "{attach}");
        assert_eq!(wired.count("chosen_total", &[("by", "kernel")]), 0.0, "{attach}");
        assert!(wired.count("chosen_total", &[("by", "cpu")]) > connections * 0.9, "{attach}");
        for none in ["syn_retries_total", "connections_unmatched_total", "connections_unaccepted_total"] {
            assert_eq!(wired.count(none, &[]), 0.0, "{attach} {none}");
        }
        // The interface sees more of a connection than its record: what comes after it was closed.
        let of = |member: &str| records.iter().map(|record| record["kernel"][member].as_f64().unwrap()).sum();
        let (packets, bytes): (f64, f64) = (of("wire_packets_in"), of("wire_bytes_in"));
        let (all_packets, all_bytes) =
            (wired.count("wire_packets_total", &[]), wired.count("wire_bytes_total", &[]));
        assert!(
            (packets..=packets + connections * 8.0).contains(&all_packets),
            "{attach}: {packets} {all_packets}"
        );
        assert!(
            (bytes..=bytes + connections * 8.0 * 60.0).contains(&all_bytes),
            "{attach}: {bytes} {all_bytes}"
        );
        let held = Held::by(&wired.scene.node);
        assert!(held.0.len() >= 3 && held.is_any_loaded(), "{attach}: {held:?}");
        assert!(!wired.place.pinned().is_empty());
        wired.end();
        if attach == "clsact" {
            // A filter is on the interface for good, and it is known how to take it off.
            let link = wired.place.netns.far_link().to_owned();
            let clean = || gateway::datapath::clean(None, std::slice::from_ref(&link)).unwrap();
            assert_eq!(wired.place.netns.inside(clean), [format!("the filter of {link}")]);
            assert!(wired.place.netns.inside(clean).is_empty());
        }
        wired.place.assert_clean(&held, attach);
    }
}

#[test]
fn kept_they_are_taken_over_by_the_next_start() {
    let test = "kept_they_are_taken_over_by_the_next_start";
    let keep = |start: gateway_tests::node::Start| start.variable("YETT_DATAPATH_KEEP", "true");
    let Some(mut wired) = Wired::with(test, "tcx", keep) else { return };
    wired.connect(3);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 3.0);
    let held = Held::by(&wired.scene.node);
    let before = wired.place.tcx();
    wired.end();
    assert_eq!(wired.place.tcx(), before, "it stays attached");
    assert_eq!(before.len(), 1);
    wired.scene.node.start_again();
    wired.scene.node.wait_ready();
    wired.connect(2);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 5.0);
    let after = wired.place.tcx();
    assert!(
        after.len() == 1 && after != before,
        "one program in the place of the other: {before:?} {after:?}"
    );
    wait::soon("the former programs to be gone", || !held.is_any_loaded());
}

#[test]
fn who_has_the_place_for_xdp_keeps_it_and_is_named() {
    let Some(place) = Place::new("who_has_the_place_for_xdp_keeps_it_and_is_named") else { return };
    let mut other = EbpfLoader::new().load(&object()).unwrap();
    let floor: &mut Xdp = other.program_mut("floor_xdp").unwrap().try_into().unwrap();
    floor.load().unwrap();
    let id = floor.info().unwrap().id();
    let link = place.netns.far_link().to_owned();
    place.netns.inside(|| floor.attach(&link, XdpMode::Driver).map(drop)).unwrap();
    let shown = format!("prog/xdp id {id} ");

    // Required in that way alone, the process does not start.
    let stage = place.stage();
    let line = format!("XDP program id {id} (native) \"floor_xdp\" has the place for XDP native");
    let mut node = place.start(Node::on(&stage.site), "xdp-native").spawn();
    assert!(!node.ended(wait::SOON).success());
    assert!(node.log().contains(&line), "{}", node.log());
    drop(node);

    for attach in ["xdp-native", "xdp-skb"] {
        let stage = place.stage();
        let scene =
            stage.start_with(|start| place.start(start, attach).variable("YETT_DATAPATH_MODE", "auto"));
        let log = scene.node.log();
        assert!(
            log.contains("attached as tcx since") && log.contains(&format!("program id {id} (native)")),
            "{log}"
        );
        assert_eq!(Http::clear(scene.node.http()).get("/").status, 200);
        scene.node.wait_metric("yett_bpf_syns_total", &[], 1.0);
        let metrics = scene.node.metrics();
        assert!(metrics.has("yett_bpf_programs_attached", &[("program", "ingress_tc"), ("mode", "tcx")]));
        assert_eq!(metrics.sum("yett_bpf_stage", &[("stage", "attach"), ("result", "fallback")]), 1.0);
        assert!(place.link().contains(&shown), "{attach}: {}", place.link());
    }
}
