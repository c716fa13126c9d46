//! Every connection has exactly one record, and its figures are those of the wire.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use gateway_tests::scene::Stage;
use gateway_tests::{Http, Scene, wait};
use serde_json::Value;
use socket2::SockRef;

fn clear(settings: &str) -> Scene {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    stage.start_with(|start| start.settings(settings))
}

/// The record of the client at this address, once it is there.
fn record(scene: &Scene, client: SocketAddr) -> Value {
    let addr = client.to_string();
    scene.node.records(1, |record| record["client"]["addr"] == addr.as_str()).remove(0)
}

fn end(record: &Value) -> &str {
    record["connection"]["end"].as_str().unwrap_or_default()
}

/// Sends a request and reads until nothing more comes; gives how many bytes went either way.
fn exchange(stream: &mut TcpStream, request: &[u8], answers: usize) -> (u64, u64) {
    stream.write_all(request).unwrap();
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while read.windows(9).filter(|window| window == b"HTTP/1.1 ").count() < answers
        || !read.ends_with(b"\r\n\r\n")
    {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
    (request.len() as u64, read.len() as u64)
}

#[test]
fn the_figures_of_a_raw_client() {
    let scene = clear("");
    let request = b"GET /status/204 HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    for (description, ending, words) in
        [("a client that closes", false, "client_closed"), ("a client that resets", true, "client_reset")]
    {
        let mut stream = TcpStream::connect(scene.node.http()).unwrap();
        let client = stream.local_addr().unwrap();
        let (mut sent, mut received) = (0, 0);
        for _ in 0..3 {
            let (out, back) = exchange(&mut stream, request, 1);
            (sent, received) = (sent + out, received + back);
        }
        if ending {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
        let record = record(&scene, client);
        assert_eq!(end(&record), words, "{description}: {record}");
        assert_eq!(record["bytes_in"].as_u64(), Some(sent), "{description}: {record}");
        assert_eq!(record["bytes_out"].as_u64(), Some(received), "{description}: {record}");
        assert_eq!(record["connection"]["requests"], 3, "{description}: {record}");
        assert_eq!(record["connection"]["protocol"], "http/1.1", "{description}: {record}");
        assert_eq!(record["verdict"], "allowed", "{description}: {record}");
        assert!(record["tls"].is_null() && record["reason"].is_null(), "{description}: {record}");
        assert!(record["t"]["handshake_rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0), "{record}");
        assert!(record["tcp"]["segments_in"].as_u64().is_some_and(|count| count >= 5), "{record}");
        assert_eq!(record["tcp"]["retransmits"], 0, "{description}: {record}");
    }
}

#[test]
fn one_that_never_says_a_word() {
    let scene = clear("");
    let stream = TcpStream::connect(scene.node.http()).unwrap();
    let client = stream.local_addr().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let record = record(&scene, client);
    assert_eq!((end(&record), &record["bytes_in"]), ("client_closed", &0.into()), "{record}");
    assert_eq!(record["connection"]["requests"], 0, "{record}");
}

#[test]
fn who_was_connected_and_how_it_ended() {
    let scene = Scene::start();
    let serial = scene.alice.serial_hex();
    for (alpn, requests) in [("http/1.1", 3_u64), ("h2", 5)] {
        let connection = scene.tls(&scene.alice).alpn(&[alpn]).open(scene.node.https());
        for _ in 0..requests {
            assert_eq!(connection.get("/").status, 200);
        }
        drop(connection);
        let records = scene.node.records(1, |record| record["connection"]["protocol"] == alpn);
        let record = &records[0];
        assert_eq!(record["connection"]["requests"].as_u64(), Some(requests), "{record}");
        assert_eq!((end(record), &record["verdict"]), ("client_closed", &"allowed".into()), "{record}");
        assert_eq!(record["client"]["serial"].as_str(), Some(&*serial), "{record}");
        assert_eq!((&record["client"]["verified"], &record["sni"]), (&true.into(), &"gw.test".into()));
        assert_eq!((&record["tls"]["version"], &record["tls"]["resumed"]), (&"1.3".into(), &false.into()));
        assert!(record["listener"].as_str().is_some_and(|listener| listener.ends_with("/mtls")), "{record}");
        for member in ["total_ms", "handshake_ms", "handshake_cpu_ms", "handshake_rtt_ms"] {
            assert!(record["t"][member].as_f64().is_some_and(|span| span > 0.0), "{member}: {record}");
        }
        let cpu = record["t"]["handshake_cpu_ms"].as_f64();
        assert!(cpu <= record["t"]["handshake_ms"].as_f64(), "{record}");
        assert!(record["bytes_in"].as_u64() > Some(1000) && record["bytes_out"].as_u64() > Some(1000));
        let requests = scene.node.lines(1, |line| line["connection"]["id"] == record["connection"]["id"]);
        assert!(!requests.is_empty(), "its requests carry its number");
    }
}

#[test]
fn refused_clients_have_one_too() {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    let revoked = scene.tls(&mallory).open(scene.node.https());
    assert_eq!(revoked.get("/").status, 200);
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    assert_eq!(revoked.get("/").reason(), "certificate_revoked");
    revoked.closed(wait::SOON);
    let record = &scene.node.records(1, |record| record["reason"] == "certificate_revoked")[0];
    assert_eq!((&record["verdict"], end(record)), (&"refused".into(), "closed"), "{record}");
    assert_eq!(record["connection"]["requests"], 2, "{record}");
    // Without a certificate the handshake fails.
    scene.tls(&scene.alice).alpn(&["http/1.1"]).try_get(scene.node.https());
    gateway_tests::Tls::new().name("gw.test").try_get(scene.node.https());
    let record = &scene.node.records(1, |record| record["reason"] == "no_certificate")[0];
    assert_eq!((&record["verdict"], end(record)), (&"refused".into(), "handshake_refused"), "{record}");
    assert_eq!(
        (&record["sni"], &record["connection"]["requests"]),
        (&"gw.test".into(), &0.into()),
        "{record}"
    );
    let lines = scene.node.lines(1, |line| line["connection"]["id"] == record["connection"]["id"]);
    assert_eq!(lines[0]["kind"], "handshake", "the same number: {lines:?}");
}

#[test]
fn whatever_ends_it_a_connection_has_exactly_one_record() {
    let settings =
        "workers = 2\n[limits]\nconnections_max = 12\nidle_timeout = \"2s\"\nhandshake_timeout = \"1s\"\n";
    let mut scene = clear(settings);
    let mut clients = BTreeSet::new();
    // Held ones: idle on HTTP, silent on TLS.
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(scene.node.http()).unwrap();
        exchange(&mut stream, b"GET /status/204 HTTP/1.1\r\nHost: gw.test\r\n\r\n", 1);
        clients.insert(stream.local_addr().unwrap().to_string());
        held.push(stream);
    }
    for _ in 0..6 {
        let stream = TcpStream::connect(scene.node.https()).unwrap();
        clients.insert(stream.local_addr().unwrap().to_string());
        held.push(stream);
    }
    scene.node.wait_metric("yett_connections_active", &[], 12.0);
    for _ in 0..4 {
        let stream = TcpStream::connect(scene.node.http()).unwrap();
        clients.insert(stream.local_addr().unwrap().to_string());
        held.push(stream);
    }
    let ended = scene.node.records(16, |_| true);
    let count = |words: &str| ended.iter().filter(|record| end(record) == words).count();
    assert_eq!(count("limited"), 4, "{ended:?}");
    assert_eq!(count("idle_timeout"), 6, "{ended:?}");
    assert_eq!(count("handshake_refused"), 6, "{ended:?}");
    assert!(ended.iter().filter(|record| record["reason"] == "timeout").count() == 6, "{ended:?}");
    // One in the middle of a request when the process drains.
    let busy = Http::clear(scene.node.http()).authority("gw.test");
    assert_eq!(busy.get("/status/204").status, 204);
    scene.node.signal("TERM");
    scene.node.ended(wait::SOON);
    let all = scene.node.connections();
    assert_eq!(all.iter().filter(|record| end(record) == "drained").count(), 1, "{all:?}");
    let ids: BTreeSet<&str> = all.iter().filter_map(|record| record["connection"]["id"].as_str()).collect();
    assert_eq!((all.len(), ids.len()), (17, 17), "one record each");
    let seen: BTreeSet<String> =
        all.iter().filter_map(|record| Some(record["client"]["addr"].as_str()?.to_owned())).collect();
    assert!(clients.is_subset(&seen), "{clients:?} in {seen:?}");
}

#[test]
fn histograms_add_up_to_the_records() {
    let scene = clear("access_log_connections = true\n");
    let mut sums = (0, 0);
    for _ in 0..5 {
        let mut stream = TcpStream::connect(scene.node.http()).unwrap();
        let (sent, received) = exchange(&mut stream, b"GET /status/204 HTTP/1.1\r\nHost: gw.test\r\n\r\n", 1);
        sums = (sums.0 + sent, sums.1 + received);
    }
    scene.node.wait_metric("yett_connection_retransmits_count", &[("source", "tcp_info")], 5.0);
    let metrics = scene.node.metrics();
    let sum = |direction: &str| {
        metrics.sum("yett_connection_wire_bytes_sum", &[("direction", direction), ("source", "tcp_info")])
    };
    // The end of a stream counts as a byte.
    assert!((sums.0..=sums.0 + 5).contains(&(sum("in") as u64)), "{} of {}", sum("in"), sums.0);
    assert_eq!(sum("out") as u64, sums.1);
    assert_eq!(metrics.sum("yett_connection_syn_to_established_seconds_count", &[]), 5.0);
    assert!(!metrics.has("yett_connection_wire_bytes_count", &[("source", "ebpf")]));
}

#[test]
fn records_may_be_off() {
    let scene = clear("access_log_connections = false\n");
    assert_eq!(Http::clear(scene.node.http()).authority("gw.test").get("/status/204").status, 204);
    scene.node.wait_metric("yett_connection_retransmits_count", &[], 1.0);
    scene.node.lines(1, |_| true);
    assert!(scene.node.connections().is_empty());
}

#[test]
fn open_connections_are_listed() {
    let scene = clear("workers = 2\n");
    let one = scene.tls(&scene.alice).alpn(&["http/1.1"]).open(scene.node.https());
    let two = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    let mut clear = TcpStream::connect(scene.node.http()).unwrap();
    let (sent, received) = exchange(&mut clear, b"GET /status/204 HTTP/1.1\r\nHost: gw.test\r\n\r\n", 1);
    for (connection, requests) in [(&one, 1), (&two, 3)] {
        for _ in 0..requests {
            assert_eq!(connection.get("/").status, 200);
        }
    }
    let list = |more: &[&str]| -> Value {
        let arguments = [&["connections", "-o", "json"], more].concat();
        serde_json::from_str(&scene.node.yett(&arguments)).unwrap()
    };
    let listing = list(&[]);
    let rows = listing["connections"].as_array().unwrap();
    assert_eq!((&listing["open"], &listing["cut"], rows.len()), (&3.into(), &false.into(), 3), "{listing}");
    let of = |protocol: &str, tls: bool| {
        let found = rows
            .iter()
            .find(|row| row["connection"]["protocol"] == protocol && row["tls"].is_object() == tls);
        found.unwrap_or_else(|| panic!("{protocol} in {listing}"))
    };
    assert_eq!(of("h2", true)["connection"]["requests"], 3);
    let secured = of("http/1.1", true);
    assert_eq!(secured["client"]["serial"].as_str(), Some(&*scene.alice.serial_hex()), "{secured}");
    assert_eq!((&secured["sni"], &secured["verdict"]), (&"gw.test".into(), &"allowed".into()));
    let clear_row = of("http/1.1", false);
    assert_eq!(clear_row["client"]["addr"], clear.local_addr().unwrap().to_string().as_str());
    assert_eq!((&clear_row["bytes_in"], &clear_row["bytes_out"]), (&sent.into(), &received.into()));
    assert!(clear_row["connection"]["end"].is_null() && clear_row["t"]["total_ms"].is_number());
    assert!(clear_row["connection"]["worker"].as_u64().is_some_and(|worker| worker < 2));

    let cut = list(&["--limit", "1"]);
    assert_eq!((&cut["open"], &cut["cut"]), (&3.into(), &true.into()), "{cut}");
    assert_eq!(cut["connections"].as_array().map(Vec::len), Some(1));
    let id = |row: &Value| row["connection"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        Some(id(&cut["connections"][0])),
        rows.iter().map(id).min(),
        "the one that has been open longest"
    );
    assert_eq!(list(&["--client", "192.0.2.0/24"])["connections"].as_array().map(Vec::len), Some(0));
    assert_eq!(list(&["--client", "127.0.0.1"])["connections"].as_array().map(Vec::len), Some(3));
    let table = scene.node.yett(&["connections"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("AGE") && table.contains("gw.test"), "{table}");
    let (status, body) = scene.node.admin("/connections?limit=nonsense");
    assert_eq!(status, 400, "{body}");

    drop((one, clear));
    wait::soon("those that ended to be gone", || list(&[])["open"] == 1);
    // What holds a drain up can be seen.
    let held = two.begin("/held");
    scene.backend.wait_for(1 + 3 + 1);
    scene.node.signal("TERM");
    wait::soon("the drain", || scene.node.admin("/readyz").0 == 503);
    let draining = list(&[]);
    assert_eq!(draining["connections"][0]["connection"]["requests"], 4, "{draining}");
    scene.backend.release();
    assert_eq!(held.finish().unwrap().status, 200);
}

#[test]
fn one_that_is_cut_off_says_so() {
    let mut scene = Scene::start();
    let connection = scene.tls(&scene.alice).open(scene.node.https());
    let held = connection.begin("/held");
    scene.backend.wait_for(1);
    let mut shaking_hands = TcpStream::connect(scene.node.https()).unwrap();
    shaking_hands.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    wait::soon("both to be taken up", || {
        let listed = scene.node.yett(&["connections", "-o", "json"]);
        serde_json::from_str::<Value>(&listed).unwrap()["open"] == 2
    });
    scene.node.signal("TERM");
    wait::soon("the drain", || scene.node.try_admin("/readyz").is_none_or(|(status, _)| status == 503));
    scene.node.signal("TERM");
    scene.node.ended(wait::SOON);
    assert!(held.finish().is_err());
    let records = scene.node.connections();
    assert_eq!(records.iter().map(end).collect::<Vec<_>>(), ["cut_off", "cut_off"], "{records:?}");
    scene.backend.release();
}
