//! What a packet costs, in nanoseconds and in multiples of the same run's empty program. The nanoseconds are this
//! machine's; the multiples are promised.

use gateway_common::object::{map, switch};
use gateway_common::parse::ACK;
use gateway_common::value::Mode;

use crate::kernel::{Hook, Kernel, Switches, usable};
use crate::packets::Packet;
use crate::screen::{EXACT4, EXACT6, frontends};

/// Rounds of a measurement; the least one counts, since everything that disturbs only adds.
const ROUNDS: u32 = 9;

/// The most multiples for any SYN.
const SYN_MAX: f64 = 6.0;

/// Attempts at a figure that is too high.
const ATTEMPTS: u32 = 5;

/// Runs in a round: `YETT_BENCH_REPEAT`, as `cargo xtask bench datapath` sets it, or fewer.
fn repeat() -> u32 {
    std::env::var("YETT_BENCH_REPEAT").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

#[test]
fn a_packet_costs_no_more_than_its_multiple_of_nothing() {
    if !usable("a_packet_costs_no_more_than_its_multiple_of_nothing") {
        return;
    }
    let (mut kernel, mut fresh) = (guarded(&[]), guarded(&[(switch::FRESH, 1)]));
    let v4 = |to: &str| Packet::syn("203.0.113.9:40000", to);
    let v6 = || Packet::syn("[2001:db8:1::9]:40000", "[2001:db8::1]:443");
    let ack = |packet: Packet| packet.with(|packet| packet.flags = ACK);
    // Description, packet, the most multiples of the empty program.
    let table = [
        ("other traffic, IPv4", ack(v4("192.0.2.1:22")), 2.0),
        ("other traffic, IPv6", ack(v6()).with(|packet| packet.to.set_port(22)), 2.0),
        ("to a front end, IPv4", ack(v4("192.0.2.1:443")), 3.0),
        ("to a front end, VLAN", ack(v4("192.0.2.1:443")).with(|packet| packet.vlans = vec![0x8100]), 3.0),
        ("to a front end on any address", ack(v4("203.0.113.77:8443")), 3.0),
        ("to a front end, IPv6", ack(v6()), 3.0),
        ("a SYN repeated, IPv4", v4("192.0.2.1:443"), SYN_MAX),
        ("a SYN repeated, IPv6", v6(), SYN_MAX),
    ];
    let mut over = Vec::new();
    println!("{:<6} {:<32} {:>5} {:>6} {:>9}", "hook", "packet", "ns", "Mpps", "multiple");
    for hook in Hook::ALL {
        print(hook, "nothing", floor(&mut kernel, hook), 1.0);
        for (description, packet, most) in &table {
            let frame = packet.frame();
            let mut cost = |kernel: &mut Kernel| least(kernel, hook, hook.program(), &frame, repeat());
            over.extend(within(&mut kernel, hook, description, *most, &mut cost));
        }
        for (description, packet) in
            [("a SYN, the first, IPv4", v4("192.0.2.1:443")), ("a SYN, the first, IPv6", v6())]
        {
            let frame = packet.frame();
            let mut cost = |kernel: &mut Kernel| least(kernel, hook, hook.program(), &frame, repeat());
            over.extend(within(&mut fresh, hook, description, SYN_MAX, &mut cost));
        }
    }
    for frontend in [EXACT4, EXACT6] {
        let counted = fresh.counters(frontend);
        assert!(counted.syns > 0 && counted.syn_retries == 0, "each was a first one: {counted:?}");
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// The programs with lists that miss: what everyone pays for them.
fn guarded(switches: &[(&'static str, u8)]) -> Kernel {
    let mut kernel = Kernel::load(&Switches { on_off: switches.to_vec(), ..Switches::default() });
    frontends(&mut kernel);
    kernel.alive(|control| control.deny = Mode::Enforce as u8);
    kernel.list((map::DENY4, map::DENY6), "198.51.100.0/24");
    kernel.list((map::DENY4, map::DENY6), "2001:db8:bad::/48");
    kernel
}

/// Measures, prints, and says when it is more than `most` times the empty program, measured in the same moment: what
/// else runs on the machine slows both down. Of several attempts the best counts.
fn within(
    kernel: &mut Kernel,
    hook: Hook,
    description: &str,
    most: f64,
    cost: &mut impl FnMut(&mut Kernel) -> u32,
) -> Option<String> {
    let attempts = (0..ATTEMPTS).map(|_| {
        let ns = cost(kernel);
        (ns, f64::from(ns) / f64::from(floor(kernel, hook).max(1)))
    });
    let (mut ns, mut multiple) = (u32::MAX, f64::MAX);
    for attempt in attempts {
        (ns, multiple) = if attempt.1 < multiple { attempt } else { (ns, multiple) };
        if multiple <= most {
            break;
        }
    }
    print(hook, description, ns, multiple);
    (multiple > most)
        .then(|| format!("{hook:?}, {description}: {ns} ns are {multiple:.1} times nothing, not {most}"))
}

/// The empty program's own cost.
fn floor(kernel: &mut Kernel, hook: Hook) -> u32 {
    least(kernel, hook, hook.floor(), &Packet::syn("203.0.113.9:1", "192.0.2.1:22").frame(), repeat())
}

fn least(kernel: &mut Kernel, hook: Hook, name: &str, packet: &[u8], repeat: u32) -> u32 {
    (0..ROUNDS).map(|_| kernel.raw(hook, name, packet, repeat).1).min().unwrap()
}

fn print(hook: Hook, description: &str, ns: u32, multiple: f64) {
    let name = format!("{hook:?}").to_lowercase();
    let mpps = 1_000.0 / f64::from(ns.max(1));
    println!("{name:<6} {description:<32} {ns:>5} {mpps:>6.1} {multiple:>9.1}");
}
