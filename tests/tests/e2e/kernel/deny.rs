//! The deny list in the kernel: what is denied does not get as far as the process.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use gateway_tests::node::Start;
use gateway_tests::{Http, wait};
use socket2::{Domain, Socket, Type};

use super::{Place, Wired};

/// As long as a client waits for an answer that does not come: two retries of its SYN.
const PATIENCE: Duration = Duration::from_millis(3500);
/// Somebody else.
const OTHER: &str = "192.0.2.0/24";

/// How a client fares.
#[derive(Debug, PartialEq)]
enum Fate {
    Served,
    /// Accepted and closed at once.
    Closed,
    /// No answer to its SYN.
    Unanswered,
}

fn fate(source: IpAddr, address: SocketAddr) -> Fate {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    match socket.connect_timeout(&address.into(), PATIENCE) {
        Err(error) => {
            let none = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
            assert!(none, "{error:?}");
            return Fate::Unanswered;
        }
        Ok(()) => socket.set_read_timeout(Some(wait::SOON)).unwrap(),
    }
    let mut stream = TcpStream::from(socket);
    // One that is closed at once may refuse what is written.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n").ok();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    if answer.starts_with("HTTP/1.1 200") { Fate::Served } else { Fate::Closed }
}

/// A gateway with the list in a mode, whose clients have a second address, which is never denied.
fn wired(test: &str, mode: &str, datapath: &str) -> Option<(Wired, IpAddr)> {
    let place = Place::new(test)?;
    let second = place.netns.second_address();
    let settings = format!("[datapath.deny]\nmode = \"{mode}\"\nallow = [\"{second}/32\"]\n");
    let with = |start: Start| start.settings(&settings).variable("YETT_DATAPATH_MODE", datapath);
    Some((place.scene("tcx", with), second))
}

/// Changes the list by the admin socket, which no wire leads to.
fn deny(wired: &Wired, arguments: &[&str]) {
    wired.scene.node.yett(&[&["deny"], arguments].concat());
}

/// How many were denied after they had been accepted.
fn accepted(wired: &Wired) -> f64 {
    wired.scene.node.metrics().sum("yett_deny_connections_total", &[("result", "denied")])
}

const DENIED: &[(&str, &str)] = &[("reason", "source_denied")];

#[test]
fn observed_it_is_counted_in_the_kernel_and_served() {
    let Some((wired, second)) =
        wired("observed_it_is_counted_in_the_kernel_and_served", "observe", "require")
    else {
        return;
    };
    let (near, address) = (wired.place.netns.near_address(), wired.scene.node.http());
    deny(&wired, &["add", &near.to_string(), OTHER]);
    assert_eq!(fate(near, address), Fate::Served);
    assert_eq!(fate(second, address), Fate::Served);
    wait::soon("it to be counted", || wired.count("observed_total", DENIED) >= 1.0);
    assert_eq!(wired.count("observed_total", DENIED), 1.0);
    assert_eq!(wired.count("drops_total", &[]), 0.0);
}

#[test]
fn enforced_its_syns_are_dropped_before_anybody_accepts() {
    let test = "enforced_its_syns_are_dropped_before_anybody_accepts";
    let Some((wired, second)) = wired(test, "enforce", "require") else { return };
    let (near, address) = (wired.place.netns.near_address(), wired.scene.node.http());
    // Who is in stays in: it is SYNs that are dropped.
    let held = Http::clear(address);
    assert_eq!(held.get("/").status, 200);
    let before = wired.scene.backend.count();
    deny(&wired, &["add", &near.to_string(), &second.to_string()]);
    assert_eq!(fate(near, address), Fate::Unanswered);
    assert_eq!(fate(second, address), Fate::Served, "the allow list wins");
    wait::soon("the drops to be counted", || wired.count("drops_total", DENIED) >= 2.0);
    wired.scene.node.wait_metric("yett_bpf_allowed_total", &[], 1.0);
    assert_eq!(accepted(&wired), 0.0, "none was accepted");
    assert_eq!(wired.scene.backend.count(), before + 1, "that of the allow list alone");
    assert!(wired.scene.node.connections().iter().all(|record| record["verdict"] != "denied"));
    deny(&wired, &["remove", &near.to_string()]);
    assert_eq!(fate(near, address), Fate::Served, "taken off");
}

#[test]
fn an_entry_ends_in_the_kernel_too() {
    let Some((wired, _)) = wired("an_entry_ends_in_the_kernel_too", "enforce", "require") else { return };
    let (near, address) = (wired.place.netns.near_address(), wired.scene.node.http());
    deny(&wired, &["add", &near.to_string(), "--ttl", "10s"]);
    assert_eq!(fate(near, address), Fate::Unanswered);
    wait::soon("the client to come in again", || fate(near, address) == Fate::Served);
    assert!(wired.count("drops_total", DENIED) >= 1.0);
}

#[test]
fn without_programs_the_client_is_closed_instead_of_unanswered() {
    let test = "without_programs_the_client_is_closed_instead_of_unanswered";
    let Some((wired, second)) = wired(test, "enforce", "off") else { return };
    let (near, address) = (wired.place.netns.near_address(), wired.scene.node.http());
    deny(&wired, &["add", &near.to_string(), &second.to_string()]);
    assert_eq!(fate(near, address), Fate::Closed);
    assert_eq!(fate(second, address), Fate::Served, "the allow list wins");
    assert_eq!(accepted(&wired), 1.0);
    deny(&wired, &["remove", &near.to_string()]);
    assert_eq!(fate(near, address), Fate::Served);
}
