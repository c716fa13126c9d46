//! What is counted and attached goes on over crashes, other layouts, other daemons and upgrades.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::EbpfLoader;
use gateway_common::object::{LAYOUT, map};
use gateway_tests::load::Load;
use gateway_tests::{Http, Node, binary, wait};

use super::{Held, Wired, object};
use crate::upgrade;

#[test]
fn after_a_crash_counts_go_on_and_nobody_waits_in_vain() {
    for attach in ["tcx", "xdp-native"] {
        let test = "after_a_crash_counts_go_on_and_nobody_waits_in_vain";
        let Some(mut wired) = Wired::new(test, attach) else { return };
        wired.connect(10);
        wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 10.0);
        wired.scene.node.kill();
        // The programs are there, and what they pass finds no listener: refused, not lost.
        let address = wired.scene.node.http();
        let refused = TcpStream::connect_timeout(&address, wait::SOON).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{attach}");
        let start = Instant::now();
        wired.scene.node.start_again();
        wait::soon("an answer", || Load::once(address));
        let took = start.elapsed();
        eprintln!("{attach}: served again {took:?} after the start");
        // A second is what an idle machine may take; a busy one shares its processors.
        let busy = fs::read_to_string("/proc/loadavg").unwrap();
        let load: f64 = busy.split(' ').next().unwrap().parse().unwrap();
        assert!(took < Duration::from_secs(1) || load > 2.0, "{took:?} at a load of {load}");
        wired.scene.node.wait_ready();
        wired.connect(4);
        // Ten before, one while there was no process, those that waited for it to come, and five since.
        wired.scene.node.wait_metric("yett_bpf_connections_total", &[], 15.0);
        assert_eq!(wired.count("connections_total", &[]), 15.0, "{attach}");
        assert!(wired.count("syns_total", &[]) >= 16.0, "{attach}");
        assert_eq!(wired.attached().len(), 3);
    }
}

#[test]
fn the_doctor_takes_off_what_a_killed_gateway_has_left() {
    let Some(mut wired) = Wired::new("the_doctor_takes_off_what_a_killed_gateway_has_left", "tcx") else {
        return;
    };
    let had = Held::by(&wired.scene.node);
    let pins = wired.place.pins();
    let clean = || {
        let mut yett = binary::command();
        yett.args(["doctor", "--clean", "--interface", "lo", "--pins"]).arg(&pins);
        yett.output().unwrap()
    };
    let refused = clean();
    assert_eq!(refused.status.code(), Some(1), "a gateway uses them");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another process's"), "{refused:?}");
    wired.connect(1);
    wired.scene.node.kill();
    assert!(!wired.place.pinned().is_empty() && had.is_any_loaded());
    let cleaned = clean();
    assert_eq!(cleaned.status.code(), Some(0), "{cleaned:?}");
    wired.place.assert_clean(&had, "after the doctor");
}

/// A map of the object, with other room, pinned somewhere.
fn pin_another(name: &str, at: &Path) {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(name, 7);
    loader.load(&object()).unwrap().map_mut(name).unwrap().pin(at).unwrap();
}

#[test]
fn pins_of_another_layout_are_refused_and_replaced() {
    let Some(mut wired) = Wired::new("pins_of_another_layout_are_refused_and_replaced", "tcx") else {
        return;
    };
    let pins = wired.place.pins();
    let own = pins.join(format!("v{LAYOUT}"));
    wired.connect(3);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 3.0);

    // Beside ours those of another version: they go, ours stay.
    wired.scene.node.kill();
    let foreign = pins.join("v0");
    fs::create_dir_all(foreign.join("maps")).unwrap();
    pin_another(map::TOTALS, &foreign.join("maps").join(map::TOTALS));
    wired.scene.node.start_again();
    wired.scene.node.wait_ready();
    let line = format!("what was there is taken off: {}: of another layout", foreign.display());
    assert!(wired.scene.node.log().contains(&line), "{}", wired.scene.node.log());
    assert!(!foreign.exists());
    wired.connect(1);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 4.0);

    // A map of another size in the place of ours: none of them is believed.
    wired.scene.node.kill();
    let before = wired.place.tcx();
    let counters = own.join("maps").join(map::COUNTERS);
    fs::remove_file(&counters).unwrap();
    pin_another(map::COUNTERS, &counters);
    wired.scene.node.start_again();
    wired.scene.node.wait_ready();
    let line = format!("{}: the map {} is ", own.display(), map::COUNTERS);
    assert!(wired.scene.node.log().contains(&line), "{}", wired.scene.node.log());
    wired.connect(2);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 2.0);
    assert_eq!(wired.count("syns_total", &[]), 2.0, "counts begin anew");
    let after = wired.place.tcx();
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
}

#[test]
fn a_second_daemon_with_the_same_pins_goes_without() {
    let Some(wired) = Wired::new("a_second_daemon_with_the_same_pins_goes_without", "tcx") else { return };
    wired.connect(2);
    let first = wired.place.tcx();
    let mut second = wired.place.start(Node::on(&wired.scene.site), "tcx").ready();
    let line = format!("{} is another process's", wired.place.pins().display());
    assert!(second.log().contains(&line), "{}", second.log());
    assert_eq!(Http::clear(second.http()).get("/").status, 200);
    second.wait_metric("yett_bpf_syns_total", &[], 1.0);
    assert_eq!(second.metrics().sum("yett_bpf_syns_total", &[]), 1.0);
    assert_eq!(wired.place.tcx().len(), 2);
    second.signal("TERM");
    assert_eq!(second.ended(wait::SOON).code(), Some(0));
    assert_eq!(wired.place.tcx(), first, "what is the first one's stays");
    assert!(!wired.place.pinned().is_empty());
    wired.connect(2);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 4.0);
    assert_eq!(wired.count("syns_total", &[]), 4.0);
}

/// A scene that is upgraded by the body, with the programs attached.
fn upgraded(test: &str, settings: &str, body: impl FnOnce(&mut Wired, &upgrade::Place)) {
    let program = upgrade::Place::new();
    let with = |start: gateway_tests::node::Start| start.program(&program.path()).settings(settings);
    let Some(mut wired) = Wired::with(test, "tcx", with) else { return };
    wired.connect(5);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 5.0);
    let attached = wired.place.tcx();
    body(&mut wired, &program);
    wired.scene.node.wait_ready();
    assert_eq!(wired.place.tcx(), attached, "the same program at the same place");
    // Counts go on, and connections are told of as before.
    let earlier: BTreeSet<String> = wired.scene.node.connections().iter().map(id).collect();
    let counted = wired.count("syns_total", &[]);
    assert!(counted > 5.0, "{counted}");
    wired.connect(20);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], counted + 20.0);
    let new = |record: &serde_json::Value| !earlier.contains(&id(record)) && record["tls"].is_null();
    let records = wired.scene.node.records(20, new);
    let known = records.iter().filter(|record| record["kernel"]["syn_tries"] == 1).count();
    assert_eq!(known, records.len(), "{records:?}");
}

#[test]
fn an_upgrade_with_privileges_replaces_the_programs_and_counts_go_on() {
    let test = "an_upgrade_with_privileges_replaces_the_programs_and_counts_go_on";
    let Some(mut wired) = Wired::new(test, "tcx") else { return };
    wired.connect(3);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 3.0);
    let former = wired.place.tcx();
    // As if another version had loaded them.
    let layout = wired.place.pins().join(format!("v{LAYOUT}"));
    let is_marker = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("object-");
    let marker =
        || fs::read_dir(&layout).unwrap().map(|entry| entry.unwrap().path()).find(is_marker).unwrap();
    let own = marker();
    fs::rename(&own, layout.join("object-00")).unwrap();
    let mut yett = binary::command();
    yett.args(["upgrade", "--admin-socket"]).arg(wired.scene.node.admin_socket());
    let output = yett.arg("--pins").arg(wired.place.pins()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.starts_with("programs in the kernel replaced, 3 links"),
        "{output:?}"
    );
    let (_, answer) = told.split_once('\n').unwrap();
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    wired.scene.node.follow(answer["process"].as_u64().unwrap().try_into().unwrap());
    wired.scene.node.wait_ready();
    assert_eq!(marker(), own, "it is said whose they are now");
    let now = wired.place.tcx();
    assert!(now.len() == 1 && now != former, "{former:?} {now:?}");
    wired.connect(4);
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], 7.0);
    assert_eq!(wired.count("chosen_total", &[("by", "kernel")]), 0.0);
}

fn id(record: &serde_json::Value) -> String {
    record["connection"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn twenty_upgrades_under_load_hand_the_programs_on() {
    upgraded("twenty_upgrades_under_load_hand_the_programs_on", "workers = 2\n", |wired, _| {
        upgrade::upgrades_lose_nothing(&mut wired.scene);
        let records = wired.scene.node.connections();
        let known = records.iter().filter(|record| record["kernel"]["syn_tries"].is_number()).count();
        eprintln!("{known} of {} connections are told of by the kernel", records.len());
        assert!(known * 100 >= records.len() * 95, "{known} of {}", records.len());
        // Counts are read once a second.
        wired.scene.node.wait_metric("yett_bpf_syns_total", &[], records.len() as f64);
    });
}

#[test]
fn the_old_process_killed_while_the_new_one_starts_leaves_it_the_programs() {
    let test = "the_old_process_killed_while_the_new_one_starts_leaves_it_the_programs";
    upgraded(test, "workers = 2\n", |wired, program| {
        upgrade::killed_while_the_new_one_starts(&mut wired.scene, program);
    });
}

#[test]
fn the_old_process_killed_while_it_drains_takes_no_program_along() {
    upgraded("the_old_process_killed_while_it_drains_takes_no_program_along", "", |wired, _| {
        upgrade::killed_while_it_drains(&mut wired.scene);
    });
}

#[test]
fn the_new_process_killed_before_it_is_ready_takes_no_program_along() {
    let test = "the_new_process_killed_before_it_is_ready_takes_no_program_along";
    upgraded(test, "", |wired, program| upgrade::new_one_killed(&mut wired.scene, program));
}
