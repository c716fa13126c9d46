//! The deny list as it is written down: networks whose connections are not wanted, and what may be changed about them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// Entries of the list. The kernel's table for it has as many.
pub const DENY_ENTRIES_MAX: usize = 65_536;

/// What becomes of connections from a network on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DenyMode {
    /// Nothing; the list is not looked at.
    Off,
    /// They are counted and served.
    #[default]
    Observe,
    /// They are closed at once.
    Enforce,
}

/// A network on the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyEntry {
    /// The network; a single address has all its bits.
    pub network: IpNet,
    /// Since when, Unix seconds.
    pub since: i64,
    /// Until when, Unix seconds; `None`: until it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
}

/// The list as it is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DenyListed {
    /// What becomes of connections from its networks.
    pub mode: DenyMode,
    /// Networks that are never denied.
    pub allow: Vec<IpNet>,
    /// Its entries, by address.
    pub entries: Vec<DenyEntry>,
}

/// A change of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyChange {
    /// Puts networks on it, or gives those that are there another end.
    Add {
        /// The networks.
        networks: Vec<IpNet>,
        /// For how many seconds; `None`: until they are removed.
        ttl_s: Option<u32>,
    },
    /// Takes networks off it.
    Remove(Vec<IpNet>),
}

/// What came of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DenyOutcome {
    /// How many networks are on the list now that were not, or off it that were on it, or have another end.
    pub changed: usize,
    /// Networks to be taken off that were not on it.
    pub missing: Vec<IpNet>,
    /// Networks that found it full.
    pub left_out: Vec<IpNet>,
    /// How many entries it has now.
    pub entries: usize,
    /// What becomes of connections from them.
    pub mode: DenyMode,
}

/// Reads `192.0.2.0/24`, or an address that stands for itself alone. Bits past the prefix are cleared, and IPv4 written as
/// IPv6 (RFC 4291 §2.5.5.2) is IPv4, as clients' addresses are.
///
/// # Errors
/// Says what is wrong, for people.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is neither an address nor a network such as 192.0.2.0/24"))?;
    let network = network.trunc();
    let IpNet::V6(v6) = network else { return Ok(network) };
    let mapped = u128::from(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
    let bits = v6.network().to_bits();
    if v6.prefix_len() < 96 || bits & !u128::from(u32::MAX) != mapped {
        return Ok(network);
    }
    // At most 32 are left of a prefix of at least 96.
    let low = u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default();
    Ok(Ipv4Net::new(Ipv4Addr::from_bits(low), v6.prefix_len() - 96).map_or(network, IpNet::V4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, expected) in [
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.2.77/24", Some("192.0.2.0/24")),
            ("192.0.2.77", Some("192.0.2.77/32")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("::ffff:192.0.2.0/120", Some("192.0.2.0/24")),
            ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("192.0.2.0/33", None),
            ("192.0.2", None),
            ("host.test", None),
            ("", None),
        ] {
            let read = network(text).ok().map(|network| network.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
