//! Certificates as they stand in documents: PEM to DER, with the dates and names that findings and conditions tell of.
//! Whether anybody may be trusted is not decided here.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use crate::model::Hostname;

const SOON_S: i64 = 14 * 24 * 3600;

/// A certificate that could be read.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) der: CertificateDer<'static>,
    /// RFC 4514 text, more or less: for people.
    pub(super) subject: String,
    /// Whether it may issue others: by its basic constraints, or as one of version 1, which cannot say so.
    pub(super) is_ca: bool,
    /// DNS names of its subjectAltName that are host names.
    pub(super) names: Vec<Hostname>,
    not_before: i64,
    not_after: i64,
}

/// What the dates of a certificate mean at a moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Dates {
    /// Valid for longer than two weeks.
    Good,
    /// Works, but needs attention; in words.
    Soon(String),
    /// Outside its dates; in words.
    Outside(String),
}

impl Certificate {
    /// How its dates stand at `now`, Unix seconds.
    pub(super) fn dates(&self, now: i64) -> Dates {
        let subject = &self.subject;
        if self.not_after < now {
            Dates::Outside(format!("certificate {subject} expired at {}", time(self.not_after)))
        } else if now < self.not_before {
            Dates::Outside(format!("certificate {subject} is not valid before {}", time(self.not_before)))
        } else if self.not_after - now < SOON_S {
            Dates::Soon(format!("certificate {subject} expires at {}", time(self.not_after)))
        } else {
            Dates::Good
        }
    }
}

fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| format!("{unix_s} s"), |time| time.to_string())
}

/// Every `CERTIFICATE` block of a PEM text, in order: a certificate, or why the block is none. Other text is skipped.
pub(super) fn read_pem(pem: &[u8]) -> Vec<Result<Certificate, String>> {
    let blocks = CertificateDer::pem_slice_iter(pem);
    let read = |(index, block): (usize, Result<CertificateDer<'static>, _>)| {
        let der = block.map_err(|error| format!("block {}: is not valid PEM: {error:?}", index + 1))?;
        parse(der).map_err(|words| format!("block {}: {words}", index + 1))
    };
    blocks.enumerate().map(read).collect()
}

fn parse(der: CertificateDer<'static>) -> Result<Certificate, String> {
    let (rest, parsed) =
        X509Certificate::from_der(&der).map_err(|_| "is not an X.509 certificate".to_owned())?;
    if !rest.is_empty() {
        return Err("has data behind the X.509 certificate".to_owned());
    }
    let constraints = parsed.basic_constraints().ok().flatten();
    let certificate = Certificate {
        subject: parsed.subject().to_string(),
        is_ca: parsed.version() == X509Version::V1 || constraints.is_some_and(|found| found.value.ca),
        names: dns_names(&parsed),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        der: CertificateDer::from(Vec::new()),
    };
    Ok(Certificate { der, ..certificate })
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<Hostname> {
    let Some(names) = certificate.subject_alternative_name().ok().flatten() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Hostname::parse(name),
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::pki;
    use super::*;

    #[test]
    fn blocks_are_read_one_by_one() {
        let ca = pki::ca("root");
        let good = ca.pem();
        let garbled = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        let not_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let cut = &good[..good.len() / 2];
        let table = [
            ("nothing", String::new(), vec![]),
            ("no PEM", "Hello world".to_owned(), vec![]),
            ("one", good.clone(), vec![true]),
            ("text around it", format!("Certificate:\n  Data\n{good}tail\n"), vec![true]),
            ("two", format!("{good}{good}"), vec![true, true]),
            ("bad base64 between good ones", format!("{good}{garbled}{good}"), vec![true, false, true]),
            ("no X.509 between good ones", format!("{good}{not_x509}{good}"), vec![true, false, true]),
            ("cut off", cut.to_owned(), vec![false]),
            ("keys are skipped", format!("{}{good}", ca.key_pem()), vec![true]),
            ("carriage returns", good.replace('\n', "\r\n"), vec![true]),
        ];
        for (description, pem, expected) in table {
            let read: Vec<bool> = read_pem(pem.as_bytes()).iter().map(Result::is_ok).collect();
            assert_eq!(read, expected, "{description}");
        }
    }

    #[test]
    fn dates_and_names() {
        let pem = pki::ca("root").server("leaf", &["a.test", "*.b.test"]).pem();
        let certificate = read_pem(pem.as_bytes()).pop().unwrap().unwrap();
        assert!(!certificate.is_ca);
        assert_eq!(
            certificate.names,
            [Hostname::parse("a.test").unwrap(), Hostname::parse("*.b.test").unwrap()]
        );
        let (from, to) = (certificate.not_before, certificate.not_after);
        assert_eq!(certificate.dates(from), Dates::Good);
        assert!(matches!(certificate.dates(from - 1), Dates::Outside(_)));
        assert!(matches!(certificate.dates(to - SOON_S + 1), Dates::Soon(_)));
        assert!(matches!(certificate.dates(to), Dates::Soon(_)));
        assert!(matches!(certificate.dates(to + 1), Dates::Outside(words) if words.contains("expired")));
    }
}
