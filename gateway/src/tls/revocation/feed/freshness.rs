//! How current a policy's data is: what became of its lists, as one condition of its status.

use super::event::{CrlEvent, CrlOutcome, CrlSummary, Currency};
use crate::model::{RevocationDepth, RevocationFreshness};
use crate::tls::identity::name_text;
use crate::tls::trust::TrustDomain;

/// What a policy's status says of its data in a domain. `events`: what became of the lists; `is_complete`: whether all
/// that the policy names is there. Of several faults the gravest gives the reason.
pub fn freshness(domain: &TrustDomain, events: &[CrlEvent], is_complete: bool) -> RevocationFreshness {
    let mut faults: Vec<(u8, &'static str, String)> = events.iter().filter_map(fault).collect();
    if !is_complete {
        faults.push((1, "DataMissing", "a source of the policy cannot be used".to_owned()));
    }
    faults.extend(uncovered(domain));
    match faults.into_iter().min() {
        Some((_, reason, message)) => RevocationFreshness { is_fresh: false, reason, message },
        None => {
            let lists = events.iter().filter(|event| matches!(event.outcome, CrlOutcome::InUse(_))).count();
            let message =
                format!("{lists} {} in use, all current", if lists == 1 { "list" } else { "lists" });
            RevocationFreshness { is_fresh: true, reason: "DataFresh", message }
        }
    }
}

fn fault(event: &CrlEvent) -> Option<(u8, &'static str, String)> {
    let (rank, reason) = match &event.outcome {
        CrlOutcome::Rejected { kept: false, .. } => (0, "DataUnusable"),
        CrlOutcome::InUse(CrlSummary { currency: Currency::Stale, .. }) => (2, "DataExpired"),
        CrlOutcome::Kept(CrlSummary { currency: Currency::Stale, .. }) => (2, "DataExpired"),
        CrlOutcome::Rejected { kept: true, .. } => (4, "UpdateRefused"),
        CrlOutcome::InUse(CrlSummary { currency: Currency::Late, .. }) => (5, "PastNextUpdate"),
        CrlOutcome::Kept(_) => (6, "ListRemoved"),
        CrlOutcome::InUse(_) | CrlOutcome::Waiting => return None,
    };
    let finding = event.finding()?;
    Some((rank, reason, format!("{}: {}", event.source, finding.message)))
}

/// Anchors without a list. Where the leaf alone is looked up nothing can be said: an anchor may issue no leaves.
fn uncovered(domain: &TrustDomain) -> Option<(u8, &'static str, String)> {
    if domain.rules().is_some_and(|rules| rules.depth == RevocationDepth::Leaf) {
        return None;
    }
    let index = domain.revocation().load();
    let names: Vec<String> = domain
        .issuers()
        .iter()
        .filter(|issuer| !index.covers(&issuer.id))
        .map(|issuer| format!("`{}`", name_text(&issuer.name)))
        .collect();
    (!names.is_empty())
        .then(|| (3, "IssuerNotCovered", format!("there is no usable list of {}", names.join(", "))))
}
