//! Which number each front end has in the kernel, and what changes in the maps when sockets come and go. Pure: a number
//! once given stays its front end's while that one listens, so that its counts go on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use gateway_common::key::{FrontendKey, address, any_of};
use gateway_common::object::FRONTENDS_MAX;
use gateway_common::value::{Frontend, PORT_ANY, PORT_EXACT};

/// The front ends that the kernel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontends {
    /// Sockets of each: as many as there may be workers.
    stride: u32,
    known: BTreeMap<FrontendKey, Frontend>,
}

/// What has to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Front ends that came.
    pub(super) added: Vec<(SocketAddr, Frontend)>,
    /// Front ends that went.
    pub(super) removed: Vec<FrontendKey>,
    /// Ports whose bits are other ones now.
    pub(super) ports: BTreeMap<u16, u32>,
    /// Addresses for which there is no number left: they are served, and not counted.
    pub(super) left_out: Vec<SocketAddr>,
}

impl Frontends {
    /// As the maps have them.
    pub(super) fn new(stride: u32, known: impl IntoIterator<Item = (FrontendKey, Frontend)>) -> Self {
        Self { stride, known: known.into_iter().collect() }
    }

    /// The front end of a listening socket's address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<Frontend> {
        self.known.get(&key(address)).copied()
    }

    /// Makes them those of the sockets, and says what has changed.
    pub(super) fn follow<'a>(&mut self, sockets: impl IntoIterator<Item = &'a SocketAddr>) -> Changes {
        let wanted: BTreeMap<FrontendKey, SocketAddr> =
            sockets.into_iter().map(|address| (key(*address), *address)).collect();
        let before = ports(self.known.keys());
        let mut changes = Changes {
            removed: self.known.keys().filter(|key| !wanted.contains_key(key)).copied().collect(),
            ..Changes::default()
        };
        for key in &changes.removed {
            self.known.remove(key);
        }
        let taken: BTreeSet<u32> = self.known.values().map(|frontend| frontend.id).collect();
        let mut free = (0..FRONTENDS_MAX).filter(|id| !taken.contains(id));
        for (key, address) in wanted {
            if self.known.contains_key(&key) {
                continue;
            }
            let Some(id) = free.next() else {
                changes.left_out.push(address);
                continue;
            };
            let frontend = Frontend { id, first_socket: id * self.stride };
            self.known.insert(key, frontend);
            changes.added.push((address, frontend));
        }
        let after = ports(self.known.keys());
        let touched: BTreeSet<u16> = before.keys().chain(after.keys()).copied().collect();
        let bits = |of: &BTreeMap<u16, u32>, port: u16| of.get(&port).copied().unwrap_or(0);
        changes.ports = touched
            .into_iter()
            .filter(|port| bits(&before, *port) != bits(&after, *port))
            .map(|port| (port, bits(&after, port)))
            .collect();
        changes
    }

    /// What every port's bits are, where they are not 0.
    pub(super) fn ports(&self) -> BTreeMap<u16, u32> {
        ports(self.known.keys())
    }
}

/// The key of a listening socket.
pub(super) fn key(socket: SocketAddr) -> FrontendKey {
    FrontendKey::new(address(socket.ip()), socket.port())
}

fn ports<'a>(keys: impl Iterator<Item = &'a FrontendKey>) -> BTreeMap<u16, u32> {
    let mut ports = BTreeMap::new();
    for key in keys {
        let bit = if any_of(&key.address) == key.address { PORT_ANY } else { PORT_EXACT };
        // Made from a u16.
        let port = u16::try_from(key.port).unwrap_or_default();
        *ports.entry(port).or_insert(0) |= bit;
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_front_end_keeps_its_number_and_a_free_one_is_given_again() {
        let mut frontends = Frontends::new(4, []);
        let first = frontends.follow(&[at("0.0.0.0:443"), at("192.0.2.1:443"), at("[::]:80")]);
        let ids: BTreeMap<_, _> = first.added.iter().map(|(address, one)| (*address, *one)).collect();
        assert_eq!(ids.len(), 3);
        assert!(ids.values().all(|one| one.first_socket == one.id * 4));
        assert_eq!(first.ports, BTreeMap::from([(443, PORT_ANY | PORT_EXACT), (80, PORT_ANY)]));
        assert_eq!(
            frontends.follow(&[at("0.0.0.0:443"), at("192.0.2.1:443"), at("[::]:80")]),
            Changes::default()
        );
        let second = frontends.follow(&[at("[::]:80"), at("192.0.2.1:443"), at("127.0.0.1:8080")]);
        assert_eq!(second.removed, [key(at("0.0.0.0:443"))]);
        assert_eq!(second.added, [(at("127.0.0.1:8080"), ids[&at("0.0.0.0:443")])]);
        assert_eq!(second.ports, BTreeMap::from([(443, PORT_EXACT), (8080, PORT_EXACT)]));
        assert_eq!(frontends.at(at("[::]:80")), Some(ids[&at("[::]:80")]), "it kept its own");
        let last = frontends.follow(&[]);
        assert_eq!((last.removed.len(), last.ports.values().sum::<u32>()), (3, 0));
    }

    #[test]
    fn what_the_maps_know_is_gone_on_with() {
        let known = [(key(at("192.0.2.1:443")), Frontend { id: 7, first_socket: 14 })];
        let mut frontends = Frontends::new(2, known);
        let changes = frontends.follow(&[at("192.0.2.1:443"), at("192.0.2.2:443")]);
        assert_eq!(changes.added, [(at("192.0.2.2:443"), Frontend { id: 0, first_socket: 0 })]);
        assert_eq!(changes.ports, BTreeMap::new(), "the port is known");
        assert_eq!(frontends.ports(), BTreeMap::from([(443, PORT_EXACT)]));
    }

    #[test]
    fn beyond_the_last_number_addresses_are_left_out() {
        let mut frontends = Frontends::new(1, []);
        let many: Vec<_> = (1..=FRONTENDS_MAX + 3)
            .map(|port| SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).unwrap())))
            .collect();
        let changes = frontends.follow(&many);
        assert_eq!((changes.added.len(), changes.left_out.len()), (1024, 3));
    }
}
