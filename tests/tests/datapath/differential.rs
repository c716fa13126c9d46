//! The host's parser and the kernel's programs on the same bytes: every length of every kind of packet, and packets
//! with bytes changed at random. What the one reads, the other counts.

use std::collections::BTreeMap;

use gateway_common::key::{FrontendKey, address, any_of};
use gateway_common::parse::{self, Link, Skip};
use gateway_common::value::{Counters, Totals};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::kernel::{Hook, Kernel, Switches, Verdict, usable};
use crate::packets::Packet;
use crate::screen::{ANY4, ANY6, EXACT4, EXACT6, frontends};

/// The shortest packet that the kernel's test runs take.
const BYTES_MIN: usize = 14;

/// What must be counted, by the host's own parser.
fn expected(bytes: &[u8]) -> (Totals, BTreeMap<u32, Counters>) {
    let mut totals = Totals { packets: 1, ..Totals::default() };
    let mut counted = BTreeMap::new();
    match read(bytes) {
        Ok(Some((id, counters))) => {
            counted.insert(id, counters);
        }
        Ok(None) | Err(Skip::Other) => {}
        Err(Skip::Fragment) => totals.fragments = 1,
        Err(Skip::Unreadable) => totals.unreadable = 1,
    }
    (totals, counted)
}

fn read(bytes: &[u8]) -> Result<Option<(u32, Counters)>, Skip> {
    let ip = parse::ip(bytes, Link::Ethernet)?;
    let port = parse::destination_port(bytes, &ip)?;
    let on = |text: &str, port: u16| FrontendKey::new(address(text.parse().unwrap()), port);
    let exact = [(on("192.0.2.1", 443), EXACT4), (on("2001:db8::1", 443), EXACT6)];
    let any = [(on("0.0.0.0", 8443), ANY4), (on("::", 8443), ANY6)];
    let key = |address| FrontendKey::new(address, port);
    let find = |list: &[(FrontendKey, u32)], key| list.iter().find(|(on, _)| *on == key).map(|(_, id)| *id);
    let found = find(&exact, key(ip.destination)).or_else(|| find(&any, key(any_of(&ip.destination))));
    let Some(id) = found else { return Ok(None) };
    let segment = parse::segment(bytes, &ip)?;
    let counters = Counters {
        packets: 1,
        bytes: ip.bytes(bytes.len()) as u64,
        syns: u64::from(segment.opens()),
        ..Counters::default()
    };
    Ok(Some((id, counters)))
}

/// What the kernel's test run of this hook does not take: for an skb, an IP header that the frame announces and then
/// has no room for.
fn refused(hook: Hook, bytes: &[u8]) -> bool {
    let room = match bytes[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => BYTES_MIN,
    };
    hook == Hook::Tc && bytes.len() < room
}

/// Runs the bytes through a hook and compares; slots and retries are left to other tests.
fn compare(kernel: &mut Kernel, hook: Hook, bytes: &[u8]) -> Result<(), TestCaseError> {
    if refused(hook, bytes) {
        return Ok(());
    }
    kernel.forget();
    prop_assert_eq!(kernel.run(hook, bytes), Verdict::Pass);
    let (totals, counted) = expected(bytes);
    let seen: BTreeMap<_, _> = kernel
        .all_counters()
        .into_iter()
        .map(|(id, counts)| (id, Counters { syn_retries: 0, slots_overwritten: 0, ..counts }))
        .collect();
    prop_assert_eq!(kernel.totals(), totals, "{:?}", hook);
    prop_assert_eq!(seen, counted, "{:?}", hook);
    Ok(())
}

/// One packet of each kind.
fn kinds() -> Vec<Packet> {
    let v4 = || Packet::syn("198.51.100.9:40000", "192.0.2.1:443");
    let v6 = || Packet::syn("[2001:db8:1::9]:40000", "[2001:db8::1]:443");
    let extension = |number: u8, words: u8| {
        let mut header = vec![0; usize::from(words) * 8];
        header[1] = words - 1;
        (number, header)
    };
    vec![
        v4().with(|packet| packet.payload = vec![0x16, 3, 1, 2, 0, 1, 0]),
        v4().with(|packet| packet.vlans = vec![0x8100]),
        v6().with(|packet| packet.vlans = vec![0x88a8, 0x8100]),
        v4().with(|packet| packet.ip_options = vec![1; 40]),
        v4().with(|packet| packet.tcp_options = vec![1; 40]),
        v4().with(|packet| packet.fragment = 0x2000),
        v6().with(|packet| packet.payload = vec![1; 9]),
        v6().with(|packet| packet.extensions = vec![extension(0, 1), extension(43, 2), extension(60, 3)]),
        v6().with(|packet| packet.extensions = vec![extension(44, 1)]),
        Packet::syn("198.51.100.9:40000", "203.0.113.5:8443"),
    ]
}

#[test]
fn every_length_of_every_kind_is_read_the_same() {
    if !usable("every_length_of_every_kind_is_read_the_same") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    frontends(&mut kernel);
    let mut lengths = 0;
    for packet in kinds() {
        let frame = packet.frame();
        for bytes in BYTES_MIN..=frame.len() {
            for hook in Hook::ALL {
                compare(&mut kernel, hook, &frame[..bytes])
                    .unwrap_or_else(|error| panic!("{bytes} bytes of {packet:?}: {error}"));
                lengths += 1;
            }
        }
    }
    assert!(lengths > 1_000, "{lengths} runs");
}

#[test]
fn packets_changed_at_random_are_read_the_same() {
    if !usable("packets_changed_at_random_are_read_the_same") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    frontends(&mut kernel);
    let mut read = 0;
    let kinds: Vec<_> = kinds().iter().map(Packet::frame).collect();
    // Most changes in the first 60 bytes, where the headers are that decide about what follows.
    let strategy = (0..kinds.len(), vec((0..60_usize, any::<u8>()), 0..4), 0..200_usize);
    let mut runner = TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() });
    let kernel = std::cell::RefCell::new(&mut kernel);
    let seen = std::cell::Cell::new(0);
    runner
        .run(&strategy, |(kind, changes, cut)| {
            let mut bytes = kinds[kind].clone();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            // Mostly whole.
            bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(150)).max(BYTES_MIN));
            seen.set(seen.get() + u32::from(!expected(&bytes).1.is_empty()));
            Hook::ALL.into_iter().try_for_each(|hook| compare(&mut kernel.borrow_mut(), hook, &bytes))
        })
        .unwrap_or_else(|error| panic!("{error}"));
    read += seen.get();
    assert!(
        (200..1_800).contains(&read),
        "{read} of 2000 were for a front end: the changes are too mild or too wild"
    );
}
