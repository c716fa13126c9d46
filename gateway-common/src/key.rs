//! Keys of the maps: addresses in one form for both families, and front ends. (Prefixes are keyed as aya's LPM tries
//! have it, over an address in network order: four bytes for IPv4, sixteen for IPv6.)
//!
//! An address has 16 bytes in network order, IPv4 as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2). So `::ffff:0.0.0.0` stands
//! for every IPv4 address of the node and `::` for every IPv6 address, as sockets with IPV6_V6ONLY have it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address: network order, IPv4 mapped.
pub type Address = [u8; 16];

/// The mapped form of an IPv4 address.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// An address as the maps have it.
pub const fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address of a map, back in its own family.
pub const fn ip(address: Address) -> IpAddr {
    match unmapped(&address) {
        Some(v4) => IpAddr::V4(Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3])),
        None => IpAddr::V6(Ipv6Addr::from_octets(address)),
    }
}

/// The IPv4 address in a mapped one, None for IPv6.
#[inline(always)]
pub const fn unmapped(address: &Address) -> Option<[u8; 4]> {
    let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = *address else { return None };
    Some([a, b, c, d])
}

/// Every address of the family that `address` belongs to.
#[inline(always)]
pub const fn any_of(address: &Address) -> Address {
    match unmapped(address) {
        Some(_) => mapped([0; 4]),
        None => [0; 16],
    }
}

/// Where a front end listens; the key of `FRONTENDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(4))]
pub struct FrontendKey {
    /// The listening socket's own address, so the unspecified one where it listens on every address of its family.
    pub address: Address,
    /// The port as the host counts, not in network order.
    pub port: u16,
    pad: u16,
}

impl FrontendKey {
    /// The key for an address and a port.
    #[inline(always)]
    pub const fn new(address: Address, port: u16) -> FrontendKey {
        FrontendKey { address, port, pad: 0 }
    }
}

const _: () = assert!(size_of::<FrontendKey>() == 20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_family() {
        for text in ["0.0.0.0", "192.0.2.7", "255.255.255.255", "::", "2001:db8::1", "::1"] {
            let given: IpAddr = text.parse().unwrap();
            assert_eq!(ip(address(given)), given);
            assert_eq!(ip(any_of(&address(given))).is_ipv4(), given.is_ipv4(), "{text}");
            assert!(ip(any_of(&address(given))).is_unspecified(), "{text}");
        }
    }
}
