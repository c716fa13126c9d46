//! A process that serves has given up what serving does not need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use gateway_tests::manifests::{gateway, http};
use gateway_tests::netns::Netns;
use gateway_tests::{Http, Node, Scene, Site, tools, wait};
use rustix::process::geteuid;

/// `CAP_NET_BIND_SERVICE`, as /proc writes it.
pub(crate) const BIND: &str = "0000000000000400";
const NONE: &str = "0000000000000000";
const CAPABILITIES: [&str; 4] = ["CapEff", "CapPrm", "CapInh", "CapAmb"];
const MARGIN: Duration = Duration::from_secs(20);

/// What /proc/PID/task/TID/status says, by its names, for every thread.
fn threads(process: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let status = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Some(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    };
    tasks.filter_map(|task| status(task.ok()?)).collect()
}

/// Every thread is confined, and there are those that one expects.
pub(crate) fn assert_confined(process: u32) {
    assert_confined_within(process, Some(BIND));
}

/// The same, with this bounding set where one is known.
pub(crate) fn assert_confined_within(process: u32, bounding: Option<&str>) {
    let threads = threads(process);
    for thread in &threads {
        let name = &thread["Name"];
        let expected = if thread["Pid"] == process.to_string() { BIND } else { NONE };
        for set in CAPABILITIES {
            assert_eq!(thread[set], expected, "{set} of {name}");
        }
        if let Some(bounding) = bounding {
            assert_eq!(thread["CapBnd"], bounding, "CapBnd of {name}");
        }
        assert_eq!((&*thread["NoNewPrivs"], &*thread["Seccomp"]), ("1", "2"), "{name}");
        assert_eq!(thread["Seccomp_filters"], "1", "{name}: not one more with every upgrade");
    }
    let names: BTreeSet<&str> = threads.iter().map(|thread| thread["Name"].as_str()).collect();
    eprintln!("{} threads: {names:?}", threads.len());
    for name in ["yett-worker-0", "yett-access-log", "yett-watchdog", "notify-rs inoti"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
}

/// Whether the test may look at what root has given up.
fn is_root(test: &str) -> bool {
    if !geteuid().is_root() {
        tools::skip(test, "a process that is not root has nothing to give up");
    }
    geteuid().is_root()
}

#[test]
fn every_thread_has_given_up_what_it_does_not_need() {
    if !is_root("every_thread_has_given_up_what_it_does_not_need") {
        return;
    }
    let mut scene = Scene::start();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    assert_confined(scene.node.id());
    for _ in 0..2 {
        scene.node.upgrade();
        assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
        assert_confined(scene.node.id());
        assert_eq!(scene.node.former_ended(MARGIN).code(), Some(0));
    }
}

#[test]
fn ports_below_1024_are_bound_afterwards_too() {
    let test = "ports_below_1024_are_bound_afterwards_too";
    if !is_root(test) {
        return;
    }
    let Some(netns) = Netns::new(test) else { return };
    let site = Site::new();
    site.apply(gateway("gw", &[http("first", 80)]));
    let listeners = |ports: &[u16]| {
        let more = ports.iter().map(|port| http(&format!("port-{port}"), *port));
        let all: Vec<_> = [http("first", 80)].into_iter().chain(more).collect();
        site.apply(gateway("gw", &all));
    };
    netns.inside(|| {
        let mut node = Node::on(&site).ready();
        let served = |port: u16| {
            let address = ([127, 0, 0, 1], port).into();
            assert_eq!(Http::clear(address).get("/").status, 404, "port {port}");
        };
        node.settle(|| listeners(&[81]));
        served(81);
        node.upgrade();
        assert_eq!(node.former_ended(MARGIN).code(), Some(0));
        served(81);
        node.settle(|| listeners(&[81, 82]));
        served(82);
        assert_confined(node.id());
    });
}

#[test]
fn a_file_that_only_roots_powers_could_open_is_told_as_that() {
    if !is_root("a_file_that_only_roots_powers_could_open_is_told_as_that") {
        return;
    }
    let scene = Scene::start();
    let file = scene.site.path().join("closed.yaml");
    scene.node.settle(|| {
        fs::write(&file, "kind: Gateway\n").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    });
    wait::soon("words about it", || {
        let log = scene.node.log();
        log.contains("closed.yaml") && log.contains("root without CAP_DAC_OVERRIDE")
    });
}
