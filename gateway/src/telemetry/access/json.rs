//! JSON objects written straight into a byte buffer: no tree, no allocation beyond the buffer.

/// Writes one object after another; members are separated as they come.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of the buffer.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A member that is an object itself. It is left out when `members` writes nothing.
    pub(super) fn object(&mut self, name: &str, members: impl FnOnce(&mut Object<'_>)) {
        let (before, was_empty) = (self.out.len(), self.empty);
        self.name(name);
        let mut inner = Object::begin(self.out);
        members(&mut inner);
        let nothing = inner.empty;
        inner.end();
        if nothing {
            self.out.truncate(before);
            self.empty = was_empty;
        }
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        escape(self.out, value);
        self.out.push(b'"');
    }

    /// A text if there is one.
    pub(super) fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        decimal(self.out, value);
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Milliseconds with three decimals, without going through floating point.
    pub(super) fn millis(&mut self, name: &str, value: std::time::Duration) {
        self.name(name);
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        decimal(self.out, micros / 1000);
        self.out.push(b'.');
        digits(self.out, micros % 1000, 3);
    }

    /// A text that is known to need no escapes, written by `value`.
    pub(super) fn plain(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        self.out.push(b'"');
        value(self.out);
        self.out.push(b'"');
    }

    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// RFC 8259 §7: quotation mark, reverse solidus and the control characters must be escaped; DEL is as well, since
/// terminals act on it.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1f | 0x7f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        if short == 0 {
            out.extend_from_slice(b"\\u00");
            hex(out, *byte);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

pub(super) fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// A number with leading zeros.
pub(super) fn digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn decimal(out: &mut Vec<u8>, value: u64) {
    let width = value.checked_ilog10().map_or(1, |log| log as usize + 1);
    digits(out, value, width);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn object(members: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        members(&mut object);
        object.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes() {
        for (description, text, json) in [
            ("plain", "plain", r#""plain""#),
            ("quote and backslash", r#"a"b\c"#, r#""a\"b\\c""#),
            ("line breaks cannot end a line", "a\nb\rc\td", r#""a\nb\rc\td""#),
            ("other controls", "\0\u{1b}[31m\u{7f}", r#""\u0000\u001b[31m\u007f""#),
            ("beyond ASCII", "Zürich – 東京", r#""Zürich – 東京""#),
            ("empty", "", r#""""#),
            ("at the ends", "\"x\"", r#""\"x\"""#),
        ] {
            assert_eq!(object(|o| o.text("t", text)), format!(r#"{{"t":{json}}}"#), "{description}");
        }
    }

    #[test]
    fn members() {
        let text = object(|o| {
            o.number("zero", 0);
            o.number("max", u64::MAX);
            o.object("nothing", |_| {});
            o.object("inner", |o| {
                o.boolean("yes", true);
                o.object("deep", |o| o.boolean("no", false));
            });
            o.millis("ms", Duration::from_micros(12_045));
            o.text_if("none", None);
        });
        let expected =
            r#"{"zero":0,"max":18446744073709551615,"inner":{"yes":true,"deep":{"no":false}},"ms":12.045}"#;
        assert_eq!(text, expected);
        assert_eq!(object(|o| o.object("nothing", |_| {})), "{}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC*|[\\x00-\\x7f]{0,20}", number: u64) {
            let json = object(|o| { o.text("t", &text); o.number("n", number) });
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["t"].as_str(), Some(&*text));
            prop_assert_eq!(value["n"].as_u64(), Some(number));
        }
    }
}
