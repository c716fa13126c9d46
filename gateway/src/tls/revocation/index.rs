//! What is known of revoked certificates: an immutable index, built when revocation data changes and read by every
//! request that has to be judged anew.
//!
//! It is told which lists have been verified under which issuer; it answers for one certificate of a verified path.
//! Issuers are told apart by key and name together ([`IssuerId`]), never by name alone. Several lists of an issuer
//! stand side by side, each for its scope; the strictest answer wins. A delta or an OCSP answer will be one more
//! kind of evidence beside [`List`].

mod table;

use std::collections::HashMap;
use std::sync::Arc;

pub use table::{Found, Table};

use crate::model::{
    CrlNumber, CrlScope, IssuerCertificate, IssuerId, PathCertificate, Revocation, RevocationReason,
    RevocationRules, RevocationStatus,
};

/// How long data past its nextUpdate still decides where no policy says so, seconds.
pub const CRL_STALENESS_MAX_S: i64 = 24 * 3600;

/// How long a list without nextUpdate counts as current after its thisUpdate, seconds.
pub const CRL_AGE_MAX_S: i64 = 7 * 24 * 3600;

/// A CRL whose signature has been verified under its issuer's key.
pub struct List {
    /// Whose key verified it.
    pub issuer: IssuerId,
    /// SHA-256 of the DER CertificateList.
    pub digest: [u8; 32],
    /// The certificates it speaks for.
    pub scope: CrlScope,
    /// CRLNumber.
    pub number: Option<CrlNumber>,
    /// The number as clients and logs are told.
    pub number_text: Option<Arc<str>>,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    pub next_update: Option<i64>,
    /// Why absence from the list means nothing, if so (a critical extension that we do not know, say). Then what it
    /// lists is revoked, and it says nothing of others (RFC 5280 §5.2, §5.3).
    pub silence_void: Option<Box<str>>,
    /// Length of the DER CertificateList.
    pub size_bytes: usize,
    /// Its entries.
    pub table: Table,
}

impl List {
    /// Until when it is current: nextUpdate, or the policy's maximum age. Unix seconds.
    pub fn current_until(&self) -> i64 {
        self.next_update.unwrap_or_else(|| self.this_update.saturating_add(CRL_AGE_MAX_S))
    }

    /// Until when its silence about a certificate counts as good, inclusive, where it counts for `staleness_max_s`
    /// seconds after it was current. Unix seconds.
    pub fn decides_until(&self, staleness_max_s: i64) -> i64 {
        self.current_until().saturating_add(staleness_max_s)
    }
}

/// What the index says of a certificate, and how long it will go on saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The answer.
    pub status: RevocationStatus,
    /// The last second for which it holds, Unix; `i64::MAX`: until the index changes.
    pub until: i64,
}

/// The revocation data of one trust domain.
pub struct RevocationIndex {
    issuers: HashMap<IssuerId, Vec<Arc<List>>>,
    /// Names (DER) of issuers of lists that nobody could verify yet, since their keys arrive with the clients.
    awaited: Vec<Arc<[u8]>>,
    /// Part of the data is unusable, so whatever is not revoked is unknown.
    broken: bool,
    /// Whether issuers without a list are unknown rather than unchecked.
    covers_all: bool,
    staleness_max_s: i64,
    digest: [u8; 32],
}

impl Default for RevocationIndex {
    /// The index of a domain whose data has not been judged yet: everything is unknown.
    fn default() -> Self {
        Self { broken: true, ..Self::empty() }
    }
}

impl RevocationIndex {
    /// An index that covers nobody, so everybody is good.
    pub fn empty() -> Self {
        Self::new([], [], Vec::new(), false)
    }

    /// An index of verified lists. `tried`: issuers whose key verified none of the lists that bear their name.
    /// `awaited`: names of issuers that must be covered as soon as they are seen. `broken`: some of the data is
    /// unusable, and there is no earlier copy that decides instead.
    pub fn new(
        lists: impl IntoIterator<Item = Arc<List>>,
        tried: impl IntoIterator<Item = IssuerId>,
        awaited: Vec<Arc<[u8]>>,
        broken: bool,
    ) -> Self {
        let mut issuers: HashMap<IssuerId, Vec<Arc<List>>> = HashMap::new();
        for list in lists {
            issuers.entry(list.issuer).or_default().push(list);
        }
        for issuer in tried {
            issuers.entry(issuer).or_default();
        }
        let staleness_max_s = CRL_STALENESS_MAX_S;
        Self { issuers, awaited, broken, covers_all: false, staleness_max_s, digest: [0; 32] }
    }

    /// Judges by the rules of a policy: every issuer has to be covered, and the policy's staleness counts.
    pub fn under(mut self, rules: Option<&RevocationRules>) -> Self {
        if let Some(rules) = rules {
            self.covers_all = true;
            self.staleness_max_s = rules.staleness_max_s;
        }
        self
    }

    /// Told apart from others of its domain by a digest of what it was made of.
    pub fn known_by(self, digest: [u8; 32]) -> Self {
        Self { digest, ..self }
    }

    /// Of what it was made of; equal ones judge alike at any one time. Zeros: nothing has been judged yet.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Judges a certificate of a verified path. `authority`: it is a CA's. Allocates nothing unless it is revoked.
    pub fn judge(&self, certificate: &PathCertificate, authority: bool, now: i64) -> Judgement {
        let lasting = |status| Judgement { status, until: i64::MAX };
        let Some(lists) = self.issuers.get(&certificate.issuer.id) else {
            let unknown = self.covers_all || self.broken || self.awaits(&certificate.issuer);
            return lasting(if unknown { RevocationStatus::Unknown } else { RevocationStatus::Good });
        };
        if let Some((list, found)) = strictest(lists, certificate.serial.as_bytes()) {
            return lasting(RevocationStatus::Revoked(Revocation {
                reason: found.reason,
                revoked_at: found.revoked_at.map(i64::from),
                crl_number: list.number_text.clone(),
            }));
        }
        let deciding = lists
            .iter()
            .filter(|list| list.silence_void.is_none() && list.scope.covers(certificate, authority));
        match deciding.map(|list| list.decides_until(self.staleness_max_s)).max() {
            _ if self.broken => lasting(RevocationStatus::Unknown),
            None => lasting(RevocationStatus::Unknown),
            Some(until) if now > until => lasting(RevocationStatus::Stale),
            Some(until) => Judgement { status: RevocationStatus::Good, until },
        }
    }

    /// Whether lists bear the name of an issuer whose key has not been tried on them.
    pub fn awaits(&self, issuer: &IssuerCertificate) -> bool {
        !self.issuers.contains_key(&issuer.id) && self.awaited.iter().any(|name| **name == *issuer.name)
    }

    /// Whether there is a list of the issuer.
    pub fn covers(&self, issuer: &IssuerId) -> bool {
        self.issuers.get(issuer).is_some_and(|lists| !lists.is_empty())
    }

    /// Every list in use.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<List>> {
        self.issuers.values().flatten()
    }

    /// Whether part of the data is unusable and every client is refused for it.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

/// The entry for a serial; where several lists have one, what is for good wins over a hold.
fn strictest<'a>(lists: &'a [Arc<List>], serial: &[u8]) -> Option<(&'a List, Found)> {
    let hits = lists.iter().filter_map(|list| Some((&**list, list.table.find(serial)?)));
    hits.min_by_key(|(_, found)| found.reason == RevocationReason::CertificateHold)
}

#[cfg(test)]
pub(in crate::tls) mod tests {
    use std::hash::RandomState;

    use super::*;
    use crate::model::{CrlEntry, CrlHolders, OnUnknown, RevocationAnswer, RevocationDepth, Serial};

    pub(in crate::tls) const NOW: i64 = 1_800_000_000;

    pub(in crate::tls) fn issuer(key: u8, name: &str) -> Arc<IssuerCertificate> {
        Arc::new(IssuerCertificate {
            id: IssuerId([key; 32]),
            name: name.as_bytes().into(),
            spki: [key].as_slice().into(),
            key_id: None,
            crl_sign: None,
        })
    }

    pub(in crate::tls) fn rules(staleness_max_s: i64) -> RevocationRules {
        RevocationRules {
            policy: "RevocationPolicy ns/p".into(),
            depth: RevocationDepth::Chain,
            on_unknown: OnUnknown::Deny,
            staleness_max_s,
            answer: RevocationAnswer::Http400,
        }
    }

    pub(in crate::tls) fn certificate(issuer: &Arc<IssuerCertificate>, serial: &[u8]) -> PathCertificate {
        PathCertificate {
            issuer: Arc::clone(issuer),
            serial: Serial::new(serial),
            not_after: NOW + 1_000_000,
            distribution_points: Vec::new(),
        }
    }

    pub(in crate::tls) fn list(issuer: u8, entries: &[(&[u8], RevocationReason)], next_update: i64) -> List {
        let entries =
            entries.iter().map(|(serial, reason)| CrlEntry { serial, reason: *reason, revoked_at: 7 });
        List {
            issuer: IssuerId([issuer; 32]),
            digest: [issuer; 32],
            scope: CrlScope::default(),
            number: Some(CrlNumber::new(&[9])),
            number_text: Some("9".into()),
            this_update: NOW - 1000,
            next_update: Some(next_update),
            silence_void: None,
            size_bytes: 0,
            table: Table::build(entries, RandomState::new()),
        }
    }

    pub(in crate::tls) fn index(lists: Vec<List>) -> RevocationIndex {
        RevocationIndex::new(lists.into_iter().map(Arc::new), [], Vec::new(), false)
    }

    fn revoked(reason: RevocationReason) -> RevocationStatus {
        RevocationStatus::Revoked(Revocation { reason, revoked_at: Some(7), crl_number: Some("9".into()) })
    }

    #[test]
    fn answers() {
        use RevocationReason::{CertificateHold, KeyCompromise};
        use RevocationStatus::{Good, Stale, Unknown};
        let hold: &[(&[u8], _)] = &[(&[1], CertificateHold)];
        let compromise: &[(&[u8], _)] = &[(&[1], KeyCompromise)];
        let partial = List { silence_void: Some("".into()), ..list(1, compromise, NOW) };
        let partial_silent = List { silence_void: Some("".into()), ..list(1, &[], NOW) };
        let authorities = List {
            scope: CrlScope { holders: CrlHolders::Authorities, points: vec![] },
            ..list(1, &[], NOW)
        };
        let users =
            List { scope: CrlScope { holders: CrlHolders::Users, points: vec![] }, ..list(1, &[], NOW) };
        let point = CrlScope { holders: CrlHolders::All, points: vec![b"there".as_slice().into()] };
        let elsewhere = List { scope: point, ..list(1, &[], NOW) };
        let ageless = List { next_update: None, this_update: NOW, ..list(1, &[], 0) };
        let old = NOW - CRL_STALENESS_MAX_S - 1;
        for (what, lists, expected) in [
            ("no list at all", vec![], Good),
            ("listed", vec![list(1, compromise, NOW)], revoked(KeyCompromise)),
            ("not listed", vec![list(1, &[(&[2], KeyCompromise)], NOW)], Good),
            ("listed by an authority of another key", vec![list(2, compromise, NOW)], Good),
            ("past nextUpdate, within the allowance", vec![list(1, &[], NOW - 3600)], Good),
            ("last second of the allowance", vec![list(1, &[], old + 1)], Good),
            ("past the allowance", vec![list(1, &[], old)], Stale),
            ("listed by a stale list", vec![list(1, compromise, old)], revoked(KeyCompromise)),
            ("no nextUpdate", vec![ageless], Good),
            (
                "hold here, for good there",
                vec![list(1, hold, NOW), list(1, compromise, NOW)],
                revoked(KeyCompromise),
            ),
            ("listed by a list of unknown extensions", vec![partial], revoked(KeyCompromise)),
            ("not listed by a list of unknown extensions", vec![partial_silent], Unknown),
            ("list for authorities only", vec![authorities], Unknown),
            ("list for users only", vec![users], Good),
            ("list for a distribution point of others", vec![elsewhere], Unknown),
        ] {
            let index = index(lists);
            let judged = index.judge(&certificate(&issuer(1, "CA"), &[1]), false, NOW);
            assert_eq!(judged.status, expected, "{what}");
        }
    }

    #[test]
    fn under_a_policy_every_issuer_is_covered_and_its_staleness_counts() {
        let rules = rules(3600);
        let status = |lists, key: u8, now| {
            index(lists).under(Some(&rules)).judge(&certificate(&issuer(key, "CA"), &[1]), false, now).status
        };
        use RevocationStatus::{Good, Stale, Unknown};
        for (what, lists, key, now, expected) in [
            ("no list at all", vec![], 1, NOW, Unknown),
            ("a list of another", vec![list(2, &[], NOW)], 1, NOW, Unknown),
            ("its list", vec![list(1, &[], NOW)], 1, NOW, Good),
            ("the last second of the allowance", vec![list(1, &[], NOW)], 1, NOW + 3600, Good),
            ("past the allowance", vec![list(1, &[], NOW)], 1, NOW + 3601, Stale),
        ] {
            assert_eq!(status(lists, key, now), expected, "{what}");
        }
        let lasting = index(vec![list(1, &[], NOW)]).under(Some(&rules));
        assert_eq!(lasting.judge(&certificate(&issuer(1, "CA"), &[1]), false, NOW).until, NOW + 3600);
    }

    #[test]
    fn good_lasts_until_the_last_deciding_list_goes_stale() {
        let index = index(vec![list(1, &[], NOW), list(1, &[], NOW + 50)]);
        let judged = index.judge(&certificate(&issuer(1, "CA"), &[1]), false, NOW);
        assert_eq!(
            judged,
            Judgement { status: RevocationStatus::Good, until: NOW + 50 + CRL_STALENESS_MAX_S }
        );
    }

    #[test]
    fn a_certificate_that_names_the_distribution_point_is_covered() {
        let scope = CrlScope {
            holders: CrlHolders::All,
            points: vec![b"a".as_slice().into(), b"b".as_slice().into()],
        };
        let index = index(vec![List { scope, ..list(1, &[], NOW) }]);
        let mut certificate = certificate(&issuer(1, "CA"), &[1]);
        certificate.distribution_points = vec![b"c".as_slice().into(), b"b".as_slice().into()];
        assert_eq!(index.judge(&certificate, false, NOW).status, RevocationStatus::Good);
    }

    #[test]
    fn broken_data_denies_the_good_and_still_tells_the_revoked() {
        let entries: &[(&[u8], _)] = &[(&[1], RevocationReason::Superseded)];
        let index = RevocationIndex::new([Arc::new(list(1, entries, NOW))], [], Vec::new(), true);
        let status =
            |key, serial: u8| index.judge(&certificate(&issuer(key, "CA"), &[serial]), false, NOW).status;
        assert_eq!(status(1, 1), revoked(RevocationReason::Superseded));
        assert_eq!(status(1, 2), RevocationStatus::Unknown);
        assert_eq!(status(2, 1), RevocationStatus::Unknown);
        let unjudged = RevocationIndex::default();
        assert_eq!(
            unjudged.judge(&certificate(&issuer(1, "CA"), &[1]), false, NOW).status,
            RevocationStatus::Unknown
        );
    }

    #[test]
    fn an_awaited_issuer_is_unknown_until_its_key_was_tried_and_after() {
        let name: Arc<[u8]> = b"late".as_slice().into();
        let awaiting = RevocationIndex::new([], [], vec![Arc::clone(&name)], false);
        let (late, other) = (issuer(3, "late"), issuer(4, "other"));
        assert!(awaiting.awaits(&late) && !awaiting.awaits(&other));
        let status =
            |index: &RevocationIndex, issuer| index.judge(&certificate(issuer, &[1]), false, NOW).status;
        assert_eq!(status(&awaiting, &late), RevocationStatus::Unknown);
        assert_eq!(status(&awaiting, &other), RevocationStatus::Good);

        let tried = RevocationIndex::new([], [late.id], vec![name], false);
        assert!(!tried.awaits(&late));
        assert_eq!(status(&tried, &late), RevocationStatus::Unknown);
    }
}
