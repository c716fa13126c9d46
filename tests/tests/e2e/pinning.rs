//! Workers keep to CPUs, and connections to the CPU that handles their packets.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use gateway_tests::scene::Stage;
use gateway_tests::{Node, Scene};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const CONNECTIONS: usize = 1000;

/// The CPUs that the tests may use; None, said aloud, where there is nothing to tell apart.
pub(crate) fn cpus() -> Option<Vec<usize>> {
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if cpus.len() < 2 || thread::available_parallelism().unwrap().get() != cpus.len() {
        eprintln!("skipped: pinning is seen on two CPUs or more, without a quota below them");
        return None;
    }
    Some(cpus)
}

/// The CPUs that each worker's thread may run on, as the kernel writes them.
fn places(node: &Node) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.id())).unwrap();
    let mut workers: Vec<(String, String)> = tasks
        .filter_map(|task| {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim());
            let name = field("Name:")?.to_owned();
            name.starts_with("yett-worker-").then_some(())?;
            Some((name, field("Cpus_allowed_list:")?.to_owned()))
        })
        .collect();
    workers.sort();
    workers.into_iter().map(|(_, places)| places).collect()
}

/// Opens and closes connections, evenly from threads that keep to one CPU each. Loopback packets are handled by the CPU
/// that sends them.
fn connect(address: SocketAddr, cpus: &[usize]) {
    thread::scope(|scope| {
        for cpu in cpus {
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(*cpu);
                sched_setaffinity(None, &only).unwrap();
                for _ in 0..CONNECTIONS / cpus.len() {
                    drop(TcpStream::connect(address).unwrap());
                }
            });
        }
    });
}

/// The share of connections that were accepted where their packets were handled, and by how many each worker.
fn local_share(pin: &str, cpus: &[usize]) -> (f64, Vec<f64>) {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start_with(|start| start.settings(&format!("[datapath]\npin = \"{pin}\"\n")));
    connect(scene.node.http(), cpus);
    scene.node.wait_metric("yett_worker_connections_total", &[], CONNECTIONS as f64);
    let metrics = scene.node.metrics();
    let count = |labels: &[(&str, &str)]| metrics.sum("yett_worker_connections_total", labels);
    let workers = (0..cpus.len()).map(|worker| count(&[("worker", &worker.to_string())])).collect();
    (count(&[("local", "true")]) / count(&[]), workers)
}

#[test]
fn each_worker_keeps_to_a_cpu_of_its_own() {
    let Some(cpus) = cpus() else { return };
    let own: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let scene = Scene::start();
    assert_eq!(places(&scene.node), own);
    for (description, settings) in [
        ("off", "[datapath]\npin = \"off\"\n".to_owned()),
        ("more workers than CPUs", format!("workers = {}\n", cpus.len() + 1)),
    ] {
        let scene = Stage::new().start_with(|start| start.settings(&settings));
        let places = places(&scene.node);
        assert!(places.iter().all(|place| !own.contains(place)), "{description}: {places:?}");
    }
}

#[test]
fn connections_stay_on_the_cpu_that_handles_their_packets() {
    let Some(cpus) = cpus() else { return };
    let (share, workers) = local_share("cpu", &cpus);
    eprintln!("cpu: {share:.3} local, by worker {workers:?}");
    assert!(share >= 0.99, "{share}");
    let even = CONNECTIONS as f64 / cpus.len() as f64;
    assert!(workers.iter().all(|count| (count - even).abs() < even * 0.02 + 1.0), "{workers:?}");
}

#[test]
fn by_hash_they_are_spread_whatever_cpu_they_come_from() {
    let Some(cpus) = cpus() else { return };
    let (share, workers) = local_share("hash", &cpus);
    eprintln!("hash: {share:.3} local, by worker {workers:?}");
    let even = 1.0 / cpus.len() as f64;
    assert!((share - even).abs() < 0.15, "{share}");
}

#[test]
fn one_cpu_does_not_get_every_connection() {
    let Some(cpus) = cpus() else { return };
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start();
    let mut held = Vec::new();
    for batch in 1..=20 {
        let (address, place) = (scene.node.http(), cpus[0]);
        let opened = thread::spawn(move || {
            let mut first = CpuSet::new();
            first.set(place);
            sched_setaffinity(None, &first).unwrap();
            (0..20).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
        });
        held.extend(opened.join().unwrap());
        // Taken up before the next come: how many a worker has is known only then.
        scene.node.wait_metric("yett_worker_connections_total", &[], f64::from(20 * batch));
    }
    let metrics = scene.node.metrics();
    let first = metrics.sum("yett_worker_connections_total", &[("worker", "0")]);
    let all = held.len() as f64;
    eprintln!("{first} of {all} on the CPU that all came to");
    // A quarter more than the mean, some slack, and what came in one batch.
    let most = all / cpus.len() as f64 * 1.25 + 16.0 + 20.0;
    assert!(first > all / cpus.len() as f64 * 0.9 && first <= most, "{first} of {all}");
}
