//! Keys of the maps: addresses in one form for both families, and front ends. (Prefixes are keyed as aya's LPM tries
//! have it, over an address in network order: four bytes for IPv4, sixteen for IPv6.)
//!
//! An address is four words whose bytes in memory are the address in network order, IPv4 as IPv4-mapped IPv6 (RFC 4291
//! §2.5.5.2). So `::ffff:0.0.0.0` stands for every IPv4 address of the node and `::` for every IPv6 address, as sockets
//! with IPV6_V6ONLY have it. Words and not bytes: that is how the kernel gives them, and BPF code moves them as such.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address: network order, IPv4 mapped.
pub type Address = [u32; 4];

/// The third word of a mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

/// The mapped form of an IPv4 address, given as a word in network order.
#[inline(always)]
pub const fn mapped(v4: u32) -> Address {
    [0, 0, MAPPED, v4]
}

/// An address as the maps have it.
pub const fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => mapped(u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(v6) => words(v6.octets()),
    }
}

/// An address of a map, back in its own family.
pub const fn ip(address: Address) -> IpAddr {
    if let Some(v4) = unmapped(&address) {
        let [a, b, c, d] = v4.to_ne_bytes();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    let [one, two, three, four] = address;
    let bits = (one.to_be() as u128) << 96
        | (two.to_be() as u128) << 64
        | (three.to_be() as u128) << 32
        | four.to_be() as u128;
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

/// The words of an address's bytes.
#[inline(always)]
pub const fn words(bytes: [u8; 16]) -> Address {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

/// The IPv4 address in a mapped one, as a word in network order; None for IPv6.
#[inline(always)]
pub const fn unmapped(address: &Address) -> Option<u32> {
    let [0, 0, MAPPED, v4] = *address else { return None };
    Some(v4)
}

/// Every address of the family that `address` belongs to.
#[inline(always)]
pub const fn any_of(address: &Address) -> Address {
    match unmapped(address) {
        Some(_) => mapped(0),
        None => [0; 4],
    }
}

/// Where a front end listens; the key of `FRONTENDS`. Aligned, since programs write it on their stack in words of eight
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct FrontendKey {
    /// The listening socket's own address, so the unspecified one where it listens on every address of its family.
    pub address: Address,
    /// The port as the host counts, not in network order.
    pub port: u32,
    pad: u32,
}

impl FrontendKey {
    /// The key for an address and a port.
    #[inline(always)]
    pub const fn new(address: Address, port: u16) -> FrontendKey {
        FrontendKey { address, port: port as u32, pad: 0 }
    }

    /// The key of a front end at the same port on every address of the family.
    #[inline(always)]
    pub const fn on_any(&self) -> FrontendKey {
        FrontendKey { address: any_of(&self.address), port: self.port, pad: 0 }
    }
}

const _: () = assert!(size_of::<FrontendKey>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_family() {
        assert_eq!(
            address("1.2.3.4".parse().unwrap()).map(u32::to_ne_bytes)[2..],
            [[0, 0, 255, 255], [1, 2, 3, 4]]
        );
        for text in ["0.0.0.0", "192.0.2.7", "255.255.255.255", "::", "2001:db8::1", "::1"] {
            let given: IpAddr = text.parse().unwrap();
            assert_eq!(ip(address(given)), given);
            assert_eq!(ip(any_of(&address(given))).is_ipv4(), given.is_ipv4(), "{text}");
            assert!(ip(any_of(&address(given))).is_unspecified(), "{text}");
        }
    }
}
