//! Requests as they are written.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, Method};

use super::Length;

/// Behind the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Behind the data of the last chunk that has any.
pub const LAST_CHUNK_END: &[u8] = b"\r\n0\r\n\r\n";
/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// More than most heads need.
const HEAD_BYTES: usize = 1024;

/// The head of a request in origin-form. What its body's end is known by is said here and nowhere else: such fields of
/// the request are left out.
pub fn head(parts: &Parts, length: Length) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(parts.method.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    put_fields(&mut head, &parts.headers, |name| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING);
    match length {
        Length::Exact(bytes) => put_length(&mut head, bytes),
        Length::Chunked => head.put_slice(b"transfer-encoding: chunked\r\n"),
        // RFC 9110 §8.6: where a body would have a meaning, its absence is told.
        _ if matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) => put_length(&mut head, 0),
        _ => {}
    }
    head.put_slice(b"\r\n");
    head
}

/// The line before the data of a chunk.
pub fn put_chunk_line(line: &mut BytesMut, bytes: usize) {
    // Writing to memory cannot fail.
    let _ = write!(line, "{bytes:x}\r\n");
}

/// The last chunk, with trailers.
pub fn trailers(fields: &HeaderMap) -> BytesMut {
    let mut last = BytesMut::from(&b"0\r\n"[..]);
    put_fields(&mut last, fields, |_| true);
    last.put_slice(b"\r\n");
    last
}

/// Whether a client waits to be asked for the body (RFC 9110 §10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn put_fields(bytes: &mut BytesMut, fields: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in fields.iter().filter(|(name, _)| wanted(name)) {
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(b": ");
        bytes.put_slice(value.as_bytes());
        bytes.put_slice(b"\r\n");
    }
}

fn put_length(head: &mut BytesMut, bytes: u64) {
    let _ = write!(head, "content-length: {bytes}\r\n");
}
