//! What a certificate revocation list is about: its entries, its scope, its number (RFC 5280 §5).

use std::cmp::Ordering;
use std::fmt;

use super::{PathCertificate, RevocationReason};

/// One entry of a CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlEntry<'a> {
    /// The serial number, most significant octet first, without leading zeros.
    pub serial: &'a [u8],
    /// Why; `Unspecified` where the entry does not say.
    pub reason: RevocationReason,
    /// revocationDate, Unix seconds.
    pub revoked_at: i64,
}

/// Which kind of certificate a CRL is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrlHolders {
    /// Every certificate of the issuer.
    #[default]
    All,
    /// onlyContainsUserCerts
    Users,
    /// onlyContainsCACerts
    Authorities,
}

/// The certificates of its issuer that a CRL speaks for: its issuingDistributionPoint (RFC 5280 §5.2.5).
/// Lists of one issuer and different scope stand beside each other; of equal scope, the newer replaces the older.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrlScope {
    /// Which kind.
    pub holders: CrlHolders,
    /// The GeneralNames of its distribution point, DER; empty: not limited to one.
    pub points: Vec<Box<[u8]>>,
}

impl CrlScope {
    /// Whether the list speaks for a certificate (RFC 5280 §6.3.3 (b) (2)). `authority`: it is a CA's.
    pub fn covers(&self, certificate: &PathCertificate, authority: bool) -> bool {
        let kind = match self.holders {
            CrlHolders::All => true,
            CrlHolders::Users => !authority,
            CrlHolders::Authorities => authority,
        };
        let named = || self.points.iter().any(|point| certificate.distribution_points.contains(point));
        kind && (self.points.is_empty() || named())
    }
}

/// A CRLNumber (RFC 5280 §5.2.3); newer lists have greater ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CrlNumber(Box<[u8]>);

impl CrlNumber {
    /// From the magnitude, most significant octet first.
    pub fn new(octets: &[u8]) -> Self {
        let start = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len());
        Self(octets[start..].into())
    }
}

impl Ord for CrlNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without leading zeros the longer number is the greater one.
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for CrlNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Decimal up to 16 octets, `0x` and hexadecimal beyond.
impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= 16 {
            let value = self.0.iter().fold(0u128, |sum, octet| sum << 8 | u128::from(*octet));
            return write!(f, "{value}");
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_integers_and_read_well() {
        let number = CrlNumber::new;
        assert!(number(&[0xff]) < number(&[1, 0]));
        assert!(number(&[0, 0, 2]) > number(&[1]));
        assert_eq!(number(&[0, 7]), number(&[7]));
        assert_eq!(number(&[]).to_string(), "0");
        assert_eq!(number(&[0x10, 0x01]).to_string(), "4097");
        assert_eq!(number(&[0xab; 17]).to_string(), format!("0x{}", "ab".repeat(17)));
    }
}
