//! Which worker has a connection, and what is known of it by the kernel.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Http, tools, wait};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use super::Wired;
use crate::pinning::cpus;

const CONNECTIONS: usize = 1000;

/// Opens connections, evenly from threads that keep to one CPU each; gives the CPU of each by its own address. What goes
/// over a wire between namespaces is handled by the CPU that sends it.
fn connect(address: SocketAddr, cpus: &[usize]) -> BTreeMap<String, usize> {
    let sent = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for cpu in cpus {
            let sent = &sent;
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(*cpu);
                sched_setaffinity(None, &only).unwrap();
                for _ in 0..CONNECTIONS / cpus.len() {
                    let stream = TcpStream::connect(address).unwrap();
                    sent.lock().unwrap().insert(stream.local_addr().unwrap().to_string(), *cpu);
                }
            });
        }
    });
    sent.into_inner().unwrap()
}

/// The share of connections whose worker keeps to the CPU that sent their SYN.
fn local_share(test: &str, pin: &str) -> Option<f64> {
    let cpus = cpus()?;
    let settings = format!("[datapath]\npin = \"{pin}\"\n");
    let wired = Wired::with(test, "tcx", |start| start.settings(&settings))?;
    let sent = connect(wired.scene.node.http(), &cpus);
    let records = wired.scene.node.records(CONNECTIONS, |_| true);
    let is_local = |record: &&Value| {
        let client = client(record);
        let worker = usize::try_from(record["connection"]["worker"].as_u64().unwrap()).unwrap();
        cpus[worker] == sent[&client]
    };
    let local = records.iter().filter(is_local).count();
    wired.scene.node.wait_metric("yett_bpf_connections_total", &[], CONNECTIONS as f64);
    let chosen = |by| wired.count("chosen_total", &[("by", by)]);
    eprintln!(
        "{pin}: {local} of {} on the CPU of their SYN; by CPU {}, by hash {}",
        records.len(),
        chosen("cpu"),
        chosen("hash")
    );
    // A packet that comes after the end of its connection is looked up among the listening sockets too.
    let all = CONNECTIONS as f64;
    let (by_pin, other) = if pin == "hash" { ("hash", "cpu") } else { ("cpu", "hash") };
    assert!((all * 0.99..=all * 1.01).contains(&chosen(by_pin)), "{pin}: {}", chosen(by_pin));
    assert!((all..=all * 1.01).contains(&(chosen(by_pin) + chosen(other))), "{pin}: {}", chosen(other));
    assert_eq!(chosen("kernel"), 0.0, "{pin}");
    Some(local as f64 / records.len() as f64)
}

fn client(record: &Value) -> String {
    let client = &record["client"];
    client["addr"].as_str().unwrap_or_else(|| panic!("no client: {record}")).to_owned()
}

#[test]
fn the_worker_is_that_of_the_cpu_that_received_the_syn() {
    let test = "the_worker_is_that_of_the_cpu_that_received_the_syn";
    if let Some(share) = local_share(test, "cpu") {
        assert!(share >= 0.99, "{share}");
    }
}

#[test]
fn by_hash_the_worker_is_as_often_that_of_another_cpu() {
    let test = "by_hash_the_worker_is_as_often_that_of_another_cpu";
    if let Some(share) = local_share(test, "hash") {
        assert!((0.3..=0.7).contains(&share), "{share}");
    }
}

#[test]
fn every_connection_has_what_the_kernel_knows_in_its_record() {
    let test = "every_connection_has_what_the_kernel_knows_in_its_record";
    let Some(wired) = Wired::new(test, "tcx") else { return };
    let clients = 4;
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| wired.connect(CONNECTIONS / clients));
        }
    });
    let records = wired.scene.node.records(CONNECTIONS, |_| true);
    let mut joined = 0;
    for record in &records {
        let (kernel, times) = (&record["kernel"], &record["t"]);
        assert_eq!(kernel["syn_tries"], 1, "{record}");
        assert!(kernel["wire_packets_in"].as_u64().is_some_and(|packets| packets >= 1), "{record}");
        // What came in is a part of what was on the wire.
        let stream = record["bytes_in"].as_u64().unwrap();
        assert!(kernel["wire_bytes_in"].as_u64().is_some_and(|bytes| bytes >= stream), "{record}");
        assert_eq!(kernel["zero_windows"], 0, "{record}");
        let ms = |name: &str| times[name].as_f64().unwrap_or_else(|| panic!("no {name}: {record}"));
        assert!(ms("syn_to_established_ms") <= ms("syn_to_hello_ms"), "{record}");
        assert!(ms("hello_to_read_ms") >= 0.0 && ms("established_to_accept_ms") >= 0.0, "{record}");
        joined += 1;
    }
    eprintln!("{joined} of {} records joined", records.len());
    assert_eq!(joined, CONNECTIONS);
    let node = &wired.scene.node;
    let histogram = node.metrics().sum("yett_connection_syn_to_hello_seconds_count", &[("source", "ebpf")]);
    assert_eq!(histogram, CONNECTIONS as f64);
}

#[test]
fn a_syn_that_was_lost_shows_in_the_record() {
    let test = "a_syn_that_was_lost_shows_in_the_record";
    let Some(wired) = Wired::new(test, "tcx") else { return };
    // Lost behind the program of the interface, which sees it, and before TCP.
    wired.place.netns.lose(100);
    let address = wired.scene.node.http();
    thread::scope(|scope| {
        let begun = Instant::now();
        let client = scope.spawn(move || Http::clear(address).get("/").status);
        wait::soon("the first SYN to be counted", || {
            // The wire is for its packets alone now: the process is asked by its socket.
            metric(&wired, "yett_bpf_syns_total") >= 1.0
        });
        wired.place.netns.lose(0);
        assert_eq!(client.join().unwrap(), 200);
        assert!(begun.elapsed() >= Duration::from_millis(900), "the client waited for its retry");
    });
    let records = wired.scene.node.records(1, |_| true);
    assert!(records[0]["kernel"]["syn_tries"].as_u64().is_some_and(|tries| tries >= 2), "{records:?}");
    let waited = records[0]["t"]["syn_to_established_ms"].as_f64().unwrap();
    assert!(waited >= 900.0, "it is the first SYN that counts: {waited} ms");
    wired.scene.node.wait_metric("yett_bpf_syn_retries_total", &[], 1.0);
    // It is not so for one that came through.
    wired.connect(1);
    let records = wired.scene.node.records(2, |_| true);
    assert!(records.iter().any(|record| record["kernel"]["syn_tries"] == 1), "{records:?}");
}

/// A metric by the admin socket, where the wire is not to be used.
fn metric(wired: &Wired, name: &str) -> f64 {
    let socket = wired.scene.node.admin_socket();
    let mut curl = std::process::Command::new("curl");
    let text = tools::run(curl.args(["-s", "--unix-socket"]).arg(socket).arg("http://admin/metrics"));
    gateway_tests::metrics::Metrics::parse(&text).sum(name, &[])
}
