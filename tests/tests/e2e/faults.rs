//! A fault of the program costs one connection; one that cannot be contained ends the process for its supervisor.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use gateway_tests::Scene;
use gateway_tests::node::Start;
use gateway_tests::scene::Stage;

const PANIC: &str = "/test-fault/panic";
const HANG: &str = "/test-fault/hang";

fn armed(settings: &str) -> Scene {
    Stage::new().start_with(|start: Start| start.variable("TEST_YETT_FAULTS", "1").settings(settings))
}

#[test]
fn a_panic_costs_the_connection_or_stream_it_happens_on() {
    let scene = armed("workers = 1\n");
    let bystander = scene.tls(&scene.alice).open(scene.node.https());
    assert_eq!(bystander.get("/").status, 200);

    let victim = scene.tls(&scene.alice).open(scene.node.https());
    assert!(victim.try_get(PANIC).is_err(), "there is nobody to answer");
    victim.closed(Duration::from_secs(5));

    let streams = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    let other = streams.begin("/held");
    scene.backend.wait_for(2);
    assert!(streams.try_get(PANIC).is_err(), "the stream is lost");
    scene.backend.release();
    assert_eq!(other.finish().unwrap().status, 200, "the stream beside it is not");

    assert_eq!(bystander.get("/").status, 200, "nor is another connection");
    assert_eq!(scene.node.metrics().sum("yett_panics_total", &[("where", "worker")]), 2.0);
    let log = scene.node.log();
    assert!(log.contains("a test asked for it") && log.contains("fault.rs:"), "{log}");
}

#[test]
fn too_many_panics_end_the_process() {
    let mut scene = armed("[limits]\npanics_per_minute_max = 2\n");
    for _ in 0..3 {
        assert!(scene.node.alive(), "two are borne");
        assert!(scene.tls(&scene.alice).open(scene.node.https()).try_get(PANIC).is_err());
    }
    assert_eq!(scene.node.ended(Duration::from_secs(10)).code(), Some(70));
    assert!(scene.node.log().contains("panics_per_minute_max"));
}

#[test]
fn a_worker_that_hangs_ends_the_process_with_a_dump() {
    let mut scene = armed("workers = 2\n[limits]\nhang_timeout = \"2s\"\n");
    let hangs = scene.tls(&scene.alice).open(scene.node.https()).begin(HANG);
    let status = scene.node.ended(Duration::from_secs(30));
    assert_eq!(status.signal(), Some(6), "aborted, so that a core can be kept: {status}");
    assert!(hangs.finish().is_err());
    let log = scene.node.log();
    assert!(log.contains("has made no progress for 2s") && log.contains("worker 1: thread "), "{log}");
}

#[test]
fn nobody_provokes_a_fault_in_a_process_that_was_not_armed() {
    let mut scene = Scene::start();
    for path in [PANIC, HANG] {
        assert_eq!(scene.curl(&scene.alice).get(&format!("https://gw.test{path}")).status, 200);
    }
    assert!(scene.node.alive());
    assert_eq!(scene.backend.count(), 2, "they are paths like any other");
    assert_eq!(scene.node.metrics().sum("yett_panics_total", &[]), 0.0);
}
