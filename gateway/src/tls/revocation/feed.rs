//! From revocation material to published indices: reads what stands beside a bundle's anchors, verifies it once,
//! keeps the last good copy of everything, and publishes a new index to a trust domain when something has changed.
//!
//! In: a domain, its material, the time; and issuers that the gate has met. Out: an index in the domain, and one
//! event a list for log, metrics and report. It runs on the control thread; it fetches nothing and reads no file.
//!
//! Rules. A list that is unreadable, wrongly signed, expired, of the future or older than its predecessor never
//! replaces a good one. Material with an unusable part that never had a good copy denies every client of the
//! bundle. An issuer once covered stays covered until its source is removed. A list of an issuer whose key is not
//! known yet waits for it. What a source has shown is remembered as long as it stands, whether somebody is served by it
//! at the moment or not.

mod event;
mod freshness;
mod source;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Weak};

use aws_lc_rs::digest::{Context, SHA256};
pub use event::{CrlEvent, CrlOutcome, CrlSummary, Currency, Terms};
pub use freshness::freshness;
pub use source::CLOCK_SKEW_MAX_S;

use super::index::{List, RevocationIndex};
use crate::model::{CrlMaterial, IssuerCertificate};
use crate::tls::trust::TrustDomain;
use source::{Evidence, Source};

/// Issuers met by the gate that are remembered for a domain. Clients of further ones get `revocation_status_unknown`
/// where lists wait for an issuer of that name.
pub const LEARNT_ISSUERS_MAX: usize = 1024;

/// A domain has met more than [`LEARNT_ISSUERS_MAX`] issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {LEARNT_ISSUERS_MAX} issuers have come with clients")]
pub struct TooManyIssuers;

/// All revocation material of the process and what became of it.
#[derive(Default)]
pub struct Feed {
    shelf: Shelf,
    sources: HashMap<Arc<str>, Source>,
    /// By the domain's identity, so that what a domain has learnt outlives its instances.
    domains: HashMap<[u8; 32], Followed>,
}

/// What is known of a domain.
#[derive(Default)]
struct Followed {
    sources: Vec<Arc<str>>,
    /// Whether there is material that should be there and is not.
    lacks_material: bool,
    learnt: Vec<Arc<IssuerCertificate>>,
    /// The index that was published last.
    published: Weak<RevocationIndex>,
}

/// Every list in use, by the digest of its DER: one copy, however many bundles hold it.
#[derive(Default)]
struct Shelf {
    lists: HashMap<[u8; 32], Weak<List>>,
    /// Of the tables, for this process.
    key: RandomState,
}

impl Feed {
    /// A feed that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the material that now stands beside a domain's anchors and publishes the outcome to the domain; with
    /// the same material again, judges it by the time. To be called for every domain before its listeners are
    /// served, and at every reload and poll. `now`: Unix seconds.
    ///
    /// Returns one event for each list; those that say what was said before are not `fresh`.
    pub fn load(&mut self, domain: &TrustDomain, crls: &[CrlMaterial], now: i64) -> Vec<CrlEvent> {
        self.load_part(domain, crls, true, now)
    }

    /// As [`Self::load`]; unless the material `is_complete`, nobody is known not to be revoked.
    pub fn load_part(
        &mut self,
        domain: &TrustDomain,
        crls: &[CrlMaterial],
        is_complete: bool,
        now: i64,
    ) -> Vec<CrlEvent> {
        let followed = self.domains.entry(domain.id()).or_default();
        followed.lacks_material = !is_complete;
        followed.sources.clear();
        for material in crls {
            if !followed.sources.contains(&material.source) {
                followed.sources.push(Arc::clone(&material.source));
                self.sources.entry(Arc::clone(&material.source)).or_default().read(&material.data);
            }
        }
        self.settle(domain, now)
    }

    /// Tries an issuer's key, met on a path that the domain has verified, on the lists that wait for it (see
    /// [`super::WANTED`]), and publishes the outcome. Returns the events of all lists of the domain.
    ///
    /// # Errors
    /// The domain has met too many issuers.
    pub fn learn(
        &mut self,
        domain: &TrustDomain,
        issuer: Arc<IssuerCertificate>,
        now: i64,
    ) -> Result<Vec<CrlEvent>, TooManyIssuers> {
        let Some(followed) = self.domains.get_mut(&domain.id()) else { return Ok(Vec::new()) };
        if followed.learnt.iter().any(|known| known.id == issuer.id) {
            return Ok(Vec::new());
        }
        if followed.learnt.len() >= LEARNT_ISSUERS_MAX {
            return Err(TooManyIssuers);
        }
        followed.learnt.push(issuer);
        Ok(self.settle(domain, now))
    }

    /// Forgets domains that are gone, and sources that no remaining domain has and of which nothing `stands` any more:
    /// where a listener is out for a while, an older list must not pass for the newest that there has been.
    pub fn retain(&mut self, live: impl Fn(&[u8; 32]) -> bool, stands: impl Fn(&str) -> bool) {
        self.domains.retain(|id, _| live(id));
        let domains = &self.domains;
        self.sources.retain(|name, _| is_used(domains, name) || stands(name));
        self.shelf.lists.retain(|_, list| list.strong_count() > 0);
    }

    /// What is in use of every source, for gauges: the source's name, and the sums and earliest dates of its lists.
    pub fn in_use(&self) -> impl Iterator<Item = (&Arc<str>, CrlSummary)> {
        let used = self.sources.iter().filter(|(name, _)| is_used(&self.domains, name));
        used.filter_map(|(name, source)| Some((name, source.in_use()?)))
    }

    /// Judges everything that a domain has and publishes the index if it is another one than before.
    fn settle(&mut self, domain: &TrustDomain, now: i64) -> Vec<CrlEvent> {
        let Some(followed) = self.domains.get_mut(&domain.id()) else { return Vec::new() };
        let mut evidence = Evidence { broken: followed.lacks_material, ..Evidence::default() };
        let terms = Terms::of(domain.rules());
        let mut events = Vec::new();
        for name in &followed.sources {
            let Some(source) = self.sources.get_mut(name) else { continue };
            source.verify(&domain.issuers().iter().chain(&followed.learnt), &mut self.shelf);
            events.extend(source.judge(name, domain.issuers(), &followed.learnt, terms, now, &mut evidence));
        }
        let digest = digest(&evidence);
        let published = followed.published.upgrade();
        let stands = published.is_some_and(|index| {
            Arc::ptr_eq(&index, &domain.revocation().load()) && index.digest() == digest
        });
        if !stands {
            let Evidence { lists, tried, awaited, broken } = evidence;
            let index = RevocationIndex::new(lists, tried, awaited, broken).under(domain.rules());
            let index = Arc::new(index.known_by(digest));
            followed.published = Arc::downgrade(&index);
            domain.revocation().store(index);
        }
        events
    }
}

fn is_used(domains: &HashMap<[u8; 32], Followed>, source: &Arc<str>) -> bool {
    domains.values().any(|followed| followed.sources.contains(source))
}

/// SHA-256 over what an index is made of; equal ingredients make equal indices.
fn digest(evidence: &Evidence) -> [u8; 32] {
    let mut lists: Vec<[u8; 32]> = evidence.lists.iter().map(|list| list.digest).collect();
    lists.sort_unstable();
    let mut digest = Context::new(&SHA256);
    let mut add = |kind: u8, part: &[u8]| {
        digest.update(&[kind]);
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    add(0, &[u8::from(evidence.broken)]);
    lists.iter().for_each(|list| add(1, list));
    evidence.tried.iter().for_each(|issuer| add(2, &issuer.0));
    evidence.awaited.iter().for_each(|name| add(3, name));
    let mut out = [0; 32];
    out.copy_from_slice(digest.finish().as_ref());
    out
}

impl Shelf {
    fn find(&self, digest: &[u8; 32]) -> Option<Arc<List>> {
        self.lists.get(digest)?.upgrade()
    }

    fn keep(&mut self, list: &Arc<List>) {
        self.lists.insert(list.digest, Arc::downgrade(list));
    }
}

#[cfg(test)]
mod tests;
