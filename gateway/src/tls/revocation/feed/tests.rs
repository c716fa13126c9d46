use std::sync::Arc;

use base64::Engine as _;
use rcgen::{CertificateRevocationListParams, RevokedCertParams, SerialNumber, date_time_ymd};

use super::super::index::tests::{NOW, rules};
use super::super::index::{CRL_STALENESS_MAX_S, Judgement};
use super::*;
use crate::model::{
    OnUnknown, PathCertificate, RevocationRules, RevocationStatus, Serial, TrustBundle, ValidationMode,
};
use crate::telemetry::labels::CrlResult;
use crate::tls::certificate::Certificate;
use crate::tls::pki::{Ca, bundle};

const DAY: i64 = 86_400;

/// NOW is 2027-01-15.
fn year(year: i32) -> impl Fn(&mut CertificateRevocationListParams) {
    move |params| params.this_update = date_time_ymd(year, 1, 1)
}

fn domain(anchors: &[&Ca]) -> Arc<TrustDomain> {
    let anchors: Vec<_> = anchors.iter().map(|ca| &ca.der).collect();
    // With material in it, so that nobody passes before it has been judged.
    let crls = vec![material(b"")];
    let bundle = TrustBundle { crls, ..TrustBundle::clone(&bundle(&anchors)) };
    Arc::new(TrustDomain::new(Arc::new(bundle), ValidationMode::AllowValidOnly, Vec::new()).unwrap())
}

fn material(data: &[u8]) -> CrlMaterial {
    CrlMaterial { source: "Secret ns/ca ca.crl".into(), data: data.into() }
}

fn pem(lists: &[&[u8]]) -> Vec<u8> {
    let block = |der: &&[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("text between blocks\n-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
    };
    lists.iter().map(block).collect::<String>().into_bytes()
}

fn issuer_of(ca: &Ca) -> Arc<IssuerCertificate> {
    Arc::new(Certificate::read(&ca.der).unwrap().as_issuer())
}

fn revokes(serial: u8) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[serial]),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    }
}

/// A list with a number that revokes the certificate of the same serial, so that tests can see which one decides.
fn numbered(ca: &Ca, number: u8, alter: impl Fn(&mut CertificateRevocationListParams)) -> Vec<u8> {
    ca.crl(|params| {
        params.crl_number = u64::from(number).into();
        params.revoked_certs = vec![revokes(number)];
        alter(params);
    })
}

fn unaltered(_: &mut CertificateRevocationListParams) {}

#[derive(Debug, PartialEq, Eq)]
enum Says {
    Good,
    Revoked,
    Unknown,
    Stale,
}

/// What a domain says of the certificate with a serial of an authority.
fn status(domain: &TrustDomain, ca: &Ca, serial: u8, now: i64) -> Says {
    let certificate = PathCertificate {
        issuer: issuer_of(ca),
        serial: Serial::new(&[serial]),
        not_after: i64::MAX,
        distribution_points: Vec::new(),
    };
    let Judgement { status, .. } = domain.revocation().load().judge(&certificate, false, now);
    match status {
        RevocationStatus::Good => Says::Good,
        RevocationStatus::Revoked(_) => Says::Revoked,
        RevocationStatus::Unknown => Says::Unknown,
        RevocationStatus::Stale => Says::Stale,
    }
}

fn results(events: &[CrlEvent]) -> Vec<Option<CrlResult>> {
    events.iter().map(CrlEvent::result).collect()
}

#[test]
fn material_of_every_kind_on_a_first_load() {
    let (ca, namesake, other) = (Ca::root("CA"), Ca::root("CA"), Ca::root("other"));
    let good = numbered(&ca, 1, unaltered);
    let mut corrupt = good.clone();
    let end = corrupt.len() - 1;
    corrupt[end] ^= 1;
    let foreign = numbered(&Ca::root("elsewhere"), 1, unaltered);
    let forged = numbered(&Ca::root("CA"), 1, unaltered);
    let future = numbered(&ca, 1, year(2040));
    let expired = numbered(&ca, 1, |params| params.next_update = date_time_ymd(2027, 1, 1));
    let late = numbered(&ca, 1, |params| params.next_update = date_time_ymd(2027, 1, 15));
    let two = pem(&[&good, &numbered(&other, 2, unaltered)]);
    let half = pem(&[&good, &corrupt[..40]]);
    let ok = Some(CrlResult::Ok);
    use Says::{Good, Revoked, Stale, Unknown};
    // What is said of serial 1 of `ca`, serial 9 of `ca`, and serial 9 of `other`.
    for (what, data, expected, says) in [
        ("DER", good.clone(), vec![ok], [Revoked, Good, Good]),
        ("PEM", pem(&[&good]), vec![ok], [Revoked, Good, Good]),
        ("two blocks", two, vec![ok, ok], [Revoked, Good, Good]),
        ("the same block twice", pem(&[&good, &good]), vec![ok], [Revoked, Good, Good]),
        ("nothing", vec![], vec![Some(CrlResult::Parse)], [Unknown, Unknown, Unknown]),
        ("no PEM", b"hello".to_vec(), vec![Some(CrlResult::Parse)], [Unknown, Unknown, Unknown]),
        ("cut short", good[..60].to_vec(), vec![Some(CrlResult::Parse)], [Unknown, Unknown, Unknown]),
        ("one of two cut short", half, vec![ok, Some(CrlResult::Parse)], [Revoked, Unknown, Unknown]),
        ("corrupt signature", corrupt, vec![Some(CrlResult::BadSignature)], [Unknown, Unknown, Unknown]),
        (
            "signed by another of the name",
            forged,
            vec![Some(CrlResult::BadSignature)],
            [Unknown, Unknown, Unknown],
        ),
        ("future", future, vec![Some(CrlResult::NotYetValid)], [Unknown, Unknown, Unknown]),
        ("of an unknown issuer", foreign, vec![Some(CrlResult::WrongIssuer)], [Good, Good, Good]),
        ("past the allowance", expired, vec![Some(CrlResult::Expired)], [Revoked, Stale, Good]),
        ("past nextUpdate", late, vec![ok], [Revoked, Good, Good]),
        ("of the namesake in the bundle", numbered(&namesake, 1, unaltered), vec![ok], [Good, Good, Good]),
    ] {
        let domain = domain(&[&ca, &namesake, &other]);
        assert_eq!(status(&domain, &ca, 9, NOW), Unknown, "{what}, before");
        let events = Feed::new().load(&domain, &[material(&data)], NOW);
        assert_eq!(results(&events), expected, "{what}");
        assert!(events.iter().all(|event| event.fresh), "{what}");
        let said = [(&ca, 1), (&ca, 9), (&other, 9)].map(|(ca, serial)| status(&domain, ca, serial, NOW));
        assert_eq!(said, says, "{what}");
    }
}

#[test]
fn no_material_checks_nobody() {
    let ca = Ca::root("CA");
    let domain = domain(&[&ca]);
    assert_eq!(Feed::new().load(&domain, &[], NOW), []);
    assert_eq!(status(&domain, &ca, 1, NOW), Says::Good);
}

#[test]
fn what_does_not_replace_a_good_list() {
    let ca = Ca::root("CA");
    let second = numbered(&ca, 2, unaltered);
    let mut corrupt = numbered(&ca, 3, unaltered);
    let end = corrupt.len() - 1;
    corrupt[end] ^= 1;
    let kept = |result| (Some(result), 2);
    for (what, data, (result, deciding)) in [
        ("newer", numbered(&ca, 3, unaltered), (Some(CrlResult::Ok), 3)),
        ("newer by number, older by date", numbered(&ca, 3, year(2025)), (Some(CrlResult::Ok), 3)),
        ("lower number", numbered(&ca, 1, year(2027)), kept(CrlResult::Rollback)),
        ("equal number, older", numbered(&ca, 2, year(2025)), kept(CrlResult::Rollback)),
        ("corrupt", corrupt, kept(CrlResult::BadSignature)),
        ("unreadable", b"\x30\x01".to_vec(), kept(CrlResult::Parse)),
        ("empty", Vec::new(), kept(CrlResult::Parse)),
        ("of another of the name", numbered(&Ca::root("CA"), 3, unaltered), kept(CrlResult::BadSignature)),
        ("future", numbered(&ca, 3, year(2030)), kept(CrlResult::NotYetValid)),
        (
            "expired",
            numbered(&ca, 3, |params| params.next_update = date_time_ymd(2027, 1, 14)),
            kept(CrlResult::Expired),
        ),
    ] {
        let domain = domain(&[&ca]);
        let mut feed = Feed::new();
        feed.load(&domain, &[material(&second)], NOW);
        let generation = domain.revocation().generation();

        let events = feed.load(&domain, &[material(&data)], NOW);
        assert_eq!(results(&events), [result], "{what}");
        assert_eq!(status(&domain, &ca, deciding, NOW), Says::Revoked, "{what}");
        assert_eq!(status(&domain, &ca, 9, NOW), Says::Good, "{what}");
        let unchanged = domain.revocation().generation() == generation;
        assert_eq!(unchanged, deciding == 2, "{what}");
        if deciding == 2 {
            let CrlOutcome::Rejected { kept: true, .. } = events[0].outcome else {
                panic!("{what}: {events:?}")
            };
            assert!(events[0].finding().unwrap().message.contains("the last good one decides on"), "{what}");
        }
    }
}

#[test]
fn a_list_without_number_is_told_by_its_date() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let openssl = |line: &str| crate::tls::pki::openssl(at, line);
    std::fs::write(at.join("ca.conf"), "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\n")
        .unwrap();
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 9999 \
         -subj /CN=CA",
    );
    let list = |serial: u8, from: &str| {
        std::fs::write(
            at.join("index.txt"),
            format!("R\t400101000000Z\t250101000000Z\t{serial:02X}\tunknown\t/CN=a\n"),
        )
        .unwrap();
        openssl(&format!(
            "ca -gencrl -config ca.conf -cert ca.crt -keyfile ca.key -out crl \
             -crl_lastupdate {from} -crl_nextupdate 400101000000Z"
        ));
        std::fs::read(at.join("crl")).unwrap()
    };
    let (older, newer) = (list(1, "260101000000Z"), list(2, "260201000000Z"));
    let anchor = std::fs::read(at.join("ca.crt")).unwrap();
    let anchor =
        <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(&anchor)
            .unwrap();
    let domain = TrustDomain::new(bundle(&[&anchor]), ValidationMode::AllowValidOnly, Vec::new()).unwrap();
    let mut feed = Feed::new();
    for (what, data, result) in [
        ("first", &older, CrlResult::Ok),
        ("newer", &newer, CrlResult::Ok),
        ("older again", &older, CrlResult::Rollback),
    ] {
        let events = feed.load(&domain, &[material(data)], NOW);
        assert_eq!(results(&events), [Some(result)], "{what}");
        if result == CrlResult::Ok {
            assert_eq!(events[0].finding().unwrap().code, "YT0503", "{what}");
        }
    }
}

#[test]
fn the_newest_of_the_lists_in_one_material_decides_in_any_order() {
    let ca = Ca::root("CA");
    let (first, second) = (numbered(&ca, 1, unaltered), numbered(&ca, 2, unaltered));
    for order in [[&*first, &*second], [&*second, &*first]] {
        let domain = domain(&[&ca]);
        let mut feed = Feed::new();
        for _ in 0..2 {
            let events = feed.load(&domain, &[material(&pem(&order))], NOW);
            assert_eq!(results(&events), [Some(CrlResult::Ok)]);
            assert_eq!(status(&domain, &ca, 2, NOW), Says::Revoked);
            assert_eq!(status(&domain, &ca, 1, NOW), Says::Good);
        }
    }
}

#[test]
fn an_issuer_once_covered_stays_covered_until_its_source_goes() {
    let (ca, other) = (Ca::root("CA"), Ca::root("other"));
    let domain = domain(&[&ca, &other]);
    let mut feed = Feed::new();
    feed.load(&domain, &[material(&numbered(&ca, 1, unaltered))], NOW);
    let events = feed.load(&domain, &[material(&numbered(&other, 2, unaltered))], NOW);
    assert_eq!(results(&events), [Some(CrlResult::Ok), None]);
    assert!(matches!(events[1].outcome, CrlOutcome::Kept(_)));
    assert_eq!(status(&domain, &ca, 1, NOW), Says::Revoked);
    assert_eq!(status(&domain, &other, 2, NOW), Says::Revoked);

    feed.load(&domain, &[], NOW);
    feed.retain(|_| true, |_| false);
    assert_eq!(status(&domain, &ca, 1, NOW), Says::Good);
    assert_eq!(feed.in_use().count(), 0);
    // Nothing is remembered: what was a rollback before is a first list now.
    feed.load(&domain, &[material(&numbered(&ca, 1, year(2025)))], NOW);
    assert_eq!(status(&domain, &ca, 1, NOW), Says::Revoked);
}

#[test]
fn what_nobody_is_served_by_for_a_while_is_remembered_as_long_as_it_stands() {
    let ca = Ca::root("CA");
    let mut feed = Feed::new();
    let (older, newer) = (numbered(&ca, 4, unaltered), numbered(&ca, 5, unaltered));
    feed.load(&domain(&[&ca]), &[material(&newer)], NOW);
    feed.retain(|_| false, |source| source == "Secret ns/ca ca.crl");
    assert_eq!(feed.in_use().count(), 0);
    let back = domain(&[&ca]);
    assert_eq!(results(&feed.load(&back, &[material(&older)], NOW)), [Some(CrlResult::Rollback)]);
    assert_eq!((status(&back, &ca, 5, NOW), status(&back, &ca, 4, NOW)), (Says::Revoked, Says::Good));
    assert_eq!(feed.in_use().count(), 1);
    feed.retain(|_| false, |_| false);
    assert_eq!(results(&feed.load(&domain(&[&ca]), &[material(&older)], NOW)), [Some(CrlResult::Ok)]);
}

#[test]
fn no_more_issuers_are_learnt_than_the_limit() {
    let root = Ca::root("root");
    let domain = domain(&[&root]);
    let mut feed = Feed::new();
    feed.load(&domain, &[material(&numbered(&root, 1, unaltered))], NOW);
    let met = |number: usize| {
        let mut issuer = IssuerCertificate::clone(&issuer_of(&root));
        issuer.id.0[..8].copy_from_slice(&number.to_be_bytes());
        Arc::new(issuer)
    };
    for number in 0..LEARNT_ISSUERS_MAX {
        assert!(feed.learn(&domain, met(number), NOW).is_ok(), "{number}");
    }
    assert!(feed.learn(&domain, met(0), NOW).is_ok(), "it is known");
    assert_eq!(feed.learn(&domain, met(LEARNT_ISSUERS_MAX), NOW), Err(TooManyIssuers));
}

#[test]
fn time_passes_without_new_material() {
    let ca = Ca::root("CA");
    let domain = domain(&[&ca]);
    let mut feed = Feed::new();
    // nextUpdate is 2027-02-01.
    let list = [material(&numbered(&ca, 1, |params| params.next_update = date_time_ymd(2027, 2, 1)))];
    let next_update = NOW - NOW % DAY + 17 * DAY;
    let mut at = |now, fresh, code: Option<&str>, says| {
        let events = feed.load(&domain, &list, now);
        let code_told = events[0].finding().map(|finding| finding.code);
        assert_eq!((events[0].fresh, code_told), (fresh, code), "{now}");
        assert_eq!(status(&domain, &ca, 9, now), says, "{now}");
    };
    at(NOW, true, None, Says::Good);
    at(NOW, false, None, Says::Good);
    at(next_update, false, None, Says::Good);
    at(next_update + 1, true, Some("YT0501"), Says::Good);
    at(next_update + 60, false, Some("YT0501"), Says::Good);
    at(next_update + CRL_STALENESS_MAX_S, false, Some("YT0501"), Says::Good);
    at(next_update + CRL_STALENESS_MAX_S + 1, true, Some("YT0502"), Says::Stale);
    assert_eq!(domain.revocation().generation(), 2);
}

#[test]
fn a_list_of_the_future_decides_when_its_time_has_come() {
    let ca = Ca::root("CA");
    let domain = domain(&[&ca]);
    let mut feed = Feed::new();
    let list = [material(&numbered(&ca, 1, |params| params.this_update = date_time_ymd(2027, 1, 20)))];
    feed.load(&domain, &list, NOW);
    assert_eq!(status(&domain, &ca, 9, NOW), Says::Unknown);
    let later = NOW + 10 * DAY;
    assert_eq!(results(&feed.load(&domain, &list, later)), [Some(CrlResult::Ok)]);
    assert_eq!(status(&domain, &ca, 9, later), Says::Good);
}

#[test]
fn a_list_whose_issuer_comes_with_the_clients_waits_for_it() {
    let root = Ca::root("root");
    let intermediate = root.intermediate("intermediate", |_| {});
    // Another authority of the name: its key verifies nothing.
    let namesake = root.intermediate("intermediate", |_| {});
    let domain = domain(&[&root]);
    let mut feed = Feed::new();
    let data = pem(&[&numbered(&root, 5, unaltered), &numbered(&intermediate, 1, unaltered)]);
    let events = feed.load(&domain, &[material(&data)], NOW);
    assert_eq!(results(&events), [Some(CrlResult::Ok), Some(CrlResult::WrongIssuer)]);
    assert_eq!(events[1].finding().unwrap().code, "YT0505");
    assert_eq!(status(&domain, &root, 9, NOW), Says::Good);
    assert_eq!(status(&domain, &intermediate, 9, NOW), Says::Unknown);
    assert!(domain.revocation().load().awaits(&issuer_of(&intermediate)));

    feed.learn(&domain, issuer_of(&namesake), NOW).unwrap();
    assert_eq!(status(&domain, &namesake, 1, NOW), Says::Unknown);
    assert!(!domain.revocation().load().awaits(&issuer_of(&namesake)));
    assert!(domain.revocation().load().awaits(&issuer_of(&intermediate)));

    let events = feed.learn(&domain, issuer_of(&intermediate), NOW).unwrap();
    assert_eq!(results(&events), [Some(CrlResult::Ok), Some(CrlResult::Ok)]);
    assert_eq!(status(&domain, &intermediate, 9, NOW), Says::Good);
    assert_eq!(status(&domain, &intermediate, 1, NOW), Says::Revoked);
    // Its list is known not to be the namesake's, so the namesake is not covered.
    assert_eq!(status(&domain, &namesake, 1, NOW), Says::Good);

    let generation = domain.revocation().generation();
    assert_eq!(feed.learn(&domain, issuer_of(&intermediate), NOW), Ok(Vec::new()));
    assert_eq!(domain.revocation().generation(), generation);
    // A newer list of the issuer is verified at once.
    let data = pem(&[&numbered(&root, 5, unaltered), &numbered(&intermediate, 2, unaltered)]);
    feed.load(&domain, &[material(&data)], NOW);
    assert_eq!(status(&domain, &intermediate, 2, NOW), Says::Revoked);
}

#[test]
fn equal_lists_are_kept_once() {
    let ca = Ca::root("CA");
    let (first, second) = (domain(&[&ca]), domain(&[&ca, &Ca::root("other")]));
    let mut feed = Feed::new();
    let der = numbered(&ca, 1, unaltered);
    let elsewhere = CrlMaterial { source: "Secret ns/copy ca.crl".into(), data: pem(&[&der]).into() };
    assert!(feed.load(&first, &[material(&der)], NOW)[0].fresh);
    assert!(!feed.load(&second, &[material(&der)], NOW)[0].fresh);
    assert!(feed.load(&second, &[elsewhere], NOW)[0].fresh);
    let list = |domain: &TrustDomain| Arc::clone(domain.revocation().load().lists().next().unwrap());
    assert!(Arc::ptr_eq(&list(&first), &list(&second)));
    assert_eq!(feed.in_use().count(), 2);
    feed.retain(|id| *id == first.id(), |_| false);
    assert_eq!(feed.in_use().count(), 1);
}

#[test]
fn changed_anchors_keep_the_last_good_list() {
    let (ca, other) = (Ca::root("CA"), Ca::root("other"));
    let mut feed = Feed::new();
    feed.load(&domain(&[&ca]), &[material(&numbered(&ca, 2, unaltered))], NOW);
    let changed = domain(&[&ca, &other]);
    let events = feed.load(&changed, &[material(&numbered(&ca, 1, unaltered))], NOW);
    assert_eq!(results(&events), [Some(CrlResult::Rollback)]);
    assert_eq!(status(&changed, &ca, 2, NOW), Says::Revoked);
    let events = feed.load(&changed, &[material(b"?")], NOW);
    assert_eq!(results(&events), [Some(CrlResult::Parse)]);
    assert_eq!(status(&changed, &ca, 2, NOW), Says::Revoked);
    assert_eq!(status(&changed, &other, 2, NOW), Says::Good);
}

#[test]
fn another_instance_of_a_domain_gets_its_index() {
    let ca = Ca::root("CA");
    let mut feed = Feed::new();
    let list = [material(&numbered(&ca, 1, unaltered))];
    for _ in 0..2 {
        let domain = domain(&[&ca]);
        feed.load(&domain, &list, NOW);
        assert_eq!(status(&domain, &ca, 1, NOW), Says::Revoked);
        assert_eq!(status(&domain, &ca, 2, NOW), Says::Good);
    }
}

#[test]
fn findings_name_object_field_and_issuer() {
    let ca = Ca::root("CA");
    let forged = numbered(&Ca::root("CA"), 1, unaltered);
    let events = Feed::new().load(&domain(&[&ca]), &[material(&forged)], NOW);
    assert_eq!(
        events[0].finding().unwrap().to_string(),
        "error[YT0507]: Secret ns/ca: data[\"ca.crl\"]: the CRL of `CN=CA` is not used, and clients are refused for it: \
         its signature is not the issuer's"
    );
}

#[test]
fn material_over_the_limit_is_not_read() {
    let ca = Ca::root("CA");
    let domain = domain(&[&ca]);
    let data = vec![0; super::super::crl::CRL_BYTES_MAX + 1];
    let events = Feed::new().load(&domain, &[material(&data)], NOW);
    assert_eq!(results(&events), [Some(CrlResult::TooBig)]);
    assert_eq!(status(&domain, &ca, 1, NOW), Says::Unknown);
}

#[test]
fn under_a_policy() {
    use Says::{Good, Revoked, Stale, Unknown};
    let (ca, other) = (Ca::root("CA"), Ca::root("other"));
    let listed = numbered(&ca, 1, unaltered);
    let old = numbered(&ca, 1, |params| params.next_update = date_time_ymd(2027, 1, 14));
    let both = pem(&[&listed, &numbered(&other, 2, unaltered)]);
    let policy =
        |data: &[u8]| CrlMaterial { source: "RevocationPolicy ns/p /a b/x.crl".into(), data: data.into() };
    // What is said of serial 1 of `ca`, serial 9 of `ca`, and serial 9 of `other`.
    for (what, material, complete, staleness_max_s, says, reason) in [
        ("nothing", vec![], true, 60, [Unknown, Unknown, Unknown], "IssuerNotCovered"),
        ("one of two issuers", vec![policy(&listed)], true, 60, [Revoked, Good, Unknown], "IssuerNotCovered"),
        ("all", vec![policy(&both)], true, 60, [Revoked, Good, Good], "DataFresh"),
        ("all but a source", vec![policy(&both)], false, 60, [Revoked, Unknown, Unknown], "DataMissing"),
        ("unusable", vec![policy(b"?")], true, 60, [Unknown, Unknown, Unknown], "DataUnusable"),
        (
            "within the allowance",
            vec![policy(&old)],
            true,
            30 * DAY,
            [Revoked, Good, Unknown],
            "IssuerNotCovered",
        ),
        ("past the allowance", vec![policy(&old)], true, 60, [Revoked, Stale, Unknown], "DataExpired"),
    ] {
        let domain = Arc::into_inner(domain(&[&ca, &other])).unwrap();
        let domain = domain.under(Some(rules(staleness_max_s)));
        let events = Feed::new().load_part(&domain, &material, complete, NOW);
        let said = [(&ca, 1), (&ca, 9), (&other, 9)].map(|(ca, serial)| status(&domain, ca, serial, NOW));
        assert_eq!(said, says, "{what}");
        let fresh = freshness(&domain, &events, complete);
        assert_eq!((fresh.reason, fresh.is_fresh), (reason, reason == "DataFresh"), "{what}: {fresh:?}");
    }
    let domain = Arc::into_inner(domain(&[&ca])).unwrap();
    let lenient = RevocationRules { on_unknown: OnUnknown::Allow, ..rules(5400) };
    let events = Feed::new().load(&domain.under(Some(lenient)), &[policy(&old)], NOW);
    assert_eq!(
        events[0].finding().unwrap().to_string(),
        "error[YT0502]: RevocationPolicy ns/p: spec.sources: the CRL of `CN=CA` in /a b/x.crl is past its nextUpdate \
         by more than 90 minutes; its clients pass unchecked"
    );
}
