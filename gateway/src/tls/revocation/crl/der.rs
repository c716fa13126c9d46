//! A reader of DER (X.690 §10) over borrowed bytes: one element at a time, definite and minimal lengths only.
//!
//! It allocates nothing and cannot run past its input; what the octets mean is left to the caller.

/// Universal and context tags as they stand on the wire.
pub(super) mod tag {
    pub(in super::super) const BOOLEAN: u8 = 0x01;
    pub(in super::super) const INTEGER: u8 = 0x02;
    pub(in super::super) const BIT_STRING: u8 = 0x03;
    pub(in super::super) const OCTET_STRING: u8 = 0x04;
    pub(in super::super) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(in super::super) const ENUMERATED: u8 = 0x0a;
    pub(in super::super) const UTC_TIME: u8 = 0x17;
    pub(in super::super) const GENERALIZED_TIME: u8 = 0x18;
    pub(in super::super) const SEQUENCE: u8 = 0x30;

    /// `[number]` over a primitive type, implicit.
    pub(in super::super) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// `[number]`, constructed.
    pub(in super::super) const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// The input is not DER, or not the element that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDer;

/// One element: its tag, its content, and the whole of it with tag and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is.
    pub(super) fn element(&mut self) -> Result<Element<'a>, NotDer> {
        let (&tag, rest) = self.0.split_first().ok_or(NotDer)?;
        // Tag numbers above 30 take several octets; no element of a CRL has one.
        if tag & 0x1f == 0x1f {
            return Err(NotDer);
        }
        let (&first, rest) = rest.split_first().ok_or(NotDer)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => long_length(usize::from(first & 0x7f), rest)?,
            // Indefinite, or more octets than any input within the size limit needs.
            _ => return Err(NotDer),
        };
        let (content, after) = rest.split_at_checked(length).ok_or(NotDer)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Ok(Element { tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Element<'a>, NotDer> {
        match self.element()? {
            element if element.tag == tag => Ok(element),
            _ => Err(NotDer),
        }
    }

    /// The next element if it has this tag; otherwise nothing is read.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, NotDer> {
        match self.0.first() {
            Some(&next) if next == tag => self.element().map(Some),
            _ => Ok(None),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), NotDer> {
        if self.0.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// A length of `octets` octets (X.690 §8.1.3.5); DER wants the shortest form (§10.1).
fn long_length(octets: usize, rest: &[u8]) -> Result<(usize, &[u8]), NotDer> {
    let (length, rest) = rest.split_at_checked(octets).ok_or(NotDer)?;
    if length[0] == 0 {
        return Err(NotDer);
    }
    let length = length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    if length < 0x80 { Err(NotDer) } else { Ok((length, rest)) }
}

/// The content octets of an INTEGER: at least one, and no more than needed (X.690 §8.3.2).
pub(super) fn integer(content: &[u8]) -> Result<&[u8], NotDer> {
    match content {
        [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => Err(NotDer),
        _ => Ok(content),
    }
}

/// A non-negative INTEGER without its leading zero octet (so zero is empty).
pub(super) fn natural(content: &[u8]) -> Result<&[u8], NotDer> {
    match integer(content)? {
        [0x80..=0xff, ..] => Err(NotDer),
        [0, rest @ ..] => Ok(rest),
        content => Ok(content),
    }
}

/// A BOOLEAN (X.690 §11.1).
pub(super) fn boolean(content: &[u8]) -> Result<bool, NotDer> {
    match content {
        [0] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(NotDer),
    }
}

/// A BIT STRING of whole octets, as signatures are.
pub(super) fn octet_bits(content: &[u8]) -> Result<&[u8], NotDer> {
    match content {
        [0, bits @ ..] => Ok(bits),
        _ => Err(NotDer),
    }
}

/// UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 allows them (seconds, `Z`, no fraction), in Unix seconds.
pub(super) fn time(element: &Element<'_>) -> Result<i64, NotDer> {
    let (year, rest) = match element.tag {
        tag::UTC_TIME => {
            let (year, rest) = digits(element.content, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        tag::GENERALIZED_TIME => digits(element.content, 4)?,
        _ => return Err(NotDer),
    };
    let (month, rest) = digits(rest, 2)?;
    let (day, rest) = digits(rest, 2)?;
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest, 2)?;
    let (second, rest) = digits(rest, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let sane = (1..=12).contains(&month) && (1..=days).contains(&day) && hour < 24 && minute < 60;
    // A leap second is told as the second before it.
    if rest != b"Z" || !sane || second > 60 {
        return Err(NotDer);
    }
    Ok(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second.min(59))
}

fn digits(bytes: &[u8], count: usize) -> Result<(i64, &[u8]), NotDer> {
    let (head, rest) = bytes.split_at_checked(count).ok_or(NotDer)?;
    if !head.iter().all(u8::is_ascii_digit) {
        return Err(NotDer);
    }
    Ok((head.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')), rest))
}

/// Days from 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_definite_and_minimal() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        for (what, bytes, good) in [
            ("empty input", &[][..], false),
            ("tag alone", &[0x30], false),
            ("empty sequence", &[0x30, 0x00], true),
            ("content cut short", &[0x04, 0x02, 0x01], false),
            ("indefinite", &[0x30, 0x80, 0x00, 0x00], false),
            ("long form where short would do", &[0x04, 0x81, 0x01, 0x00], false),
            ("long form", &long, true),
            ("leading zero in the length", &[0x04, 0x82, 0x00, 0x80], false),
            ("length of the whole address space", &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff], false),
            ("nine octets of length", &[0x04, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1], false),
            ("tag of several octets", &[0x1f, 0x81, 0x01, 0x00], false),
        ] {
            assert_eq!(Reader::new(bytes).element().is_ok(), good, "{what}");
        }
    }

    #[test]
    fn integers_are_minimal_and_naturals_not_negative() {
        for (what, content, expected) in [
            ("no octets", &[][..], Err(NotDer)),
            ("zero", &[0], Ok(&[][..])),
            ("one", &[1], Ok(&[1][..])),
            ("high bit needs a zero", &[0, 0x80], Ok(&[0x80][..])),
            ("needless zero", &[0, 1], Err(NotDer)),
            ("negative", &[0x80], Err(NotDer)),
            ("needless sign octet", &[0xff, 0xff], Err(NotDer)),
        ] {
            assert_eq!(natural(content), expected, "{what}");
        }
    }

    #[test]
    fn times() {
        for (tag, text, expected) in [
            (tag::UTC_TIME, "700101000000Z", Ok(0)),
            (tag::UTC_TIME, "491231235959Z", Ok(2_524_607_999)),
            (tag::UTC_TIME, "500101000000Z", Ok(-631_152_000)),
            (tag::GENERALIZED_TIME, "20000229120000Z", Ok(951_825_600)),
            (tag::GENERALIZED_TIME, "99991231235959Z", Ok(253_402_300_799)),
            (tag::GENERALIZED_TIME, "19000229000000Z", Err(NotDer)),
            (tag::GENERALIZED_TIME, "00000101000000Z", Ok(-62_167_219_200)),
            (tag::GENERALIZED_TIME, "20250101000000.5Z", Err(NotDer)),
            (tag::GENERALIZED_TIME, "20250101000000+0100", Err(NotDer)),
            (tag::UTC_TIME, "2501010000Z", Err(NotDer)),
            (tag::UTC_TIME, "251301000000Z", Err(NotDer)),
            (tag::UTC_TIME, "250001000000Z", Err(NotDer)),
            (tag::UTC_TIME, "25010100000aZ", Err(NotDer)),
            (tag::OCTET_STRING, "700101000000Z", Err(NotDer)),
        ] {
            let element = Element { tag, content: text.as_bytes(), whole: &[] };
            assert_eq!(time(&element), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn elements_tile_the_input(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new(&bytes);
            let mut read = 0;
            while let Ok(element) = reader.element() {
                prop_assert!(element.whole.ends_with(element.content));
                read += element.whole.len();
            }
            prop_assert!(read <= bytes.len());
        }
    }
}
