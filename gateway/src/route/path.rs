//! Paths that a backend may take for other ones than the rules did.
//!
//! Rules compare paths byte by byte, and what was compared is what is forwarded. A backend that decodes or resolves a
//! path before it looks (`/public/..%2fadmin`, `/%61dmin`) then serves what another rule is for. Such a path is told
//! here; whether it matters is for whoever asks: not where no rule looks at paths.

use std::fmt;

/// What of a path another reader may read in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// `.` or `..` as a segment, in any spelling (RFC 3986 §3.3), with parameters or without.
    DotSegment,
    /// A slash or backslash, encoded.
    EncodedSlash,
    /// A backslash, which some take for a slash.
    Backslash,
    /// A zero byte, encoded, where some take the path to end.
    EncodedNull,
    /// A letter, digit, `-`, `.`, `_` or `~`, encoded: it means the same as the plain one (RFC 3986 §2.3).
    EncodedPlain,
    /// Another rule takes it where it is read without empty segments, without parameters, or with delimiters decoded.
    OtherRule,
    /// A percent sign that begins no encoding: the next one to encode or decode makes something of it.
    Percent,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DotSegment => "the path has a dot segment",
            Self::EncodedSlash => "the path has an encoded slash or backslash",
            Self::Backslash => "the path has a backslash",
            Self::EncodedNull => "the path has an encoded zero byte",
            Self::EncodedPlain => "the path encodes what needs no encoding",
            Self::OtherRule => {
                "the path is another rule's without empty segments, parameters and encoded delimiters"
            }
            Self::Percent => "the path has a percent sign without two hexadecimal digits",
        })
    }
}

/// The first thing in a path that another reader may read in another way.
pub fn ambiguity(path: &str) -> Option<Ambiguity> {
    // Nothing of the kind goes without one of these, and most paths have none.
    if !path.bytes().any(|byte| matches!(byte, b'%' | b'.' | b'\\')) {
        return None;
    }
    path.split('/').find_map(segment)
}

/// How else a path is read by those who merge slashes, leave parameters (`;…`) out, or decode delimiters (RFC 3986 §2.2)
/// before they look. Much of that is in use: whether it matters is a question of where it leads.
pub fn readings(path: &str) -> impl Iterator<Item = String> {
    let may_differ = path.contains("//") || path.bytes().any(|byte| matches!(byte, b'%' | b';'));
    let ways = if may_differ { 1..8u8 } else { 0..0 };
    let read = |way: u8| {
        let mut reading = if way & 1 == 0 { path.to_owned() } else { decoded(path) };
        if way & 2 != 0 {
            let segments = reading.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
            reading = segments.collect::<Vec<_>>().join("/");
        }
        if way & 4 != 0 {
            while reading.contains("//") {
                reading = reading.replace("//", "/");
            }
        }
        reading
    };
    ways.map(read).filter(move |reading| reading != path)
}

/// With its delimiters decoded, and the other encodings in capital letters.
fn decoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let mut digits = behind.bytes();
        rest = match (digits.next().and_then(hex), digits.next().and_then(hex)) {
            (Some(high), Some(low)) => {
                let (encoded, behind) = behind.split_at(2);
                let byte = high << 4 | low;
                if b"!$&'()*+,;=:@".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    out.push('%');
                    out.push_str(&encoded.to_ascii_uppercase());
                }
                behind
            }
            _ => {
                out.push('%');
                behind
            }
        };
    }
    out.push_str(rest);
    out
}

fn segment(segment: &str) -> Option<Ambiguity> {
    let mut bytes = segment.bytes();
    // As it reads decoded, without its parameters, as long as there are only dots.
    let (mut dots, mut only_dots, mut in_parameters) = (0, true, false);
    let mut found = None;
    while let Some(byte) = bytes.next() {
        let (byte, ambiguity) = match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => encoded(high << 4 | low),
                _ => (b'%', Some(Ambiguity::Percent)),
            },
            b'\\' => (byte, Some(Ambiguity::Backslash)),
            byte => (byte, None),
        };
        found = found.or(ambiguity);
        in_parameters |= byte == b';';
        match byte {
            _ if in_parameters => {}
            b'.' => dots += 1,
            _ => only_dots = false,
        }
    }
    if only_dots && matches!(dots, 1 | 2) { Some(Ambiguity::DotSegment) } else { found }
}

/// A byte that came encoded, and what is wrong with that.
fn encoded(byte: u8) -> (u8, Option<Ambiguity>) {
    let ambiguity = match byte {
        0 => Some(Ambiguity::EncodedNull),
        b'/' | b'\\' => Some(Ambiguity::EncodedSlash),
        b'-' | b'.' | b'_' | b'~' => Some(Ambiguity::EncodedPlain),
        byte if byte.is_ascii_alphanumeric() => Some(Ambiguity::EncodedPlain),
        _ => None,
    };
    (byte, ambiguity)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths() {
        use Ambiguity::*;
        for (path, expected) in [
            ("/", None),
            ("", None),
            ("*", None),
            ("/a/b.html", None),
            ("/.well-known/x", None),
            ("/...", None),
            ("/a..b/..c/d..", None),
            ("/a;v=1/b", None),
            ("/;..", None),
            ("/sm%C3%B8r/%20%25%3F%23%40%3B", None),
            ("/.", Some(DotSegment)),
            ("/./a", Some(DotSegment)),
            ("/..", Some(DotSegment)),
            ("/a/../b", Some(DotSegment)),
            ("/a/%2e%2E/b", Some(DotSegment)),
            ("/a/.%2e", Some(DotSegment)),
            ("/a/%2e", Some(DotSegment)),
            ("/a/..;x/b", Some(DotSegment)),
            ("/a/..%3bx/b", Some(DotSegment)),
            ("/a/.;/b", Some(DotSegment)),
            ("/a%2fb", Some(EncodedSlash)),
            ("/a%2Fb", Some(EncodedSlash)),
            ("/a%5cb", Some(EncodedSlash)),
            ("/a%5C..%5Cb", Some(EncodedSlash)),
            ("/..%2fa", Some(EncodedSlash)),
            ("/a\\b", Some(Backslash)),
            ("/..\\a", Some(Backslash)),
            ("/a%00.html", Some(EncodedNull)),
            ("/%61dmin", Some(EncodedPlain)),
            ("/a%2Eb", Some(EncodedPlain)),
            ("/%7Ea", Some(EncodedPlain)),
            ("/a%", Some(Percent)),
            ("/a%2", Some(Percent)),
            ("/%zz", Some(Percent)),
            ("/%%32f", Some(Percent)),
        ] {
            assert_eq!(ambiguity(path), expected, "{path:?}");
        }
    }

    #[test]
    fn other_readings() {
        for (path, expected) in [
            ("/", &[][..]),
            ("/a/b", &[]),
            ("/a%20b", &[]),
            ("//a", &["/a"]),
            ("/a///b//", &["/a/b/"]),
            ("/x/https://a.test", &["/x/https:/a.test"]),
            ("/a;v=1/b", &["/a/b"]),
            ("/a%3bv/b", &["/a/b", "/a;v/b"]),
            ("/a%40b", &["/a@b"]),
            ("/sm%c3%b8r", &["/sm%C3%B8r"]),
            ("//a%2c", &["/a%2c", "/a,", "//a,"]),
            ("/%", &[]),
            ("/%e", &[]),
            ("/%é", &[]),
        ] {
            let mut found: Vec<String> = readings(path).collect();
            found.sort();
            found.dedup();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{path:?}");
        }
    }

    /// The bytes, where the octets of these escapes stand instead of them.
    fn decoded(text: &str, which: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut decoded = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let mut ahead = bytes.clone();
            match (byte, ahead.next().and_then(hex), ahead.next().and_then(hex)) {
                (b'%', Some(high), Some(low)) if which(high << 4 | low) => {
                    decoded.push(high << 4 | low);
                    bytes = ahead;
                }
                _ => decoded.push(byte),
            }
        }
        decoded
    }

    /// What a backend makes of a path that decodes it and then resolves it as RFC 3986 §5.2.4 has it, backslashes too.
    fn resolved(path: &str) -> Vec<Vec<u8>> {
        let decoded = decoded(path, |_| true);
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
            match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
                b"." => {}
                b".." => drop(segments.pop()),
                _ => segments.push(segment.to_vec()),
            }
        }
        segments
    }

    proptest! {
        #[test]
        fn the_others_have_the_segments_that_they_show(path in "(/(\\.|%2[eEfF]|%5[cC]|%00|%61|%25|%|;|\\\\|[a-c]){0,6}){1,4}") {
            if ambiguity(&path).is_none() {
                // A path has no other way to show a percent sign, nor what is not ASCII.
                let escaped = |octet: u8| octet == b'%' || !octet.is_ascii();
                let shown: Vec<Vec<u8>> = path.split('/').map(|segment| decoded(segment, escaped)).collect();
                prop_assert_eq!(resolved(&path), shown);
            }
        }
    }
}
