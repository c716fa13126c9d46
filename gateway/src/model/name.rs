//! Names of objects and hosts.

use std::fmt;
use std::sync::Arc;

/// The name of a namespaced object, shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The namespace; never empty (`default` where the user wrote none).
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// The name `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A host name as Gateway API writes it: lower-case ASCII without a trailing dot, or `*.` and such a name.
/// A wildcard stands for one or more labels (Gateway API, `Hostname` of HTTPRoute and Listener).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hostname {
    /// `www.example.com`
    Exact(Arc<str>),
    /// `*.example.com`, kept as `.example.com`
    Wildcard(Arc<str>),
}

impl Hostname {
    /// Reads a host name; letters are lowered. `None` if it is not one (RFC 1123 labels, at most 253 characters,
    /// a `*` only as the whole first label).
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix('*') {
            Some(suffix) => {
                let rest = suffix.strip_prefix('.')?;
                is_dns_name(rest).then(|| Self::Wildcard(suffix.into()))
            }
            None => is_dns_name(&lower).then(|| Self::Exact(lower.into())),
        }
    }

    /// Whether `host` (lower case, no port, no trailing dot) is meant by this name.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }

    /// The name that both mean, if any: the more specific one (Gateway API, listener and route hostnames).
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (Self::Exact(a), Self::Wildcard(_)) => other.matches(a).then(|| self.clone()),
            (Self::Wildcard(_), Self::Exact(b)) => self.matches(b).then(|| other.clone()),
            (Self::Wildcard(a), Self::Wildcard(b)) if a.len() >= b.len() => {
                a.ends_with(&**b).then(|| self.clone())
            }
            (Self::Wildcard(a), Self::Wildcard(b)) => b.ends_with(&**a).then(|| other.clone()),
        }
    }

    /// Precedence: exact before wildcard, then the longer one (greater is more specific).
    pub fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(name) => (true, name.len()),
            Self::Wildcard(suffix) => (false, suffix.len() + 1),
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
        }
    }
}

fn is_dns_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::Hostname;

    fn host(text: &str) -> Hostname {
        Hostname::parse(text).unwrap()
    }

    #[test]
    fn what_is_a_hostname() {
        for (text, good) in [
            ("example.com", true),
            ("Example.COM", true),
            ("*.example.com", true),
            ("*.com", true),
            ("a", true),
            ("", false),
            ("*", false),
            ("*example.com", false),
            ("a.*.com", false),
            ("-a.com", false),
            ("a..com", false),
            ("a.com.", false),
            ("a_b.com", false),
        ] {
            assert_eq!(Hostname::parse(text).is_some(), good, "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_means_one_or_more_labels() {
        assert!(host("*.example.com").matches("a.example.com"));
        assert!(host("*.example.com").matches("a.b.example.com"));
        assert!(!host("*.example.com").matches("example.com"));
        assert!(!host("*.example.com").matches("badexample.com"));
    }

    #[test]
    fn intersections() {
        for (a, b, both) in [
            ("a.com", "a.com", Some("a.com")),
            ("a.com", "b.com", None),
            ("*.com", "a.com", Some("a.com")),
            ("*.a.com", "*.com", Some("*.a.com")),
            ("*.a.com", "*.b.com", None),
            ("*.a.com", "a.com", None),
        ] {
            let expected = both.map(host);
            assert_eq!(host(a).intersection(&host(b)), expected, "{a} with {b}");
            assert_eq!(host(b).intersection(&host(a)), expected, "{b} with {a}");
        }
    }
}
