//! The alphabets of a message, and a field line.

use memchr::memchr;

use super::Fault;

/// RFC 9110 §5.6.2
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~", true);
/// RFC 3986 §3.3, and what browsers leave as it is in a path. A backslash, which some take for a slash, is not among it.
const PATH: [bool; 256] = table(b"/!$&'()*+,;=:@%-._~[]|^\"{}", true);
/// RFC 3986 §3.4, and what browsers leave as it is in a query.
const QUERY: [bool; 256] = table(b"/?!$&'()*+,;=:@%-._~[]|^\\`{}", true);

const fn table(others: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = alphanumeric && (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut place = 0;
    while place < others.len() {
        table[others[place] as usize] = true;
        place += 1;
    }
    table
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// A path and, behind the first question mark, a query. No fragment: what a client keeps to itself.
pub(super) fn is_path_and_query(bytes: &[u8]) -> bool {
    let end = memchr(b'?', bytes).unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(end);
    path.iter().all(|byte| PATH[usize::from(*byte)]) && query.iter().all(|byte| QUERY[usize::from(*byte)])
}

/// Whether bytes may stand in a field's value: no control byte but the tab (RFC 9110 §5.5). Without a branch in the
/// loop, so that it takes many bytes at once.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    !bytes.iter().fold(false, |found, byte| found | control(*byte))
}

/// Name and value of a field line.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Fault::Fold);
    }
    let colon = memchr(b':', line).ok_or(Fault::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(Fault::FieldName);
    }
    if !is_text(value) {
        return Err(Fault::FieldValue);
    }
    Ok((name, value))
}

/// Fields that say where a request ends or whom it is for.
pub(super) fn is_framing(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding", b"host"]
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
}

/// RFC 9110 §5.6.3
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}
