//! A request's head, line by line as it comes.

use std::ops::Range;

use memchr::memchr;

use super::{Fault, LENGTH_MAX, Limits, line, syntax};
use crate::http::authority::{Authority, AuthorityError};

/// The longest registered method has 17.
const METHOD_BYTES_MAX: usize = 32;
/// Digits of the largest length.
const LENGTH_DIGITS_MAX: usize = 19;
/// What the log shows of a request without a sound request line. No client can send it: `*` is for OPTIONS alone.
const NO_REQUEST_LINE: &[u8] = b"- * HTTP/1.1";

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
    /// There is no body, and perhaps no further request: this one asks to leave HTTP (RFC 9110 §7.8).
    Asked,
}

/// What has been read of a head. Ranges are those of the bytes that it began with.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Its complete lines end here.
    read: usize,
    /// No line end from there up to here.
    searched: usize,
    /// Whether an empty line stood before it (RFC 9112 §2.2).
    blank: bool,
    request: Option<RequestLine>,
    fields: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    is_chunked: bool,
    asks_upgrade: bool,
}

#[derive(Clone, Debug)]
struct RequestLine {
    whole: Range<usize>,
    /// Of a target in absolute-form.
    authority: Option<Range<usize>>,
    is_http10: bool,
}

impl Head {
    /// Whether there is a byte of it.
    pub(super) fn has_begun(&self) -> bool {
        self.read > 0 && self.request.is_some() || self.searched > 0
    }

    /// Reads on; the head's length and its body's, once it is there as a whole.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        default_port: u16,
    ) -> Result<Option<(usize, Length)>, Fault> {
        while self.request.is_none() {
            if !self.read_request_line(bytes, limits)? {
                return Ok(None);
            }
        }
        loop {
            let room = limits.head_bytes_max.saturating_sub(self.read);
            let from = self.read;
            let Some((line, length)) = line(&bytes[from..], &mut self.searched, room, Fault::HeadTooLarge)?
            else {
                return Ok(None);
            };
            if line.is_empty() {
                return Ok(Some((from + length, self.body(bytes, default_port)?)));
            }
            let (name, value) = syntax::field(line)?;
            self.fields += 1;
            if self.fields > limits.fields_max {
                return Err(Fault::TooManyFields);
            }
            // Names of other lengths have no say.
            if matches!(name.len(), 4 | 7 | 14 | 17) {
                let start = from + line.len() - value.len();
                self.note(name, value, start)?;
            }
            self.next_line(length);
        }
    }

    /// Reads the request line, or an empty line before it; whether there was one.
    fn read_request_line(&mut self, bytes: &[u8], limits: &Limits) -> Result<bool, Fault> {
        let from = self.read;
        // Whoever speaks another protocol need not be waited for.
        match bytes.get(from) {
            None => return Ok(false),
            Some(b'\r') if !self.blank => {}
            Some(first) if syntax::is_token_byte(*first) => {}
            Some(b'\n') => return Err(Fault::LineEnd),
            Some(_) => return Err(Fault::RequestLine),
        }
        let frame = METHOD_BYTES_MAX + " ".len() + " HTTP/1.1\r\n".len();
        let room = (limits.target_bytes_max + frame).min(limits.head_bytes_max.saturating_sub(from));
        let Some((line, length)) = line(&bytes[from..], &mut self.searched, room, Fault::TargetTooLong)?
        else {
            return Ok(false);
        };
        if line.is_empty() {
            self.blank = true;
        } else {
            self.request = Some(RequestLine::parse(line, from, limits.target_bytes_max)?);
        }
        self.next_line(length);
        Ok(true)
    }

    fn next_line(&mut self, length: usize) {
        self.read += length;
        self.searched = 0;
    }

    /// Notes a field that frames the request, names its host, or asks for another protocol.
    fn note(&mut self, name: &[u8], value: &[u8], start: usize) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case(b"host") {
            if self.host.is_some() {
                return Err(Fault::HostRepeated);
            }
            let host = syntax::trim(value);
            authority(host)?;
            let start = start + value.len() - value.trim_ascii_start().len();
            self.host = Some(start..start + host.len());
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Fault::LengthRepeated);
            }
            self.length = Some(length(syntax::trim(value))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked {
                return Err(Fault::CodingRepeated);
            }
            if syntax::trim(value) != b"chunked" {
                return Err(Fault::Coding);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.asks_upgrade = true;
        }
        Ok(())
    }

    /// At the end of the head: what its lines say together.
    fn body(&self, bytes: &[u8], default_port: u16) -> Result<Length, Fault> {
        let request = self.request.as_ref().ok_or(Fault::RequestLine)?;
        let host = self.host.clone().map(|host| authority(&bytes[host])).transpose()?;
        let target = request.authority.clone().map(|target| authority(&bytes[target])).transpose()?;
        match (host, target) {
            (None, _) if !request.is_http10 => return Err(Fault::HostMissing),
            (Some(host), Some(target)) if !same(host, target, default_port) => {
                return Err(Fault::HostContradicts);
            }
            _ => {}
        }
        match (self.length, self.is_chunked) {
            (_, true) if request.is_http10 => Err(Fault::CodingInHttp10),
            (Some(_), true) => Err(Fault::LengthBesideCoding),
            (_, true) => Ok(Length::Chunked),
            (None | Some(0), false) if self.asks_upgrade => Ok(Length::Asked),
            (length, false) => Ok(Length::Known(length.unwrap_or(0))),
        }
    }

    /// A request in this one's place, made of its sound parts.
    pub(super) fn stand_in(&self, bytes: &[u8]) -> Vec<u8> {
        let line = self.request.as_ref().map_or(NO_REQUEST_LINE, |request| &bytes[request.whole.clone()]);
        let mut whole = Vec::with_capacity(line.len() + 300);
        whole.extend_from_slice(line);
        if let Some(host) = &self.host {
            whole.extend_from_slice(b"\r\nhost: ");
            whole.extend_from_slice(&bytes[host.clone()]);
        }
        whole.extend_from_slice(b"\r\n\r\n");
        whole
    }
}

impl RequestLine {
    /// Reads `METHOD TARGET VERSION` (RFC 9112 §3), which begins at `from`.
    fn parse(line: &[u8], from: usize, target_bytes_max: usize) -> Result<Self, Fault> {
        let space = memchr(b' ', line).ok_or(Fault::RequestLine)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        if !syntax::is_token(method) || method.len() > METHOD_BYTES_MAX {
            return Err(Fault::Method);
        }
        let space = memchr(b' ', rest).ok_or(Fault::RequestLine)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        if target.len() > target_bytes_max {
            return Err(Fault::TargetTooLong);
        }
        let is_http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Fault::Version),
        };
        let start = from + method.len() + 1;
        let authority = authority_of(method, target)?.map(|part| start + part.start..start + part.end);
        Ok(Self { whole: from..from + line.len(), authority, is_http10 })
    }
}

/// Checks a target in any of its four forms (RFC 9112 §3.2); where the authority of an absolute-form is.
fn authority_of(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, Fault> {
    if method == b"CONNECT" {
        let (_, port) = authority(target).map_err(|_| Fault::Target)?;
        return port.map(|_| None).ok_or(Fault::Target);
    }
    match target {
        [b'/', ..] if syntax::is_path_and_query(target) => return Ok(None),
        b"*" if method == b"OPTIONS" => return Ok(None),
        _ => {}
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let start = scheme.ok_or(Fault::Target)?.len();
    let end = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    let end = end.map_or(target.len(), |end| start + end);
    authority(&target[start..end]).map_err(|_| Fault::Target)?;
    if !syntax::is_path_and_query(&target[end..]) {
        return Err(Fault::Target);
    }
    Ok(Some(start..end))
}

/// Host and port.
fn authority(bytes: &[u8]) -> Result<(&str, Option<u16>), Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::HostMalformed)?;
    Authority::split(text).map_err(|_: AuthorityError| Fault::HostMalformed)
}

fn same(a: (&str, Option<u16>), b: (&str, Option<u16>), default_port: u16) -> bool {
    a.0.eq_ignore_ascii_case(b.0) && a.1.unwrap_or(default_port) == b.1.unwrap_or(default_port)
}

/// Reads a content-length: digits alone, no zero before another digit (octal to some).
fn length(text: &[u8]) -> Result<u64, Fault> {
    let plain = match text {
        [] | [b'0', _, ..] => false,
        _ => text.len() <= LENGTH_DIGITS_MAX && text.iter().all(u8::is_ascii_digit),
    };
    let digits = if plain { std::str::from_utf8(text).ok() } else { None };
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|length| *length <= LENGTH_MAX)
        .ok_or(Fault::LengthMalformed)
}
