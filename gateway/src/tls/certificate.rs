//! A certificate's outline (RFC 5280 §4.1), read leniently from DER: enough to find its key, names, dates and
//! extensions, for certificates that webpki accepts and for those that it refuses (X.509 v1, say).
//!
//! Nothing here judges: `trust` decides what is valid, `identity` puts names into words.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use rustls_pki_types::CertificateDer;

use crate::model::{IssuerCertificate, IssuerId};

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];

/// Bits of the keyUsage extension, counted from the most significant one (RFC 5280 §4.2.1.3).
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyUsageBit {
    DigitalSignature = 0,
    KeyAgreement = 4,
    KeyCertSign = 5,
    CrlSign = 6,
}

/// The parts of a certificate, borrowed from its DER. Names, keys and the signed part are whole encodings, tag and
/// length included; the rest is content alone.
#[derive(Clone, Debug)]
pub(super) struct Certificate<'a> {
    /// 1, 2 or 3.
    pub(super) version: u8,
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) spki: &'a [u8],
    /// tbsCertificate: what is signed.
    pub(super) signed: &'a [u8],
    /// signatureAlgorithm; `None` where the signed copy of it differs.
    pub(super) signature_algorithm: Option<&'a [u8]>,
    pub(super) signature: &'a [u8],
    /// Whether anything follows the key that X.509 v1 does not have.
    pub(super) has_later_fields: bool,
    validity: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate; `None` if its frame is not DER.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut whole = Reader(der);
        let mut certificate = Reader(whole.value(SEQUENCE)?);
        whole.end()?;
        let signed = certificate.encoding(SEQUENCE)?;
        let outer_algorithm = certificate.value(SEQUENCE)?;
        let signature = certificate.value(BIT_STRING)?.strip_prefix(&[0])?;
        certificate.end()?;

        let mut tbs = Reader(Reader(signed).value(SEQUENCE)?);
        let version = match tbs.optional(0xa0) {
            None => 1,
            Some(version) => match Reader(version).value(INTEGER)? {
                [number @ 0..=2] => number + 1,
                _ => return None,
            },
        };
        let serial = tbs.value(INTEGER)?;
        let inner_algorithm = tbs.value(SEQUENCE)?;
        let issuer = tbs.encoding(SEQUENCE)?;
        let validity = tbs.value(SEQUENCE)?;
        let subject = tbs.encoding(SEQUENCE)?;
        let spki = tbs.encoding(SEQUENCE)?;
        let has_later_fields = tbs.end().is_none();
        tbs.optional(0x81);
        tbs.optional(0x82);
        let extensions = match tbs.optional(0xa3) {
            Some(extensions) => Reader(extensions).value(SEQUENCE)?,
            None => &[],
        };
        Some(Self {
            version,
            serial,
            issuer,
            subject,
            spki,
            signed,
            signature_algorithm: (inner_algorithm == outer_algorithm).then_some(outer_algorithm),
            signature,
            has_later_fields,
            validity,
            extensions,
        })
    }

    /// notBefore and notAfter, Unix seconds.
    pub(super) fn validity(&self) -> Option<(i64, i64)> {
        let mut times = Reader(self.validity);
        Some((times.time()?, times.time()?))
    }

    /// The content of an extension's OCTET STRING, by the content of its object identifier.
    fn extension(&self, id: &[u8]) -> Option<&'a [u8]> {
        let mut extensions = Reader(self.extensions);
        while let Some(extension) = extensions.value(SEQUENCE) {
            let mut extension = Reader(extension);
            if extension.value(OBJECT_IDENTIFIER) == Some(id) {
                extension.optional(BOOLEAN);
                return extension.value(OCTET_STRING);
            }
        }
        None
    }

    /// Whether keyUsage has a bit set; `None` without the extension (then every usage is allowed).
    pub(super) fn key_usage(&self, bit: KeyUsageBit) -> Option<bool> {
        let bits = Reader(self.extension(KEY_USAGE)?).value(BIT_STRING).unwrap_or_default();
        let first = bits.get(1).copied().unwrap_or_default();
        Some(first & (0x80 >> bit as u8) != 0)
    }

    /// dNSName and uniformResourceIdentifier subjectAltNames in their order. Names with octets outside printable
    /// ASCII are left out: they are not what RFC 5280 §4.2.1.6 allows, and they end up in logs and headers.
    pub(super) fn alt_names(&self) -> impl Iterator<Item = AltName<'a>> + use<'a> {
        let names = self.extension(SUBJECT_ALT_NAME).and_then(|names| Reader(names).value(SEQUENCE));
        let mut names = Reader(names.unwrap_or_default());
        std::iter::from_fn(move || {
            loop {
                let (tag, _, value) = names.next()?;
                if value.is_empty() || !value.iter().all(|octet| (0x21..0x7f).contains(octet)) {
                    continue;
                }
                let Ok(text) = std::str::from_utf8(value) else { continue };
                match tag {
                    0x82 => return Some(AltName::Dns(text)),
                    0x86 => return Some(AltName::Uri(text)),
                    _ => {}
                }
            }
        })
    }

    /// Every GeneralName of every fullName of cRLDistributionPoints, whole encodings (RFC 5280 §4.2.1.13).
    pub(super) fn distribution_points(&self) -> Vec<Box<[u8]>> {
        let points =
            self.extension(CRL_DISTRIBUTION_POINTS).and_then(|points| Reader(points).value(SEQUENCE));
        let mut points = Reader(points.unwrap_or_default());
        let mut names = Vec::new();
        while let Some(point) = points.value(SEQUENCE) {
            let full_name = Reader(point).optional(0xa0).and_then(|point| Reader(point).optional(0xa0));
            let mut full_name = Reader(full_name.unwrap_or_default());
            while let Some((_, encoding, _)) = full_name.next() {
                names.push(encoding.into());
            }
        }
        names
    }

    /// What is needed to verify what this certificate's key has signed.
    pub(super) fn as_issuer(&self) -> IssuerCertificate {
        let mut id = Context::new(&SHA256);
        id.update(self.spki);
        id.update(self.subject);
        let key_id = self.extension(SUBJECT_KEY_IDENTIFIER).and_then(|id| Reader(id).value(OCTET_STRING));
        IssuerCertificate {
            id: IssuerId(array(id.finish().as_ref())),
            name: self.subject.into(),
            spki: self.spki.into(),
            key_id: key_id.map(Arc::from),
            crl_sign: self.key_usage(KeyUsageBit::CrlSign),
        }
    }
}

/// A subjectAltName that identities are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AltName<'a> {
    Dns(&'a str),
    Uri(&'a str),
}

/// SHA-256 over a chain, each certificate preceded by its length so that no two chains look alike.
pub(super) fn chain_digest(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for certificate in chain {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    array(context.finish().as_ref())
}

/// SHA-256.
pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    array(digest(&SHA256, data).as_ref())
}

fn array(digest: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest);
    out
}

/// Reads one DER value after another (X.690 §8.1, §10.1: definite, minimal lengths; one-octet tags).
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value: tag, whole encoding, content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
            0x82 => rest.split_first_chunk().map(|(l, rest)| (usize::from(u16::from_be_bytes(*l)), rest))?,
            0x83 => rest.split_first_chunk().and_then(|([a, b, c], rest)| {
                Some((usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?, rest))
            })?,
            _ => return None,
        };
        let header = self.0.len() - rest.len();
        let shortest = [0, 0, 0x80, 0x100, 0x1_0000].get(header - 1).copied().unwrap_or(0);
        if length < shortest || length > rest.len() {
            return None;
        }
        let (encoding, after) = self.0.split_at(header + length);
        self.0 = after;
        Some((*tag, encoding, &encoding[header..]))
    }

    /// The content of the next value, which must have this tag.
    pub(super) fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, _, value) = self.next()?;
        (found == tag).then_some(value)
    }

    fn encoding(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, encoding, _) = self.next()?;
        (found == tag).then_some(encoding)
    }

    /// The content of the next value if it has this tag; else nothing is read.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.value(tag) } else { None }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 allows them: seconds, no fraction, `Z`.
    fn time(&mut self) -> Option<i64> {
        let (tag, _, text) = self.next()?;
        let text = text.strip_suffix(b"Z")?;
        let (year, rest) = match (tag, text.len()) {
            (UTC_TIME, 12) => {
                let year = decimal(&text[..2])?;
                (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
            }
            (GENERALIZED_TIME, 14) => (decimal(&text[..4])?, &text[4..]),
            _ => return None,
        };
        let part = |index: usize| decimal(rest.get(2 * index..2 * index + 2)?);
        let (month, day, hour, minute, second) = (part(0)?, part(1)?, part(2)?, part(3)?, part(4)?);
        let plausible =
            (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
        plausible.then(|| ((days_from_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar; years begin in March so that the leap day is the last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times() {
        let cases: [(u8, &str, Option<i64>); 9] = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "20240229120000.5Z", None),
            (GENERALIZED_TIME, "20241329120000Z", None),
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "700101000000+0100", None),
        ];
        for (tag, text, expected) in cases {
            let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
            der.extend(text.as_bytes());
            assert_eq!(Reader(&der).time(), expected, "{text}");
        }
    }

    #[test]
    fn lengths_are_definite_and_minimal() {
        for (der, good) in [
            (&[0x04, 0x01, 0x00][..], true),
            (&[0x04, 0x81, 0x01, 0x00], false),
            (&[0x04, 0x82, 0x00, 0x01, 0x00], false),
            (&[0x04, 0x80, 0x00, 0x00], false),
            (&[0x04, 0x02, 0x00], false),
            (&[0x1f, 0x01, 0x00], false),
            (&[0x04], false),
        ] {
            assert_eq!(Reader(der).next().is_some(), good, "{der:x?}");
        }
        let mut long = vec![0x04, 0x82, 0x01, 0x00];
        long.resize(4 + 256, 7);
        assert_eq!(Reader(&long).next().map(|(_, _, value)| value.len()), Some(256));
    }

    #[test]
    fn the_parts_of_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/x".try_into().unwrap()));
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::CrlSign];
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        params.crl_distribution_points =
            vec![rcgen::CrlDistributionPoint { uris: vec!["http://crl.test/1".into()] }];
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x12, 0x34]));
        let der = params.self_signed(&key).unwrap().der().clone();

        let certificate = Certificate::read(&der).unwrap();
        assert_eq!(certificate.version, 3);
        assert_eq!(certificate.serial, [0x12, 0x34]);
        assert_eq!(certificate.issuer, certificate.subject);
        assert_eq!(certificate.validity().unwrap().1, 1_893_456_000);
        assert_eq!(certificate.key_usage(KeyUsageBit::DigitalSignature), Some(true));
        assert_eq!(certificate.key_usage(KeyUsageBit::KeyCertSign), Some(false));
        assert_eq!(certificate.as_issuer().crl_sign, Some(true));
        assert!(certificate.has_later_fields);
        let point = [&[0x86, 0x11][..], b"http://crl.test/1"].concat();
        assert_eq!(certificate.distribution_points(), [point.into_boxed_slice()]);
        assert_eq!(
            certificate.alt_names().collect::<Vec<_>>(),
            [AltName::Dns("a.test"), AltName::Uri("spiffe://td/x")]
        );
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(certificate) = Certificate::read(&octets) {
                let _ = (certificate.validity(), certificate.alt_names().count(), certificate.as_issuer());
                let _ = certificate.distribution_points();
            }
        }

        #[test]
        fn a_damaged_certificate_is_read_without_panic(at in 0..300_usize, to in any::<u8>()) {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
            let mut der = params.self_signed(&key).unwrap().der().to_vec();
            let at = at.min(der.len() - 1);
            der[at] = to;
            if let Some(certificate) = Certificate::read(&der) {
                let _ = (certificate.validity(), certificate.alt_names().count(), certificate.as_issuer());
                let _ = certificate.distribution_points();
            }
        }
    }
}
