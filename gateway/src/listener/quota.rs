//! How many connections there may be: in all, on one frontend, from one source. Counted over all workers; a connection
//! past a limit is closed at once, so that accepting never waits for anybody.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::telemetry::Limit;

/// Parts of the table of sources, each with a lock of its own that is held for one look-up.
const SHARDS: usize = 64;

/// The limits; 0: none.
#[derive(Clone, Debug, Default)]
pub struct QuotaLimits {
    /// In all.
    pub connections_max: usize,
    /// On one frontend.
    pub connections_per_listener_max: usize,
    /// From one source: an IPv4 address, or the first 64 bits of an IPv6 address.
    pub connections_per_source_max: usize,
    /// Sources that carry others' connections and are not limited as one.
    pub exempt: Vec<IpNet>,
}

/// What is open, by the limits.
#[derive(Debug)]
pub struct Quotas {
    limits: QuotaLimits,
    open: AtomicUsize,
    /// As many entries as sources that have a connection, so bounded by the connections.
    sources: Box<[Mutex<HashMap<IpAddr, usize>>]>,
    hasher: RandomState,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Counted {
    quotas: Arc<Quotas>,
    frontend: Arc<AtomicUsize>,
    source: Option<IpAddr>,
}

impl Quotas {
    /// Nothing is open yet.
    pub fn new(limits: QuotaLimits) -> Arc<Self> {
        let sources = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { limits, open: AtomicUsize::new(0), sources, hasher: RandomState::new() })
    }

    /// Counts a connection to the frontend with that count, from that address.
    ///
    /// # Errors
    /// The limit that it would pass; nothing is counted then.
    pub fn enter(self: &Arc<Self>, frontend: &Arc<AtomicUsize>, peer: IpAddr) -> Result<Counted, Limit> {
        let limits = &self.limits;
        raise(&self.open, limits.connections_max).ok_or(Limit::ConnectionsMax)?;
        // From here on dropping it takes back what has been counted.
        let mut counted =
            Counted { quotas: Arc::clone(self), frontend: Arc::new(AtomicUsize::new(1)), source: None };
        raise(frontend, limits.connections_per_listener_max).ok_or(Limit::ConnectionsPerListenerMax)?;
        counted.frontend = Arc::clone(frontend);
        if limits.connections_per_source_max > 0 {
            let peer = peer.to_canonical();
            if !limits.exempt.iter().any(|network| network.contains(&peer)) {
                let source = source(peer);
                let mut shard = self.shard(&source);
                let open = shard.entry(source).or_insert(0);
                if *open >= limits.connections_per_source_max {
                    return Err(Limit::ConnectionsPerSourceMax);
                }
                *open += 1;
                drop(shard);
                counted.source = Some(source);
            }
        }
        Ok(counted)
    }

    fn shard(&self, source: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // The remainder is less than the number of shards.
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let shard = self.hasher.hash_one(source) as usize % SHARDS;
        self.sources[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.quotas.open.fetch_sub(1, Ordering::Relaxed);
        self.frontend.fetch_sub(1, Ordering::Relaxed);
        if let Some(source) = self.source
            && let Entry::Occupied(mut open) = self.quotas.shard(&source).entry(source)
        {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// One more, unless there are `most` (not zero) already.
fn raise(count: &AtomicUsize, most: usize) -> Option<()> {
    let before = count.fetch_add(1, Ordering::Relaxed);
    if most > 0 && before >= most {
        count.fetch_sub(1, Ordering::Relaxed);
        return None;
    }
    Some(())
}

/// What counts as one source: a network of IPv6 hands its hosts addresses without number.
fn source(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(peer) => IpAddr::V6(Ipv6Addr::from_bits(peer.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(all: usize, listener: usize, source: usize) -> QuotaLimits {
        QuotaLimits {
            connections_max: all,
            connections_per_listener_max: listener,
            connections_per_source_max: source,
            exempt: vec!["192.0.2.0/24".parse().unwrap()],
        }
    }

    #[test]
    fn each_limit_holds_and_gives_back() {
        let (here, there) = ("127.0.0.1", "127.0.0.2");
        for (description, limits, others, next, expected) in [
            ("no limit", limits(0, 0, 0), &[here; 9][..], here, None),
            ("in all", limits(2, 0, 0), &[here, there], "::1", Some(Limit::ConnectionsMax)),
            ("listener", limits(0, 2, 0), &[here, there], "::1", Some(Limit::ConnectionsPerListenerMax)),
            ("source", limits(0, 0, 2), &[here, here], here, Some(Limit::ConnectionsPerSourceMax)),
            ("another source", limits(0, 0, 2), &[here, here], there, None),
            ("mapped", limits(0, 0, 1), &["::ffff:127.0.0.1"], here, Some(Limit::ConnectionsPerSourceMax)),
            ("a /64", limits(0, 0, 1), &["2001:db8::1"], "2001:db8::2", Some(Limit::ConnectionsPerSourceMax)),
            ("another /64", limits(0, 0, 1), &["2001:db8::1"], "2001:db8:0:1::1", None),
            ("exempt", limits(0, 0, 1), &["192.0.2.1"], "192.0.2.1", None),
        ] {
            let (quotas, frontend) = (Quotas::new(limits), Arc::new(AtomicUsize::new(0)));
            let enter = |peer: &str| quotas.enter(&frontend, peer.parse().unwrap());
            let mut held: Vec<_> = others.iter().map(|peer| enter(peer).unwrap()).collect();
            assert_eq!(enter(next).err(), expected, "{description}");
            assert_eq!(
                quotas.open.load(Ordering::Relaxed),
                others.len(),
                "{description}: refused, not counted"
            );
            assert_eq!(frontend.load(Ordering::Relaxed), others.len(), "{description}: refused, not counted");
            held.pop();
            if expected.is_some() {
                assert!(enter(next).is_ok(), "{description}: a place was given back");
            }
            drop(held);
            assert_eq!(quotas.open.load(Ordering::Relaxed), 0, "{description}");
            assert_eq!(frontend.load(Ordering::Relaxed), 0, "{description}");
            assert!(quotas.sources.iter().all(|shard| shard.lock().unwrap().is_empty()), "{description}");
        }
    }
}
