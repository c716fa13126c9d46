//! Networks, looked up by address: which of them an address lies in, the longest first.
//!
//! Two networks are apart, or one holds the other. So in the order of their first addresses each has the smallest network
//! around it as its parent, and those that hold an address are the last one that begins at or before it, or its parents:
//! one binary search and a short climb. Made as a whole, never changed.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks with a value each. IPv4 and IPv6 are apart: `::/0` holds no IPv4 address.
#[derive(Clone, Debug)]
pub struct Prefixes<T> {
    v4: Vec<Node<T>>,
    v6: Vec<Node<T>>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    first: u128,
    last: u128,
    parent: Option<usize>,
    network: IpNet,
    value: T,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

impl<T> Prefixes<T> {
    /// Of networks without bits past their prefix. Of equal ones the last counts.
    pub fn new(entries: impl IntoIterator<Item = (IpNet, T)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, value) in entries {
            let (first, last) = (bits(network.network()), bits(network.broadcast()));
            let table = if matches!(network, IpNet::V4(_)) { &mut v4 } else { &mut v6 };
            table.push(Node { first, last, parent: None, network, value });
        }
        Self { v4: linked(v4), v6: linked(v6) }
    }

    /// The networks that an address lies in, the longest prefix first.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, &T)> {
        let table = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let at = bits(address);
        let mut next = table.partition_point(|node| node.first <= at).checked_sub(1);
        std::iter::from_fn(move || {
            loop {
                let node = &table[next?];
                next = node.parent;
                if at <= node.last {
                    return Some((node.network, &node.value));
                }
            }
        })
    }

    /// All of them, IPv4 first, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        self.v4.iter().chain(&self.v6).map(|node| (node.network, &node.value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sorted, each once, with its parent.
fn linked<T>(mut table: Vec<Node<T>>) -> Vec<Node<T>> {
    // Stable, and backwards beforehand: of equal ones the last comes first, and stays.
    table.reverse();
    table.sort_by_key(|node| (node.first, node.network.prefix_len()));
    table.dedup_by_key(|node| node.network);
    let mut around: Vec<usize> = Vec::new();
    for index in 0..table.len() {
        let first = table[index].first;
        while around.last().is_some_and(|outer| table[*outer].last < first) {
            around.pop();
        }
        table[index].parent = around.last().copied();
        around.push(index);
    }
    table
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_comes_first() {
        let networks = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "10.1.2.3/32",
            "10.2.0.0/16",
            "::/0",
            "2001:db8::/32",
        ];
        let prefixes = Prefixes::new(networks.map(|text| (net(text), ())));
        for (address, expected) in [
            ("10.1.2.3", &["10.1.2.3/32", "10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8"][..]),
            ("10.1.2.4", &["10.1.2.0/24", "10.1.0.0/16", "10.0.0.0/8"]),
            ("10.1.255.255", &["10.1.0.0/16", "10.0.0.0/8"]),
            ("10.255.255.255", &["10.0.0.0/8"]),
            ("11.0.0.0", &[]),
            ("9.255.255.255", &[]),
            ("2001:db8::1", &["2001:db8::/32", "::/0"]),
            ("::ffff:10.1.2.3", &["::/0"]),
        ] {
            let around: Vec<String> =
                prefixes.around(address.parse().unwrap()).map(|(network, ())| network.to_string()).collect();
            assert_eq!(around, expected, "{address}");
        }
    }

    #[test]
    fn of_equal_networks_the_last_counts() {
        let prefixes = Prefixes::new([(net("10.0.0.0/8"), 1), (net("10.0.0.0/8"), 2)]);
        assert_eq!(prefixes.iter().collect::<Vec<_>>(), [(net("10.0.0.0/8"), &2)]);
    }

    /// Few bits vary, so that networks nest and repeat.
    fn networks() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<[bool; 32]>(), 0..=32u8).prop_map(|(draw, length)| {
            let bits = draw
                .iter()
                .enumerate()
                .fold(0u32, |bits, (at, set)| bits | u32::from(*set && at % 7 == 0) << at);
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(bits), length).unwrap()).trunc()
        });
        let v6 = (any::<u8>(), 0..=128u8).prop_map(|(draw, length)| {
            let bits = (0..8).fold(0u128, |bits, at| bits | u128::from(draw >> at & 1) << (at * 17));
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(bits), length).unwrap()).trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_each_finds(
            networks in proptest::collection::vec(networks(), 0..40),
            others in proptest::collection::vec(networks(), 0..20),
        ) {
            let prefixes = Prefixes::new(networks.iter().enumerate().map(|(number, network)| (*network, number)));
            let ends = |network: &IpNet| [network.network(), network.broadcast()];
            for address in networks.iter().chain(&others).flat_map(ends) {
                let mut expected: Vec<IpNet> =
                    networks.iter().filter(|network| network.contains(&address)).copied().collect();
                expected.sort_by_key(|network| std::cmp::Reverse(network.prefix_len()));
                expected.dedup();
                let found: Vec<(IpNet, &usize)> = prefixes.around(address).collect();
                prop_assert_eq!(found.iter().map(|(network, _)| *network).collect::<Vec<_>>(), expected);
                for (network, number) in found {
                    prop_assert_eq!(networks.iter().rposition(|other| *other == network), Some(*number));
                }
            }
            prop_assert_eq!(prefixes.iter().count(), prefixes.len());
        }
    }
}
