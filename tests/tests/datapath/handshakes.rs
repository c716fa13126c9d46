//! What a SYN leaves behind in its slot: its time, its sequence number, how often it came.

use gateway_common::flow::Place;
use gateway_common::key::address;
use gateway_common::object::{SLOTS_MAX, switch};

use crate::kernel::{Hook, Kernel, Switches, now_ns, usable};
use crate::packets::Packet;
use crate::screen::{EXACT4, frontends};

const SEED: u64 = 0x5eed_5eed_5eed_5eed;

fn kernel() -> Kernel {
    let mut kernel = Kernel::load(&Switches { seed: Some(SEED), ..Switches::default() });
    frontends(&mut kernel);
    kernel
}

fn syn(port: u16, sequence: u32) -> Packet {
    let mut packet = Packet::syn("198.51.100.9:1", "192.0.2.1:443").with(|packet| packet.sequence = sequence);
    packet.from.set_port(port);
    packet
}

fn place(packet: &Packet) -> Place {
    let (from, to) = (address(packet.from.ip()), address(packet.to.ip()));
    Place::of_flow(SEED, &from, &to, (packet.from.port(), packet.to.port()))
}

#[test]
fn a_syn_leaves_its_time_and_its_repetitions_are_counted() {
    if !usable("a_syn_leaves_its_time_and_its_repetitions_are_counted") {
        return;
    }
    // The last of the sequence numbers: the next one wraps to 0.
    for (hook, isn) in Hook::ALL.into_iter().flat_map(|hook| [(hook, 7), (hook, 0), (hook, u32::MAX)]) {
        let mut kernel = kernel();
        let before_ns = now_ns();
        kernel.run(hook, &syn(40_000, isn).frame());
        let after_ns = now_ns();
        for _ in 0..3 {
            kernel.run(hook, &syn(40_000, isn).frame());
        }
        let [slot] = kernel.slots()[..] else { panic!("{hook:?}: {:?}", kernel.slots()) };
        assert_eq!((slot.isn, slot.tries), (isn, 4), "{hook:?}");
        assert_eq!(slot.tag, place(&syn(40_000, isn)).tag(), "user space finds it by the same hash");
        assert!((before_ns..=after_ns).contains(&slot.syn_ns), "the first one's time, {hook:?}");
        let counts = kernel.counters(EXACT4);
        assert_eq!((counts.syns, counts.syn_retries, counts.slots_overwritten), (4, 3, 0), "{hook:?}");
    }
}

#[test]
fn a_port_used_again_begins_anew() {
    if !usable("a_port_used_again_begins_anew") {
        return;
    }
    for hook in Hook::ALL {
        let mut kernel = kernel();
        for isn in [u32::MAX, u32::MAX, 0] {
            kernel.run(hook, &syn(40_000, isn).frame());
        }
        let [slot] = kernel.slots()[..] else { panic!("{hook:?}: {:?}", kernel.slots()) };
        assert_eq!((slot.isn, slot.tries), (0, 1), "{hook:?}");
        let counts = kernel.counters(EXACT4);
        assert_eq!(
            (counts.syn_retries, counts.slots_overwritten),
            (1, 0),
            "the same client's: nothing is lost"
        );
    }
}

#[test]
fn two_flows_of_one_slot_are_told_apart_and_the_later_one_stays() {
    if !usable("two_flows_of_one_slot_are_told_apart_and_the_later_one_stays") {
        return;
    }
    let first = syn(1, 7);
    let index = place(&first).index(SLOTS_MAX);
    // One in 65,536 flows has the same slot; two addresses give enough to find one.
    let second = (0..=255_u8)
        .flat_map(|host| (1..=u16::MAX).map(move |port| (host, port)))
        .map(|(host, port)| {
            syn(port, 7).with(|packet| packet.from.set_ip(std::net::Ipv4Addr::new(203, 0, 113, host).into()))
        })
        .find(|packet| place(packet).index(SLOTS_MAX) == index && place(packet).tag() != place(&first).tag())
        .unwrap();
    for hook in Hook::ALL {
        let mut kernel = kernel();
        kernel.run(hook, &first.frame());
        kernel.run(hook, &second.frame());
        let [slot] = kernel.slots()[..] else { panic!("{hook:?}: {:?}", kernel.slots()) };
        assert_eq!((slot.tag, slot.tries), (place(&second).tag(), 1), "{hook:?}");
        assert_eq!(kernel.counters(EXACT4).slots_overwritten, 1, "{hook:?}");
    }
}

#[test]
fn without_slots_nothing_is_left_behind() {
    if !usable("without_slots_nothing_is_left_behind") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::set([(switch::SLOTS, 0)]));
    frontends(&mut kernel);
    for hook in Hook::ALL {
        kernel.run(hook, &syn(40_000, 7).frame());
    }
    assert_eq!(kernel.slots(), []);
    assert_eq!(kernel.counters(EXACT4).syns, 2);
}
