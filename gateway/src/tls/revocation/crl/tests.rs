use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{KeyPair, RevokedCertParams, SerialNumber};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::*;
use crate::fuzzing;
use crate::model::{CrlEntry, CrlHolders, CrlNumber, IssuerCertificate, RevocationReason};
use crate::tls::certificate::Certificate;
use crate::tls::pki::{Ca, openssl};

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut head = vec![tag];
    match length {
        0..=0x7f => head.push(length as u8),
        0x80..=0xff => head.extend([0x81, length as u8]),
        _ => head.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    [&head, content].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

fn extension(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { element(1, &[0xff]) } else { Vec::new() };
    sequence(&[&element(6, &[0x55, 0x1d, id]), &critical, &element(4, value)])
}

fn entry(serial: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = if extensions.is_empty() { Vec::new() } else { element(0x30, &extensions.concat()) };
    sequence(&[&element(2, serial), &element(0x17, b"250101000000Z"), &extensions])
}

/// The parts of a CertificateList, DER each, to be altered one at a time.
struct Parts {
    version: Vec<u8>,
    inner_algorithm: Vec<u8>,
    issuer: Vec<u8>,
    this_update: Vec<u8>,
    next_update: Vec<u8>,
    revoked: Vec<u8>,
    extensions: Vec<u8>,
    after_extensions: Vec<u8>,
    outer_algorithm: Vec<u8>,
    signature: Vec<u8>,
    after_signature: Vec<u8>,
    after_list: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        let algorithm = sequence(&[&element(6, &[0x2b, 0x65, 0x70])]);
        Self {
            version: element(2, &[1]),
            inner_algorithm: algorithm.clone(),
            issuer: sequence(&[]),
            this_update: element(0x17, b"250101000000Z"),
            next_update: element(0x18, b"20600101000000Z"),
            revoked: sequence(&[
                &entry(&[5], &[extension(21, false, &element(10, &[1]))]),
                &entry(&[0, 0xff], &[]),
            ]),
            extensions: extensions(&[extension(20, false, &element(2, &[7]))]),
            after_extensions: Vec::new(),
            outer_algorithm: algorithm,
            signature: element(3, &[0, 1, 2, 3]),
            after_signature: Vec::new(),
            after_list: Vec::new(),
        }
    }

    fn der(&self) -> Vec<u8> {
        let signed = sequence(&[
            &self.version,
            &self.inner_algorithm,
            &self.issuer,
            &self.this_update,
            &self.next_update,
            &self.revoked,
            &self.extensions,
            &self.after_extensions,
        ]);
        let mut der = sequence(&[&signed, &self.outer_algorithm, &self.signature, &self.after_signature]);
        der.extend(&self.after_list);
        der
    }
}

fn extensions(extensions: &[Vec<u8>]) -> Vec<u8> {
    element(0xa0, &element(0x30, &extensions.concat()))
}

#[test]
fn a_list_is_read() {
    let der = Parts::new().der();
    let list = CertificateList::parse(&der).unwrap();
    assert!(list.v2);
    assert_eq!((list.this_update, list.next_update), (1_735_689_600, Some(2_840_140_800)));
    assert_eq!((list.number, list.fault, list.entry_count), (Some(CrlNumber::new(&[7])), None, 2));
    let entries: Vec<_> =
        CertificateList::parse(&der).unwrap().entries().map(|entry| (entry.serial, entry.reason)).collect();
    let expected = [(&[5][..], RevocationReason::KeyCompromise), (&[0xff], RevocationReason::Unspecified)];
    assert_eq!(entries, expected);
}

#[test]
fn what_is_no_list() {
    type Alter = fn(&mut Parts);
    let cases: &[(&str, Alter, &str)] = &[
        ("version 3", |parts| parts.version = element(2, &[2]), "version is neither 1 nor 2"),
        (
            "algorithms differ",
            |parts| parts.inner_algorithm = sequence(&[&element(6, &[0x2b])]),
            "algorithms",
        ),
        ("no issuer", |parts| parts.issuer = vec![], "issuer"),
        ("thisUpdate without Z", |parts| parts.this_update = element(0x17, b"250101000000"), "thisUpdate"),
        ("no thisUpdate", |parts| (parts.this_update, parts.next_update) = (vec![], vec![]), "thisUpdate"),
        ("nextUpdate in month 13", |parts| parts.next_update = element(0x17, b"251301000000Z"), "nextUpdate"),
        ("serial without octets", |parts| parts.revoked = sequence(&[&entry(&[], &[])]), "an entry"),
        (
            "entry without date",
            |parts| parts.revoked = sequence(&[&sequence(&[&element(2, &[1])])]),
            "an entry",
        ),
        (
            "reason that is no ENUMERATED",
            |parts| parts.revoked = sequence(&[&entry(&[1], &[extension(21, false, &element(2, &[1]))])]),
            "reasonCode",
        ),
        (
            "entry extension that is none",
            |parts| parts.revoked = sequence(&[&entry(&[1], &[element(2, &[1])])]),
            "an extension is malformed",
        ),
        ("version 1 with extensions", |parts| parts.version = vec![], "version 1 has extensions"),
        (
            "version 1 with entry extensions",
            |parts| (parts.version, parts.extensions) = (vec![], vec![]),
            "an entry of a list of version 1",
        ),
        (
            "CRLNumber that is negative",
            |parts| parts.extensions = extensions(&[extension(20, false, &element(2, &[0x80]))]),
            "cRLNumber",
        ),
        (
            "CRLNumber of 21 octets",
            |parts| parts.extensions = extensions(&[extension(20, false, &element(2, &[1; 21]))]),
            "cRLNumber",
        ),
        (
            "CRLNumber twice",
            |parts| parts.extensions = extensions(&vec![extension(20, false, &element(2, &[1])); 2]),
            "twice",
        ),
        (
            "AuthorityKeyIdentifier that is none",
            |parts| parts.extensions = extensions(&[extension(35, false, &[5])]),
            "authorityKeyIdentifier",
        ),
        (
            "issuingDistributionPoint for users and authorities alone",
            |parts| {
                let point = sequence(&[&element(0x81, &[0xff]), &element(0x82, &[0xff])]);
                parts.extensions = extensions(&[extension(28, true, &point)]);
            },
            "issuingDistributionPoint",
        ),
        ("something after the extensions", |parts| parts.after_extensions = element(5, &[]), "crlExtensions"),
        ("signature with unused bits", |parts| parts.signature = element(3, &[1, 2]), "signatureValue"),
        ("something after the signature", |parts| parts.after_signature = element(5, &[]), "signatureValue"),
        ("something after the list", |parts| parts.after_list = vec![0], "something follows the list"),
    ];
    for (what, alter, expected) in cases {
        let mut parts = Parts::new();
        alter(&mut parts);
        let error = CertificateList::parse(&parts.der()).map(|_| ()).unwrap_err();
        assert!(error.0.contains(expected), "{what}: {error}");
    }
}

#[test]
fn what_keeps_a_list_from_deciding() {
    let number = element(2, &[7]);
    let point = |fields: &[&[u8]]| sequence(fields);
    let relative = element(0xa0, &element(0xa1, &[]));
    let on_entry = |extensions: &[Vec<u8>]| sequence(&[&entry(&[5], extensions)]);
    let unknown = Fault::Extension("2.5.29.99".into());
    let unknown_entry = Fault::EntryExtension("2.5.29.99".into());
    for (what, list, revoked, expected) in [
        ("nothing", vec![], vec![], None),
        ("unknown, not critical", vec![extension(99, false, &[])], vec![], None),
        ("unknown, critical", vec![extension(99, true, &[])], vec![], Some(unknown.clone())),
        ("critical number", vec![extension(20, true, &number)], vec![], Some(Fault::CriticalNumber)),
        ("delta", vec![extension(27, true, &number)], vec![], Some(Fault::Delta)),
        (
            "delta behind an unknown one",
            vec![extension(99, true, &[]), extension(27, true, &number)],
            vec![],
            Some(Fault::Delta),
        ),
        (
            "unknown one behind a delta",
            vec![extension(27, true, &number), extension(99, true, &[])],
            vec![],
            Some(Fault::Delta),
        ),
        (
            "indirect",
            vec![extension(28, true, &point(&[&element(0x84, &[0xff])]))],
            vec![],
            Some(Fault::Indirect),
        ),
        (
            "some reasons",
            vec![extension(28, true, &point(&[&element(0x83, &[0, 0x80])]))],
            vec![],
            Some(Fault::SomeReasons),
        ),
        (
            "attribute certificates",
            vec![extension(28, true, &point(&[&element(0x85, &[0xff])]))],
            vec![],
            Some(Fault::AttributeCertificates),
        ),
        (
            "relative point",
            vec![extension(28, true, &point(&[&relative]))],
            vec![],
            Some(Fault::RelativePoint),
        ),
        ("users alone", vec![extension(28, true, &point(&[&element(0x81, &[0xff])]))], vec![], None),
        ("invalidity date", vec![], on_entry(&[extension(24, true, &[])]), None),
        ("unknown on an entry", vec![], on_entry(&[extension(99, false, &[])]), None),
        (
            "unknown and critical on an entry",
            vec![],
            on_entry(&[extension(99, true, &[])]),
            Some(unknown_entry),
        ),
        (
            "certificate issuer on an entry",
            vec![],
            on_entry(&[extension(29, true, &[])]),
            Some(Fault::Indirect),
        ),
    ] {
        let mut parts = Parts::new();
        parts.extensions = if list.is_empty() { vec![] } else { extensions(&list) };
        parts.revoked = revoked;
        let der = parts.der();
        assert_eq!(CertificateList::parse(&der).unwrap().fault, expected, "{what}");
    }
    assert!(unknown.entries_stand() && !Fault::Delta.entries_stand() && !Fault::Indirect.entries_stand());
}

#[test]
fn scopes() {
    let uri = element(0x86, b"http://pki.test/crl");
    let named = element(0xa0, &element(0xa0, &uri));
    let both = sequence(&[&named, &element(0x82, &[0xff])]);
    let mut parts = Parts::new();
    parts.extensions = extensions(&[extension(28, true, &both)]);
    let der = parts.der();
    let scope = CertificateList::parse(&der).unwrap().scope;
    assert_eq!((scope.holders, scope.points), (CrlHolders::Authorities, vec![uri.into_boxed_slice()]));
}

#[test]
fn lists_without_the_optional_parts() {
    let mut parts = Parts::new();
    (parts.version, parts.next_update, parts.revoked, parts.extensions) = (vec![], vec![], vec![], vec![]);
    let der = parts.der();
    let list = CertificateList::parse(&der).unwrap();
    assert_eq!((list.v2, list.next_update, list.entry_count, list.number), (false, None, 0, None));
}

fn issuer_of(certificate: &CertificateDer<'_>) -> IssuerCertificate {
    Certificate::read(certificate).unwrap().as_issuer()
}

#[test]
fn only_the_issuer_s_own_signature_counts() {
    let (ca, namesake, other) = (Ca::root("CA"), Ca::root("CA"), Ca::root("other"));
    let der = ca.crl(|_| {});
    let list = CertificateList::parse(&der).unwrap();
    let issuer = issuer_of(&ca.der);
    assert_eq!(list.key_id, issuer.key_id.as_deref());
    assert_eq!(verify(&list, &issuer), Ok(()));
    assert_eq!(verify(&list, &issuer_of(&namesake.der)), Err(VerifyError::Signature));
    assert_eq!(verify(&list, &issuer_of(&other.der)), Err(VerifyError::Name));
    let forbidden = IssuerCertificate { crl_sign: Some(false), ..issuer.clone() };
    assert_eq!(verify(&list, &forbidden), Err(VerifyError::NotForCrls));
    let silent = IssuerCertificate { crl_sign: None, ..issuer.clone() };
    assert_eq!(verify(&list, &silent), Ok(()));
    let unreadable = IssuerCertificate { spki: Arc::new([0x30, 0]), ..issuer };
    assert_eq!(verify(&list, &unreadable), Err(VerifyError::Algorithm));
}

#[test]
fn a_list_altered_anywhere_does_not_verify() {
    let ca = Ca::root("CA");
    let der = ca.crl(|params| params.revoked_certs = vec![revoked(&[1, 2, 3], None)]);
    let issuer = issuer_of(&ca.der);
    for at in 0..der.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut altered = der.clone();
            altered[at] ^= bit;
            let accepted = CertificateList::parse(&altered).is_ok_and(|list| verify(&list, &issuer).is_ok());
            assert!(!accepted, "octet {at}, bit {bit:#x}");
        }
    }
}

fn revoked(serial: &[u8], reason_code: Option<rcgen::RevocationReason>) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: rcgen::date_time_ymd(2025, 6, 1),
        reason_code,
        invalidity_date: Some(rcgen::date_time_ymd(2025, 5, 1)),
    }
}

/// Lists as `openssl ca -gencrl` makes them, with keys of every kind.
#[test]
fn lists_of_openssl_are_read_and_verified() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let config = "[ca]\ndefault_ca=d\n\
                  [d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\ncrlnumber=number\n\
                  [plain]\ndatabase=plain.txt\ndefault_md=sha384\ndefault_crl_days=30\n\
                  [v2]\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(at.join("ca.conf"), config).unwrap();
    std::fs::write(at.join("number"), "1001\n").unwrap();
    let index = "R\t300101000000Z\t250101000000Z,keyCompromise\t01AB\tunknown\t/CN=a\n\
                 R\t300101000000Z\t250102000000Z\t0100000000000000000000000000000000000002\tunknown\t/CN=b\n\
                 V\t300101000000Z\t\t03\tunknown\t/CN=c\n";
    std::fs::write(at.join("index.txt"), index).unwrap();
    // A list without number and reasons is of version 1.
    std::fs::write(at.join("plain.txt"), index.replace(",keyCompromise", "")).unwrap();
    let entries = [
        (vec![1, 0xab], RevocationReason::KeyCompromise, 1_735_689_600),
        ([&[1][..], &[0; 18], &[2]].concat(), RevocationReason::Unspecified, 1_735_776_000),
    ];
    for (kind, request) in [
        ("rsa", "rsa:2048"),
        ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
        ("ed25519", "ed25519"),
    ] {
        openssl(
            at,
            &format!(
                "req -x509 -newkey {request} -nodes -keyout {kind}.key -out {kind}.crt -days 30 -subj /CN={kind}"
            ),
        );
        let signer = format!("-config ca.conf -cert {kind}.crt -keyfile {kind}.key -out {kind}.crl");
        for (what, line, v2) in [
            ("v2", format!("ca -gencrl -crlexts v2 {signer}"), true),
            ("v1 without number", format!("ca -gencrl -name plain {signer}"), false),
        ] {
            openssl(at, &line);
            let (issuer, der) = read_openssl(at, kind);
            let list = CertificateList::parse(&der).unwrap();
            assert_eq!(verify(&list, &issuer), Ok(()), "{kind}, {what}");
            assert_eq!((list.v2, list.number.is_some()), (v2, v2), "{kind}, {what}");
            let read: Vec<_> =
                list.entries().map(|entry| (entry.serial.to_vec(), entry.reason, entry.revoked_at)).collect();
            let expected = entries.clone().map(|(serial, reason, at)| {
                (serial, if v2 { reason } else { RevocationReason::Unspecified }, at)
            });
            assert_eq!(read, expected, "{kind}, {what}");
        }
    }
    openssl(
        at,
        "ca -gencrl -config ca.conf -cert rsa.crt -keyfile rsa.key -out rsa.crl \
         -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1",
    );
    let (issuer, der) = read_openssl(at, "rsa");
    assert_eq!(verify(&CertificateList::parse(&der).unwrap(), &issuer), Ok(()), "RSA-PSS");
    openssl(at, "ca -gencrl -config ca.conf -cert rsa.crt -keyfile rsa.key -md sha1 -out rsa.crl");
    let (issuer, der) = read_openssl(at, "rsa");
    assert_eq!(verify(&CertificateList::parse(&der).unwrap(), &issuer), Err(VerifyError::Algorithm), "SHA-1");
}

fn read_openssl(at: &Path, kind: &str) -> (IssuerCertificate, Vec<u8>) {
    let certificate = CertificateDer::from_pem_file(at.join(format!("{kind}.crt"))).unwrap();
    let list = CertificateRevocationListDer::from_pem_file(at.join(format!("{kind}.crl"))).unwrap();
    (issuer_of(&certificate), list.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries_are_those_that_another_reader_finds(
        serials in proptest::collection::vec(proptest::collection::vec(1u8.., 1..21), 0..40),
    ) {
        let ca = Ca::root_with("CA", KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), |_| {});
        let der = ca.crl(|params| {
            let superseded = Some(rcgen::RevocationReason::Superseded);
            params.revoked_certs = serials.iter().map(|serial| revoked(serial, superseded)).collect();
        });
        let list = CertificateList::parse(&der).unwrap();
        prop_assert_eq!(list.entry_count, serials.len());
        fuzzing::lists(&der);
        let superseded = |entry: CrlEntry<'_>| entry.reason == RevocationReason::Superseded;
        prop_assert!(list.entries().all(superseded));
    }

    #[test]
    fn octets_of_any_kind_are_read_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::lists(&octets);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn of_damaged_lists_those_that_others_read_too_say_the_same(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut der = Parts::new().der();
        for (at, octet) in &damage {
            let at = at.index(der.len());
            der[at] = *octet;
        }
        if cuts {
            der.truncate(cut.index(der.len()));
        }
        fuzzing::lists(&der);
    }
}
