//! One source of lists (a `ca.crl`): its newest material, block by block, and the last good copy of every list.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::crl::{CRL_BYTES_MAX, CertificateList, Fault, ParseError, VerifyError, verify};
use super::super::index::{List, Table};
use super::event::{CrlEvent, CrlOutcome, CrlSummary, Terms};
use super::{Currency, Shelf};
use crate::model::{CrlScope, IssuerCertificate, IssuerId};
use crate::telemetry::labels::CrlResult;
use crate::tls::certificate::sha256;
use crate::tls::identity::name_text;

/// How far ahead of our clock a thisUpdate may be, seconds.
pub const CLOCK_SKEW_MAX_S: i64 = 300;

/// Lists that are of one issuer and scope follow each other.
type Slot = (IssuerId, CrlScope);

/// What a source has shown.
#[derive(Default)]
pub(super) struct Source {
    /// Of the newest material.
    digest: Option<[u8; 32]>,
    blocks: Vec<Block>,
    /// The last good list of every slot.
    good: BTreeMap<Slot, Arc<List>>,
    /// Whether the newest material is usable altogether, and whether an earlier one was.
    is_whole: bool,
    was_whole: bool,
    /// What has been told of the newest material.
    told: Vec<CrlEvent>,
}

/// One list of the material.
enum Block {
    /// Nothing can be made of it.
    Unreadable { result: CrlResult, message: String },
    /// No key has verified it yet.
    Unverified { list: Pending, tried: Vec<(IssuerId, VerifyError)> },
    /// Verified under the key of its issuer.
    Verified { issuer: Arc<str>, list: Arc<List> },
}

/// A list whose issuer's key has not been seen.
struct Pending {
    der: Arc<[u8]>,
    digest: [u8; 32],
    issuer: Arc<[u8]>,
}

/// What the sources of a domain amount to; the ingredients of its index.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) lists: Vec<Arc<List>>,
    pub(super) tried: Vec<IssuerId>,
    pub(super) awaited: Vec<Arc<[u8]>>,
    pub(super) broken: bool,
}

/// Why a verified list is not used.
struct Objection {
    result: CrlResult,
    message: String,
}

impl Source {
    /// Takes the newest material, unless it is the same as before.
    pub(super) fn read(&mut self, data: &[u8]) {
        let digest = sha256(data);
        if self.digest == Some(digest) {
            return;
        }
        self.digest = Some(digest);
        self.blocks = blocks(data);
        self.was_whole |= std::mem::take(&mut self.is_whole);
        self.told.clear();
    }

    /// Tries issuers on the lists that bear their names and are not verified yet.
    pub(super) fn verify<'a>(
        &mut self,
        issuers: &(impl Iterator<Item = &'a Arc<IssuerCertificate>> + Clone),
        shelf: &mut Shelf,
    ) {
        for block in &mut self.blocks {
            let Block::Unverified { list, tried } = block else { continue };
            let fitting: Vec<_> = issuers
                .clone()
                .filter(|issuer| *issuer.name == *list.issuer)
                .filter(|issuer| tried.iter().all(|(id, _)| *id != issuer.id))
                .collect();
            if let Some(verified) = list.verify(&fitting, tried, shelf) {
                *block = Block::Verified { issuer: name_text(&list.issuer).into(), list: verified };
            }
        }
    }

    /// Decides which lists are used at a time, adds them to a domain's evidence and says what became of each.
    /// `bundle`: the issuers of the domain's bundle; `learnt`: those that its clients have brought.
    pub(super) fn judge(
        &mut self,
        name: &Arc<str>,
        bundle: &[Arc<IssuerCertificate>],
        learnt: &[Arc<IssuerCertificate>],
        terms: Terms,
        now: i64,
        evidence: &mut Evidence,
    ) -> Vec<CrlEvent> {
        let mut whole = true;
        let mut events = Vec::new();
        let contenders = self.contenders(now);
        for (index, block) in self.blocks.iter().enumerate() {
            let (issuer, outcome) = match block {
                Block::Unreadable { result, message } => (
                    None,
                    CrlOutcome::Rejected { result: *result, message: message.clone(), kept: self.was_whole },
                ),
                Block::Unverified { list, tried } => {
                    let outcome = self.unverified(list, tried, bundle);
                    // Where an earlier list of such an issuer decides on, everything stays as it was. Otherwise
                    // whoever bears the name must be covered: those whose keys were tried, and those to come.
                    if !matches!(outcome, CrlOutcome::Rejected { kept: true, .. }) {
                        let namesakes =
                            bundle.iter().chain(learnt).filter(|issuer| *issuer.name == *list.issuer);
                        evidence.tried.extend(namesakes.map(|issuer| issuer.id));
                        evidence.awaited.push(Arc::clone(&list.issuer));
                    }
                    (Some(name_text(&list.issuer).into()), outcome)
                }
                Block::Verified { issuer, list } => {
                    let slot = (list.issuer, list.scope.clone());
                    // A newer list of the same material has its place.
                    if contenders.get(&slot).is_some_and(|contender| *contender != index)
                        && acceptable(list, now).is_ok()
                    {
                        continue;
                    }
                    let outcome = match weigh(list, self.good.get(&slot), now) {
                        Ok(()) => {
                            self.good.insert(slot, Arc::clone(list));
                            CrlOutcome::InUse(CrlSummary::of(list, terms, now))
                        }
                        Err(Objection { result, message }) => {
                            if list.silence_void.is_some() {
                                evidence.lists.push(Arc::clone(list));
                            }
                            let kept = self.good.contains_key(&slot);
                            if !kept {
                                evidence.tried.push(list.issuer);
                            }
                            CrlOutcome::Rejected { result, message, kept }
                        }
                    };
                    (Some(Arc::clone(issuer)), outcome)
                }
            };
            whole &= !matches!(outcome, CrlOutcome::Rejected { kept: false, .. });
            events.push(CrlEvent { source: Arc::clone(name), issuer, outcome, terms, fresh: false });
        }
        self.is_whole |= whole;
        evidence.broken |= !whole && !self.was_whole;
        evidence.lists.extend(self.good.values().cloned());
        events.extend(self.kept(name, bundle, learnt, terms, now));
        self.mark_fresh(&mut events);
        events
    }

    /// What there is to say of a list that no key has verified. Where the bundle has an issuer of its name, it is
    /// at fault.
    fn unverified(
        &self,
        list: &Pending,
        tried: &[(IssuerId, VerifyError)],
        bundle: &[Arc<IssuerCertificate>],
    ) -> CrlOutcome {
        let namesakes: Vec<IssuerId> =
            bundle.iter().filter(|issuer| *issuer.name == *list.issuer).map(|issuer| issuer.id).collect();
        if namesakes.is_empty() {
            return CrlOutcome::Waiting;
        }
        let errors: Vec<VerifyError> =
            tried.iter().filter(|(id, _)| namesakes.contains(id)).map(|(_, error)| *error).collect();
        // A key that could have signed it and did not tells more than one that could not have.
        let told = [VerifyError::Signature, VerifyError::NotForCrls];
        let error = told.into_iter().find(|error| errors.contains(error)).unwrap_or(VerifyError::Algorithm);
        let result = match error {
            VerifyError::Signature | VerifyError::Name => CrlResult::BadSignature,
            VerifyError::NotForCrls | VerifyError::Algorithm => CrlResult::Unsupported,
        };
        let kept = self.good.keys().any(|(issuer, _)| namesakes.contains(issuer));
        CrlOutcome::Rejected { result, message: error.to_string(), kept }
    }

    /// Of the acceptable lists of the material, the newest of each slot, by its place.
    fn contenders(&self, now: i64) -> BTreeMap<Slot, usize> {
        let mut contenders: BTreeMap<Slot, (usize, &List)> = BTreeMap::new();
        for (index, block) in self.blocks.iter().enumerate() {
            let Block::Verified { list, .. } = block else { continue };
            if acceptable(list, now).is_err() {
                continue;
            }
            let slot = (list.issuer, list.scope.clone());
            if contenders.get(&slot).is_none_or(|(_, newest)| !is_older(list, newest)) {
                contenders.insert(slot, (index, list));
            }
        }
        contenders.into_iter().map(|(slot, (index, _))| (slot, index)).collect()
    }

    /// Good lists that are no longer in the material and whose issuer is still known. A block that could not be
    /// read or verified may be the list, and has been told of.
    fn kept(
        &self,
        name: &Arc<str>,
        bundle: &[Arc<IssuerCertificate>],
        learnt: &[Arc<IssuerCertificate>],
        terms: Terms,
        now: i64,
    ) -> Vec<CrlEvent> {
        let mut events = Vec::new();
        for (slot, list) in &self.good {
            let known = bundle.iter().chain(learnt).find(|issuer| issuer.id == slot.0);
            let Some(issuer) = known else { continue };
            let told = |block: &Block| match block {
                Block::Unreadable { .. } => true,
                Block::Unverified { list, .. } => list.issuer == issuer.name,
                Block::Verified { list, .. } => list.issuer == slot.0 && list.scope == slot.1,
            };
            if !self.blocks.iter().any(told) {
                events.push(CrlEvent {
                    source: Arc::clone(name),
                    issuer: Some(name_text(&issuer.name).into()),
                    outcome: CrlOutcome::Kept(CrlSummary::of(list, terms, now)),
                    terms,
                    fresh: false,
                });
            }
        }
        events
    }

    fn mark_fresh(&mut self, events: &mut [CrlEvent]) {
        for event in events {
            if !self.told.contains(event) {
                self.told.push(event.clone());
                event.fresh = true;
            }
        }
    }

    /// Its lists in use, taken together; `None` if there is none.
    pub(super) fn in_use(&self) -> Option<CrlSummary> {
        let mut lists = self.good.values().map(|list| CrlSummary::of(list, Terms::of(None), i64::MIN));
        let first = lists.next()?;
        Some(lists.fold(first, |sum, list| CrlSummary {
            entries: sum.entries + list.entries,
            number: None,
            this_update: sum.this_update.min(list.this_update),
            next_update: [sum.next_update, list.next_update].into_iter().flatten().min(),
            size_bytes: sum.size_bytes + list.size_bytes,
            currency: Currency::Current,
        }))
    }
}

/// The lists of PEM or DER material.
fn blocks(data: &[u8]) -> Vec<Block> {
    let unreadable = |result, message: String| Block::Unreadable { result, message };
    if data.len() > CRL_BYTES_MAX {
        let message = format!("it has {} octets, more than {CRL_BYTES_MAX}", data.len());
        return vec![unreadable(CrlResult::TooBig, message)];
    }
    // A SEQUENCE. As text it is the digit zero, with which PEM does not begin.
    if data.first() == Some(&0x30) {
        return vec![block(data)];
    }
    let mut blocks = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(data) {
        match der {
            Ok(der) => blocks.push(block(&der)),
            Err(error) => {
                blocks.push(unreadable(CrlResult::Parse, format!("it is not PEM: {error}")));
                break;
            }
        }
    }
    if blocks.is_empty() {
        blocks
            .push(unreadable(CrlResult::Parse, "there is no X509 CRL block in it, and it is not DER".into()));
    }
    blocks
}

fn block(der: &[u8]) -> Block {
    match parse(der) {
        Ok(list) => {
            let list = Pending { der: der.into(), digest: sha256(der), issuer: list.issuer.into() };
            Block::Unverified { list, tried: Vec::new() }
        }
        Err(error) => Block::Unreadable { result: CrlResult::Parse, message: error.to_string() },
    }
}

/// Material comes from outside and is read before its signature can be checked: a fault of ours in reading it must
/// cost the list and not the control thread.
fn parse(der: &[u8]) -> Result<CertificateList<'_>, ParseError> {
    std::panic::catch_unwind(|| CertificateList::parse(der))
        .unwrap_or(Err(ParseError("reading it has failed inside the gateway")))
}

impl Pending {
    /// Tries issuers of the list's name; notes those in vain.
    fn verify(
        &self,
        issuers: &[&Arc<IssuerCertificate>],
        tried: &mut Vec<(IssuerId, VerifyError)>,
        shelf: &mut Shelf,
    ) -> Option<Arc<List>> {
        if issuers.is_empty() {
            return None;
        }
        let known = shelf.find(&self.digest);
        if let Some(known) = known.filter(|known| issuers.iter().any(|issuer| issuer.id == known.issuer)) {
            return Some(known);
        }
        let parsed = parse(&self.der).ok()?;
        // Of several keys that of the identifier is the likeliest; verifying costs a pass over the whole list.
        let mut issuers = issuers.to_vec();
        issuers.sort_by_key(|issuer| parsed.key_id.is_none() || issuer.key_id.as_deref() != parsed.key_id);
        for issuer in issuers {
            match verify(&parsed, issuer) {
                Ok(()) => {
                    let list = Arc::new(self.tabulate(&parsed, issuer.id, shelf));
                    shelf.keep(&list);
                    return Some(list);
                }
                Err(error) => tried.push((issuer.id, error)),
            }
        }
        None
    }

    fn tabulate(&self, parsed: &CertificateList<'_>, issuer: IssuerId, shelf: &Shelf) -> List {
        let entries_stand = parsed.fault.as_ref().is_none_or(Fault::entries_stand);
        let entries = parsed.entries().take(if entries_stand { usize::MAX } else { 0 });
        List {
            issuer,
            digest: self.digest,
            scope: parsed.scope.clone(),
            number_text: parsed.number.as_ref().map(|number| number.to_string().into()),
            number: parsed.number.clone(),
            this_update: parsed.this_update,
            next_update: parsed.next_update,
            silence_void: parsed.fault.as_ref().map(|fault| fault.to_string().into()),
            size_bytes: self.der.len(),
            table: Table::build(entries, shelf.key.clone()),
        }
    }
}

/// Whether a list can be used at a time, whatever else there is.
fn acceptable(list: &List, now: i64) -> Result<(), Objection> {
    if let Some(words) = &list.silence_void {
        return Err(Objection { result: CrlResult::Unsupported, message: words.to_string() });
    }
    if list.this_update > now.saturating_add(CLOCK_SKEW_MAX_S) {
        return Err(Objection {
            result: CrlResult::NotYetValid,
            message: "its thisUpdate is in the future".into(),
        });
    }
    Ok(())
}

/// Whether a list may take the place of the one in use.
fn weigh(list: &List, in_use: Option<&Arc<List>>, now: i64) -> Result<(), Objection> {
    acceptable(list, now)?;
    let Some(in_use) = in_use.filter(|in_use| in_use.digest != list.digest) else { return Ok(()) };
    if is_older(list, in_use) {
        let message = match (&list.number_text, &in_use.number_text) {
            (Some(this), Some(that)) if list.number != in_use.number => {
                format!("its CRLNumber {this} is lower than {that}, that of the list in use")
            }
            _ => "its thisUpdate is before that of the list in use".into(),
        };
        return Err(Objection { result: CrlResult::Rollback, message });
    }
    if now > list.current_until() && now <= in_use.current_until() {
        return Err(Objection { result: CrlResult::Expired, message: "it is past its nextUpdate".into() });
    }
    Ok(())
}

/// By CRLNumber where both have one, by thisUpdate where they do not tell.
fn is_older(list: &List, than: &List) -> bool {
    match (&list.number, &than.number) {
        (Some(this), Some(that)) if this != that => this < that,
        _ => list.this_update < than.this_update,
    }
}
