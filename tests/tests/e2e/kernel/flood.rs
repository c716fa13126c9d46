//! A flood of SYNs costs those who are connected nothing, neither a request nor what is known of them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_common::object::SLOTS_MAX;
use gateway_tests::Http;
use socket2::{Domain, Protocol, Socket, Type};

use super::Wired;

const SPAN: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 200;
/// What a flood is to reach, in SYNs a second.
const RATE: f64 = 50_000.0;
/// Those that are sent, over and over: four times as many as there are slots.
const PACKETS: u32 = 4 * SLOTS_MAX;
const HEAD_BYTES: usize = 40;

/// An IPv4 packet with a SYN from anywhere in the upper half of the block for benchmarks (RFC 2544).
fn syn(number: u32, to: SocketAddrV4) -> [u8; HEAD_BYTES] {
    // Spread over addresses and ports, and never twice the same in a flood.
    let mixed = number.wrapping_mul(0x9e37_79b1);
    let [_, _, third, fourth] = mixed.to_be_bytes();
    let source = Ipv4Addr::new(198, 19, third, fourth);
    let port = 1024 + (number % 60_000) as u16;
    let mut packet = [0; HEAD_BYTES];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&mixed.to_be_bytes());
    // Five words of head, SYN, a window.
    packet[32..36].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]);
    let words = packet[12..].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    // With the pseudo header's protocol and length (RFC 9293 section 3.1).
    let mut sum = words.sum::<u32>() + 6 + 20;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

/// Sends prepared SYNs for a while; gives how many a second.
fn flood(packets: &[[u8; HEAD_BYTES]], to: SocketAddrV4) -> f64 {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    socket.set_header_included_v4(true).unwrap();
    let (begun, address) = (Instant::now(), SocketAddr::V4(to).into());
    let mut sent = 0_u32;
    for some in packets.chunks(64).cycle() {
        if begun.elapsed() >= SPAN {
            break;
        }
        for packet in some {
            socket.send_to(packet, &address).unwrap();
            sent += 1;
        }
    }
    f64::from(sent) / begun.elapsed().as_secs_f64()
}

#[test]
fn a_flood_of_syns_costs_the_connected_nothing() {
    let test = "a_flood_of_syns_costs_the_connected_nothing";
    let Some(wired) = Wired::new(test, "tcx") else { return };
    wired.place.netns.answer_nobody("198.19.0.0/16");
    let (tls, https) = (wired.scene.tls(&wired.scene.alice), wired.scene.node.https());
    let SocketAddr::V4(to) = https else { panic!("the wire has IPv4") };
    let connections: Vec<Http> = (0..CONNECTIONS).map(|_| tls.open(https)).collect();
    let packets: Vec<_> = (0..PACKETS).map(|number| syn(number, to)).collect();
    let is_over = AtomicBool::new(false);
    let (rate, asked) = thread::scope(|scope| {
        let clients: Vec<_> = connections
            .chunks(CONNECTIONS / 2)
            .map(|mine| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut asked = vec![0; mine.len()];
                    while !is_over.load(Ordering::Relaxed) {
                        for (connection, asked) in mine.iter().zip(&mut asked) {
                            let answer = connection.try_get("/").expect("no request is lost");
                            assert_eq!(answer.status, 200);
                            *asked += 1;
                        }
                    }
                    asked
                })
            })
            .collect();
        let rate = flood(&packets, to);
        is_over.store(true, Ordering::Relaxed);
        let asked: Vec<u64> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (rate, asked)
    });
    drop(connections);
    let all: u64 = asked.iter().sum();
    let of_tls = |record: &serde_json::Value| record["tls"].is_object();
    let records = wired.scene.node.records(CONNECTIONS, of_tls);
    assert_eq!(records.len(), CONNECTIONS);
    let sum = |pick: &dyn Fn(&serde_json::Value) -> u64| records.iter().map(pick).sum::<u64>();
    let requests = sum(&|record| record["connection"]["requests"].as_u64().unwrap());
    assert_eq!(requests, all, "every request is in a record");
    assert_eq!(wired.scene.backend.count() as u64, all);
    for record in &records {
        let number = |part: &str, member: &str| record[part][member].as_u64();
        assert_eq!(number("kernel", "syn_tries"), Some(1), "{record}");
        let stream = record["bytes_in"].as_u64().unwrap();
        // A request's head is more than this, and all of it was on the wire.
        assert!(stream > 40 * record["connection"]["requests"].as_u64().unwrap(), "{record}");
        assert!(number("kernel", "wire_bytes_in").is_some_and(|bytes| bytes > stream), "{record}");
    }
    wired.scene.node.wait_metric("yett_bpf_syns_total", &[], rate * SPAN.as_secs_f64() * 0.9);
    let overwritten = wired.count("syn_slots_overwritten_total", &[]);
    eprintln!(
        "{rate:.0} SYNs a second for {SPAN:?}; {all} requests on {CONNECTIONS} connections; {overwritten} slots overwritten"
    );
    assert!(overwritten > 0.0, "more handshakes than slots, and the counter tells");
    // What an idle machine reaches; a busy one shares its processors.
    let busy = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = busy.split(' ').next().unwrap().parse().unwrap();
    assert!(rate >= RATE || load > 4.0, "{rate:.0} SYNs a second at a load of {load}");
    // And who comes now is served and known.
    wired.connect(1);
    let records = wired.scene.node.records(1, |record| !record["tls"].is_object());
    assert_eq!(records.last().unwrap()["kernel"]["syn_tries"], 1);
}
