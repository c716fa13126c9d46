//! Header fields on their way to a backend: whatever a client sends, nothing in what leaves is taken for our word, and
//! nothing frames the message but what we wrote.

use std::collections::BTreeSet;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};

use super::reference;
use crate::http::headers::{self, Told};
use crate::upstream::h1::frame::{Length, request};

/// What only we may tell.
const IDENTITY: [&str; 3] = ["client-cert", "client-cert-chain", "x-forwarded-client-cert"];
/// What we tell of how the request came.
const TRACE: [&str; 4] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];
/// What ends at each hop, `te` and `connection` apart.
const HOP_BY_HOP: [&str; 8] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "upgrade",
    "http2-settings",
    "transfer-encoding",
    "content-length",
];

static PEER: HeaderValue = HeaderValue::from_static("192.0.2.1");
static HOST: HeaderValue = HeaderValue::from_static("a.example");
static ID: HeaderValue = HeaderValue::from_static("our-id");
static CERTIFICATE: HeaderValue = HeaderValue::from_static(":b3Vycw==:");

/// Lines of fields, as the head of a request has them. The first byte's bits: the client is verified, the peer is a
/// trusted proxy, the lines are trailers.
pub fn fields(input: &[u8]) {
    let (bits, lines) = super::split(input);
    let sent = read(lines);
    if bits & 4 != 0 {
        return trailers(&sent);
    }
    let (verified, trusted) = (bits & 1 != 0, bits & 2 != 0);
    let mut left = sent.clone();
    let told = Told {
        peer: &PEER,
        scheme: "https",
        host: Some(&HOST),
        request_id: &ID,
        client_cert: verified.then_some(&CERTIFICATE),
        peer_is_trusted: trusted,
        backend_is_http1: true,
    };
    headers::to_backend(&mut left, &told);
    headers::frame(&mut left, None);
    left.insert("host", HOST.clone());

    for (name, value) in &left {
        let plain = plain(name);
        if IDENTITY.contains(&&*plain) {
            assert!(name == "client-cert" && verified && value == CERTIFICATE, "{name}: {value:?}");
        }
        assert!(!TRACE.contains(&&*plain) || plain == name.as_str(), "{name} passes for {plain}");
        assert!(!HOP_BY_HOP.contains(&&*plain) || plain == "proxy-connection" || plain != name.as_str());
        assert!(!matches!(&*plain, "content-length" | "transfer-encoding"), "{name} frames for some");
        assert!(name != "connection" || value == "te", "connection: {value:?}");
        assert!(name != "te" || value == "trailers", "te: {value:?}");
    }
    for name in HOP_BY_HOP {
        assert!(!left.contains_key(name), "{name} goes on");
    }
    assert_eq!(left.get_all("client-cert").iter().count(), usize::from(verified));
    for (name, ours) in
        [("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example"), ("x-request-id", "our-id")]
    {
        let values: Vec<_> = left.get_all(name).iter().collect();
        let theirs = trusted && sent.contains_key(name);
        assert!(theirs || values == [ours], "{name}: {values:?}");
    }
    let chain: Vec<_> = left.get_all("x-forwarded-for").iter().collect();
    assert!(matches!(chain[..], [chain] if chain.as_bytes().ends_with(PEER.as_bytes())), "{chain:?}");
    others_stay(&sent, &left);
    written(left);
}

/// The lines that a field can be made of.
fn read(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// A name as a backend reads it that takes `_` for `-`.
fn plain(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

/// Whatever is none of our business goes on as it came.
fn others_stay(sent: &HeaderMap, left: &HeaderMap) {
    let named: BTreeSet<String> = sent
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase())
        .collect();
    for name in sent.keys() {
        let plain = plain(name);
        let is_special = [&IDENTITY[..], &TRACE, &HOP_BY_HOP, &["te", "connection", "host"]]
            .iter()
            .any(|names| names.contains(&&*plain));
        if !is_special && !named.contains(name.as_str()) {
            let (before, after) = (sent.get_all(name), left.get_all(name));
            assert!(before.iter().eq(after.iter()), "{name} was changed");
        }
    }
}

/// A head with these fields is one request, and has them all.
fn written(fields: HeaderMap) {
    let count = fields.len();
    let mut request = Request::builder().method(Method::GET).uri("/").body(()).expect("a request");
    *request.headers_mut() = fields;
    let (parts, ()) = request.into_parts();
    let head = request::head(&parts, Length::Chunked);
    let bytes = [&head[..], b"0\r\n\r\n"].concat();
    let read = reference::request(&bytes).unwrap_or_else(|error| panic!("a strict backend reads {error}"));
    let (read, length) = read.expect("a whole request");
    assert_eq!((read.fields.len(), length), (count + 1, bytes.len()), "other fields than were written");
}

/// Behind a body nothing may stand that belongs in a head.
fn trailers(sent: &HeaderMap) {
    let mut left = sent.clone();
    headers::trailers_to_backend(&mut left);
    for name in left.keys() {
        let plain = plain(name);
        let is_ours = IDENTITY.contains(&&*plain) || TRACE.contains(&&*plain);
        assert!(!is_ours && !matches!(&*plain, "content-length" | "transfer-encoding"), "{name}");
        assert!(!HOP_BY_HOP.contains(&name.as_str()), "{name} goes on");
        assert!(
            !matches!(name.as_str(), "host" | "authorization" | "cookie" | "te" | "connection"),
            "{name}"
        );
    }
}
