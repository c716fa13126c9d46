//! Where a flow or a source has its entry in a direct-mapped table: a seeded hash, half of which is the index and half
//! the tag that tells two flows of one index apart.
//!
//! Entries collide by overwriting. The seed is secret, so that nobody outside chooses whose entry is overwritten; what
//! is lost by it is a handshake's times or a source's pace, never a connection.

use crate::key::{Address, unmapped};

/// An entry's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    hash: u64,
}

impl Place {
    /// The place of a connection's first SYN.
    #[inline(always)]
    pub fn of_flow(seed: u64, source: &Address, destination: &Address, ports: (u16, u16)) -> Place {
        let hash = match (unmapped(source), unmapped(destination)) {
            // Half the work where half the address says nothing.
            (Some(source), Some(destination)) => mix(seed, (source as u64) << 32 | destination as u64),
            _ => pair(pair(seed, source), destination),
        };
        Place { hash: mix(hash, (ports.0 as u64) << 16 | ports.1 as u64) }
    }

    /// The place of a source: an IPv4 address, or a /64 of IPv6, which is what one customer has.
    #[inline(always)]
    pub fn of_source(seed: u64, source: &Address) -> Place {
        let (high, low) = halves(source);
        let whose = if unmapped(source).is_some() { low } else { high };
        Place { hash: mix(mix(seed, whose), !seed) }
    }

    /// The index into a table of `entries`, a power of two.
    #[inline(always)]
    pub const fn index(self, entries: u32) -> u32 {
        self.hash as u32 & (entries - 1)
    }

    /// The tag; never 0, which marks free entries.
    #[inline(always)]
    pub const fn tag(self) -> u32 {
        (self.hash >> 32) as u32 | 1
    }
}

#[inline(always)]
fn pair(hash: u64, address: &Address) -> u64 {
    let (high, low) = halves(address);
    mix(mix(hash, high), low)
}

#[inline(always)]
const fn halves(address: &Address) -> (u64, u64) {
    let [one, two, three, four] = *address;
    ((one as u64) << 32 | two as u64, (three as u64) << 32 | four as u64)
}

/// Multiply and fold, twice: BPF has no wide multiplication.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let mut hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Address, address};

    fn at(text: &str) -> Address {
        address(text.parse().unwrap())
    }

    #[test]
    fn flows_spread_over_the_table() {
        let mut load = [0_u8; 4096];
        let mut tags = [0_u32; 4096];
        for n in 0_u16..4096 {
            let source = at(&std::format!("10.0.{}.{}", n >> 8, n & 255));
            let place = Place::of_flow(7, &source, &at("192.0.2.1"), (40_000 + n % 7, 443));
            load[place.index(4096) as usize] += 1;
            tags[usize::from(n)] = place.tag();
        }
        // Chance leaves 1 in e of the entries free; a bad hash leaves many more and piles up in one.
        let free = load.iter().filter(|load| **load == 0).count();
        assert!((1300..1720).contains(&free), "{free} entries free");
        assert!(load.iter().all(|load| *load < 12));
        tags.sort_unstable();
        assert!(tags.windows(2).filter(|pair| pair[0] == pair[1]).count() < 4);
        assert!(tags.iter().all(|tag| *tag != 0));
    }

    #[test]
    fn a_flow_has_one_place_and_every_part_of_it_counts() {
        let (a, b) = (at("192.0.2.1"), at("192.0.2.2"));
        let place = Place::of_flow(1, &a, &b, (5, 6));
        assert_eq!(place, Place::of_flow(1, &a, &b, (5, 6)));
        for other in [
            Place::of_flow(2, &a, &b, (5, 6)),
            Place::of_flow(1, &b, &a, (5, 6)),
            Place::of_flow(1, &a, &a, (5, 6)),
            Place::of_flow(1, &a, &b, (6, 5)),
            Place::of_flow(1, &a, &b, (5, 7)),
        ] {
            assert_ne!(place, other);
        }
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_64_of_ipv6() {
        let place = |text| Place::of_source(1, &at(text));
        assert_eq!(place("2001:db8:0:1::1"), place("2001:db8:0:1::2"));
        assert_ne!(place("2001:db8:0:1::1"), place("2001:db8:0:2::1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }
}
