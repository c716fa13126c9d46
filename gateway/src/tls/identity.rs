//! Who a certificate speaks of, in words for logs and backends. Total: of a certificate that cannot be read the
//! fingerprint remains.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::certificate::{AltName, Certificate, OBJECT_IDENTIFIER, Reader, SEQUENCE, SET, sha256};
use crate::model::{Identity, Serial};

/// The identity that a leaf certificate states. Says nothing about trust.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Identity {
    let fingerprint = hex(&sha256(leaf)).into();
    let certificate = leaf.clone().into_owned();
    let Some(parts) = Certificate::read(leaf) else {
        let none = Arc::<str>::from("");
        return Identity {
            name: none.clone(),
            subject: none.clone(),
            issuer: none.clone(),
            serial: none,
            fingerprint,
            not_after: 0,
            certificate,
        };
    };
    let subject: Arc<str> = name_text(parts.subject).into();
    let names: Vec<AltName<'_>> = parts.alt_names().collect();
    let uri = names.iter().find_map(|name| if let AltName::Uri(uri) = name { Some(*uri) } else { None });
    let dns = names.iter().find_map(|name| if let AltName::Dns(dns) = name { Some(*dns) } else { None });
    Identity {
        name: uri.or(dns).map_or_else(|| subject.clone(), Arc::from),
        subject,
        issuer: name_text(parts.issuer).into(),
        serial: Serial::new(parts.serial).to_string().into(),
        fingerprint,
        not_after: parts.validity().map_or(0, |(_, not_after)| not_after),
        certificate,
    }
}

/// A Name as RFC 4514 writes it: last RDN first, `+` between the parts of one, what could be mistaken escaped.
pub(super) fn name_text(name: &[u8]) -> String {
    let mut rdns = Vec::new();
    let mut sequence = Reader(Reader(name).value(SEQUENCE).unwrap_or_default());
    while let Some(set) = sequence.value(SET) {
        let mut attributes = Vec::new();
        let mut set = Reader(set);
        while let Some(attribute) = set.value(SEQUENCE) {
            attributes.push(attribute_text(attribute));
        }
        rdns.push(attributes.join("+"));
    }
    rdns.reverse();
    rdns.join(",")
}

fn attribute_text(attribute: &[u8]) -> String {
    let mut attribute = Reader(attribute);
    let kind = attribute.value(OBJECT_IDENTIFIER).unwrap_or_default();
    let Some((tag, encoding, value)) = attribute.next() else { return String::new() };
    match (keyword(kind), string(tag, value)) {
        (Some(keyword), Some(text)) => format!("{keyword}={}", escaped(&text)),
        (Some(keyword), None) => format!("{keyword}=#{}", hex(encoding)),
        (None, _) => format!("{}=#{}", dotted(kind), hex(encoding)),
    }
}

/// The short names of RFC 4514 §3 and a few more that are in common use.
fn keyword(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 0x04, attribute] => match attribute {
            3 => "CN",
            4 => "SN",
            5 => "serialNumber",
            6 => "C",
            7 => "L",
            8 => "ST",
            9 => "STREET",
            10 => "O",
            11 => "OU",
            12 => "title",
            42 => "givenName",
            46 => "dnQualifier",
            97 => "organizationIdentifier",
            _ => return None,
        },
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        _ => return None,
    })
}

/// The text of a character string type; `None` for other types and for octets that are not such text.
fn string(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => String::from_utf8(value.to_vec()).ok(),
        // TeletexString, as Latin-1, which is what issuers mean by it.
        0x14 => Some(value.iter().map(|octet| char::from(*octet)).collect()),
        // BMPString
        0x1e if value.len().is_multiple_of(2) => {
            let units = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

/// RFC 4514 §2.4. Control characters become hexadecimal pairs, so that a name cannot break a log line or a header.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', character]),
            ' ' if index == 0 || index == last => out.push_str("\\ "),
            '#' if index == 0 => out.push_str("\\#"),
            control if control.is_control() => {
                let mut octets = [0; 4];
                for octet in control.encode_utf8(&mut octets).bytes() {
                    let _ = write!(out, "\\{octet:02x}");
                }
            }
            _ => out.push(character),
        }
    }
    out
}

fn dotted(kind: &[u8]) -> String {
    let mut out = String::new();
    let mut number: u64 = 0;
    for octet in kind {
        number = number.wrapping_shl(7) | u64::from(octet & 0x7f);
        if octet & 0x80 != 0 {
            continue;
        }
        if out.is_empty() {
            let first = (number / 40).min(2);
            let _ = write!(out, "{first}.{}", number - first * 40);
        } else {
            let _ = write!(out, ".{number}");
        }
        number = 0;
    }
    out
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut out, octet| {
        let _ = write!(out, "{octet:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(alter: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        alter(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn subjects_in_words() {
        for (description, attributes, expected) in [
            (
                "last part first",
                vec![(DnType::CountryName, "US".into()), (DnType::CommonName, "contoso-client".into())],
                "CN=contoso-client,C=US",
            ),
            ("escapes", vec![(DnType::CommonName, " a,b+c\"\\ ".into())], r#"CN=\ a\,b\+c\"\\\ "#),
            ("no line breaks", vec![(DnType::CommonName, "a\r\nb".into())], r"CN=a\0d\0ab"),
            ("a leading number sign", vec![(DnType::CommonName, "#1".into())], r"CN=\#1"),
            (
                "a type without a name",
                vec![(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 311]), DnValue::Utf8String("x".into()))],
                "1.3.6.1.4.1.311=#0c0178",
            ),
        ] {
            let der = certificate(|params| {
                for (kind, value) in attributes {
                    params.distinguished_name.push(kind, value);
                }
            });
            assert_eq!(&*identity_of(&der).subject, expected, "{description}");
        }
    }

    #[test]
    fn the_name_is_a_uri_before_dns_before_the_subject() {
        let dns = || SanType::DnsName("a.test".try_into().unwrap());
        let uri = || SanType::URI("spiffe://td/a".try_into().unwrap());
        let odd = || SanType::URI("spiffe://td/a\tb".try_into().unwrap());
        for (names, expected) in [
            (vec![dns(), uri()], "spiffe://td/a"),
            (vec![dns()], "a.test"),
            (vec![odd(), dns()], "a.test"),
            (vec![], "CN=x"),
        ] {
            let der = certificate(|params| {
                params.distinguished_name.push(DnType::CommonName, "x");
                params.subject_alt_names = names;
            });
            assert_eq!(&*identity_of(&der).name, expected);
        }
    }

    #[test]
    fn of_an_unreadable_certificate_the_fingerprint_remains() {
        let identity = identity_of(&CertificateDer::from(b"abc".to_vec()));
        assert_eq!(
            &*identity.fingerprint,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(&*identity.subject, "");
    }

    proptest! {
        #[test]
        fn any_name_is_one_line(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(!name_text(&octets).chars().any(char::is_control));
        }
    }
}
