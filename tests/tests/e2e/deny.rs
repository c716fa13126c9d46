//! The deny list: by hand, in every mode, with an end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use gateway_tests::client::from;
use gateway_tests::scene::Stage;
use gateway_tests::{Curl, Scene, binary, wait};
use serde_json::Value;

fn scene(mode: &str, allow: &str) -> Scene {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let settings = format!("[datapath.deny]\nmode = \"{mode}\"\nallow = [{allow}]\n");
    stage.start_with(|start| start.settings(&settings))
}

/// Whether a client at this address is served.
fn is_served(source: &str, address: SocketAddr) -> bool {
    let mut stream = from(source, address);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // One that is closed at once may refuse what is written.
    stream.write_all(b"GET /status/204 HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n").ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    answer.starts_with("HTTP/1.1 204")
}

fn hits(scene: &Scene, result: &str) -> f64 {
    scene.node.metrics().sum("yett_deny_connections_total", &[("result", result)])
}

fn entries(scene: &Scene) -> Vec<String> {
    let listed: Value = serde_json::from_str(&scene.node.yett(&["deny", "list", "-o", "json"])).unwrap();
    let entries = listed["entries"].as_array().unwrap().iter();
    entries.map(|entry| entry["network"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn without_a_word_from_the_operator_it_only_observes() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start();
    assert!(is_served("127.0.0.2", scene.node.http()));
    assert_eq!(hits(&scene, "observed"), 0.0);
    let said = scene.node.yett(&["deny", "add", "127.0.0.2"]);
    assert!(said.contains("mode observe"), "{said}");
    assert!(is_served("127.0.0.2", scene.node.http()), "observed, not denied");
    assert!(is_served("127.0.0.3", scene.node.http()));
    assert_eq!((hits(&scene, "observed"), hits(&scene, "denied")), (1.0, 0.0));
    assert!(scene.node.log().contains("a client on the deny list"));
    assert_eq!(scene.node.metrics().sum("yett_deny_entries", &[]), 1.0);
}

#[test]
fn enforced_it_closes_connections_but_those_of_the_allow_list() {
    let scene = scene("enforce", "\"127.0.0.9/32\"");
    scene.node.yett(&["deny", "add", "127.0.0.0/8", "2001:db8::/32"]);
    assert_eq!(entries(&scene), ["127.0.0.0/8", "2001:db8::/32"]);
    assert!(!is_served("127.0.0.2", scene.node.http()));
    assert!(is_served("127.0.0.9", scene.node.http()), "the allow list wins");
    // On the TLS port there is no handshake either.
    let mut tls = TcpStream::connect(scene.node.https()).unwrap();
    tls.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(tls.read(&mut [0; 1]), Ok(0) | Err(_)));
    let records = scene.node.records(2, |record| record["verdict"] == "denied");
    for record in &records {
        assert_eq!(
            (&record["reason"], &record["connection"]["end"]),
            (&"source_denied".into(), &"denied".into())
        );
    }
    assert_eq!((hits(&scene, "denied"), hits(&scene, "allowed")), (2.0, 1.0));
    let denied = scene.node.metrics().sum("yett_connections_total", &[("result", "denied")]);
    assert_eq!(denied, 2.0);
    let said = scene.node.yett(&["deny", "remove", "127.0.0.0/8"]);
    assert!(said.starts_with("1 off the list, 1 entries; mode enforce"), "{said}");
    assert!(is_served("127.0.0.2", scene.node.http()), "taken off");
    assert_eq!(entries(&scene), ["2001:db8::/32"]);
}

#[test]
fn an_entry_ends_by_itself() {
    let scene = scene("enforce", "");
    let begun = Instant::now();
    scene.node.yett(&["deny", "add", "127.0.0.2", "--ttl", "3s"]);
    assert!(!is_served("127.0.0.2", scene.node.http()));
    wait::soon("the entry to end", || is_served("127.0.0.2", scene.node.http()));
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    wait::soon("it to be taken off", || entries(&scene).is_empty());
    assert_eq!(scene.node.metrics().sum("yett_deny_entries", &[]), 0.0);
}

#[test]
fn an_upgrade_keeps_the_list_and_a_new_start_does_not() {
    let mut scene = scene("enforce", "");
    scene.node.yett(&["deny", "add", "127.0.0.2", "--ttl", "1h"]);
    scene.node.yett(&["deny", "add", "127.0.0.3"]);
    let listed = |scene: &Scene| scene.node.yett(&["deny", "list", "-o", "json"]);
    let before = listed(&scene);
    assert!(before.contains("\"expires\""), "{before}");
    scene.node.upgrade();
    assert_eq!(listed(&scene), before, "each with its end");
    assert_eq!(scene.node.metrics().sum("yett_deny_entries", &[]), 2.0);
    for source in ["127.0.0.2", "127.0.0.3"] {
        assert!(!is_served(source, scene.node.http()), "{source}");
    }
    assert!(is_served("127.0.0.4", scene.node.http()));
    scene.node.yett(&["deny", "add", "127.0.0.2", "--ttl", "2s"]);
    scene.node.upgrade();
    wait::soon("the entry to end, though another process made it", || entries(&scene) == ["127.0.0.3/32"]);
    assert!(is_served("127.0.0.2", scene.node.http()));
    scene.node.kill();
    scene.node.start_again();
    scene.node.wait_ready();
    assert!(entries(&scene).is_empty());
}

#[test]
fn off_it_is_not_looked_at() {
    let scene = scene("off", "");
    let said = scene.node.yett(&["deny", "add", "127.0.0.2"]);
    assert!(said.contains("datapath.deny.mode is off"), "{said}");
    assert!(is_served("127.0.0.2", scene.node.http()));
    for result in ["denied", "observed", "allowed"] {
        assert_eq!(hits(&scene, result), 0.0, "{result}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let scene = scene("enforce", "");
    let run = |arguments: &[&str]| {
        let mut command = binary::command();
        let socket = scene.node.admin_socket();
        let output = command.arg("deny").args(arguments).arg("--admin-socket").arg(socket).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (description, arguments, code, words) in [
        ("no network", &["add", "nonsense"][..], 2, "`nonsense` is neither an address nor a network"),
        ("no span", &["add", "192.0.2.1", "--ttl", "soon"], 2, "`soon` is not a span"),
        ("not on the list", &["remove", "192.0.2.1"], 1, "not on the list: 192.0.2.1/32"),
    ] {
        let (status, said) = run(arguments);
        assert_eq!(status, Some(code), "{description}: {said}");
        assert!(said.contains(words), "{description}: {said}");
    }
    assert!(entries(&scene).is_empty());
    let url = format!("http://{}/deny/add?network=127.0.0.1", scene.node.admin_address());
    let answer = Curl::to(scene.node.admin_address()).with("--request", "POST").get(&url);
    assert_eq!(answer.status, 405, "{answer:?}");
    assert_eq!(scene.node.admin("/deny").0, 200);
}
