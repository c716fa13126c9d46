use std::sync::Arc;

use super::super::index::tests::{NOW, issuer, list, rules};
use super::super::index::{CRL_STALENESS_MAX_S, List, RevocationIndex};
use super::super::wanted::{ISSUERS_WANTED_MAX, Wanted, Wants};
use super::*;
use crate::model::{IssuerId, PathCertificate};
use crate::tls::identity_of;
use crate::tls::pki::{Ca, Holder, bundle};

use RevocationReason::{CertificateHold, KeyCompromise};
use ValidationMode::{AllowInsecureFallback, AllowValidOnly};

fn domain(anchors: &[&Ca], mode: ValidationMode) -> Arc<TrustDomain> {
    let anchors: Vec<_> = anchors.iter().map(|ca| &ca.der).collect();
    Arc::new(TrustDomain::new(bundle(&anchors), mode, Vec::new()).unwrap())
}

fn verified(client: &Holder, domain: &Arc<TrustDomain>) -> Credential {
    let path = domain.verify(&client.chain, NOW).unwrap();
    Credential::Verified(Peer::new(Arc::new(identity_of(client.leaf())), client.chain.clone(), domain, path))
}

/// The verified path, leaf first.
fn path(client: &Holder, domain: &TrustDomain) -> Vec<PathCertificate> {
    domain.verify(&client.chain, NOW).unwrap().certificates.clone()
}

/// A list of the certificate's issuer that has the certificate on it.
fn revokes(certificate: &PathCertificate, reason: RevocationReason) -> List {
    List { issuer: certificate.issuer.id, ..list(0, &[(certificate.serial.as_bytes(), reason)], NOW) }
}

/// A list of the certificate's issuer without it.
fn clears(certificate: &PathCertificate) -> List {
    List { issuer: certificate.issuer.id, ..list(0, &[(&[0x77; 9], KeyCompromise)], NOW) }
}

fn publish(domain: &TrustDomain, lists: Vec<List>) {
    domain.revocation().store(Arc::new(RevocationIndex::new(
        lists.into_iter().map(Arc::new),
        [],
        Vec::new(),
        false,
    )));
}

/// Whether the client passes as itself, passes as nobody (both without words), or why it is refused.
fn outcome(credential: &Credential, domain: Option<&Arc<TrustDomain>>, now: i64) -> Result<bool, Reason> {
    admit(credential, domain, now)
        .map(|admitted| admitted.identity().is_some())
        .map_err(|refusal| refusal.reason)
}

#[test]
fn credentials_and_modes() {
    let ca = Ca::root("CA");
    let client = ca.client("client", |_| {});
    let (strict, fallback) = (domain(&[&ca], AllowValidOnly), domain(&[&ca], AllowInsecureFallback));
    let unverified = || Credential::Unverified(Arc::new(identity_of(client.leaf())));
    for (what, credential, domain, expected) in [
        ("nothing asked, nothing shown", Credential::None, None, Ok(false)),
        ("nothing asked, verified earlier", verified(&client, &strict), None, Ok(false)),
        ("fallback, nothing shown", Credential::None, Some(&fallback), Ok(false)),
        ("fallback, not verified", unverified(), Some(&fallback), Ok(false)),
        ("fallback, verified", verified(&client, &fallback), Some(&fallback), Ok(true)),
        ("strict, nothing shown", Credential::None, Some(&strict), Err(Reason::ClientCertificateUntrusted)),
        ("strict, not verified", unverified(), Some(&strict), Err(Reason::ClientCertificateUntrusted)),
        ("strict, verified", verified(&client, &strict), Some(&strict), Ok(true)),
    ] {
        assert_eq!(outcome(&credential, domain, NOW), expected, "{what}");
    }
}

#[test]
fn revocation_of_leaf_and_intermediates() {
    let root = Ca::root("root");
    let intermediate = root.intermediate("intermediate", |_| {});
    let client = intermediate.client("client", |_| {});
    for mode in [AllowValidOnly, AllowInsecureFallback] {
        let domain = domain(&[&root], mode);
        let credential = verified(&client, &domain);
        let path = path(&client, &domain);
        let (leaf, authority) = (&path[0], &path[1]);
        let stale = List { next_update: Some(NOW - CRL_STALENESS_MAX_S - 1), ..clears(leaf) };
        let silent = List { silence_void: Some("".into()), ..clears(authority) };
        for (what, lists, expected) in [
            ("no lists", vec![], Ok(true)),
            ("both clear", vec![clears(leaf), clears(authority)], Ok(true)),
            ("leaf revoked", vec![revokes(leaf, KeyCompromise)], Err(Reason::CertificateRevoked)),
            ("leaf on hold", vec![revokes(leaf, CertificateHold)], Err(Reason::CertificateOnHold)),
            ("hold lifted", vec![clears(leaf)], Ok(true)),
            (
                "intermediate revoked",
                vec![revokes(authority, KeyCompromise)],
                Err(Reason::CertificateRevoked),
            ),
            ("leaf's list stale", vec![stale], Err(Reason::CrlExpired)),
            ("intermediate's list says nothing", vec![silent], Err(Reason::RevocationStatusUnknown)),
            (
                "leaf on hold, intermediate revoked",
                vec![revokes(leaf, CertificateHold), revokes(authority, KeyCompromise)],
                Err(Reason::CertificateRevoked),
            ),
        ] {
            publish(&domain, lists);
            assert_eq!(outcome(&credential, Some(&domain), NOW), expected, "{mode:?}: {what}");
            assert_eq!(outcome(&credential, Some(&domain), NOW), expected, "{mode:?}, again: {what}");
        }
    }
}

#[test]
fn what_a_policy_makes_of_leaf_and_intermediates() {
    use Reason::{CertificateRevoked, CrlExpired, RevocationStatusUnknown};
    let root = Ca::root("root");
    let intermediate = root.intermediate("intermediate", |_| {});
    let client = intermediate.client("client", |_| {});
    let under = |depth, on_unknown, mode| {
        let rules = RevocationRules { depth, on_unknown, ..rules(60) };
        let domain = Arc::into_inner(domain(&[&root], mode)).unwrap();
        Arc::new(domain.under(Some(rules)))
    };
    let path = path(&client, &domain(&[&root], AllowValidOnly));
    let (leaf, authority) = (&path[0], &path[1]);
    let stale = || List { next_update: Some(NOW - 61), ..clears(leaf) };
    let both = |first, second| vec![first, second];
    let refused = |reason| (Some(reason), Some(reason), Some(reason));
    // Refused with Chain and Deny, with Leaf and Deny, with Chain and Allow.
    for (what, lists, (chain, leaf_only, allowing)) in [
        ("no data", vec![], (Some(RevocationStatusUnknown), Some(RevocationStatusUnknown), None)),
        ("both clear", both(clears(leaf), clears(authority)), (None, None, None)),
        (
            "the intermediate's issuer uncovered",
            vec![clears(leaf)],
            (Some(RevocationStatusUnknown), None, None),
        ),
        (
            "the leaf's issuer uncovered",
            vec![clears(authority)],
            (Some(RevocationStatusUnknown), Some(RevocationStatusUnknown), None),
        ),
        ("leaf revoked", both(revokes(leaf, KeyCompromise), clears(authority)), refused(CertificateRevoked)),
        (
            "intermediate revoked",
            both(clears(leaf), revokes(authority, KeyCompromise)),
            (Some(CertificateRevoked), None, Some(CertificateRevoked)),
        ),
        ("leaf's list stale", both(stale(), clears(authority)), (Some(CrlExpired), Some(CrlExpired), None)),
    ] {
        for (depth, on_unknown, expected) in [
            (RevocationDepth::Chain, OnUnknown::Deny, chain),
            (RevocationDepth::Leaf, OnUnknown::Deny, leaf_only),
            (RevocationDepth::Chain, OnUnknown::Allow, allowing),
        ] {
            for mode in [AllowValidOnly, AllowInsecureFallback] {
                let domain = under(depth, on_unknown, mode);
                let credential = verified(&client, &domain);
                let deny = (on_unknown == OnUnknown::Deny).then_some(RevocationStatusUnknown);
                assert_eq!(
                    outcome(&credential, Some(&domain), NOW).err(),
                    deny,
                    "before any data was judged"
                );
                let lists = lists.iter().map(again).map(Arc::new);
                let index = RevocationIndex::new(lists, [], Vec::new(), false);
                domain.revocation().store(Arc::new(index.under(domain.rules())));
                for _ in 0..2 {
                    let what = format!("{what}, {depth:?}, {on_unknown:?}, {mode:?}");
                    match admit(&credential, Some(&domain), NOW) {
                        Ok(admitted) => {
                            assert_eq!(expected, None, "{what}");
                            assert!(admitted.identity().is_some(), "{what}");
                            // Who passes for leniency alone is told apart.
                            let unchecked = if on_unknown == OnUnknown::Allow { chain } else { None };
                            assert_eq!(admitted.unchecked(), unchecked, "{what}");
                        }
                        Err(refusal) => assert_eq!(expected, Some(refusal.reason), "{what}"),
                    }
                }
            }
        }
    }
}

/// The same list once more.
fn again(list: &List) -> List {
    let serials: &[(&[u8], RevocationReason)] = &[];
    List {
        issuer: list.issuer,
        next_update: list.next_update,
        table: list.table.clone(),
        ..super::super::index::tests::list(0, serials, NOW)
    }
}

#[test]
fn an_intermediate_that_stands_in_the_bundle_can_be_revoked() {
    let root = Ca::root("root");
    let intermediate = root.intermediate("intermediate", |_| {});
    let client = intermediate.client("client", |_| {});
    let domain = domain(&[&root, &intermediate], AllowValidOnly);
    let credential = verified(&client, &domain);
    let path = path(&client, &domain);
    publish(&domain, vec![revokes(&path[1], KeyCompromise)]);
    assert_eq!(outcome(&credential, Some(&domain), NOW), Err(Reason::CertificateRevoked));
}

#[test]
fn a_refusal_carries_what_the_list_says() {
    let ca = Ca::root("CA");
    let client = ca.client("client", |_| {});
    let domain = domain(&[&ca], AllowValidOnly);
    let credential = verified(&client, &domain);
    publish(&domain, vec![revokes(&path(&client, &domain)[0], KeyCompromise)]);
    for _ in 0..2 {
        let refusal = admit(&credential, Some(&domain), NOW).unwrap_err();
        let revocation =
            Revocation { reason: KeyCompromise, revoked_at: Some(7), crl_number: Some("9".into()) };
        assert_eq!((refusal.reason, refusal.revocation), (Reason::CertificateRevoked, Some(revocation)));
        assert_eq!(&*refusal.detail, "The client certificate has been revoked");
    }
}

#[test]
fn a_decision_stands_until_the_index_changes() {
    let ca = Ca::root("CA");
    let client = ca.client("client", |_| {});
    let domain = domain(&[&ca], AllowValidOnly);
    let credential = verified(&client, &domain);
    let Credential::Verified(peer) = &credential else { panic!() };
    for (publishes, evaluations) in [(false, 1), (false, 1), (true, 2), (false, 2)] {
        if publishes {
            publish(&domain, vec![]);
        }
        assert_eq!(outcome(&credential, Some(&domain), NOW), Ok(true));
        assert_eq!(peer.evaluations(), evaluations);
    }
}

#[test]
fn a_decision_stands_until_something_runs_out() {
    let ca = Ca::root("CA");
    let client = ca.client("client", |params| params.not_after = rcgen::date_time_ymd(2028, 1, 1));
    for (mode, after_expiry) in
        [(AllowValidOnly, Err(Reason::ClientCertificateExpired)), (AllowInsecureFallback, Ok(false))]
    {
        let domain = domain(&[&ca], mode);
        let not_after = path(&client, &domain)[0].not_after;

        let credential = verified(&client, &domain);
        publish(&domain, vec![clears(&path(&client, &domain)[0])]);
        let stale = NOW + CRL_STALENESS_MAX_S;
        assert_eq!(outcome(&credential, Some(&domain), NOW), Ok(true));
        assert_eq!(outcome(&credential, Some(&domain), stale), Ok(true));
        assert_eq!(outcome(&credential, Some(&domain), stale + 1), Err(Reason::CrlExpired));

        let credential = verified(&client, &domain);
        publish(&domain, vec![]);
        assert_eq!(outcome(&credential, Some(&domain), not_after), Ok(true));
        assert_eq!(outcome(&credential, Some(&domain), not_after + 1), after_expiry);
    }
}

#[test]
fn a_clock_that_jumps_back_revives_nobody() {
    let ca = Ca::root("CA");
    let client = ca.client("client", |params| params.not_after = rcgen::date_time_ymd(2028, 1, 1));
    let domain = domain(&[&ca], AllowValidOnly);
    let credential = verified(&client, &domain);
    let not_after = path(&client, &domain)[0].not_after;
    let expired = Err(Reason::ClientCertificateExpired);
    assert_eq!(outcome(&credential, Some(&domain), not_after + 1), expired);
    for now in [NOW, 0, -1, i64::MIN, i64::MAX, NOW] {
        assert_eq!(outcome(&credential, Some(&domain), now), expired);
        publish(&domain, vec![]);
    }
}

#[test]
fn another_domain_verifies_the_chain_again() {
    // The two differ by key alone.
    let (old, new) = (Ca::root("CA"), Ca::root("CA"));
    let client = old.client("client", |params| params.not_after = rcgen::date_time_ymd(2028, 1, 1));
    let first = domain(&[&old], AllowValidOnly);
    let credential = verified(&client, &first);
    assert_eq!(outcome(&credential, Some(&first), NOW), Ok(true));

    let without = domain(&[&new], AllowValidOnly);
    assert_eq!(outcome(&credential, Some(&without), NOW), Err(Reason::ClientCertificateUntrusted));
    publish(&without, vec![]);
    assert_eq!(outcome(&credential, Some(&without), NOW), Err(Reason::ClientCertificateUntrusted));

    let lenient = domain(&[&new], AllowInsecureFallback);
    assert_eq!(outcome(&credential, Some(&lenient), NOW), Ok(false));

    let both = domain(&[&new, &old], AllowValidOnly);
    assert_eq!(outcome(&credential, Some(&both), NOW), Ok(true));
    publish(&both, vec![revokes(&path(&client, &both)[0], KeyCompromise)]);
    assert_eq!(outcome(&credential, Some(&both), NOW), Err(Reason::CertificateRevoked));

    // The same anchors again, as an instance of its own whose generations count from one.
    let again = domain(&[&new, &old], AllowValidOnly);
    assert_eq!(again.revocation().generation() + 1, both.revocation().generation());
    publish(&again, vec![]);
    assert_eq!(outcome(&credential, Some(&again), NOW), Ok(true));
    assert_eq!(outcome(&credential, Some(&both), NOW), Err(Reason::CertificateRevoked));

    let long_expired = NOW + 20 * 365 * 86_400;
    assert_eq!(outcome(&credential, Some(&first), long_expired), Err(Reason::ClientCertificateExpired));
}

#[test]
fn data_that_has_not_been_judged_lets_nobody_pass() {
    let ca = Ca::root("CA");
    let client = ca.client("client", |_| {});
    let domain = domain(&[&ca], AllowValidOnly);
    let credential = verified(&client, &domain);
    domain.revocation().store(Arc::default());
    assert_eq!(outcome(&credential, Some(&domain), NOW), Err(Reason::RevocationStatusUnknown));
}

#[tokio::test(flavor = "current_thread")]
async fn an_issuer_whose_list_waits_for_its_key_is_asked_for_once() {
    let root = Ca::root("root");
    let intermediate = root.intermediate("intermediate", |_| {});
    let client = intermediate.client("client", |_| {});
    let domain = domain(&[&root], AllowValidOnly);
    let path = path(&client, &domain);
    let index = |tried: &[IssuerId]| {
        let awaited = vec![Arc::clone(&path[0].issuer.name)];
        Arc::new(RevocationIndex::new([], tried.iter().copied(), awaited, false))
    };
    let unknown = Err(Reason::RevocationStatusUnknown);
    domain.revocation().store(index(&[]));
    for _ in 0..2 {
        assert_eq!(outcome(&verified(&client, &domain), Some(&domain), NOW), unknown);
    }
    let wanted = WANTED.next().await.issuers;
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].issuer.id, path[0].issuer.id);
    assert!(Arc::ptr_eq(&wanted[0].domain, &domain));

    domain.revocation().store(index(&[path[0].issuer.id]));
    assert_eq!(outcome(&verified(&client, &domain), Some(&domain), NOW), unknown);
    let nothing = std::future::ready(Wants::default());
    let wanted = tokio::select! { biased; wanted = WANTED.next() => wanted, wanted = nothing => wanted };
    assert!(wanted.issuers.is_empty());
}

#[test]
fn issuers_that_find_no_place_are_counted() {
    let domain = domain(&[&Ca::root("root")], AllowValidOnly);
    let queue = Wanted::new();
    for key in 0..=u8::try_from(ISSUERS_WANTED_MAX).unwrap() {
        queue.note(&domain, &issuer(key, "late"));
    }
    // One that waits already needs no other place.
    queue.note(&domain, &issuer(0, "late"));
    let wants = queue.take();
    assert_eq!((wants.issuers.len(), wants.left_out), (ISSUERS_WANTED_MAX, 1));
    assert_eq!(queue.take().left_out, 0);
}
