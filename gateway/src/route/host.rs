//! Values by host name: the most specific name that means a host decides.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::Hostname;

/// Values under exact names, wildcards and "any host" (`None`).
#[derive(Clone, Debug)]
pub struct HostMap<V> {
    exact: HashMap<Arc<str>, V>,
    wildcard: HashMap<Arc<str>, V>,
    /// The lengths of the wildcards' suffixes, longest first: a lookup takes no more steps than there are of these,
    /// however many dots the client sends.
    lengths: Vec<usize>,
    any: Option<V>,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), lengths: Vec::new(), any: None }
    }
}

impl<V> HostMap<V> {
    /// Puts a value under a name, in place of a former one.
    pub fn insert(&mut self, name: Option<Hostname>, value: V) {
        match name {
            Some(Hostname::Exact(name)) => {
                self.exact.insert(name, value);
            }
            Some(Hostname::Wildcard(suffix)) => {
                if let Err(place) = self.lengths.binary_search_by(|length| suffix.len().cmp(length)) {
                    self.lengths.insert(place, suffix.len());
                }
                self.wildcard.insert(suffix, value);
            }
            None => self.any = Some(value),
        }
    }

    /// The value of the most specific name that means `host` (lower case, no port, no trailing dot): exact, then the
    /// longest wildcard, then any.
    pub fn find(&self, host: &str) -> Option<&V> {
        self.exact.get(host).or_else(|| self.find_wildcard(host)).or(self.any.as_ref())
    }

    /// The value that stands for any host.
    pub fn any(&self) -> Option<&V> {
        self.any.as_ref()
    }

    fn find_wildcard(&self, host: &str) -> Option<&V> {
        self.lengths
            .iter()
            .filter_map(|length| host.len().checked_sub(*length).filter(|start| *start > 0))
            .filter(|start| host.as_bytes()[*start] == b'.')
            .find_map(|start| self.wildcard.get(&host[start..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_decides() {
        let mut map = HostMap::default();
        for name in ["a.example.com", "*.example.com", "*.b.example.com", "*.com"] {
            map.insert(Hostname::parse(name), name);
        }
        for (host, expected) in [
            ("a.example.com", Some("a.example.com")),
            ("b.example.com", Some("*.example.com")),
            ("x.b.example.com", Some("*.b.example.com")),
            ("x.y.b.example.com", Some("*.b.example.com")),
            ("example.com", Some("*.com")),
            (".example.com", Some("*.com")),
            ("com", None),
            ("example.org", None),
            ("", None),
            ("é.example.com", Some("*.example.com")),
        ] {
            assert_eq!(map.find(host).copied(), expected, "{host:?}");
        }
        map.insert(None, "any");
        assert_eq!(map.find("example.org").copied(), Some("any"));
        assert_eq!(map.any().copied(), Some("any"));
    }
}
