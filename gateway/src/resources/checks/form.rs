//! The forms of text that the API's patterns describe, each as a function and in words.

use std::net::IpAddr;

use crate::resources::httproute::parse_duration;
use crate::resources::secret::decode_base64;

/// A form that a text has to have. The lengths that belong to it are checked apart from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::resources) enum Form {
    /// Anything.
    Free,
    /// RFC 1123 subdomain: labels joined by dots.
    Subdomain,
    /// As [`Form::Subdomain`], or nothing: an API group.
    Group,
    /// RFC 1123 label.
    Label,
    /// RFC 1035 label, which does not begin with a digit: the name of a Service.
    ServiceName,
    /// A kind.
    Kind,
    /// A subdomain, or `*.` and one.
    Hostname,
    /// Domain, slash, path: a controller.
    DomainPath,
    /// `HTTP` or a word like it, or domain, slash, word.
    Protocol,
    /// `IPAddress`, `Hostname`, `NamedAddress`, or domain, slash, path.
    AddressType,
    /// Field name of HTTP.
    HeaderName,
    /// A header field's value without line breaks or other controls.
    HeaderValue,
    /// GEP-2257 duration.
    Duration,
    /// Optional domain and slash, then a name of up to 63 characters: keys of labels and annotations.
    QualifiedName,
    /// Value of a label.
    LabelValue,
    /// Key of a Secret or ConfigMap.
    DataKey,
    /// Base64; what is in it may be secret, so a fault is not quoted.
    Base64,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// RFC 3339 time.
    Timestamp,
    /// Scheme and host with wildcards and an optional port, or `*`.
    CorsOrigin,
}

impl Form {
    /// Whether `text` has this form.
    pub(super) fn holds(self, text: &str) -> bool {
        match self {
            Form::Free => true,
            Form::Subdomain => is_subdomain(text),
            Form::Group => text.is_empty() || is_subdomain(text),
            Form::Label => is_label(text),
            Form::ServiceName => is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase()),
            Form::Kind => is_kind(text),
            Form::Hostname => is_subdomain(text.strip_prefix("*.").unwrap_or(text)),
            Form::DomainPath => is_domain_path(text),
            Form::Protocol => is_protocol(text),
            Form::AddressType => {
                matches!(text, "IPAddress" | "Hostname" | "NamedAddress") || is_domain_path(text)
            }
            Form::HeaderName => !text.is_empty() && text.bytes().all(is_token),
            Form::HeaderValue => text.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f)),
            Form::Duration => parse_duration(text).is_some(),
            Form::QualifiedName => is_qualified_name(text),
            Form::LabelValue => text.is_empty() || is_name_segment(text),
            Form::DataKey => is_data_key(text),
            Form::Base64 => decode_base64(text).is_some(),
            Form::IpAddress => text.parse::<IpAddr>().is_ok(),
            Form::Timestamp => text.parse::<jiff::Timestamp>().is_ok(),
            Form::CorsOrigin => is_cors_origin(text),
        }
    }

    /// What the form is, to follow "is no".
    pub(super) fn words(self) -> &'static str {
        match self {
            Form::Free => "text",
            Form::Subdomain => "name of lower-case letters, digits, `-` and `.` such as `a.example`",
            Form::Group => "API group such as `gateway.networking.k8s.io`, or empty for the core group",
            Form::Label => "name of lower-case letters, digits and `-` such as `web-1`",
            Form::ServiceName => "name of lower-case letters, digits and `-` that begins with a letter",
            Form::Kind => "kind such as `Gateway`",
            Form::Hostname => "host name in lower case such as `a.example` or `*.example`",
            Form::DomainPath => "domain and path such as `example.com/controller`",
            Form::Protocol => "protocol such as `HTTPS` or `example.com/custom`",
            Form::AddressType => "address type: `IPAddress`, `Hostname`, or a domain and path",
            Form::HeaderName => "name of a header field",
            Form::HeaderValue => "value of a header field: it has control characters",
            Form::Duration => "duration such as `10s`, `500ms` or `1h30m`",
            Form::QualifiedName => "qualified name such as `example.com/name`",
            Form::LabelValue => "label value: up to 63 letters, digits, `-`, `_` and `.`",
            Form::DataKey => "key: letters, digits, `-`, `_` and `.`",
            Form::Base64 => "base64",
            Form::IpAddress => "IP address",
            Form::Timestamp => "time such as `2026-11-24T10:00:00Z`",
            Form::CorsOrigin => "origin such as `https://*.example.com`, or `*`",
        }
    }

    /// Texts of this form.
    #[cfg(test)]
    fn samples(self) -> &'static [&'static str] {
        match self {
            Form::Free => &["a", "/", "ä b"],
            Form::Subdomain | Form::Hostname => &["a", "a.b-c"],
            Form::Group => &["", "gateway.networking.k8s.io"],
            Form::Label | Form::ServiceName => &["a", "a-1"],
            Form::Kind => &["Gateway", "Service"],
            Form::DomainPath => &["example.com/bar"],
            Form::Protocol => &["HTTP", "TCP", "example.com/bar"],
            Form::AddressType => &["IPAddress", "Hostname"],
            Form::HeaderName => &["x-a", "Set-Cookie"],
            Form::HeaderValue => &["a b"],
            Form::Duration => &["0s", "99999h99999h99999h99999h"],
            Form::QualifiedName => &["a", "example.com/path"],
            Form::LabelValue => &["a", "A.b"],
            Form::DataKey => &["ca.crt", "tls.key"],
            Form::Base64 => &["", "aGVsbG8="],
            Form::IpAddress => &["10.0.0.1", "::1"],
            Form::Timestamp => &["2026-11-24T10:00:00Z", "2026-11-24T10:00:00.5+01:00"],
            Form::CorsOrigin => &["*", "https://a.test"],
        }
    }

    /// One of [`Form::samples`] with at least `min` characters.
    #[cfg(test)]
    pub(super) fn sample(self, min: usize, die: usize) -> String {
        let fitting: Vec<_> = self.samples().iter().filter(|text| text.len() >= min).collect();
        fitting[die % fitting.len()].to_string()
    }

    /// Whether a value that lacks the form may be shown.
    pub(super) fn quotable(self) -> bool {
        self != Form::Base64
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_kind(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.ends_with('-')
}

fn is_domain_path(text: &str) -> bool {
    const PUNCTUATION: &[u8] = b"/-._~%!$&'()*+,;=:";
    text.split_once('/').is_some_and(|(domain, path)| {
        is_subdomain(domain)
            && !path.is_empty()
            && path.bytes().all(|b| b.is_ascii_alphanumeric() || PUNCTUATION.contains(&b))
    })
}

fn is_protocol(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => {
            is_subdomain(domain) && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric())
        }
        None => {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        }
    }
}

/// `tchar` of RFC 9110, 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn is_name_segment(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(text.bytes().next())
        && edge(text.bytes().last())
}

fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && is_subdomain(prefix) && is_name_segment(name),
        None => is_name_segment(text),
    }
}

fn is_data_key(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && !text.starts_with("..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_cors_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let host = host.strip_prefix("*.").unwrap_or(host);
    matches!(scheme, "http" | "https")
        && (host == "*" || host.to_ascii_lowercase().split('.').all(is_label))
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Whether a path can be matched exactly or by prefix (Gateway API `HTTPPathMatch`); else what is wrong with it.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    const PUNCTUATION: &[u8] = b"-/._~!$&'()*+,;=:@";
    if !path.starts_with('/') {
        return Some("has to begin with `/`");
    }
    for (part, fault) in [
        ("//", "must not contain `//`"),
        ("/./", "must not contain `/./`"),
        ("/../", "must not contain `/../`"),
        ("%2f", "must not contain `%2f`"),
        ("%2F", "must not contain `%2F`"),
        ("#", "must not contain `#`"),
    ] {
        if path.contains(part) {
            return Some(fault);
        }
    }
    if path.ends_with("/..") || path.ends_with("/.") {
        return Some("must not end with `/.` or `/..`");
    }
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            (b'%', _) => return Some("has a `%` without two hexadecimal digits"),
            _ if byte.is_ascii_alphanumeric() || PUNCTUATION.contains(&byte) => tail,
            _ => {
                return Some(
                    "has a character that a path cannot have; write it as `%` and two hexadecimal digits",
                );
            }
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        use Form::*;
        let table: [(Form, &[&str], &[&str]); 17] = [
            (
                Subdomain,
                &["a", "a.b-c.d1", "ca.bundle", "1a"],
                &["", "A", "-a", "a-", "a..b", "a.", "a_b", "a/b"],
            ),
            (Group, &["", "gateway.networking.k8s.io"], &["Gateway", "a/b"]),
            (Label, &["a", "a-1", "1"], &["", "a.b", "-a", "A"]),
            (ServiceName, &["echo", "a-1"], &["1a", "a.b", ""]),
            (Kind, &["Gateway", "HTTPRoute", "a1-b"], &["", "1a", "a-", "a/b", "a.b"]),
            (
                Hostname,
                &["a.test", "*.test"],
                &["*", "*.", "a.*.test", "A.test", "a.test.", "*a.test", "a:443"],
            ),
            (DomainPath, &["example.com/bar", "a.b/c/d"], &["example.com", "example.com/", "/a", "A.b/c"]),
            (Protocol, &["HTTP", "http", "h2-c", "example.com/bar"], &["", "a.b", "-a", "a.b/c/d", "a b"]),
            (
                AddressType,
                &["IPAddress", "Hostname", "alb.networking.azure.io/alb-frontend"],
                &["ip", "", "Name"],
            ),
            (HeaderName, &["x-a", "Set-Cookie", "!#$%&'*+-.^_`|~"], &["", ":method", "a b", "a/b", "ä"]),
            (HeaderValue, &["", "a b", "a\tb", "ä"], &["a\r\nb", "a\0", "\u{7f}"]),
            (Duration, &["10s", "1h30m"], &["10", "1d", ""]),
            (
                QualifiedName,
                &["a", "example.com/path.html"],
                &["", "a.", "example~", "/a", "a/", "A.b/c", "a/b/c"],
            ),
            (LabelValue, &["", "MyValue", "my.name"], &["-a", "a b", "a."]),
            (DataKey, &["ca.crt", "tls.key", ".dotted", "A_b-1"], &["", ".", "..", "..data", "a/b"]),
            (IpAddress, &["10.0.0.1", "::1"], &["10.0.0", "a.test", "10.0.0.0/8"]),
            (
                CorsOrigin,
                &["*", "https://a.test", "http://*.a.test:8080", "https://*", "http://A.test"],
                &[
                    "a.test",
                    "ftp://a.test",
                    "https://a.test/",
                    "https://a.test:0",
                    "https://a.test:x",
                    "https://a.*.test",
                ],
            ),
        ];
        for (form, good, bad) in table {
            for text in good {
                assert!(form.holds(text), "{form:?} takes {text:?}");
            }
            for text in bad {
                assert!(!form.holds(text), "{form:?} refuses {text:?}");
            }
        }
    }

    #[test]
    fn paths() {
        let table = [
            ("/", true),
            ("/a/b", true),
            ("/a%20b/(c);d=1,2@:!$&'*+~", true),
            ("/...", true),
            ("/.well-known", true),
            ("a", false),
            ("", false),
            ("//", false),
            ("/a//b", false),
            ("/a/./b", false),
            ("/a/../b", false),
            ("/a/.", false),
            ("/a/..", false),
            ("/a%2fb", false),
            ("/a%2Fb", false),
            ("/a#b", false),
            ("/a?b", false),
            ("/a b", false),
            ("/a%", false),
            ("/a%2", false),
            ("/a%zz", false),
            ("/ä", false),
        ];
        for (path, good) in table {
            assert_eq!(path_fault(path).is_none(), good, "{path:?}: {:?}", path_fault(path));
        }
    }
}
