//! Requests that would have their connection leave HTTP, and the answer that lets them (RFC 9110 §7.8).
//!
//! Only a request that means it and that nothing else could be read into is passed on as one; any other goes on as the
//! plain request that it also is. That the backend's 101 fits the request is held by `upstream`.

use http::header::{CONNECTION, HeaderMap, HeaderValue, TE, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};

use super::headers;

/// Protocols that carry requests themselves: behind them nobody would ask the gate, or take forged fields away.
const NEVER: [&[u8]; 4] = [b"h2c", b"h2", b"http", b"tls"];

/// The protocol that a request without a body asks for. It has to be one, named by itself: where several are offered,
/// the one that the backend takes might be one that we would not have passed on.
pub(super) fn asked(head: &Parts) -> Option<HeaderValue> {
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return None;
    }
    let mut named = head.headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (named.next(), named.next()) else { return None };
    (is_allowed(protocol.as_bytes()) && connection_asks(&head.headers)).then(|| protocol.clone())
}

/// Asks the backend for it.
pub(super) fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.remove(TE);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The answer with which a client leaves HTTP, from the fields of the backend's.
pub(super) fn switched(mut fields: HeaderMap, edit: impl FnOnce(&mut HeaderMap)) -> Response<()> {
    let protocol = fields.remove(UPGRADE);
    headers::to_client(&mut fields, false);
    edit(&mut fields);
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        fields.insert(UPGRADE, protocol);
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = fields;
    response
}

/// `name` or `name/version`.
fn is_allowed(protocol: &[u8]) -> bool {
    let mut parts = protocol.split(|byte| *byte == b'/');
    let (name, version, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    is_token(name)
        && version.is_none_or(is_token)
        && more.is_none()
        && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never))
}

/// RFC 9110 §5.6.2
fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn connection_asks(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(CONNECTION).iter();
    lists
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_those_who_mean_it() {
        const WS: &[(&str, &str)] = &[("connection", "Upgrade"), ("upgrade", "websocket")];
        for (description, method, version, fields, asked_for) in [
            ("WebSocket", "GET", Version::HTTP_11, WS, Some("websocket")),
            (
                "among other options",
                "GET",
                Version::HTTP_11,
                &[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")],
                Some("WebSocket"),
            ),
            (
                "in a second line, with a version",
                "GET",
                Version::HTTP_11,
                &[("connection", "x"), ("connection", "UPGRADE"), ("upgrade", "SPDY/3.1")],
                Some("SPDY/3.1"),
            ),
            ("another method", "POST", Version::HTTP_11, WS, None),
            ("an older version", "GET", Version::HTTP_10, WS, None),
            ("a newer one", "GET", Version::HTTP_2, WS, None),
            ("no option", "GET", Version::HTTP_11, &[("upgrade", "websocket")], None),
            ("no protocol", "GET", Version::HTTP_11, &[("connection", "upgrade")], None),
            ("an empty one", "GET", Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "")], None),
            (
                "a list",
                "GET",
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
                None,
            ),
            (
                "two lines",
                "GET",
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")],
                None,
            ),
            ("HTTP/2", "GET", Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "h2c")], None),
            (
                "in other letters",
                "GET",
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "H2C")],
                None,
            ),
            (
                "by its name",
                "GET",
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
                None,
            ),
            ("TLS", "GET", Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "TLS/1.3")], None),
            (
                "no token",
                "GET",
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "web socket")],
                None,
            ),
            (
                "two versions",
                "GET",
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "a/1/2")],
                None,
            ),
        ]
            as [(&str, &str, Version, &[(&str, &str)], Option<&str>); 17]
        {
            let mut request = Request::builder().method(method).version(version);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(
                asked(&head).as_ref().map(|value| value.to_str().unwrap()),
                asked_for,
                "{description}"
            );
        }
    }

    #[test]
    fn the_answer_says_so_and_hides_what_was_for_the_backends_connection() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("connection", "upgrade, x-hop"),
            ("upgrade", "websocket"),
            ("x-hop", "1"),
            ("sec-websocket-accept", "x"),
        ] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let response = switched(fields, |fields| drop(fields.insert("x-set", HeaderValue::from_static("1"))));
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        assert!(!headers.contains_key("x-hop"));
        assert_eq!(
            (&headers["sec-websocket-accept"], &headers["x-set"]),
            (&"x".parse().unwrap(), &"1".parse().unwrap())
        );
    }
}
