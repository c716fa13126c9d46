//! Which host a request is for: read once, strictly, in one form for every decision (listener, route, 421).

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Uri, Version};
use std::net::Ipv6Addr;

/// Longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A host with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// As the client sent it; what the backend is told.
    pub text: HeaderValue,
    /// Lower case, without port and trailing dot; an IPv6 address in brackets.
    pub host: String,
    /// The port, if one is named.
    pub port: Option<u16>,
}

/// Why a request's host is not accepted (RFC 9112 §3.2, RFC 9113 §8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// HTTP/1.1 and HTTP/2 demand one.
    #[error("the request names no host")]
    Missing,
    /// More than one Host field.
    #[error("the request has more than one host field")]
    Repeated,
    /// Not a host.
    #[error("the request's host is malformed")]
    Malformed,
    /// The target names another host than the Host field.
    #[error("the request's target and its host field disagree")]
    Contradiction,
}

impl Authority {
    /// The authority of a request; `None` is an HTTP/1.0 request that names none.
    ///
    /// A target in absolute-form, or `:authority`, decides; a Host field beside it must mean the same, since a backend
    /// may look at either.
    pub fn of(request: &Parts, default_port: u16) -> Result<Option<Self>, AuthorityError> {
        let mut fields = request.headers.get_all(HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(AuthorityError::Repeated);
        }
        let field = field.map(Self::parse).transpose()?;
        let target = target(&request.uri)?;
        match (target, field) {
            (Some(target), Some(field)) if !target.means(&field, default_port) => {
                Err(AuthorityError::Contradiction)
            }
            (Some(target), _) => Ok(Some(target)),
            (None, Some(field)) => Ok(Some(field)),
            (None, None) if request.version < Version::HTTP_11 => Ok(None),
            (None, None) => Err(AuthorityError::Missing),
        }
    }

    /// Reads `host` or `host:port`.
    pub fn parse(text: &HeaderValue) -> Result<Self, AuthorityError> {
        let (host, port) = Self::split(text.to_str().map_err(|_| AuthorityError::Malformed)?)?;
        Ok(Self { text: text.clone(), host: host.to_ascii_lowercase(), port })
    }

    /// The host, without a trailing dot, and the port. Stricter than RFC 3986 §3.2.2: letters, digits, `-`, `.` and `_`,
    /// no empty label but the root's, no user information, no percent-encoding.
    pub fn split(whole: &str) -> Result<(&str, Option<u16>), AuthorityError> {
        let malformed = AuthorityError::Malformed;
        let (host, port) = match whole.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(malformed)?;
                address.parse::<Ipv6Addr>().map_err(|_| malformed)?;
                (&whole[..address.len() + 2], rest)
            }
            None => match whole.find(':') {
                Some(colon) => whole.split_at(colon),
                None => (whole, ""),
            },
        };
        let port = match port.strip_prefix(':') {
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| malformed)?)
            }
            Some(_) => return Err(malformed),
            None if port.is_empty() => None,
            None => return Err(malformed),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if !host.starts_with('[') && !is_host(host) {
            return Err(malformed);
        }
        Ok((host, port))
    }

    fn means(&self, other: &Self, default_port: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn target(uri: &Uri) -> Result<Option<Authority>, AuthorityError> {
    uri.authority()
        .map(|authority| {
            let text = HeaderValue::from_str(authority.as_str()).map_err(|_| AuthorityError::Malformed)?;
            Authority::parse(&text)
        })
        .transpose()
}

fn is_host(host: &str) -> bool {
    host.len() <= HOST_BYTES_MAX
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("example.com", Some(("example.com", None))),
            ("EXAMPLE.com", Some(("example.com", None))),
            ("example.com.", Some(("example.com", None))),
            ("Example.Com.:8443", Some(("example.com", Some(8443)))),
            ("example.com:", Some(("example.com", None))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]:80", Some(("[::1]", Some(80)))),
            ("[2001:DB8::1]", Some(("[2001:db8::1]", None))),
            ("under_score.example", Some(("under_score.example", None))),
            ("", None),
            (".", None),
            (".com", None),
            ("a..com", None),
            ("a.com..", None),
            ("a.com:65536", None),
            ("a.com:+80", None),
            ("a.com:80:80", None),
            ("a.com:http", None),
            ("user@a.com", None),
            ("a.com/x", None),
            ("a com", None),
            ("a%2ecom", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[a.com]", None),
            ("ä.com", None),
        ] {
            let found =
                HeaderValue::from_bytes(text.as_bytes()).ok().and_then(|text| Authority::parse(&text).ok());
            let found = found.as_ref().map(|authority| (authority.host.as_str(), authority.port));
            assert_eq!(found, expected, "{text:?}");
        }
        let long = HeaderValue::from_str(&"a.".repeat(127)).unwrap();
        assert_eq!(Authority::parse(&long).unwrap().host.len(), HOST_BYTES_MAX);
        let longer = HeaderValue::from_str(&format!("{}aa", "a.".repeat(127))).unwrap();
        assert!(Authority::parse(&longer).is_err());
    }

    #[test]
    fn target_and_field() {
        use AuthorityError::*;
        for (description, version, target, hosts, expected) in [
            ("the field", Version::HTTP_11, "/", &["a.com"][..], Ok(Some("a.com"))),
            ("none", Version::HTTP_11, "/", &[], Err(Missing)),
            ("none on HTTP/1.0", Version::HTTP_10, "/", &[], Ok(None)),
            ("two", Version::HTTP_11, "/", &["a.com", "a.com"], Err(Repeated)),
            ("two on HTTP/1.0", Version::HTTP_10, "/", &["a.com", "b.com"], Err(Repeated)),
            ("absolute-form", Version::HTTP_11, "http://a.com/", &["a.com"], Ok(Some("a.com"))),
            ("absolute-form alone", Version::HTTP_11, "http://a.com/", &[], Ok(Some("a.com"))),
            ("with the default port", Version::HTTP_11, "http://a.com:80/", &["A.com"], Ok(Some("a.com"))),
            ("another port", Version::HTTP_11, "http://a.com:81/", &["a.com"], Err(Contradiction)),
            ("another host", Version::HTTP_11, "http://a.com/", &["b.com"], Err(Contradiction)),
            ("authority alone", Version::HTTP_2, "https://a.com/", &[], Ok(Some("a.com"))),
            ("another host field", Version::HTTP_2, "https://a.com/", &["b.com"], Err(Contradiction)),
            ("host alone", Version::HTTP_2, "/", &["a.com"], Ok(Some("a.com"))),
            ("an empty field", Version::HTTP_11, "/", &[""], Err(Malformed)),
            (
                "a malformed field beside a good target",
                Version::HTTP_11,
                "http://a.com/",
                &["a b"],
                Err(Malformed),
            ),
            ("user information", Version::HTTP_11, "http://u@a.com/", &["a.com"], Err(Malformed)),
        ] {
            let mut request = Request::builder().version(version).uri(target);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let found = Authority::of(&parts, 80).map(|found| found.map(|authority| authority.host));
            assert_eq!(found, expected.map(|host| host.map(str::to_owned)), "{description}");
        }
    }
}
