//! Heads of answers, and field sections at large.

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode};
use memchr::memchr;

use super::{Fault, Length, Limits};

/// What every answer begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// The head of a final answer, or of the one that ends HTTP on its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Not an interim one; 101 only where it was asked for.
    pub status: StatusCode,
    /// As they came; their values are slices of the buffer that they were read into.
    pub headers: HeaderMap,
    /// What follows.
    pub length: Length,
    /// Whether another request may follow on the connection.
    pub keeps: bool,
}

/// Waits for the head of the answer to one request, and passes over interim answers.
#[derive(Clone, Debug)]
pub struct HeadReader {
    limits: Limits,
    to_head: bool,
    /// The protocol that the request would have the connection go on with.
    upgrade: Option<HeaderValue>,
    lines: Lines,
    interim: usize,
    continued: bool,
}

impl HeadReader {
    /// A reader of the answer to a request of this method, which asks to go on with another protocol or with none.
    pub fn new(method: &Method, upgrade: Option<HeaderValue>, limits: Limits) -> Self {
        Self {
            limits,
            to_head: method == Method::HEAD,
            upgrade,
            lines: Lines::default(),
            interim: 0,
            continued: false,
        }
    }

    /// Takes the head off the buffer once it is whole. To be called again when there are more bytes.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Head>, Fault> {
        loop {
            let begin = buffer.len().min(VERSION.len());
            if buffer[..begin] != VERSION[..begin] {
                return Err(Fault::NotHttp);
            }
            let bytes_max = self.limits.head_bytes_max;
            let Some(end) = self.lines.section(buffer, bytes_max, Fault::HeadBytesMax(bytes_max))? else {
                return Ok(None);
            };
            let head = self.parse(&buffer.split_to(end).freeze())?;
            if !head.status.is_informational() || self.switches(&head)? {
                return Ok(Some(head));
            }
            self.pass(&head)?;
        }
    }

    /// Whether the backend has asked for the request's body (RFC 9110 §15.2.1).
    pub fn continued(&self) -> bool {
        self.continued
    }

    /// Whether the connection goes on with another protocol: the one that was asked for, or it is at fault (RFC 9110
    /// §7.8, §15.2.2).
    fn switches(&self, head: &Head) -> Result<bool, Fault> {
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(false);
        }
        let mut named = head.headers.get_all(UPGRADE).iter();
        match (&self.upgrade, named.next(), named.next()) {
            (Some(asked), Some(named), None)
                if head.keeps
                    && named.as_bytes().eq_ignore_ascii_case(asked.as_bytes())
                    && options(&head.headers).any(|option| option.eq_ignore_ascii_case(b"upgrade")) =>
            {
                Ok(true)
            }
            _ => Err(Fault::Switched),
        }
    }

    fn pass(&mut self, head: &Head) -> Result<(), Fault> {
        self.interim += 1;
        if self.interim > self.limits.interim_max {
            return Err(Fault::InterimMax(self.limits.interim_max));
        }
        self.continued |= head.status == StatusCode::CONTINUE;
        Ok(())
    }

    fn parse(&self, bytes: &Bytes) -> Result<Head, Fault> {
        let line = memchr(b'\n', bytes).map_or(0, |feed| feed + 1);
        let (status, minor) = status_line(&bytes[..line.saturating_sub(2)])?;
        let headers = fields(bytes, line, self.limits.fields_max)?;
        let length = length(&headers, status, minor, self.to_head)?;
        let keeps = minor == b'1' && length != Length::UntilClose && !closes(&headers);
        Ok(Head { status, headers, length, keeps })
    }
}

/// Finds the end of a section of lines, however often it has to be called for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// What has been looked at.
    seen: usize,
    /// Where the line that is being looked at begins.
    line: usize,
}

impl Lines {
    /// The place behind the empty line that ends the section, once it is there, and at most `bytes_max`.
    pub(super) fn section(
        &mut self,
        buffer: &[u8],
        bytes_max: usize,
        too_long: Fault,
    ) -> Result<Option<usize>, Fault> {
        let window = &buffer[..buffer.len().min(bytes_max)];
        while let Some(at) = memchr(b'\n', &window[self.seen..]) {
            let feed = self.seen + at;
            // A line feed that ends no line here may end one for somebody else.
            if feed == self.line || window[feed - 1] != b'\r' {
                return Err(Fault::LineEnd);
            }
            self.seen = feed + 1;
            if feed - 1 == self.line {
                *self = Self::default();
                return Ok(Some(feed + 1));
            }
            self.line = self.seen;
        }
        self.seen = window.len();
        if window.len() == bytes_max { Err(too_long) } else { Ok(None) }
    }
}

/// RFC 9112 §4. Without a reason phrase the space before it may be missing too: some leave it out, and nothing hangs on it.
fn status_line(line: &[u8]) -> Result<(StatusCode, u8), Fault> {
    let rest = line.strip_prefix(VERSION).ok_or(Fault::NotHttp)?;
    let [minor @ (b'0' | b'1'), b' ', a, b, c, phrase @ ..] = rest else { return Err(Fault::StatusLine) };
    let status = StatusCode::from_bytes(&[*a, *b, *c]).map_err(|_| Fault::StatusLine)?;
    match phrase {
        [] => {}
        [b' ', text @ ..] if text.iter().all(|byte| is_text(*byte)) => {}
        _ => return Err(Fault::StatusLine),
    }
    Ok((status, *minor))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The fields of a section that [`Lines`] has found the end of, from a place in it on (RFC 9112 §5).
pub(super) fn fields(bytes: &Bytes, from: usize, fields_max: usize) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    let mut at = from;
    let mut count = 0;
    while let Some(feed) = memchr(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + feed - 1];
        let Some(first) = line.first() else { break };
        if matches!(first, b' ' | b'\t') {
            return Err(Fault::Folded);
        }
        count += 1;
        if count > fields_max {
            return Err(Fault::FieldsMax(fields_max));
        }
        let colon = memchr(b':', line).ok_or(Fault::FieldName)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| Fault::FieldName)?;
        let value = trimmed(&line[colon + 1..]);
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).map_err(|_| Fault::FieldValue)?;
        headers.try_append(name, value).map_err(|_| Fault::FieldsMax(fields_max))?;
        at += feed + 1;
    }
    Ok(headers)
}

/// Without the white space that may surround a value (RFC 9110 §5.6.3).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9112 §6.3, without what it leaves to the recipient's goodwill.
fn length(headers: &HeaderMap, status: StatusCode, minor: u8, to_head: bool) -> Result<Length, Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") && minor == b'1' => true,
        _ => return Err(Fault::TransferEncoding),
    };
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let exact = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(length), None) => Some(number(length.as_bytes()).ok_or(Fault::ContentLength)?),
        _ => return Err(Fault::ContentLength),
    };
    if chunked && exact.is_some() {
        return Err(Fault::TwoLengths);
    }
    let has_none = status.is_informational() || status == StatusCode::NO_CONTENT;
    if has_none && (chunked || exact.is_some_and(|exact| exact > 0)) {
        return Err(Fault::UnexpectedBody);
    }
    Ok(match exact {
        _ if has_none || to_head || status == StatusCode::NOT_MODIFIED => Length::None,
        _ if chunked => Length::Chunked,
        Some(exact) => Length::Exact(exact),
        None => Length::UntilClose,
    })
}

/// Digits and nothing else, so few that the number cannot be too large.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u64::from(digit - b'0')),
        _ => None,
    })
}

/// RFC 9112 §9.6
fn closes(headers: &HeaderMap) -> bool {
    options(headers).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// What the connection is to do, and the fields that are for it alone (RFC 9110 §7.6.1).
fn options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lists = headers.get_all(CONNECTION).iter();
    lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}
