//! The deny list: whether an address is on it, and how it changes. A list is never changed in place: a change gives
//! another one, which is published as a whole. Entries that have expired count for nothing before they are taken off.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::prefixes::Prefixes;
use crate::model::deny::{DENY_ENTRIES_MAX, DenyChange, DenyEntry, DenyListed, DenyMode, DenyOutcome};

/// Networks that are denied, and networks that never are.
#[derive(Clone, Debug, Default)]
pub struct DenyList {
    mode: DenyMode,
    allow: Prefixes<()>,
    denied: Prefixes<DenyEntry>,
}

/// How an address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On no list that is looked at.
    Clear,
    /// In this network, and its connections are counted.
    Observed(IpNet),
    /// In this network, and its connections are closed.
    Denied(IpNet),
    /// In a network that is denied and in one that never is.
    Allowed,
}

impl DenyList {
    /// An empty list.
    pub fn new(mode: DenyMode, allow: &[IpNet]) -> Self {
        let allow = Prefixes::new(allow.iter().map(|network| (network.trunc(), ())));
        Self { mode, allow, denied: Prefixes::default() }
    }

    /// How an address stands at `now`, Unix seconds.
    pub fn standing(&self, address: IpAddr, now: i64) -> Standing {
        if self.mode == DenyMode::Off || self.denied.is_empty() {
            return Standing::Clear;
        }
        let address = address.to_canonical();
        let Some((network, _)) = self.denied.around(address).find(|(_, entry)| entry.holds(now)) else {
            return Standing::Clear;
        };
        if self.allow.around(address).next().is_some() {
            return Standing::Allowed;
        }
        match self.mode {
            DenyMode::Enforce => Standing::Denied(network),
            DenyMode::Observe | DenyMode::Off => Standing::Observed(network),
        }
    }

    /// The list after a change at `now`, and what came of it. Networks beyond [`DENY_ENTRIES_MAX`] are left out.
    pub fn change(&self, change: &DenyChange, now: i64) -> (Self, DenyOutcome) {
        let mut outcome = DenyOutcome { mode: self.mode, ..DenyOutcome::default() };
        let mut entries: Vec<DenyEntry> = self.entries().filter(|entry| entry.holds(now)).cloned().collect();
        let mut networks: BTreeSet<IpNet> = entries.iter().map(|entry| entry.network).collect();
        match change {
            DenyChange::Add { networks: wanted, ttl_s } => {
                let expires = ttl_s.map(|seconds| now.saturating_add(seconds.into()));
                for network in wanted {
                    if networks.len() >= DENY_ENTRIES_MAX && !networks.contains(network) {
                        outcome.left_out.push(*network);
                        continue;
                    }
                    networks.insert(*network);
                    outcome.changed += 1;
                    // A later entry of the same network counts.
                    entries.push(DenyEntry { network: *network, since: now, expires });
                }
            }
            DenyChange::Remove(unwanted) => {
                for network in unwanted {
                    if networks.remove(network) {
                        outcome.changed += 1;
                    } else {
                        outcome.missing.push(*network);
                    }
                }
                entries.retain(|entry| networks.contains(&entry.network));
            }
        }
        let list = self.with(entries);
        outcome.entries = list.len();
        (list, outcome)
    }

    /// The list without what has expired at `now`, if anything has.
    pub fn without_expired(&self, now: i64) -> Option<Self> {
        let held: Vec<DenyEntry> = self.entries().filter(|entry| entry.holds(now)).cloned().collect();
        (held.len() < self.len()).then(|| self.with(held))
    }

    /// The list with the entries of another process in place of its own: those that hold at `now`, as far as there is
    /// room.
    pub fn inherit(&self, entries: Vec<DenyEntry>, now: i64) -> Self {
        let held = entries.into_iter().filter(|entry| entry.holds(now)).take(DENY_ENTRIES_MAX);
        self.with(held.map(|entry| DenyEntry { network: entry.network.trunc(), ..entry }).collect())
    }

    /// When the next entry expires, Unix seconds.
    pub fn next_expiry(&self) -> Option<i64> {
        self.entries().filter_map(|entry| entry.expires).min()
    }

    /// Its entries, IPv4 first, by address.
    pub fn entries(&self) -> impl Iterator<Item = &DenyEntry> {
        self.denied.iter().map(|(_, entry)| entry)
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.denied.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty()
    }

    /// As it is shown.
    pub fn listed(&self) -> DenyListed {
        DenyListed {
            mode: self.mode,
            allow: self.allow.iter().map(|(network, ())| network).collect(),
            entries: self.entries().cloned().collect(),
        }
    }

    fn with(&self, entries: Vec<DenyEntry>) -> Self {
        let denied = Prefixes::new(entries.into_iter().map(|entry| (entry.network, entry)));
        Self { mode: self.mode, allow: self.allow.clone(), denied }
    }
}

impl DenyEntry {
    fn holds(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn add(networks: &[&str], ttl_s: Option<u32>) -> DenyChange {
        DenyChange::Add { networks: networks.iter().map(|text| net(text)).collect(), ttl_s }
    }

    fn list(mode: DenyMode, allow: &[&str], denied: &[&str]) -> DenyList {
        let allow: Vec<IpNet> = allow.iter().map(|text| net(text)).collect();
        DenyList::new(mode, &allow).change(&add(denied, None), NOW).0
    }

    #[test]
    fn standings() {
        let denied = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"];
        for (description, mode, allow, address, expected) in [
            ("off", DenyMode::Off, &[][..], "10.0.0.1", Standing::Clear),
            ("elsewhere", DenyMode::Enforce, &[], "11.0.0.1", Standing::Clear),
            ("enforced", DenyMode::Enforce, &[], "10.0.0.1", Standing::Denied(net("10.0.0.0/8"))),
            ("the longest is told", DenyMode::Enforce, &[], "10.1.0.1", Standing::Denied(net("10.1.0.0/16"))),
            ("observed", DenyMode::Observe, &[], "10.0.0.1", Standing::Observed(net("10.0.0.0/8"))),
            ("mapped", DenyMode::Enforce, &[], "::ffff:10.0.0.1", Standing::Denied(net("10.0.0.0/8"))),
            ("IPv6", DenyMode::Enforce, &[], "2001:db8::1", Standing::Denied(net("2001:db8::/32"))),
            ("allowed, longer", DenyMode::Enforce, &["10.0.0.1/32"], "10.0.0.1", Standing::Allowed),
            ("allowed, shorter", DenyMode::Enforce, &["0.0.0.0/0"], "10.1.0.1", Standing::Allowed),
            ("allowed and not denied", DenyMode::Enforce, &["11.0.0.0/8"], "11.0.0.1", Standing::Clear),
        ] {
            let standing = list(mode, allow, &denied).standing(address.parse().unwrap(), NOW);
            assert_eq!(standing, expected, "{description}");
        }
    }

    #[test]
    fn entries_expire() {
        let list = list(DenyMode::Enforce, &[], &["10.0.0.0/8"]);
        let (list, outcome) = list.change(&add(&["10.1.0.0/16"], Some(60)), NOW);
        assert_eq!((outcome.changed, outcome.entries), (1, 2));
        let at = |list: &DenyList, now| list.standing("10.1.0.1".parse().unwrap(), now);
        assert_eq!(at(&list, NOW + 59), Standing::Denied(net("10.1.0.0/16")));
        assert_eq!(
            at(&list, NOW + 60),
            Standing::Denied(net("10.0.0.0/8")),
            "the network around it holds on"
        );
        assert_eq!(list.next_expiry(), Some(NOW + 60));
        assert!(list.without_expired(NOW + 59).is_none());
        let swept = list.without_expired(NOW + 60).unwrap();
        assert_eq!((swept.len(), swept.next_expiry()), (1, None));
        assert_eq!(swept.entries().map(|entry| entry.network).collect::<Vec<_>>(), [net("10.0.0.0/8")]);
        // Put on anew it has another end.
        let (list, outcome) = list.change(&add(&["10.1.0.0/16"], None), NOW);
        assert_eq!((outcome.changed, outcome.entries, list.next_expiry()), (1, 2, None));
    }

    #[test]
    fn what_is_not_there_cannot_be_removed() {
        let list = list(DenyMode::Observe, &[], &["10.0.0.0/8", "192.0.2.0/24"]);
        let change = DenyChange::Remove(vec![net("10.0.0.0/8"), net("10.0.0.0/9")]);
        let (after, outcome) = list.change(&change, NOW);
        assert_eq!((outcome.changed, outcome.missing), (1, vec![net("10.0.0.0/9")]));
        assert_eq!(after.entries().map(|entry| entry.network).collect::<Vec<_>>(), [net("192.0.2.0/24")]);
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let most = u32::try_from(DENY_ENTRIES_MAX).unwrap();
        let networks =
            (0..most).map(|number| IpNet::from(std::net::IpAddr::from(Ipv4Addr::from_bits(number << 8))));
        let fill = DenyChange::Add { networks: networks.collect(), ttl_s: None };
        let (full, outcome) = DenyList::new(DenyMode::Enforce, &[]).change(&fill, NOW);
        assert_eq!((outcome.entries, outcome.left_out.len()), (DENY_ENTRIES_MAX, 0));
        let (after, outcome) = full.change(&add(&["0.0.1.0/32", "192.0.2.0/24"], None), NOW);
        assert_eq!(
            (outcome.changed, outcome.left_out),
            (1, vec![net("192.0.2.0/24")]),
            "one is there already"
        );
        assert_eq!(after.len(), DENY_ENTRIES_MAX);
    }
}
