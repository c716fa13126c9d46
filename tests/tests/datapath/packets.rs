//! Packets for the tables, built header by header. Checksums are left out: nobody on this way looks at them.

use std::net::{IpAddr, SocketAddr};

use gateway_common::parse::SYN;

/// A TCP packet to be.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) window: u16,
    /// Ethertypes of VLAN tags, the outer one first.
    pub(crate) vlans: Vec<u16>,
    /// Options of the IPv4 header, a multiple of four bytes.
    pub(crate) ip_options: Vec<u8>,
    /// IPv6 extension headers: the number, and the whole header with the place for the next number first.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    /// The field of IPv4 with flags and offset.
    pub(crate) fragment: u16,
    /// Options of the TCP header, a multiple of four bytes.
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Zeros behind the IP packet, as Ethernet pads.
    pub(crate) padding: usize,
}

impl Packet {
    /// A SYN between two addresses of one family.
    pub(crate) fn syn(from: &str, to: &str) -> Packet {
        Packet {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            flags: SYN,
            sequence: 1000,
            window: 64_240,
            vlans: Vec::new(),
            ip_options: Vec::new(),
            extensions: Vec::new(),
            fragment: 0,
            tcp_options: Vec::new(),
            payload: Vec::new(),
            padding: 0,
        }
    }

    /// The same packet with something else about it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Packet)) -> Packet {
        change(&mut self);
        self
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        for vlan in &self.vlans {
            frame.extend(vlan.to_be_bytes());
            frame.extend([0, 7]);
        }
        frame.extend(if self.to.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        frame.extend(self.datagram());
        frame.extend(vec![0; self.padding]);
        frame
    }

    /// The IP packet alone.
    pub(crate) fn datagram(&self) -> Vec<u8> {
        let tcp = self.tcp();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = 20 + self.ip_options.len();
                let words = u8::try_from(header / 4).unwrap();
                let total = u16::try_from(header + tcp.len()).unwrap().to_be_bytes();
                let [high, low] = self.fragment.to_be_bytes();
                let mut bytes = vec![0x40 | words, 0, total[0], total[1], 0, 1, high, low, 64, 6, 0, 0];
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                bytes.extend(&self.ip_options);
                bytes.extend(tcp);
                bytes
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let extensions: usize = self.extensions.iter().map(|(_, header)| header.len()).sum();
                let length = u16::try_from(extensions + tcp.len()).unwrap().to_be_bytes();
                let mut numbers = self.extensions.iter().map(|(number, _)| *number).chain([6]);
                let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], numbers.next().unwrap(), 64];
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                for ((_, header), next) in self.extensions.iter().zip(numbers) {
                    bytes.push(next);
                    bytes.extend(&header[1..]);
                }
                bytes.extend(tcp);
                bytes
            }
            _ => panic!("two families"),
        }
    }

    fn tcp(&self) -> Vec<u8> {
        let words = u8::try_from((20 + self.tcp_options.len()) / 4).unwrap();
        let mut bytes = Vec::new();
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend([0, 0, 0, 0, words << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(&self.tcp_options);
        bytes.extend(&self.payload);
        bytes
    }
}
