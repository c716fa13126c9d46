//! What happens to header fields on their way through (RFC 9110 §7.6, RFC 9440).

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
};

use crate::model::HeaderEdit;

/// RFC 9440 §2.2
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// De-facto names of what a proxy tells of its client.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// See [`X_FORWARDED_FOR`].
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// See [`X_FORWARDED_FOR`].
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Names a request in the logs of all who see it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that only we may send to a backend: they tell who the client is.
const IDENTITY: [&str; 3] = ["client-cert", "client-cert-chain", "x-forwarded-client-cert"];
/// Fields that frame a message. Ours are written anew; a backend that takes `_` for `-` may take others for them.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// Fields that say how the request reached us. A client may send them; what we do with them differs by field.
const TRACE: [&str; 4] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];

/// What a backend is told of its client and connection.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The peer's address.
    pub peer: &'a HeaderValue,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host as the client sent it.
    pub host: Option<&'a HeaderValue>,
    /// A name for the request.
    pub request_id: &'a HeaderValue,
    /// The verified client's certificate, ready to be sent.
    pub client_cert: Option<&'a HeaderValue>,
    /// The peer is a proxy whose word is taken for scheme, host and request.
    pub peer_is_trusted: bool,
    /// The backend speaks HTTP/1.1, where `te` has to be named by `connection`.
    pub backend_is_http1: bool,
}

/// Makes a client's fields fit for the backend and adds ours.
pub fn to_backend(headers: &mut HeaderMap, told: &Told<'_>) {
    let trailers = headers.get_all(TE).iter().any(accepts_trailers);
    remove_hop_by_hop(headers);
    remove_if(headers, |name| {
        is_identity(name) || is_disguised(name, &TRACE) || is_disguised(name, &FRAMING)
    });
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if told.backend_is_http1 {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    if let Some(certificate) = told.client_cert {
        headers.insert(CLIENT_CERT, certificate.clone());
    }
    append_peer(headers, told.peer);
    let mut tell = |name: HeaderName, value: &HeaderValue| {
        if !(told.peer_is_trusted && headers.contains_key(&name)) {
            headers.insert(name, value.clone());
        }
    };
    tell(X_FORWARDED_PROTO, &HeaderValue::from_static(told.scheme));
    tell(X_REQUEST_ID, told.request_id);
    match told.host {
        Some(host) => tell(X_FORWARDED_HOST, host),
        None if told.peer_is_trusted => {}
        None => drop(headers.remove(X_FORWARDED_HOST)),
    }
}

/// Says how long a request's body is, in our words: nothing that came with it frames what goes to the backend. `length`:
/// that of a body which is known, and was named by the client too; `None`: none, or one whose end shows when it comes.
pub fn frame(headers: &mut HeaderMap, length: Option<u64>) {
    headers.remove(TRANSFER_ENCODING);
    match length {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

/// Makes a backend's fields fit for the client. `length_is_known`: the body's length is that of the field, or there is
/// no body to speak of.
pub fn to_client(headers: &mut HeaderMap, length_is_known: bool) {
    remove_hop_by_hop(headers);
    if !length_is_known {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Makes a client's trailers fit for the backend: they may carry neither an identity nor what belongs in a head
/// (RFC 9110 §6.5.1).
pub fn trailers_to_backend(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_if(trailers, |name| {
        is_identity(name)
            || TRACE.contains(&name)
            || is_disguised(name, &TRACE)
            || is_disguised(name, &FRAMING)
            || matches!(
                name,
                "host" | "content-length" | "authorization" | "cookie" | "content-encoding" | "content-type"
            )
    });
}

/// Makes a backend's trailers fit for the client.
pub fn trailers_to_client(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_if(trailers, |name| matches!(name, "content-length" | "set-cookie"));
}

/// Applies a header modifier. Fields that frame the message are ours: no document may change them.
pub fn edit(headers: &mut HeaderMap, edit: &HeaderEdit) {
    let allowed = |name: &HeaderName| !is_framing(name.as_str());
    for (name, value) in edit.set.iter().filter(|(name, _)| allowed(name)) {
        headers.insert(name, value.clone());
    }
    for (name, value) in edit.add.iter().filter(|(name, _)| allowed(name)) {
        if *name == HOST {
            headers.insert(name, value.clone());
        } else {
            headers.append(name, value.clone());
        }
    }
    for name in edit.remove.iter().filter(|name| allowed(name) && **name != HOST) {
        headers.remove(name);
    }
}

/// RFC 9110 §7.6.1: the fields that `connection` names, and those that never travel further.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        named.extend(
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
                .filter(|name| !is_kept_from_connection(name.as_str())),
        );
    }
    for name in named {
        headers.remove(name);
    }
    remove_if(headers, |name| {
        matches!(
            name,
            "connection"
                | "http2-settings"
                | "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-connection"
                | "te"
                | "transfer-encoding"
                | "upgrade"
        )
    });
}

/// What a client cannot make us drop by naming it in `connection`.
fn is_kept_from_connection(name: &str) -> bool {
    matches!(name, "host" | "content-length") || TRACE.contains(&name) || IDENTITY.contains(&name)
}

fn is_framing(name: &str) -> bool {
    matches!(
        name,
        "connection" | "content-length" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name) || is_disguised(name, &IDENTITY)
}

/// Whether a name is one of these to a backend that takes `_` for `-`, as CGI and its heirs do.
fn is_disguised(name: &str, names: &[&str]) -> bool {
    name.contains('_')
        && names.iter().any(|ours| {
            ours.len() == name.len()
                && ours
                    .bytes()
                    .zip(name.bytes())
                    .all(|(ours, theirs)| ours == if theirs == b'_' { b'-' } else { theirs })
        })
}

fn accepts_trailers(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Nothing is allocated where nothing is to be removed, which is the common case.
fn remove_if(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Adds the peer behind whatever the client sent, as one field.
fn append_peer(headers: &mut HeaderMap, peer: &HeaderValue) {
    let mut chain: Vec<u8> = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR).iter().filter(|value| !value.is_empty()) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    let value = if chain.is_empty() {
        peer.clone()
    } else {
        chain.extend_from_slice(peer.as_bytes());
        HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.clone())
    };
    headers.insert(X_FORWARDED_FOR, value);
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
