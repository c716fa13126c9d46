//! Revocation lists: what two other readers take as well lists the same certificates.

use rustls_pki_types::CertificateRevocationListDer;
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::tls::revocation::crl::CertificateList;

/// The DER of a CertificateList.
pub fn lists(der: &[u8]) {
    let Ok(list) = CertificateList::parse(der) else { return };
    assert_eq!(list.entries().count(), list.entry_count, "not as many as it says");
    if let Some(fault) = &list.fault {
        assert!(!fault.to_string().is_empty());
    }
    let ours: Vec<(Vec<u8>, i64)> =
        list.entries().map(|entry| (entry.serial.to_vec(), entry.revoked_at)).collect();
    if let Some(theirs) = by_x509_parser(der) {
        assert_eq!(ours, theirs, "another reader finds other certificates");
    }
    let der = CertificateRevocationListDer::from(der);
    if let Ok(theirs) = BorrowedCertRevocationList::from_der(&der) {
        let theirs = CertRevocationList::Borrowed(theirs);
        assert_eq!(theirs.issuer(), inner(list.issuer), "another issuer");
        for (serial, _) in &ours {
            // It looks for octets, where to us needless zeros do not matter; of entries that it cannot read it says nothing.
            let is_there = |zeros| {
                let octets = [&vec![0; zeros], &serial[..]].concat();
                theirs.find_serial(&octets).map_or(true, |found| found.is_some())
            };
            assert!((0..32).any(is_there), "webpki does not find {serial:02x?}");
        }
    }
}

/// Serial and date of every entry as x509-parser has them, if it takes the list.
fn by_x509_parser(der: &[u8]) -> Option<Vec<(Vec<u8>, i64)>> {
    let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
    let entries = list.iter_revoked_certificates();
    rest.is_empty().then(|| {
        entries
            .map(|entry| {
                let serial = entry.raw_serial();
                let start = serial.iter().position(|octet| *octet != 0).unwrap_or(serial.len());
                (serial[start..].to_vec(), entry.revocation_date.timestamp())
            })
            .collect()
    })
}

/// The content of an element.
fn inner(element: &[u8]) -> &[u8] {
    let octets = match element.get(1) {
        Some(length) if *length >= 0x80 => usize::from(length & 0x7f),
        _ => 0,
    };
    element.get(2 + octets..).unwrap_or_default()
}
