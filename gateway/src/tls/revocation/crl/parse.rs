//! The walk over a CertificateList (RFC 5280 §5.1).

use std::fmt;

use super::der::{Element, NotDer, Reader, integer, natural, octet_bits, tag, time};
use super::extension::{self, Extension, issuing_point, key_identifier, oid};
use crate::model::{CrlEntry, CrlNumber, CrlScope, RevocationReason};

/// CRLNumber octets at most (§5.2.3).
const NUMBER_OCTETS_MAX: usize = 20;

/// Not a CertificateList: what could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate revocation list: {0}")]
pub struct ParseError(pub &'static str);

impl From<NotDer> for ParseError {
    fn from(NotDer: NotDer) -> Self {
        Self("an extension is malformed")
    }
}

/// Why a well-formed list cannot tell that a certificate is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It holds changes to another list only (§5.2.4).
    Delta,
    /// It lists certificates of several issuers (§5.2.5 indirectCRL, §5.3.3).
    Indirect,
    /// It lists attribute certificates.
    AttributeCertificates,
    /// It lists certificates revoked for some reasons only.
    SomeReasons,
    /// Its distribution point is named relative to the issuer.
    RelativePoint,
    /// Its CRLNumber is marked critical (§5.2.3 forbids it).
    CriticalNumber,
    /// A critical extension of the list is not known; its object identifier.
    Extension(Box<str>),
    /// A critical extension of an entry is not known; its object identifier.
    EntryExtension(Box<str>),
}

impl Fault {
    /// Whether what it lists is revoked all the same (§5.3). Not so where the entries may mean something else.
    pub fn entries_stand(&self) -> bool {
        !matches!(self, Self::Delta | Self::Indirect | Self::AttributeCertificates)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delta => f.write_str("delta CRLs are not supported"),
            Self::Indirect => f.write_str("indirect CRLs are not supported"),
            Self::AttributeCertificates => f.write_str("it is for attribute certificates"),
            Self::SomeReasons => f.write_str("CRLs for some reasons only are not supported"),
            Self::RelativePoint => f.write_str("distribution points with relative names are not supported"),
            Self::CriticalNumber => f.write_str("its CRLNumber is marked critical"),
            Self::Extension(oid) => write!(f, "its critical extension {oid} is not known"),
            Self::EntryExtension(oid) => write!(f, "the critical entry extension {oid} is not known"),
        }
    }
}

/// A CertificateList, borrowed from its DER. Nothing in it is verified.
#[derive(Clone, Debug)]
pub struct CertificateList<'a> {
    /// What the signature covers: tbsCertList, DER.
    pub signed: &'a [u8],
    /// The signature's AlgorithmIdentifier, DER without the outer SEQUENCE's tag and length.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
    /// Name of the issuer, DER.
    pub issuer: &'a [u8],
    /// Whether it is of version 2; version 1 has no extensions.
    pub v2: bool,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    pub next_update: Option<i64>,
    /// How many certificates it lists.
    pub entry_count: usize,
    /// keyIdentifier of the AuthorityKeyIdentifier.
    pub key_id: Option<&'a [u8]>,
    /// CRLNumber.
    pub number: Option<CrlNumber>,
    /// Whom it speaks for.
    pub scope: CrlScope,
    /// Why it cannot tell that a certificate is good.
    pub fault: Option<Fault>,
    revoked: &'a [u8],
}

impl<'a> CertificateList<'a> {
    /// Reads the DER of one CertificateList to its end. Every entry is looked at, so that [`Self::entries`] cannot
    /// fail.
    ///
    /// # Errors
    /// If it is not one, with the first part that is wrong.
    pub fn parse(der: &'a [u8]) -> Result<Self, ParseError> {
        let mut outer = Reader::new(der);
        let mut list =
            part("CertificateList", outer.expect(tag::SEQUENCE).map(|list| Reader::new(list.content)))?;
        part("something follows the list", outer.end())?;
        let signed = part("tbsCertList", list.expect(tag::SEQUENCE))?;
        let algorithm = part("signatureAlgorithm", list.expect(tag::SEQUENCE))?;
        let bits = part("signatureValue", list.expect(tag::BIT_STRING))?;
        let signature = part("signatureValue", octet_bits(bits.content))?;
        part("something follows signatureValue", list.end())?;

        let mut tbs = Reader::new(signed.content);
        let v2 = match part("version", tbs.optional(tag::INTEGER))? {
            None => false,
            Some(Element { content: [1], .. }) => true,
            Some(_) => return Err(ParseError("version is neither 1 nor 2")),
        };
        if part("signature", tbs.expect(tag::SEQUENCE))?.content != algorithm.content {
            return Err(ParseError("the signature algorithms inside and outside differ"));
        }
        let issuer = part("issuer", tbs.expect(tag::SEQUENCE))?.whole;
        let this_update = part("thisUpdate", tbs.element().and_then(|at| time(&at)))?;
        let next_update = part("nextUpdate", optional_time(&mut tbs))?;
        let revoked =
            part("revokedCertificates", tbs.optional(tag::SEQUENCE))?.map_or(&[][..], |list| list.content);
        let extensions = part("crlExtensions", tbs.optional(tag::context_constructed(0)))?;
        part("something follows crlExtensions", tbs.end())?;
        if extensions.is_some() && !v2 {
            return Err(ParseError("a list of version 1 has extensions"));
        }

        let mut list = Self {
            signed: signed.whole,
            algorithm: algorithm.content,
            signature,
            issuer,
            v2,
            this_update,
            next_update,
            entry_count: 0,
            key_id: None,
            number: None,
            scope: CrlScope::default(),
            fault: None,
            revoked,
        };
        if let Some(extensions) = extensions {
            list.read_extensions(extensions.content)?;
        }
        list.check_entries()?;
        Ok(list)
    }

    /// The certificates that it lists.
    pub fn entries(&self) -> Entries<'a> {
        Entries(Reader::new(self.revoked))
    }

    fn read_extensions(&mut self, explicit: &'a [u8]) -> Result<(), ParseError> {
        let mut explicit = Reader::new(explicit);
        let extensions = part("crlExtensions", explicit.expect(tag::SEQUENCE))?.content;
        part("something follows crlExtensions", explicit.end())?;
        let mut seen: [bool; 3] = [false; 3];
        let mut once = |which: usize| match std::mem::replace(&mut seen[which], true) {
            false => Ok(()),
            true => Err(ParseError("an extension stands twice")),
        };
        extension::for_each(extensions, |Extension { oid, critical, value }| {
            match oid {
                oid::AUTHORITY_KEY_IDENTIFIER => {
                    once(0)?;
                    self.key_id = part("authorityKeyIdentifier", key_identifier(value))?;
                }
                oid::CRL_NUMBER => {
                    once(1)?;
                    self.number = Some(part("cRLNumber", number(value))?);
                    if critical {
                        self.note(Fault::CriticalNumber);
                    }
                }
                oid::ISSUING_DISTRIBUTION_POINT => {
                    once(2)?;
                    self.limit(value)?;
                }
                oid::DELTA_CRL_INDICATOR => {
                    part("deltaCRLIndicator", number(value))?;
                    self.note(Fault::Delta);
                }
                _ if critical => self.note(Fault::Extension(oid::text(oid).into())),
                _ => {}
            }
            Ok(())
        })
    }

    fn limit(&mut self, value: &[u8]) -> Result<(), ParseError> {
        let point = part("issuingDistributionPoint", issuing_point(value))?;
        let faults = [
            (point.indirect, Fault::Indirect),
            (point.attribute_certificates, Fault::AttributeCertificates),
            (point.some_reasons, Fault::SomeReasons),
            (point.relative, Fault::RelativePoint),
        ];
        for (_, fault) in faults.into_iter().filter(|(is, _)| *is) {
            self.note(fault);
        }
        self.scope = CrlScope { holders: point.holders, points: point.points };
        Ok(())
    }

    /// Keeps the gravest fault.
    fn note(&mut self, fault: Fault) {
        let graver = |known: &Fault| known.entries_stand() && !fault.entries_stand();
        if self.fault.as_ref().is_none_or(graver) {
            self.fault = Some(fault);
        }
    }

    fn check_entries(&mut self) -> Result<(), ParseError> {
        let mut entries = Reader::new(self.revoked);
        while !entries.is_empty() {
            let entry = part("an entry of revokedCertificates", RawEntry::read(&mut entries))?;
            if entry.extensions.is_some() && !self.v2 {
                return Err(ParseError("an entry of a list of version 1 has extensions"));
            }
            self.entry_count += 1;
            extension::for_each(entry.extensions.unwrap_or(&[]), |Extension { oid, critical, value }| {
                match oid {
                    oid::REASON_CODE => {
                        part("reasonCode", reason_code(value))?;
                    }
                    oid::CERTIFICATE_ISSUER => self.note(Fault::Indirect),
                    oid::INVALIDITY_DATE => {}
                    _ if critical => self.note(Fault::EntryExtension(oid::text(oid).into())),
                    _ => {}
                }
                Ok::<_, ParseError>(())
            })?;
        }
        Ok(())
    }
}

/// The entries of a list that has been parsed, in its order.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Reader<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = CrlEntry<'a>;

    fn next(&mut self) -> Option<CrlEntry<'a>> {
        if self.0.is_empty() {
            return None;
        }
        // Parsing has been over every entry, so none of these fails.
        let entry = RawEntry::read(&mut self.0).ok()?;
        let mut reason = RevocationReason::Unspecified;
        if let Some(extensions) = entry.extensions {
            extension::for_each(extensions, |extension| {
                if extension.oid == oid::REASON_CODE {
                    reason = reason_code(extension.value)?;
                }
                Ok::<_, NotDer>(())
            })
            .ok()?;
        }
        Some(CrlEntry { serial: entry.serial, reason, revoked_at: entry.revoked_at })
    }
}

struct RawEntry<'a> {
    serial: &'a [u8],
    revoked_at: i64,
    extensions: Option<&'a [u8]>,
}

impl<'a> RawEntry<'a> {
    fn read(entries: &mut Reader<'a>) -> Result<Self, NotDer> {
        let mut entry = Reader::new(entries.expect(tag::SEQUENCE)?.content);
        let serial = entry.expect(tag::INTEGER)?.content;
        // Authorities have issued serials that are negative or too long; needless zeros do not matter to the number.
        if serial.is_empty() {
            return Err(NotDer);
        }
        let start = serial.iter().position(|octet| *octet != 0).unwrap_or(serial.len());
        let revoked_at = time(&entry.element()?)?;
        let extensions = entry.optional(tag::SEQUENCE)?.map(|extensions| extensions.content);
        entry.end()?;
        Ok(Self { serial: &serial[start..], revoked_at, extensions })
    }
}

/// Names the part that could not be read.
fn part<T>(name: &'static str, read: Result<T, NotDer>) -> Result<T, ParseError> {
    read.map_err(|NotDer| ParseError(name))
}

fn optional_time(tbs: &mut Reader<'_>) -> Result<Option<i64>, NotDer> {
    for tag in [tag::UTC_TIME, tag::GENERALIZED_TIME] {
        if let Some(element) = tbs.optional(tag)? {
            return time(&element).map(Some);
        }
    }
    Ok(None)
}

/// CRLNumber or BaseCRLNumber.
fn number(value: &[u8]) -> Result<CrlNumber, NotDer> {
    let mut value = Reader::new(value);
    let content = value.expect(tag::INTEGER)?.content;
    value.end()?;
    match natural(content)? {
        octets if octets.len() > NUMBER_OCTETS_MAX => Err(NotDer),
        octets => Ok(CrlNumber::new(octets)),
    }
}

/// A CRLReason; one that RFC 5280 does not define is a revocation all the same.
fn reason_code(value: &[u8]) -> Result<RevocationReason, NotDer> {
    let mut value = Reader::new(value);
    let content = integer(value.expect(tag::ENUMERATED)?.content)?;
    value.end()?;
    let known = match content {
        [code] => RevocationReason::from_code(*code),
        _ => None,
    };
    Ok(known.unwrap_or(RevocationReason::Unspecified))
}
