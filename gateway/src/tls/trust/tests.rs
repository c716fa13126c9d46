use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::model::{CrlMaterial, OnUnknown, RevocationDepth};
use crate::tls::pki::{Ca, Holder, bundle, now, openssl_v1};
use crate::tls::revocation::index::tests::rules;

/// 2026-01-01
const NOW: i64 = 1_767_225_600;

fn domain(anchors: &[&CertificateDer<'static>]) -> TrustDomain {
    TrustDomain::new(bundle(anchors), ValidationMode::AllowValidOnly, Vec::new()).unwrap()
}

fn year(year: i32) -> impl Fn(&mut rcgen::CertificateParams) {
    move |params| params.not_after = rcgen::date_time_ymd(year, 1, 1)
}

#[test]
fn chains_and_their_reasons() {
    let root = Ca::root("root");
    let twin = Ca::root("root");
    let rsa_key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa_twin = Ca::root_with("root", rsa_key, |_| {});
    let stranger = Ca::root("stranger");
    let expired_root = Ca::root_with("old", KeyPair::generate().unwrap(), year(2025));
    let middle = root.intermediate("middle", |_| {});
    let not_signing = root.intermediate("not-signing", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let cut = |mut holder: Holder| {
        holder.chain.truncate(1);
        holder
    };
    let damaged = |mut holder: Holder| {
        let mut der = holder.chain[0].to_vec();
        der.truncate(40);
        holder.chain[0] = der.into();
        holder
    };
    let any = |_: &mut rcgen::CertificateParams| {};
    let trusted = domain(&[&root.der, &expired_root.der]);
    for (description, holder, expected) in [
        ("a leaf of the anchor", root.client("c", any), Ok(1)),
        ("through an intermediate", middle.client("c", any), Ok(2)),
        ("without key usages", root.holder("c", &KeyPair::generate().unwrap(), any), Ok(1)),
        ("the intermediate is missing", cut(middle.client("c", any)), Err(Reason::UnknownCa)),
        ("an unknown authority", stranger.client("c", any), Err(Reason::UnknownCa)),
        ("an authority of equal name", twin.client("c", any), Err(Reason::BadSignature)),
        ("of equal name with another kind of key", rsa_twin.client("c", any), Err(Reason::BadSignature)),
        ("expired", root.client("c", year(2025)), Err(Reason::CertificateExpired)),
        (
            "not valid yet",
            root.client("c", |params| params.not_before = rcgen::date_time_ymd(2030, 1, 1)),
            Err(Reason::CertificateNotYetValid),
        ),
        ("of an expired anchor", expired_root.client("c", any), Err(Reason::CertificateExpired)),
        (
            "through an expired intermediate",
            root.intermediate("m", year(2025)).client("c", any),
            Err(Reason::CertificateExpired),
        ),
        (
            "for servers",
            root.client("c", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            Err(Reason::WrongUsage),
        ),
        (
            "for encryption",
            root.client("c", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            Err(Reason::WrongUsage),
        ),
        (
            "an authority as a client",
            root.client("c", |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            Err(Reason::CertificateUnknown),
        ),
        (
            "of an intermediate that may not sign",
            not_signing.client("c", any),
            Err(Reason::CertificateUnknown),
        ),
        (
            "a critical extension that nobody knows",
            root.client("c", |params| {
                let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            }),
            Err(Reason::CertificateUnknown),
        ),
        ("damaged", damaged(root.client("c", any)), Err(Reason::BadCertificate)),
    ] {
        let verdict = trusted.verify(&holder.chain, NOW);
        let verdict = verdict.map(|path| path.certificates.len()).map_err(|error| error.reason());
        assert_eq!(verdict, expected, "{description}");
    }
    assert_eq!(trusted.verify(&[], NOW).unwrap_err().reason(), Reason::NoCertificate);
}

#[test]
fn anchors_are_told_apart_by_key() {
    let one = Ca::root("root");
    let other = Ca::root("root");
    let both = domain(&[&one.der, &other.der]);
    assert_eq!(both.issuers().len(), 2);
    for (index, ca) in [&one, &other].into_iter().enumerate() {
        let path = both.verify(&ca.client("c", |_| {}).chain, NOW).unwrap();
        assert_eq!(path.certificates[0].issuer.id, both.issuers()[index].id);
    }
    // The same certificate under another domain of the same names must not be found in anybody's cache.
    let client = one.client("c", |_| {});
    assert!(domain(&[&one.der]).verify(&client.chain, NOW).is_ok());
    assert!(domain(&[&other.der]).verify(&client.chain, NOW).is_err());
}

#[test]
fn paths_name_each_certificate_with_the_issuer_whose_key_signed_it() {
    let root = Ca::root("root");
    let twin = Ca::root("root");
    let middle = root.intermediate("middle", |params| params.serial_number = Some(vec![7].into()));
    let client = middle.client("c", |params| params.serial_number = Some(vec![9].into()));
    let leaf_alone = &client.chain[..1];
    let id = |der: &CertificateDer<'static>| Certificate::read(der).unwrap().as_issuer().id;
    for (description, anchors, chain, issuers) in [
        ("intermediate sent", vec![&root.der], &client.chain[..], vec![&middle.der, &root.der]),
        (
            "intermediate in the bundle",
            vec![&twin.der, &root.der, &middle.der],
            leaf_alone,
            vec![&middle.der, &root.der],
        ),
        ("intermediate as the only anchor", vec![&middle.der], leaf_alone, vec![&middle.der]),
        ("below an authority of another key", vec![&twin.der, &middle.der], leaf_alone, vec![&middle.der]),
    ] {
        let path = domain(&anchors).verify(chain, NOW).unwrap();
        let found: Vec<_> = path.certificates.iter().map(|certificate| certificate.issuer.id).collect();
        let expected: Vec<_> = issuers.into_iter().map(id).collect();
        assert_eq!(found, expected, "{description}");
        let serials: Vec<_> =
            path.certificates.iter().map(|certificate| certificate.serial.to_string()).collect();
        assert_eq!(serials, ["09", "07"][..expected.len()], "{description}");
    }
}

#[test]
fn a_renewed_root_of_the_same_key_is_used() {
    let pem = KeyPair::generate().unwrap().serialize_pem();
    let key = || KeyPair::from_pem(&pem).unwrap();
    let old = Ca::root_with("root", key(), year(2025));
    let renewed = Ca::root_with("root", key(), |_| {});
    let client = old.client("c", |_| {});
    for anchors in [[&old.der, &renewed.der], [&renewed.der, &old.der]] {
        let trusted = domain(&anchors);
        assert_eq!(trusted.issuers().len(), 1);
        assert!(trusted.verify(&client.chain, NOW).is_ok());
    }
}

#[test]
fn names() {
    let root = Ca::root("root");
    let client = root.client("c", |params| {
        params.subject_alt_names = vec![
            SanType::DnsName("Api.Contoso.Test".try_into().unwrap()),
            SanType::URI("spiffe://contoso.test/Api".try_into().unwrap()),
        ];
    });
    let bare = root.client("api.contoso.test", |_| {});
    for (allowed, holder, accepted) in [
        (&[][..], &bare, true),
        (&["api.contoso.test"], &client, true),
        (&["other.test", "spiffe://contoso.test/Api"], &client, true),
        (&["spiffe://contoso.test/api"], &client, false),
        (&["*.contoso.test"], &client, false),
        (&["api.contoso.test"], &bare, false),
    ] {
        let allowed_names = allowed.iter().map(|name| Arc::from(*name)).collect();
        let trusted = TrustDomain::new(bundle(&[&root.der]), ValidationMode::AllowValidOnly, allowed_names);
        let verdict = trusted.unwrap().verify(&holder.chain, NOW).map(drop).map_err(|error| error.reason());
        assert_eq!(verdict, if accepted { Ok(()) } else { Err(Reason::NameNotAllowed) }, "{allowed:?}");
    }
}

#[test]
fn v1_leaves_of_an_anchor() {
    let subject = "/C=US/O=Contoso/CN=contoso-root";
    let (root, client) = openssl_v1(subject, "/C=US/O=Contoso/CN=contoso-client");
    let (twin, _) = openssl_v1(subject, "/CN=x");
    let (other, _) = openssl_v1("/CN=other", "/CN=x");
    let now = now();
    assert_eq!(Certificate::read(client.leaf()).unwrap().version, 1, "openssl made another version");

    let trusted = domain(&[&twin, &root]);
    let verified = trusted.verify_chain(&client.chain, now).unwrap();
    assert!(verified.x509_v1);
    assert_eq!(&*verified.identity.subject, "CN=contoso-client,O=Contoso,C=US");
    assert_eq!(verified.path.certificates[0].issuer.id, trusted.issuers()[1].id);
    assert_eq!((trusted.v1_leaves(), trusted.verify(&client.chain, now).is_ok()), (1, true));
    assert_eq!(trusted.v1_leaves(), 2, "from the cache too");

    let reason = |trusted: TrustDomain, now| trusted.verify(&client.chain, now).unwrap_err().reason();
    assert_eq!(reason(domain(&[&other]), now), Reason::UnknownCa);
    assert_eq!(reason(domain(&[&other, &twin]), now), Reason::BadSignature);
    assert_eq!(reason(domain(&[&root]).accept_v1_leaf(false), now), Reason::CertificateUnknown);
    assert_eq!(reason(domain(&[&root]), now + 2000 * 86_400), Reason::CertificateExpired);
    assert_eq!(reason(domain(&[&root]), now - 86_400), Reason::CertificateNotYetValid);
}

#[test]
fn dates_are_checked_on_cached_chains_too() {
    let root = Ca::root("root");
    let client = root.client("c", year(2027));
    let trusted = domain(&[&root.der]);
    let after = 1_798_761_601;
    assert!(trusted.verify(&client.chain, after - 2).is_ok());
    assert_eq!(trusted.verify(&client.chain, after).unwrap_err().reason(), Reason::CertificateExpired);
    assert_eq!(trusted.verify(&client.chain, 0).unwrap_err().reason(), Reason::CertificateNotYetValid);

    let from_cache = trusted.verify_expired(&client.chain, after).unwrap();
    let anew = domain(&[&root.der]).verify_expired(&client.chain, after).unwrap();
    assert_eq!((&from_cache.path, anew.path.not_after), (&anew.path, after - 1));
    assert!(domain(&[&Ca::root("root").der]).verify_expired(&client.chain, after).is_none());
}

#[test]
fn the_identity_of_a_domain() {
    let (one, two) = (Ca::root("root"), Ca::root("root"));
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
    let id = |anchors: &[&CertificateDer<'static>], mode, allowed: &[&str]| {
        TrustDomain::new(bundle(anchors), mode, names(allowed)).unwrap().id()
    };
    use ValidationMode::{AllowInsecureFallback, AllowValidOnly};
    let base = id(&[&one.der, &two.der], AllowValidOnly, &["a", "b"]);
    assert_eq!(base, id(&[&two.der, &one.der], AllowValidOnly, &["b", "a"]), "order does not matter");
    let mut with_crl = (*bundle(&[&one.der, &two.der])).clone();
    with_crl.crls.push(CrlMaterial { source: "x".into(), data: Arc::new([1]) });
    let with_crl = TrustDomain::new(Arc::new(with_crl), AllowValidOnly, names(&["a", "b"])).unwrap();
    assert_eq!(base, with_crl.id(), "CRLs do not matter");
    assert_ne!(base, id(&[&one.der], AllowValidOnly, &["a", "b"]));
    assert_ne!(base, id(&[&one.der, &two.der], AllowInsecureFallback, &["a", "b"]));
    assert_ne!(base, id(&[&one.der, &two.der], AllowValidOnly, &["ab"]));
    assert_ne!(base, with_crl.accept_v1_leaf(false).id());
}

#[test]
fn domains_of_equal_anchors_and_other_revocation_rules_are_others() {
    let root = Ca::root("root");
    let under = |rules: Option<RevocationRules>| domain(&[&root.der]).under(rules).id();
    let rules = rules(60);
    let variants = [
        None,
        Some(rules.clone()),
        Some(RevocationRules { policy: "RevocationPolicy ns/q".into(), ..rules.clone() }),
        Some(RevocationRules { depth: RevocationDepth::Leaf, ..rules.clone() }),
        Some(RevocationRules { on_unknown: OnUnknown::Allow, ..rules.clone() }),
        Some(RevocationRules { staleness_max_s: 61, ..rules.clone() }),
        Some(RevocationRules { answer: RevocationAnswer::CloseConnections, ..rules.clone() }),
        Some(RevocationRules { answer: RevocationAnswer::TlsAlert, ..rules }),
    ];
    let ids: std::collections::BTreeSet<_> = variants.iter().cloned().map(under).collect();
    assert_eq!(ids.len(), variants.len());
    assert_eq!(under(None), domain(&[&root.der]).id());
}

#[test]
fn a_bundle_without_a_usable_anchor_is_refused() {
    let junk = CertificateDer::from(vec![1, 2, 3]);
    let error = TrustDomain::new(bundle(&[&junk]), ValidationMode::AllowValidOnly, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("Secret default/ca.bundle"), "{error}");
    let root = Ca::root("root");
    assert_eq!(domain(&[&junk, &root.der]).unusable().len(), 1);
}
