//! What the process gives up once its programs are attached, and what it says where it may not load them.

use gateway_tests::node::Start;
use gateway_tests::{Http, Node, wait};

use super::{Place, Wired};
use crate::confinement::{assert_confined, assert_confined_within};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;
const NEEDED: &str = "+bpf,+net_admin,+perfmon,+net_bind_service";

#[test]
fn with_programs_attached_every_thread_has_given_up_as_much() {
    let test = "with_programs_attached_every_thread_has_given_up_as_much";
    let Some(mut wired) = Wired::new(test, "tcx") else { return };
    wired.connect(1);
    assert_confined(wired.scene.node.id());
    wired.scene.node.upgrade();
    wired.connect(1);
    assert_confined(wired.scene.node.id());
    assert_eq!(wired.attached().len(), 3);
}

#[test]
fn a_user_with_the_capabilities_alone_is_enough() {
    let test = "a_user_with_the_capabilities_alone_is_enough";
    let Some(place) = Place::new(test) else { return };
    for attach in ["tcx", "xdp-native"] {
        let scene = place.stage().start_with(|start| place.start(start, attach).user(NOBODY, NEEDED));
        assert_eq!(Http::clear(scene.node.http()).get("/").status, 200);
        // Who may not take anything off its bounding set has it as it was.
        assert_confined_within(scene.node.id(), None);
        let metrics = scene.node.metrics();
        assert_eq!(metrics.sum("yett_bpf_programs_attached", &[]), 3.0, "{attach}");
        let records = scene.node.records(1, |_| true);
        assert_eq!(records[0]["kernel"]["syn_tries"], 1, "{records:?}");
    }
}

#[test]
fn without_a_capability_it_serves_and_says_what_is_missing() {
    let test = "without_a_capability_it_serves_and_says_what_is_missing";
    let Some(place) = Place::new(test) else { return };
    let line =
        "EPERM: needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; without CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON";
    let without = |start: Start, mode: &str| {
        place.start(start, "auto").variable("YETT_DATAPATH_MODE", mode).user(NOBODY, "")
    };
    let scene = place.stage().start_with(|start| without(start, "auto"));
    assert_eq!(Http::clear(scene.node.http()).get("/").status, 200);
    let log = scene.node.log();
    assert_eq!(log.matches("EPERM").count(), 1, "{log}");
    assert!(log.contains(line), "{log}");
    let metrics = scene.node.metrics();
    assert_eq!(metrics.sum("yett_bpf_stage", &[("stage", "load"), ("result", "failed")]), 1.0);
    assert_eq!(metrics.sum("yett_bpf_programs_attached", &[]), 0.0);
    let records = scene.node.records(1, |_| true);
    assert!(records[0]["kernel"]["syn_tries"].is_null(), "{records:?}");
    drop(scene);

    let stage = place.stage();
    let mut node = without(Node::on(&stage.site), "require").spawn();
    assert!(!node.ended(wait::SOON).success());
    assert!(node.log().contains(line), "{}", node.log());
}
