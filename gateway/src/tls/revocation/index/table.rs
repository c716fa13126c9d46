//! The serial numbers of one CRL, packed for lookup: built once from the list's entries, never changed.
//!
//! A serial is padded to the width of the longest one in the list and split into its last four octets and the rest.
//! The last four, mixed and XORed with a keyed hash of the rest, make a word: given the rest, word and octets
//! determine each other. The word's upper bits choose a bucket, so only its lower bits are stored, in a tag of three
//! octets with the reason. Looking up reads the tags of one bucket, and the rest of a serial where a tag fits: the
//! comparison is exact, and a serial that is not listed costs little more than the line of memory that its bucket's
//! tags stand in. The hash is keyed per process, since an authority may number its certificates in sequence.

use std::hash::{BuildHasher, RandomState};

use crate::model::{CrlEntry, RevocationReason};

/// The longest serial that the rows hold (RFC 5280 §4.1.2.2 allows no longer one); others stand in a list of their
/// own.
const SERIAL_OCTETS_MAX: usize = 20;

/// Entries a bucket holds on average, at most; at least half as many in all but the smallest tables.
const BUCKET_ENTRIES: usize = 8;

/// Octets of a serial that are folded into the bucket.
const WORD_OCTETS: usize = 4;

/// The serial numbers of one CRL with reason and date of each.
#[cfg_attr(test, derive(Clone))]
pub struct Table {
    key: RandomState,
    bucket_bits: u32,
    /// Where each bucket begins, in rows, and where the last one ends.
    buckets: Box<[u32]>,
    /// Octets of a tag: the word's lower bits and four bits of reason.
    tag: usize,
    /// Octets of a padded serial without its last four.
    rest: usize,
    /// By row, big-endian.
    tags: Box<[u8]>,
    /// By row.
    rests: Box<[u8]>,
    /// revocationDate by row, Unix seconds; 0: out of range.
    dates: Box<[u32]>,
    /// Serials longer than the rows hold, sorted.
    long: Box<[(Box<[u8]>, Found)]>,
}

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Why.
    pub reason: RevocationReason,
    /// revocationDate, Unix seconds; `None` before 1970 and after 2106.
    pub revoked_at: Option<u32>,
}

impl Found {
    fn of(entry: &CrlEntry<'_>) -> Self {
        Self { reason: entry.reason, revoked_at: u32::try_from(entry.revoked_at).ok().filter(|at| *at > 0) }
    }

    /// A hold can be lifted, anything else is for good: of two entries for one serial the latter kind wins.
    fn for_good(self) -> bool {
        !matches!(self.reason, RevocationReason::CertificateHold | RevocationReason::RemoveFromCrl)
    }
}

/// A serial as the rows see it.
struct Cut<'a> {
    /// Without the zero octets that pad it.
    rest: &'a [u8],
    word: u32,
}

impl Table {
    /// Packs the entries, which are read three times. At most `u32::MAX` entries are kept; no list within the size
    /// limit comes near.
    pub fn build<'a>(entries: impl Iterator<Item = CrlEntry<'a>> + Clone, key: RandomState) -> Self {
        let packed = |entry: &CrlEntry<'a>| entry.serial.len() <= SERIAL_OCTETS_MAX;
        let (mut count, mut width) = (0usize, WORD_OCTETS);
        let mut long: Vec<(Box<[u8]>, Found)> = Vec::new();
        for entry in entries.clone().take(u32::MAX as usize) {
            if packed(&entry) {
                count += 1;
                width = width.max(entry.serial.len());
            } else {
                long.push((Box::from(entry.serial), Found::of(&entry)));
            }
        }
        // Of equal serials the first found decides: put what is for good in front.
        long.sort_by(|(a, x), (b, y)| a.cmp(b).then(y.for_good().cmp(&x.for_good())));
        long.dedup_by(|(a, _), (b, _)| a == b);

        let bucket_bits = (count / BUCKET_ENTRIES).next_power_of_two().ilog2().max(4);
        // Four bits of reason and what the bucket does not tell of the word.
        let tag = if bucket_bits >= 12 { 3 } else { 4 };
        let rest = width - WORD_OCTETS;
        let mut table = Self {
            key,
            bucket_bits,
            buckets: vec![0; (1 << bucket_bits) + 1].into(),
            tag,
            rest,
            tags: vec![0; count * tag].into(),
            rests: vec![0; count * rest].into(),
            dates: vec![0; count].into(),
            long: long.into(),
        };
        table.fill(entries.take(u32::MAX as usize).filter(packed));
        table
    }

    /// Counting sort: sizes of the buckets, their ends, then the rows from the end of each bucket to its beginning.
    fn fill<'a>(&mut self, entries: impl Iterator<Item = CrlEntry<'a>> + Clone) {
        let mut words = Vec::with_capacity(self.dates.len());
        for cut in entries.clone().filter_map(|entry| self.cut(entry.serial)) {
            words.push(cut.word);
        }
        for word in &words {
            self.buckets[self.bucket(*word)] += 1;
        }
        let mut end = 0;
        for bucket in &mut self.buckets {
            end += *bucket;
            *bucket = end;
        }
        for (entry, word) in entries.zip(words) {
            let bucket = self.bucket(word);
            self.buckets[bucket] -= 1;
            let row = self.buckets[bucket] as usize;
            let tag = self.lower(word) << 4 | entry.reason as u32;
            self.tags[row * self.tag..][..self.tag]
                .copy_from_slice(&tag.to_be_bytes()[WORD_OCTETS - self.tag..]);
            let (rest, _) = split(entry.serial);
            let padded = &mut self.rests[row * self.rest..][..self.rest];
            padded[self.rest - rest.len()..].copy_from_slice(rest);
            self.dates[row] = Found::of(&entry).revoked_at.unwrap_or(0);
        }
    }

    /// Looks a serial up (most significant octet first, without leading zeros). Allocates nothing.
    pub fn find(&self, serial: &[u8]) -> Option<Found> {
        let Some(cut) = self.cut(serial) else { return self.find_long(serial) };
        let bucket = self.bucket(cut.word);
        let (from, to) = (self.buckets[bucket] as usize, self.buckets[bucket + 1] as usize);
        let lower = self.lower(cut.word);
        let mut found = None;
        for (row, tag) in (from..to).zip(self.tags[from * self.tag..to * self.tag].chunks_exact(self.tag)) {
            let tag = tag.iter().fold(0u32, |tag, octet| tag << 8 | u32::from(*octet));
            if tag >> 4 != lower || !self.has_rest(row, cut.rest) {
                continue;
            }
            let reason =
                RevocationReason::from_code((tag & 0xf) as u8).unwrap_or(RevocationReason::Unspecified);
            let date = self.dates[row];
            let this = Found { reason, revoked_at: (date > 0).then_some(date) };
            if this.for_good() {
                return Some(this);
            }
            found = Some(this);
        }
        found
    }

    fn has_rest(&self, row: usize, rest: &[u8]) -> bool {
        let padded = &self.rests[row * self.rest..][..self.rest];
        let (zeros, stored) = padded.split_at(self.rest - rest.len());
        stored == rest && zeros.iter().all(|octet| *octet == 0)
    }

    fn find_long(&self, serial: &[u8]) -> Option<Found> {
        let at = self.long.binary_search_by(|(long, _)| (**long).cmp(serial)).ok()?;
        Some(self.long[at].1)
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.dates.len() + self.long.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it occupies in memory.
    pub fn size_bytes(&self) -> usize {
        let long: usize = self.long.iter().map(|(serial, _)| serial.len()).sum();
        size_of::<Self>()
            + size_of_val(&*self.buckets)
            + self.tags.len()
            + self.rests.len()
            + size_of_val(&*self.dates)
            + size_of_val(&*self.long)
            + long
    }

    /// `None`: no row can hold it.
    fn cut<'a>(&self, serial: &'a [u8]) -> Option<Cut<'a>> {
        let (rest, last) = split(serial);
        if rest.len() > self.rest {
            return None;
        }
        let last = last.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet));
        // Without the padding, so that it is the same whatever the width.
        Some(Cut { rest, word: spread(last) ^ self.key.hash_one(rest) as u32 })
    }

    fn bucket(&self, word: u32) -> usize {
        (word >> (u32::BITS - self.bucket_bits)) as usize
    }

    fn lower(&self, word: u32) -> u32 {
        word & (u32::MAX >> self.bucket_bits)
    }
}

/// The rest of a serial and its last four octets, or what there is of them.
fn split(serial: &[u8]) -> (&[u8], &[u8]) {
    serial.split_at(serial.len().saturating_sub(WORD_OCTETS))
}

/// A bijection of words that sends neighbours far apart (the finalizer of MurmurHash3), for serials that differ in
/// their last octets alone.
fn spread(mut word: u32) -> u32 {
    word ^= word >> 16;
    word = word.wrapping_mul(0x85eb_ca6b);
    word ^= word >> 13;
    word = word.wrapping_mul(0xc2b2_ae35);
    word ^ word >> 16
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn entry(serial: &[u8], reason: RevocationReason, revoked_at: i64) -> CrlEntry<'_> {
        CrlEntry { serial, reason, revoked_at }
    }

    /// `count` serials of `octets` octets that look random and begin with no zero.
    fn serials(count: u32, octets: usize) -> Vec<Vec<u8>> {
        let octet = |i: u32, at: usize| spread(i.wrapping_mul(31).wrapping_add(at as u32 * 7919)) as u8;
        (0..count)
            .map(|i| {
                let mut serial: Vec<u8> = (0..octets).map(|at| octet(i, at)).collect();
                serial[..4].copy_from_slice(&i.to_be_bytes());
                serial[0] |= 0x40;
                serial
            })
            .collect()
    }

    fn table_of(serials: &[Vec<u8>]) -> Table {
        let entries =
            serials.iter().map(|serial| entry(serial, RevocationReason::KeyCompromise, 1_700_000_000));
        Table::build(entries, RandomState::new())
    }

    #[test]
    fn a_hundred_thousand_entries_stay_within_the_budget() {
        for (octets, octets_an_entry_max) in [(8, 13), (16, 20), (20, 24)] {
            let serials = serials(100_000, octets);
            let table = table_of(&serials);
            assert_eq!(table.len(), 100_000);
            let size = table.size_bytes();
            assert!(size <= 100_000 * octets_an_entry_max, "{octets} octets: {size} bytes");
            let found = Found { reason: RevocationReason::KeyCompromise, revoked_at: Some(1_700_000_000) };
            assert!(serials.iter().step_by(10).all(|serial| table.find(serial) == Some(found)));
        }
    }

    #[test]
    fn serials_in_sequence_fill_buckets_evenly() {
        for shift in [0, 8, 32, 96] {
            let serials: Vec<Vec<u8>> = (1u128..=50_000)
                .map(|i| (i << shift).to_be_bytes().to_vec())
                .map(|octets| octets.into_iter().skip_while(|octet| *octet == 0).collect())
                .collect();
            let table = table_of(&serials);
            let fullest = table.buckets.windows(2).map(|edge| edge[1] - edge[0]).max().unwrap();
            assert!(fullest < 40, "shift {shift}: {fullest} entries in a bucket");
        }
    }

    #[test]
    fn what_is_for_good_wins_over_a_hold_of_the_same_serial() {
        use RevocationReason::{CertificateHold, Superseded};
        for serial in [&[7u8; 3][..], &[7; 30]] {
            for reasons in [[CertificateHold, Superseded], [Superseded, CertificateHold]] {
                let entries = reasons.iter().map(|reason| entry(serial, *reason, 5));
                let table = Table::build(entries, RandomState::new());
                let found = Found { reason: Superseded, revoked_at: Some(5) };
                assert_eq!(table.find(serial), Some(found), "{reasons:?} {serial:?}");
            }
        }
    }

    #[test]
    fn dates_out_of_range_are_unknown() {
        for (at, expected) in [(-1, None), (0, None), (1, Some(1)), (i64::from(u32::MAX) + 1, None)] {
            let table = Table::build(
                [entry(&[1], RevocationReason::Unspecified, at)].into_iter(),
                RandomState::new(),
            );
            assert_eq!(table.find(&[1]).unwrap().revoked_at, expected);
        }
    }

    /// Short alphabets and lengths around the borders make collisions likely.
    fn serial() -> impl Strategy<Value = Vec<u8>> {
        let octets =
            proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..24);
        octets.prop_map(|octets| octets.into_iter().skip_while(|octet| *octet == 0).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_table_answers_as_a_hash_map_does(
            listed in proptest::collection::hash_map(serial(), (0u8..11, 1u32..), 0..60),
            asked in proptest::collection::vec(serial(), 0..60),
        ) {
            let model: HashMap<Vec<u8>, Found> = listed
                .iter()
                .map(|(serial, (reason, date))| {
                    let reason = RevocationReason::from_code(*reason).unwrap_or(RevocationReason::Unspecified);
                    (serial.clone(), Found { reason, revoked_at: Some(*date) })
                })
                .collect();
            let entries = model.iter().map(|(serial, found)| {
                entry(serial, found.reason, i64::from(found.revoked_at.unwrap()))
            });
            let table = Table::build(entries, RandomState::new());
            prop_assert_eq!(table.len(), model.len());
            for serial in model.keys().chain(&asked) {
                prop_assert_eq!(table.find(serial), model.get(serial).copied(), "{:?}", serial);
            }
        }
    }
}
