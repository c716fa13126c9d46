//! The gate: decides for every request whether the client's certificate is in force now. There is one, for new
//! connections, resumed ones and long-lived ones alike.
//!
//! In: what the client has shown, the trust domain that the listener has now, the time. Out: [`Admitted`], without
//! which no request is routed, or a [`Refusal`]. As long as neither domain nor revocation data has changed and
//! nothing has run out, the last decision stands, and asking costs a few comparisons; otherwise the whole path is
//! judged anew.

use std::sync::Arc;

use super::index::RevocationIndex;
use super::wanted::WANTED;
use crate::model::{
    Identity, OnUnknown, Reason, Refusal, Revocation, RevocationDepth, RevocationReason, RevocationRules,
    RevocationStatus, ValidationMode, VerifiedPath,
};
use crate::tls::peer::{Credential, Peer, Seal, Standing};
use crate::tls::trust::TrustDomain;

/// Proof that the gate let a request pass. Only the gate makes one, for one request each.
#[derive(Debug)]
pub struct Admitted<'c> {
    identity: Option<&'c Arc<Identity>>,
    unchecked: Option<Reason>,
}

impl<'c> Admitted<'c> {
    /// Who the client verifiably is; `None` where the listener does not require it to be anybody.
    pub fn identity(&self) -> Option<&'c Arc<Identity>> {
        self.identity
    }

    /// Why nothing vouches for the client's not being revoked, where it passes for the policy's `onUnknown: Allow`
    /// alone.
    pub fn unchecked(&self) -> Option<Reason> {
        self.unchecked
    }
}

/// Decides on a request of a client. `domain`: that of the request's listener in the request's snapshot, `None` where
/// clients are not asked for certificates; `now`: Unix seconds.
///
/// # Errors
/// Why the client is refused: its answer has HTTP status 400.
pub fn admit<'c>(
    credential: &'c Credential,
    domain: Option<&Arc<TrustDomain>>,
    now: i64,
) -> Result<Admitted<'c>, Refusal> {
    let Some(domain) = domain else { return Ok(Admitted { identity: None, unchecked: None }) };
    let Credential::Verified(peer) = credential else {
        return match domain.mode() {
            ValidationMode::AllowInsecureFallback => Ok(Admitted { identity: None, unchecked: None }),
            // The listener has become strict while the connection was open.
            ValidationMode::AllowValidOnly => Err(Refusal::new(Reason::ClientCertificateUntrusted)),
        };
    };
    // Before the index is loaded, so that what is judged is at least as new as what is sealed.
    let generation = domain.revocation().generation();
    let seal = peer.seal.get();
    if seal.generation == generation && now < seal.before && is_domain_of(peer, domain) {
        return answer(peer, seal.standing);
    }
    let standing = judge_anew(peer, domain, generation, now);
    answer(peer, standing)
}

/// Decides on a path that the domain has just verified, for a handshake that is to tell the outcome. `now`: Unix seconds.
///
/// # Errors
/// Why the client is refused.
pub(in crate::tls) fn judge_path(
    path: &VerifiedPath,
    domain: &Arc<TrustDomain>,
    now: i64,
) -> Result<(), Refusal> {
    let index = domain.revocation().load();
    note_awaited(path, &index, domain);
    judge(path, &index, domain.rules(), now).map(|_| ())
}

fn is_domain_of(peer: &Peer, domain: &Arc<TrustDomain>) -> bool {
    std::ptr::eq(peer.case.borrow().domain.as_ptr(), Arc::as_ptr(domain))
}

fn answer(peer: &Peer, standing: Standing) -> Result<Admitted<'_>, Refusal> {
    match standing {
        Standing::Verified => Ok(Admitted { identity: Some(peer.identity()), unchecked: None }),
        Standing::Unchecked(reason) => {
            Ok(Admitted { identity: Some(peer.identity()), unchecked: Some(reason) })
        }
        Standing::Anonymous => Ok(Admitted { identity: None, unchecked: None }),
        Standing::Refused => {
            let refusal = peer.case.borrow().refusal.clone();
            Err(refusal.unwrap_or_else(|| Refusal::new(Reason::RevocationStatusUnknown)))
        }
    }
}

#[cold]
fn judge_anew(peer: &Peer, domain: &Arc<TrustDomain>, generation: u64, now: i64) -> Standing {
    let same_domain = is_domain_of(peer, domain);
    let mut case = peer.case.borrow_mut();
    let now = now.max(case.latest);
    case.latest = now;
    if !same_domain {
        case.domain = Arc::downgrade(domain);
        case.path = domain.verify(&peer.chain, now).map_err(|error| match error.reason() {
            Reason::CertificateExpired => Reason::ClientCertificateExpired,
            _ => Reason::ClientCertificateUntrusted,
        });
    }
    if case.path.as_ref().is_ok_and(|path| now > path.not_after) {
        case.path = Err(Reason::ClientCertificateExpired);
    }
    let mut admitted = Standing::Verified;
    let (refusal, before) = match &case.path {
        // A new connection of this client would fall back too.
        Err(_) if domain.mode() == ValidationMode::AllowInsecureFallback => {
            case.refusal = None;
            peer.decide(Seal { generation, before: i64::MAX, standing: Standing::Anonymous });
            return Standing::Anonymous;
        }
        Err(reason) => (Some(Refusal::new(*reason)), i64::MAX),
        Ok(path) => {
            let index = domain.revocation().load();
            note_awaited(path, &index, domain);
            match judge(path, &index, domain.rules(), now) {
                Ok(Passed { before, unchecked }) => {
                    admitted = unchecked.map_or(Standing::Verified, Standing::Unchecked);
                    (None, before)
                }
                Err(refusal) => (Some(refusal), i64::MAX),
            }
        }
    };
    let standing = if refusal.is_some() { Standing::Refused } else { admitted };
    case.refusal = refusal;
    peer.decide(Seal { generation, before, standing });
    standing
}

/// A path that stands.
struct Passed {
    /// Until before this second, Unix.
    before: i64,
    /// Why nothing vouches for it.
    unchecked: Option<Reason>,
}

/// Judges the certificates of a path. Of several reasons to refuse it the strictest is told, of equal ones that nearest
/// to the leaf.
fn judge(
    path: &VerifiedPath,
    index: &RevocationIndex,
    rules: Option<&RevocationRules>,
    now: i64,
) -> Result<Passed, Refusal> {
    let depth = match rules.map(|rules| rules.depth) {
        Some(RevocationDepth::Leaf) => 1,
        Some(RevocationDepth::Chain) | None => usize::MAX,
    };
    let lenient = rules.is_some_and(|rules| rules.on_unknown == OnUnknown::Allow);
    let mut before = path.not_after.saturating_add(1);
    let mut worst: Option<(u8, bool, RevocationStatus)> = None;
    for (position, certificate) in path.certificates.iter().take(depth).enumerate() {
        let authority = position > 0;
        let judged = index.judge(certificate, authority, now);
        before = before.min(judged.until.saturating_add(1));
        let strictness = strictness(&judged.status);
        if strictness > worst.as_ref().map_or(0, |(worst, ..)| *worst) {
            worst = Some((strictness, authority, judged.status));
        }
    }
    match worst {
        None => Ok(Passed { before, unchecked: None }),
        Some((_, authority, status)) => {
            let passes = lenient && matches!(status, RevocationStatus::Unknown | RevocationStatus::Stale);
            let refusal = refusal(status, authority);
            if passes { Ok(Passed { before, unchecked: Some(refusal.reason) }) } else { Err(refusal) }
        }
    }
}

fn strictness(status: &RevocationStatus) -> u8 {
    match status {
        RevocationStatus::Good => 0,
        RevocationStatus::Stale => 1,
        RevocationStatus::Unknown => 2,
        RevocationStatus::Revoked(Revocation { reason: RevocationReason::CertificateHold, .. }) => 3,
        RevocationStatus::Revoked(_) => 4,
    }
}

fn refusal(status: RevocationStatus, authority: bool) -> Refusal {
    let (reason, revocation) = match status {
        RevocationStatus::Revoked(revocation) if revocation.reason == RevocationReason::CertificateHold => {
            (Reason::CertificateOnHold, Some(revocation))
        }
        RevocationStatus::Revoked(revocation) => (Reason::CertificateRevoked, Some(revocation)),
        RevocationStatus::Stale => (Reason::CrlExpired, None),
        RevocationStatus::Good | RevocationStatus::Unknown => (Reason::RevocationStatusUnknown, None),
    };
    let detail = match reason {
        Reason::CertificateRevoked if authority => {
            "An authority that the client certificate depends on has been revoked"
        }
        Reason::CertificateOnHold if authority => {
            "An authority that the client certificate depends on is on hold"
        }
        reason => reason.title(),
    };
    Refusal { reason, detail: detail.into(), revocation }
}

/// Asks for the lists that bear the name of an issuer on the path to be tried with its key.
fn note_awaited(path: &VerifiedPath, index: &RevocationIndex, domain: &Arc<TrustDomain>) {
    for certificate in path.certificates.iter().filter(|certificate| index.awaits(&certificate.issuer)) {
        WANTED.note(domain, &certificate.issuer);
    }
}

#[cfg(test)]
mod tests;
