//! Chains that have been verified, kept so that the signatures of a returning client need not be checked again.
//!
//! The key is a digest of the whole chain, never a name: authorities of equal name exist. A cache belongs to one trust
//! domain, so an entry can only speak of that domain's anchors. Dates are the caller's to check, on every hit.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::CertificateDer;

use crate::model::{Identity, VerifiedPath};

/// How many verified chains a trust domain remembers, about 3 KiB each.
pub const CHAIN_CACHE_ENTRIES_MAX: usize = 8192;

/// A chain that has been verified up to a trust anchor, with what connections share of it.
#[derive(Debug)]
pub struct VerifiedChain {
    /// What the leaf says.
    pub identity: Arc<Identity>,
    /// The chain as it was presented, leaf first.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// The path through it.
    pub path: Arc<VerifiedPath>,
    /// Whether the leaf is an X.509 v1 certificate.
    pub x509_v1: bool,
    /// The latest notBefore of the path and of the anchor, Unix seconds.
    pub not_before: i64,
}

impl VerifiedChain {
    /// Whether every certificate of the path is within its dates.
    pub fn holds_at(&self, now: i64) -> bool {
        (self.not_before..=self.path.not_after).contains(&now)
    }
}

/// Two generations: when the newer one is half of the limit it becomes the older one, and what was older is dropped.
/// Whatever is used survives; the lock is held for a look-up only.
#[derive(Debug, Default)]
pub(super) struct ChainCache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    newer: HashMap<[u8; 32], Arc<VerifiedChain>>,
    older: HashMap<[u8; 32], Arc<VerifiedChain>>,
}

impl ChainCache {
    pub(super) fn find(&self, digest: &[u8; 32]) -> Option<Arc<VerifiedChain>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chain) = generations.newer.get(digest) {
            return Some(chain.clone());
        }
        let chain = generations.older.remove(digest)?;
        generations.insert(*digest, chain.clone());
        Some(chain)
    }

    pub(super) fn insert(&self, digest: [u8; 32], chain: Arc<VerifiedChain>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, chain);
    }
}

impl Generations {
    fn insert(&mut self, digest: [u8; 32], chain: Arc<VerifiedChain>) {
        if self.newer.len() >= CHAIN_CACHE_ENTRIES_MAX / 2 {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(digest, chain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::identity::identity_of;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let entry = Arc::new(VerifiedChain {
            identity: Arc::new(identity_of(&CertificateDer::from(Vec::new()))),
            chain: Arc::new([]),
            path: Arc::new(VerifiedPath { certificates: Vec::new(), not_after: 0 }),
            x509_v1: false,
            not_before: 0,
        });
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            digest
        };
        let cache = ChainCache::default();
        for number in 0..3 * CHAIN_CACHE_ENTRIES_MAX {
            cache.insert(digest(number), entry.clone());
            assert!(cache.find(&digest(0)).is_some(), "in use, after {number}");
        }
        assert!(cache.find(&digest(1)).is_none());
        let generations = cache.0.lock().unwrap();
        assert!(generations.newer.len() + generations.older.len() <= CHAIN_CACHE_ENTRIES_MAX);
    }
}
