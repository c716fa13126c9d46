//! Extensions of lists and of their entries (RFC 5280 §5.2, §5.3).

use super::der::{NotDer, Reader, boolean, tag};
use crate::model::CrlHolders;

/// An object identifier as DER content octets.
pub(super) mod oid {
    pub(in super::super) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
    pub(in super::super) const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
    pub(in super::super) const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
    pub(in super::super) const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 27];
    pub(in super::super) const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
    pub(in super::super) const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
    pub(in super::super) const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];

    /// Dotted text, for messages.
    pub(in super::super) fn text(oid: &[u8]) -> String {
        let mut arcs = Vec::new();
        let mut arc = 0u64;
        for octet in oid {
            arc = arc << 7 | u64::from(octet & 0x7f);
            if octet & 0x80 == 0 {
                arcs.push(arc);
                arc = 0;
            }
        }
        let first = arcs.first().copied().unwrap_or_default();
        let head = match first {
            0..40 => [0, first],
            40..80 => [1, first - 40],
            _ => [2, first - 80],
        };
        let arcs: Vec<String> = head.iter().chain(arcs.iter().skip(1)).map(u64::to_string).collect();
        arcs.join(".")
    }
}

/// One extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    /// What the OCTET STRING holds, DER.
    pub(super) value: &'a [u8],
}

/// Calls for each extension of `Extensions ::= SEQUENCE SIZE (1..MAX) OF Extension`.
pub(super) fn for_each<'a, E: From<NotDer>>(
    extensions: &'a [u8],
    mut see: impl FnMut(Extension<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut list = Reader::new(extensions);
    while !list.is_empty() {
        let mut extension = Reader::new(list.expect(tag::SEQUENCE)?.content);
        let oid = extension.expect(tag::OBJECT_IDENTIFIER)?.content;
        let critical = match extension.optional(tag::BOOLEAN)? {
            Some(critical) => boolean(critical.content)?,
            None => false,
        };
        let value = extension.expect(tag::OCTET_STRING)?.content;
        extension.end()?;
        see(Extension { oid, critical, value })?;
    }
    Ok(())
}

/// The keyIdentifier of an AuthorityKeyIdentifier (§5.2.1).
pub(super) fn key_identifier(value: &[u8]) -> Result<Option<&[u8]>, NotDer> {
    let mut value = Reader::new(value);
    let mut fields = Reader::new(value.expect(tag::SEQUENCE)?.content);
    value.end()?;
    Ok(fields.optional(tag::context(0))?.map(|id| id.content))
}

/// An IssuingDistributionPoint (§5.2.5).
#[derive(Debug, Default)]
pub(super) struct IssuingPoint {
    pub(super) holders: CrlHolders,
    pub(super) points: Vec<Box<[u8]>>,
    /// Named relative to the CRL issuer.
    pub(super) relative: bool,
    pub(super) some_reasons: bool,
    pub(super) indirect: bool,
    pub(super) attribute_certificates: bool,
}

pub(super) fn issuing_point(value: &[u8]) -> Result<IssuingPoint, NotDer> {
    let mut value = Reader::new(value);
    let mut fields = Reader::new(value.expect(tag::SEQUENCE)?.content);
    value.end()?;
    let mut point = IssuingPoint::default();
    if let Some(name) = fields.optional(tag::context_constructed(0))? {
        point.relative = !point_names(name.content, &mut point.points)?;
    }
    let mut flag = |number| match fields.optional(tag::context(number))? {
        Some(flag) => boolean(flag.content),
        None => Ok(false),
    };
    let (users, authorities) = (flag(1)?, flag(2)?);
    point.some_reasons = fields.optional(tag::context(3))?.is_some();
    let mut flag = |number| match fields.optional(tag::context(number))? {
        Some(flag) => boolean(flag.content),
        None => Ok(false),
    };
    point.indirect = flag(4)?;
    point.attribute_certificates = flag(5)?;
    fields.end()?;
    point.holders = match (users, authorities, point.attribute_certificates) {
        (true, false, false) => CrlHolders::Users,
        (false, true, false) => CrlHolders::Authorities,
        (false, false, _) => CrlHolders::All,
        // At most one of them may be true.
        _ => return Err(NotDer),
    };
    Ok(point)
}

/// Adds the names of `DistributionPointName ::= CHOICE { fullName [0], nameRelativeToCRLIssuer [1] }`; false:
/// relative.
fn point_names(name: &[u8], into: &mut Vec<Box<[u8]>>) -> Result<bool, NotDer> {
    let mut name = Reader::new(name);
    let choice = name.element()?;
    name.end()?;
    if choice.tag == tag::context_constructed(1) {
        return Ok(false);
    }
    if choice.tag != tag::context_constructed(0) {
        return Err(NotDer);
    }
    let mut names = Reader::new(choice.content);
    while !names.is_empty() {
        into.push(names.element()?.whole.into());
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DER element of less than 128 octets.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, content.len() as u8], content].concat()
    }

    #[test]
    fn object_identifiers_read_as_dotted_numbers() {
        for (octets, expected) in [
            (oid::CRL_NUMBER, "2.5.29.20"),
            (&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37][..], "1.3.6.1.4.1.311"),
            (&[0x88, 0x37], "2.999"),
            (&[], "0.0"),
        ] {
            assert_eq!(oid::text(octets), expected);
        }
    }

    #[test]
    fn issuing_points_speak_for_one_kind_of_holder_at_most() {
        let flag = |number: u8| element(0x80 | number, &[0xff]);
        for (what, fields, expected) in [
            ("empty", vec![], Ok(CrlHolders::All)),
            ("users", flag(1), Ok(CrlHolders::Users)),
            ("authorities", flag(2), Ok(CrlHolders::Authorities)),
            ("both", [flag(1), flag(2)].concat(), Err(NotDer)),
            ("users and attribute certificates", [flag(1), flag(5)].concat(), Err(NotDer)),
            ("out of order", [flag(2), flag(1)].concat(), Err(NotDer)),
            ("unknown field", flag(6), Err(NotDer)),
            ("true that is not DER", element(0x81, &[1]), Err(NotDer)),
        ] {
            let read = issuing_point(&element(0x30, &fields)).map(|point| point.holders);
            assert_eq!(read, expected, "{what}");
        }
    }
}
