//! A listener's rules in the order of the specification (Gateway API, `HTTPRouteRule.matches`).
//!
//! Every match of every rule, for every host it stands for, is a candidate. Candidates are ranked by
//! 1. the route's own hostname: exact ones first, then the one with the most characters, none last;
//! 2. the path: exact ones first, then the longest prefix;
//! 3. a method match;
//! 4. the number of header matches;
//! 5. the number of query matches;
//! 6. the older route, then `namespace/name`, then the rule's and the match's place in the route.
//!
//! For each host name that appears, the candidates of that name and of all less specific ones are merged when the
//! table is built. A request is looked up by its host alone, then walks one list of tiers, each of which finds its
//! paths by hash; a request that meets nothing in a tier falls through to the next one. Nothing is allocated.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::host::HostMap;
use crate::model::{Hostname, PathMatch, RequestMatch, Rule};

/// What of a request decides over its rule.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Host: lower case, without port and trailing dot.
    pub host: &'a str,
    /// The path as the client sent it; never decoded, so that what is matched is what is forwarded.
    pub path: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The header section.
    pub headers: &'a HeaderMap,
    /// The query without its question mark.
    pub query: Option<&'a str>,
}

/// The rule that a request meets, and by which match.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t, T> {
    /// What was handed in with the rule.
    pub value: &'t T,
    /// The match that decided.
    pub matched: &'t RequestMatch,
    /// Whether another path on this host might meet another rule, or none.
    pub by_path: bool,
}

/// Rules that can be found.
#[derive(Clone, Debug)]
pub struct Table<T> {
    values: Vec<T>,
    candidates: Vec<Candidate>,
    hosts: HostMap<Host>,
}

/// One match of one rule.
#[derive(Clone, Debug)]
struct Candidate {
    value: usize,
    matched: RequestMatch,
}

/// What a host's requests may meet.
#[derive(Clone, Debug, Default)]
struct Host {
    /// Best first.
    tiers: Vec<Tier>,
    by_path: bool,
}

/// Candidates of equal rank by hostname.
#[derive(Clone, Debug, Default)]
struct Tier {
    exact: HashMap<Arc<str>, Vec<usize>>,
    prefix: HashMap<Arc<str>, Vec<usize>>,
    /// The lengths of the prefixes, longest first: bounds the steps of a lookup by configuration, not by the client.
    lengths: Vec<usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), candidates: Vec::new(), hosts: HostMap::default() }
    }
}

impl<T> Table<T> {
    /// Puts rules in order; their own order means nothing.
    pub fn new<'r>(rules: impl IntoIterator<Item = (&'r Rule, T)>) -> Self {
        let (rules, values): (Vec<&Rule>, Vec<T>) = rules.into_iter().unzip();
        let mut candidates: Vec<(Candidate, Rank<'r>)> = rules
            .iter()
            .enumerate()
            .flat_map(|(value, rule)| {
                rule.matches.iter().enumerate().map(move |(index, matched)| {
                    (Candidate { value, matched: matched.clone() }, Rank::of(rule, matched, index))
                })
            })
            .collect();
        candidates.sort_by(|a, b| a.1.cmp(&b.1));
        let candidates: Vec<Candidate> = candidates.into_iter().map(|(candidate, _)| candidate).collect();

        let names: BTreeSet<Option<&Hostname>> =
            rules.iter().flat_map(|rule| &rule.hosts).map(|host| host.matches.as_ref()).collect();
        let mut hosts = HostMap::default();
        for name in names {
            let tiers = tiers(name, &rules, &candidates);
            let by_path = tiers.iter().any(Tier::looks_at_paths);
            hosts.insert(name.cloned(), Host { tiers, by_path });
        }
        Self { values, candidates, hosts }
    }

    /// The rule that the request meets, `None` where it meets none.
    pub fn find(&self, asked: &Asked<'_>) -> Option<Found<'_, T>> {
        let host = self.hosts.find(asked.host)?;
        let candidate = host.tiers.iter().find_map(|tier| tier.find(asked, &self.candidates))?;
        let value = &self.values[candidate.value];
        Some(Found { value, matched: &candidate.matched, by_path: host.by_path })
    }

    /// What was handed in with the rules.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

impl Tier {
    fn find<'t>(&self, asked: &Asked<'_>, candidates: &'t [Candidate]) -> Option<&'t Candidate> {
        let met = |list: &Vec<usize>| {
            list.iter().map(|at| &candidates[*at]).find(|candidate| meets(&candidate.matched, asked))
        };
        if let Some(candidate) = self.exact.get(asked.path).and_then(met) {
            return Some(candidate);
        }
        self.lengths.iter().find_map(|length| {
            let prefix = element_prefix(asked.path, *length)?;
            self.prefix.get(prefix).and_then(met)
        })
    }

    /// Whether a candidate takes some paths and not others.
    fn looks_at_paths(&self) -> bool {
        !self.exact.is_empty() || self.lengths.iter().any(|length| *length > 0)
    }

    fn add(&mut self, at: usize, path: &PathMatch) {
        match path {
            PathMatch::Exact(path) => self.exact.entry(Arc::clone(path)).or_default().push(at),
            PathMatch::Prefix(path) => {
                if let Err(place) = self.lengths.binary_search_by(|length| path.len().cmp(length)) {
                    self.lengths.insert(place, path.len());
                }
                self.prefix.entry(Arc::clone(path)).or_default().push(at);
            }
        }
    }
}

/// The order of candidates of one host name and one path (points 3 to 6 of the module's list).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'r> {
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    created: i64,
    namespace: &'r str,
    name: &'r str,
    rule: usize,
    matched: usize,
}

impl<'r> Rank<'r> {
    fn of(rule: &'r Rule, matched: &RequestMatch, index: usize) -> Self {
        Self {
            method: Reverse(matched.method.is_some()),
            headers: Reverse(matched.headers.len()),
            query: Reverse(matched.query.len()),
            created: rule.created.unwrap_or(i64::MAX),
            namespace: &rule.route.namespace,
            name: &rule.route.name,
            rule: rule.index,
            matched: index,
        }
    }
}

/// The candidates that stand for every host that `name` means, by the routes' own hostnames, best tier first.
/// Two names that mean the same host are one inside the other, so the less specific names of any such host are the
/// same ones.
fn tiers(name: Option<&Hostname>, rules: &[&Rule], candidates: &[Candidate]) -> Vec<Tier> {
    let mut tiers: BTreeMap<Reverse<(bool, usize)>, Tier> = BTreeMap::new();
    for (at, candidate) in candidates.iter().enumerate() {
        // Of several hosts of one rule that stand for the same requests, the one with the best rank counts.
        let best = rules[candidate.value]
            .hosts
            .iter()
            .filter(|host| stands_for(host.matches.as_ref(), name))
            .map(|host| host.own.as_ref().map_or((false, 0), Hostname::specificity))
            .max();
        if let Some(rank) = best {
            tiers.entry(Reverse(rank)).or_default().add(at, &candidate.matched.path);
        }
    }
    tiers.into_values().collect()
}

/// Whether `wide` means every host that `name` means.
fn stands_for(wide: Option<&Hostname>, name: Option<&Hostname>) -> bool {
    match (wide, name) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(name)) => wide.intersection(name).as_ref() == Some(name),
    }
}

/// The first `length` bytes of `path`, if a path element ends there.
fn element_prefix(path: &str, length: usize) -> Option<&str> {
    match path.as_bytes().get(length) {
        Some(b'/') => path.get(..length),
        Some(_) => None,
        None => (path.len() == length && length > 0).then_some(path),
    }
}

/// Everything but the path.
fn meets(matched: &RequestMatch, asked: &Asked<'_>) -> bool {
    matched.method.as_ref().is_none_or(|method| method == asked.method)
        && matched.headers.iter().all(|(name, value)| {
            let mut lines = asked.headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
            is_joined(value.as_bytes(), &mut lines)
        })
        && matched.query.iter().all(|(name, value)| {
            parameters(asked.query.unwrap_or_default())
                .find(|(key, _)| is_decoded(name, key))
                .is_some_and(|(_, text)| is_decoded(value, text))
        })
}

/// Whether `expected` is the lines joined by commas; without lines it never is.
fn is_joined(expected: &[u8], lines: &mut dyn Iterator<Item = &[u8]>) -> bool {
    let Some(mut rest) = lines.next().and_then(|first| expected.strip_prefix(first)) else { return false };
    for line in lines {
        match rest.strip_prefix(b",").and_then(|rest| rest.strip_prefix(line)) {
            Some(left) => rest = left,
            None => return false,
        }
    }
    rest.is_empty()
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|text| !text.is_empty()).map(|text| text.split_once('=').unwrap_or((text, "")))
}

/// Whether `text` says `expected` when it is read as a form does (percent-decoded, `+` for a space).
fn is_decoded(expected: &str, text: &str) -> bool {
    let mut expected = expected.bytes();
    let mut text = text.bytes();
    while let Some(byte) = text.next() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let mut ahead = text.clone();
                match (ahead.next().and_then(hex), ahead.next().and_then(hex)) {
                    (Some(high), Some(low)) => {
                        text = ahead;
                        high << 4 | low
                    }
                    _ => b'%',
                }
            }
            other => other,
        };
        if expected.next() != Some(byte) {
            return false;
        }
    }
    expected.next().is_none()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
