//! Who is turned away: the deny list, the pace of a source, the allow list before both, how far each goes, and that
//! nobody is turned away once the daemon is gone.

use std::net::SocketAddr;

use aya::maps::RingBuf;
use gateway_common::Reason;
use gateway_common::key::ip;
use gateway_common::object::{map, switch};
use gateway_common::value::{Control, Event, EventKind, HEARTBEAT_NS_MAX, Mode, Shed};

use crate::kernel::{Hook, Kernel, Switches, Verdict, now_ns, usable};
use crate::packets::Packet;
use crate::screen::{EXACT4, EXACT6, frontends};

const DENY: (&str, &str) = (map::DENY4, map::DENY6);
const ALLOW: (&str, &str) = (map::ALLOW4, map::ALLOW6);

fn from(source: &str) -> Packet {
    let to = if source.starts_with('[') { "[2001:db8::1]:443" } else { "192.0.2.1:443" };
    Packet::syn(source, to)
}

#[test]
fn the_deny_list_holds_for_new_connections_and_the_allow_list_wins() {
    if !usable("the_deny_list_holds_for_new_connections_and_the_allow_list_wins") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    frontends(&mut kernel);
    kernel.list(DENY, "198.51.100.0/24");
    kernel.list(DENY, "2001:db8:bad::/48");
    kernel.list(ALLOW, "198.51.100.7/32");
    kernel.list(ALLOW, "2001:db8:bad:1::/64");
    kernel.alive(|control| control.deny = Mode::Enforce as u8);
    let data = |packet: Packet| packet.with(|packet| packet.flags = gateway_common::parse::ACK);
    // Description, packet, whether it is dropped, whether the allow list saved it.
    let table = [
        ("a stranger", from("203.0.113.1:1"), false, false),
        ("a denied network", from("198.51.100.1:1"), true, false),
        ("an address of it that is allowed", from("198.51.100.7:1"), false, true),
        ("what comes on its connections", data(from("198.51.100.1:1")), false, false),
        ("a denied IPv6 network", from("[2001:db8:bad::1]:1"), true, false),
        ("a network of it that is allowed", from("[2001:db8:bad:1::1]:1"), false, true),
        ("another IPv6 network", from("[2001:db8:bae::1]:1"), false, false),
        ("another port", from("198.51.100.1:1").with(|packet| packet.to.set_port(444)), false, false),
    ];
    for hook in Hook::ALL {
        for (description, packet, dropped, saved) in &table {
            kernel.forget();
            let expected = if *dropped { Verdict::Drop } else { Verdict::Pass };
            assert_eq!(kernel.run(hook, &packet.frame()), expected, "{hook:?}: {description}");
            let id = if packet.to.is_ipv4() { EXACT4 } else { EXACT6 };
            let counts = kernel.counters(id);
            assert_eq!(counts.dropped, [u64::from(*dropped), 0], "{hook:?}: {description}");
            assert_eq!(counts.allowed, u64::from(*saved), "{hook:?}: {description}");
        }
    }
}

#[test]
fn a_rule_goes_as_far_as_its_mode_and_only_while_the_daemon_lives() {
    if !usable("a_rule_goes_as_far_as_its_mode_and_only_while_the_daemon_lives") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    let mut without = Kernel::load(&Switches::set([(switch::DENY, 0)]));
    for kernel in [&mut kernel, &mut without] {
        frontends(kernel);
        kernel.list(DENY, "198.51.100.0/24");
    }
    let now = now_ns();
    let table = [
        ("nothing was ever said", 0, Mode::Enforce, Verdict::Pass, [0, 0]),
        ("off", now, Mode::Off, Verdict::Pass, [0, 0]),
        ("observed", now, Mode::Observe, Verdict::Pass, [0, 1]),
        ("enforced", now, Mode::Enforce, Verdict::Drop, [1, 0]),
        (
            "the daemon is gone",
            now.saturating_sub(HEARTBEAT_NS_MAX + 1),
            Mode::Enforce,
            Verdict::Pass,
            [0, 0],
        ),
    ];
    for hook in Hook::ALL {
        for (description, heartbeat_ns, mode, verdict, [dropped, observed]) in table {
            let control = Control { heartbeat_ns, deny: mode as u8, ..Control::default() };
            kernel.control(control);
            without.control(control);
            kernel.forget();
            let syn = from("198.51.100.1:1").frame();
            assert_eq!(kernel.run(hook, &syn), verdict, "{hook:?}: {description}");
            let counts = kernel.counters(EXACT4);
            assert_eq!(
                (counts.dropped[0], counts.observed[0]),
                (dropped, observed),
                "{hook:?}: {description}"
            );
            assert_eq!(without.run(hook, &syn), Verdict::Pass, "{hook:?}: {description}, switched off");
        }
    }
}

#[test]
fn a_source_over_its_pace_is_turned_away_and_others_are_not() {
    if !usable("a_source_over_its_pace_is_turned_away_and_others_are_not") {
        return;
    }
    const HOUR_NS: u64 = 3_600_000_000_000;
    for (hook, mode) in Hook::ALL.into_iter().flat_map(|hook| [(hook, Mode::Enforce), (hook, Mode::Observe)])
    {
        let mut kernel = Kernel::load(&Switches::set([(switch::LIMIT, 1)]));
        frontends(&mut kernel);
        kernel.list(ALLOW, "198.51.100.7/32");
        kernel.alive(|control| {
            control.limit = mode as u8;
            (control.syn_interval_ns, control.syn_burst_ns) = (HOUR_NS, HOUR_NS * 5 / 2);
        });
        let mut passed = |source: &str| {
            (1..=5)
                .filter(|port| kernel.run(hook, &from(&format!("{source}:{port}")).frame()) == Verdict::Pass)
                .count()
        };
        // Three at once: the burst holds two and a half hours, and each takes one.
        let through = if mode == Mode::Enforce { 3 } else { 5 };
        assert_eq!(passed("198.51.100.1"), through, "{hook:?} {mode:?}");
        assert_eq!(passed("198.51.100.2"), through, "another source has its own, {hook:?} {mode:?}");
        assert_eq!(passed("[2001:db8:7::1]"), through, "{hook:?} {mode:?}");
        assert_eq!(passed("198.51.100.7"), 5, "an allowed one has no limit, {hook:?} {mode:?}");
        let counts = kernel.counters(EXACT4);
        let over = if mode == Mode::Enforce { counts.dropped } else { counts.observed };
        assert_eq!((over, counts.allowed), ([0, 4], 2), "{hook:?} {mode:?}");
    }
}

#[test]
fn what_is_turned_away_is_reported_until_the_buffer_is_full() {
    if !usable("what_is_turned_away_is_reported_until_the_buffer_is_full") {
        return;
    }
    for hook in Hook::ALL {
        let mut kernel = Kernel::load(&Switches { event_mask: Some(0), ..Switches::default() });
        frontends(&mut kernel);
        kernel.list(DENY, "198.51.100.0/24");
        kernel.alive(|control| control.deny = Mode::Enforce as u8);
        let before_ns = now_ns();
        let syn = from("198.51.100.1:40000");
        kernel.run(hook, &syn.frame());
        let event = events(&mut kernel).pop().unwrap();
        assert!((before_ns..=now_ns()).contains(&event.at_ns));
        assert_eq!(SocketAddr::new(ip(event.source), event.source_port), syn.from);
        assert_eq!(SocketAddr::new(ip(event.destination), event.destination_port), syn.to);
        assert_eq!((event.frontend, event.established_ns), (EXACT4, 0));
        assert_eq!(EventKind::of(event.kind), Some(EventKind::Dropped));
        assert_eq!(event.reason, Reason::SourceDenied as u8);
        assert_eq!(Shed::Denied.reason(), Reason::SourceDenied);

        // A megabyte holds fewer than twelve thousand events of 80 bytes and their headers.
        kernel.forget();
        kernel.raw(hook, hook.program(), &syn.frame(), 13_000);
        let kept = events(&mut kernel).len() as u64;
        assert_eq!(kept + kernel.totals().events_lost, 13_000, "{hook:?}");
        assert!(kernel.totals().events_lost > 1_000, "{hook:?}: {kept} kept");
    }
}

#[test]
fn events_are_a_sample_and_can_be_switched_off() {
    if !usable("events_are_a_sample_and_can_be_switched_off") {
        return;
    }
    for (switches, expected) in [
        (Switches { event_mask: Some(15), ..Switches::default() }, 200..900),
        (Switches { event_mask: Some(0), on_off: vec![(switch::EVENTS, 0)], ..Switches::default() }, 0..1),
    ] {
        let mut kernel = Kernel::load(&switches);
        frontends(&mut kernel);
        kernel.list(DENY, "198.51.100.0/24");
        kernel.alive(|control| control.deny = Mode::Enforce as u8);
        kernel.raw(Hook::Tc, Hook::Tc.program(), &from("198.51.100.1:1").frame(), 8_000);
        let events = events(&mut kernel).len();
        assert!(expected.contains(&events), "{switches:?}: {events}");
    }
}

/// The events so far.
pub(crate) fn events(kernel: &mut Kernel) -> Vec<Event> {
    let mut ring: RingBuf<_> = kernel.map(map::EVENTS);
    let mut events = Vec::new();
    while let Some(item) = ring.next() {
        events.push(event(&item));
    }
    events
}

/// An event out of its bytes, field by field: tests have no unsafe.
fn event(bytes: &[u8]) -> Event {
    let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
    assert_eq!(bytes.len(), size_of::<Event>());
    Event {
        at_ns: long(0),
        syn_ns: long(8),
        established_ns: long(16),
        first_payload_ns: long(24),
        source: [word(32), word(36), word(40), word(44)],
        destination: [word(48), word(52), word(56), word(60)],
        frontend: word(64),
        syn_tries: word(68),
        source_port: half(72),
        destination_port: half(74),
        kind: bytes[76],
        reason: bytes[77],
        pad: [bytes[78], bytes[79]],
    }
}
