//! What becomes of a packet at an interface, and what is counted: a table, run through both entries.

use std::collections::BTreeMap;

use gateway_common::parse::{ACK, FIN, RST, SYN};
use gateway_common::value::{Counters, Frontend, Totals};

use crate::kernel::{Hook, Kernel, Switches, Verdict, usable};
use crate::packets::Packet;

/// The front ends of the table: two on one address, two on every address of a family.
pub(crate) const EXACT4: u32 = 1;
pub(crate) const EXACT6: u32 = 2;
pub(crate) const ANY4: u32 = 3;
pub(crate) const ANY6: u32 = 4;

/// Puts them into the maps.
pub(crate) fn frontends(kernel: &mut Kernel) {
    for (on, port, id) in [
        ("192.0.2.1", 443, EXACT4),
        ("2001:db8::1", 443, EXACT6),
        ("0.0.0.0", 8443, ANY4),
        ("::", 8443, ANY6),
    ] {
        kernel.frontend(on.parse().unwrap(), port, Frontend { id, first_socket: 0 });
    }
}

/// What a row expects to be counted.
enum Count {
    /// Nothing beyond that a packet was seen.
    Seen,
    /// A fragment.
    Fragment,
    /// Unreadable headers.
    Unreadable,
    /// A packet of so many bytes to a front end.
    Packet(u32, u64),
    /// A SYN of so many bytes to a front end.
    Syn(u32, u64),
}

type Row = (&'static str, Vec<u8>, Count);

fn v4() -> Packet {
    Packet::syn("198.51.100.9:40000", "192.0.2.1:443")
}

fn v6() -> Packet {
    Packet::syn("[2001:db8:1::9]:40000", "[2001:db8::1]:443")
}

/// An IPv6 extension header of `words` times eight bytes.
fn extension(number: u8, words: u8) -> (u8, Vec<u8>) {
    let mut header = vec![0; usize::from(words) * 8];
    header[1] = words - 1;
    (number, header)
}

fn extended(extensions: &[(u8, u8)]) -> Vec<u8> {
    let extensions = extensions.iter().map(|(number, words)| extension(*number, *words)).collect();
    v6().with(|packet| packet.extensions = extensions).frame()
}

fn changed(frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame;
    frame[at] = byte;
    frame
}

fn to(packet: Packet, to: &str) -> Vec<u8> {
    packet.with(|packet| packet.to = to.parse().unwrap()).frame()
}

fn flags(flags: u8) -> Vec<u8> {
    v4().with(|packet| packet.flags = flags).frame()
}

fn vlans(packet: Packet, vlans: &[u16]) -> Vec<u8> {
    packet.with(|packet| packet.vlans = vlans.to_vec()).frame()
}

fn addresses() -> Vec<Row> {
    vec![
        ("a SYN to IPv4", v4().frame(), Count::Syn(EXACT4, 40)),
        ("a SYN to IPv6", v6().frame(), Count::Syn(EXACT6, 60)),
        ("another port", to(v4(), "192.0.2.1:444"), Count::Seen),
        ("another address", to(v4(), "192.0.2.2:443"), Count::Seen),
        ("another IPv6 address", to(v6(), "[2001:db8::2]:443"), Count::Seen),
        ("any IPv4 address", to(v4(), "203.0.113.77:8443"), Count::Syn(ANY4, 40)),
        ("any IPv6 address", to(v6(), "[2001:db8::77]:8443"), Count::Syn(ANY6, 60)),
        ("our port as the source's", Packet::syn("192.0.2.1:443", "198.51.100.9:40000").frame(), Count::Seen),
        ("ARP", changed(v4().frame(), 13, 0x06), Count::Seen),
        ("UDP", changed(v4().frame(), 23, 17), Count::Seen),
        ("UDP over IPv6", changed(v6().frame(), 20, 17), Count::Seen),
        ("IPv6 in a frame of IPv4", changed(v6().frame(), 12, 0x08), Count::Seen),
    ]
}

fn link_and_ip() -> Vec<Row> {
    let options = |bytes: usize| v4().with(|packet| packet.ip_options = vec![1; bytes]).frame();
    let fragment = |field: u16| v4().with(|packet| packet.fragment = field).frame();
    vec![
        ("a VLAN tag", vlans(v4(), &[0x8100]), Count::Syn(EXACT4, 40)),
        ("two tags", vlans(v6(), &[0x88a8, 0x8100]), Count::Syn(EXACT6, 60)),
        ("two tags of the old kind", vlans(v4(), &[0x9100, 0x8100]), Count::Syn(EXACT4, 40)),
        ("three tags", vlans(v4(), &[0x88a8, 0x8100, 0x8100]), Count::Unreadable),
        ("4 bytes of IP options", options(4), Count::Syn(EXACT4, 44)),
        ("40 bytes of IP options", options(40), Count::Syn(EXACT4, 80)),
        ("no fragments allowed", fragment(0x4000), Count::Syn(EXACT4, 40)),
        ("the first fragment", fragment(0x2000), Count::Fragment),
        ("a later fragment", fragment(0x2010), Count::Fragment),
        ("the last fragment", fragment(0x0010), Count::Fragment),
        ("a header shorter than a header", changed(v4().frame(), 14, 0x44), Count::Unreadable),
        ("a packet shorter than its header", changed(v4().frame(), 17, 12), Count::Unreadable),
        ("padding", v4().with(|packet| packet.padding = 6).frame(), Count::Syn(EXACT4, 40)),
        ("hop-by-hop options", extended(&[(0, 1)]), Count::Syn(EXACT6, 68)),
        ("a long extension", extended(&[(60, 32)]), Count::Syn(EXACT6, 316)),
        ("three extensions", extended(&[(0, 1), (43, 3), (60, 2)]), Count::Syn(EXACT6, 108)),
        ("four extensions", extended(&[(0, 1), (60, 1), (43, 1), (60, 1)]), Count::Syn(EXACT6, 92)),
        ("five extensions", extended(&[(0, 1), (60, 1), (43, 1), (60, 1), (60, 1)]), Count::Unreadable),
        ("an IPv6 fragment", extended(&[(0, 1), (44, 1)]), Count::Fragment),
        ("a fragment behind four", extended(&[(0, 1), (60, 1), (43, 1), (60, 1), (44, 1)]), Count::Fragment),
        ("an authentication header", extended(&[(51, 2)]), Count::Seen),
        ("no next header", changed(v6().frame(), 20, 59), Count::Seen),
    ]
}

fn tcp() -> Vec<Row> {
    let data = |bytes: usize| {
        v4().with(|packet| {
            packet.flags = ACK;
            packet.payload = vec![7; bytes];
        })
    };
    let options = v4().with(|packet| packet.tcp_options = vec![1; 40]).frame();
    vec![
        ("40 bytes of TCP options", options, Count::Syn(EXACT4, 80)),
        ("a header shorter than a header", changed(v4().frame(), 46, 0x40), Count::Unreadable),
        ("a header longer than the packet", changed(v4().frame(), 46, 0xf0), Count::Unreadable),
        ("an acknowledgement", data(0).frame(), Count::Packet(EXACT4, 40)),
        ("data", data(1000).frame(), Count::Packet(EXACT4, 1040)),
        ("SYN with ACK", flags(SYN | ACK), Count::Packet(EXACT4, 40)),
        ("SYN with RST", flags(SYN | RST), Count::Packet(EXACT4, 40)),
        ("SYN with FIN", flags(SYN | FIN), Count::Packet(EXACT4, 40)),
        ("SYN with ECN's flags", flags(SYN | 0xc0), Count::Syn(EXACT4, 40)),
        ("a reset", flags(RST), Count::Packet(EXACT4, 40)),
        ("no flags", flags(0), Count::Packet(EXACT4, 40)),
    ]
}

#[test]
fn packets_are_counted_where_they_belong_and_pass() {
    if !usable("packets_are_counted_where_they_belong_and_pass") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    frontends(&mut kernel);
    for hook in Hook::ALL {
        for (description, frame, count) in addresses().into_iter().chain(link_and_ip()).chain(tcp()) {
            kernel.forget();
            assert_eq!(kernel.run(hook, &frame), Verdict::Pass, "{hook:?}: {description}");
            let mut totals = Totals { packets: 1, ..Totals::default() };
            let mut frontends = BTreeMap::new();
            match count {
                Count::Seen => {}
                Count::Fragment => totals.fragments = 1,
                Count::Unreadable => totals.unreadable = 1,
                Count::Packet(id, bytes) => {
                    frontends.insert(id, Counters { packets: 1, bytes, ..Counters::default() });
                }
                Count::Syn(id, bytes) => {
                    let mut counts = kernel.counters(id);
                    // Rows share flows: whether the slot held the SYN already is another test's business.
                    (counts.packets, counts.bytes, counts.syns) = (1, bytes, 1);
                    frontends.insert(id, counts);
                }
            }
            assert_eq!(kernel.totals(), totals, "{hook:?}: {description}");
            assert_eq!(kernel.all_counters(), frontends, "{hook:?}: {description}");
        }
    }
}

#[test]
fn an_address_of_its_own_comes_before_every_address() {
    if !usable("an_address_of_its_own_comes_before_every_address") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    frontends(&mut kernel);
    kernel.frontend("192.0.2.1".parse().unwrap(), 8443, Frontend { id: 5, first_socket: 0 });
    for (to_address, id) in [("192.0.2.1:8443", 5), ("192.0.2.2:8443", ANY4)] {
        for hook in Hook::ALL {
            kernel.forget();
            kernel.run(hook, &to(v4(), to_address));
            assert_eq!(kernel.all_counters().into_keys().collect::<Vec<_>>(), [id], "{hook:?}: {to_address}");
        }
    }
}

#[test]
fn a_changed_front_end_counts_from_the_next_sign_of_life_on() {
    if !usable("a_changed_front_end_counts_from_the_next_sign_of_life_on") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::default());
    frontends(&mut kernel);
    let counted = |kernel: &mut Kernel| {
        kernel.forget();
        // The test's own thread may move: every CPU has its own memory of what it found.
        for hook in Hook::ALL {
            kernel.run(hook, &v4().frame());
        }
        kernel.all_counters().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(counted(&mut kernel), [EXACT4]);
    kernel.frontend("192.0.2.1".parse().unwrap(), 443, Frontend { id: 6, first_socket: 0 });
    kernel.alive(|_| {});
    assert_eq!(counted(&mut kernel), [6]);
    kernel.map::<aya::maps::Array<_, u32>>(gateway_common::object::map::PORTS).set(443, 0, 0).unwrap();
    assert_eq!(counted(&mut kernel), Vec::<u32>::new(), "a port without a front end, at once");
}

#[test]
fn without_a_link_header_packets_begin_with_ip() {
    if !usable("without_a_link_header_packets_begin_with_ip") {
        return;
    }
    let mut kernel = Kernel::load(&Switches::set([(gateway_common::object::switch::RAW_IP, 1)]));
    frontends(&mut kernel);
    for (packet, id) in [(v4(), EXACT4), (v6(), EXACT6)] {
        for hook in Hook::ALL {
            kernel.forget();
            assert_eq!(kernel.run(hook, &packet.datagram()), Verdict::Pass);
            assert_eq!(kernel.counters(id).syns, 1, "{hook:?}: {packet:?}");
        }
    }
}
