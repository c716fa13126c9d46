//! Where a RequestRedirect sends a client (Gateway API, `HTTPRequestRedirectFilter`).

use crate::model::route::{PathRewrite, Redirect, RedirectScheme};
use crate::model::{PathMatch, Protocol};

/// What of a request a redirect keeps.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What the frontend speaks.
    pub protocol: Protocol,
    /// The port that the client reached us at.
    pub port: u16,
    /// Host without port; an IPv6 address in brackets.
    pub host: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query without its question mark.
    pub query: Option<&'a str>,
}

/// The value of `location`. Without a port of its own a redirect that names a scheme means the scheme's, any other
/// the listener's; the scheme's well-known port is not written.
pub fn location(redirect: &Redirect, asked: &Asked<'_>, matched: &PathMatch) -> String {
    let scheme = redirect.scheme.unwrap_or(match asked.protocol {
        Protocol::Http => RedirectScheme::Http,
        Protocol::Https => RedirectScheme::Https,
    });
    let (scheme_text, well_known) = match scheme {
        RedirectScheme::Http => ("http", 80),
        RedirectScheme::Https => ("https", 443),
    };
    let port = redirect.port.unwrap_or(if redirect.scheme.is_some() { well_known } else { asked.port });
    let host = redirect.hostname.as_deref().unwrap_or(asked.host);
    let mut location = format!("{scheme_text}://{host}");
    if port != well_known {
        location.push_str(&format!(":{port}"));
    }
    location.push_str(&path(redirect.path.as_ref(), asked.path, matched));
    if let Some(query) = asked.query {
        location.push('?');
        location.push_str(query);
    }
    location
}

fn path(rewrite: Option<&PathRewrite>, path: &str, matched: &PathMatch) -> String {
    let (replacement, rest) = match (rewrite, matched) {
        (None, _) => ("", path),
        (Some(PathRewrite::Full(full)), _) => (&**full, ""),
        (Some(PathRewrite::Prefix(new)), PathMatch::Prefix(old)) => {
            (&**new, path.get(old.len()..).unwrap_or(""))
        }
        // An exact match is its own prefix.
        (Some(PathRewrite::Prefix(new)), PathMatch::Exact(_)) => (&**new, ""),
    };
    // The rest begins with the slash that ended the prefix.
    let kept = if rest.is_empty() { replacement } else { replacement.trim_end_matches('/') };
    let slash = if kept.starts_with('/') || (kept.is_empty() && rest.starts_with('/')) { "" } else { "/" };
    format!("{slash}{kept}{rest}")
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn locations() {
        let http = RedirectScheme::Http;
        let https = RedirectScheme::Https;
        for (description, scheme, host, port, listener, expected) in [
            ("nothing changes", None, None, None, (Protocol::Http, 80), "http://a.com/p?q"),
            ("the listener's port", None, None, None, (Protocol::Http, 8080), "http://a.com:8080/p?q"),
            ("the listener's port on TLS", None, None, None, (Protocol::Https, 443), "https://a.com/p?q"),
            ("a host", None, Some("b.org"), None, (Protocol::Http, 80), "http://b.org/p?q"),
            ("a scheme", Some(https), None, None, (Protocol::Http, 8080), "https://a.com/p?q"),
            ("a scheme downwards", Some(http), None, None, (Protocol::Https, 8443), "http://a.com/p?q"),
            (
                "a scheme and a port",
                Some(https),
                None,
                Some(8443),
                (Protocol::Http, 80),
                "https://a.com:8443/p?q",
            ),
            ("a well-known port", Some(https), None, Some(443), (Protocol::Http, 80), "https://a.com/p?q"),
            ("the other one's", Some(https), None, Some(80), (Protocol::Http, 80), "https://a.com:80/p?q"),
            ("a port", None, None, Some(8083), (Protocol::Http, 80), "http://a.com:8083/p?q"),
            ("port 80", None, None, Some(80), (Protocol::Http, 8080), "http://a.com/p?q"),
        ] {
            let redirect = Redirect {
                scheme,
                hostname: host.map(Into::into),
                port,
                path: None,
                status: StatusCode::FOUND,
            };
            let asked =
                Asked { protocol: listener.0, port: listener.1, host: "a.com", path: "/p", query: Some("q") };
            let matched = PathMatch::Prefix("".into());
            assert_eq!(location(&redirect, &asked, &matched), expected, "{description}");
        }
    }

    #[test]
    fn prefixes() {
        for (asked, old, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo", "/foo", "/xyz/", "/xyz/"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "", "/xyz", "/xyz/foo/bar"),
            ("/", "", "/xyz", "/xyz/"),
        ] {
            let rewrite = PathRewrite::Prefix(new.into());
            assert_eq!(
                path(Some(&rewrite), asked, &PathMatch::Prefix(old.into())),
                expected,
                "{asked} {old} {new}"
            );
        }
        let full = PathRewrite::Full("/all".into());
        assert_eq!(path(Some(&full), "/foo/bar", &PathMatch::Prefix("/foo".into())), "/all");
        assert_eq!(path(None, "/foo/bar", &PathMatch::Exact("/foo/bar".into())), "/foo/bar");
    }
}
