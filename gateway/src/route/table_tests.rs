//! The order of the specification as a table, and the same against a slow reference.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::model::route::RuleHost;
use crate::model::{Action, ObjectName, Reason};

/// `GET /path` or `/path/*`, then `name: value` headers and `?name=value` parameters.
fn matched(text: &str) -> RequestMatch {
    let mut found = RequestMatch {
        path: PathMatch::Prefix("".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if let Some(path) = word.strip_suffix("/*") {
            found.path = PathMatch::Prefix(path.into());
        } else if word.starts_with('/') {
            found.path = PathMatch::Exact(word.into());
        } else if let Some(parameter) = word.strip_prefix('?') {
            let (name, value) = parameter.split_once('=').unwrap();
            found.query.push((name.into(), value.into()));
        } else if let Some((name, value)) = word.split_once(':') {
            found.headers.push((name.parse().unwrap(), value.parse().unwrap()));
        } else {
            found.method = Some(word.parse().unwrap());
        }
    }
    found
}

/// A rule of route `default/NAME` for `hosts`, each the route's own name (`""`: none) on a listener of any host.
fn rule(name: &str, created: Option<i64>, index: usize, hosts: &[&str], matches: &[&str]) -> Rule {
    let host = |text: &&str| (!text.is_empty()).then(|| Hostname::parse(text).unwrap());
    Rule {
        route: ObjectName::new("default", name),
        created,
        index,
        name: None,
        hosts: hosts.iter().map(host).map(|own| RuleHost { matches: own.clone(), own }).collect(),
        matches: matches.iter().map(|text| matched(text)).collect(),
        filters: Vec::new(),
        action: Action::Refuse(Reason::NoEndpoints),
        request_timeout: None,
        backend_timeout: None,
    }
}

/// `GET host/path?query name:value…`
struct Request {
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let method = words.next().unwrap().parse().unwrap();
        let target = words.next().unwrap();
        let (host, rest) = target.split_at(target.find('/').unwrap());
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in words.map(|word| word.split_once(':').unwrap()) {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        Self { method, host: host.into(), path: path.into(), query, headers }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            host: &self.host,
            path: &self.path,
            method: &self.method,
            headers: &self.headers,
            query: self.query.as_deref(),
        }
    }
}

fn table(rules: &[Rule]) -> Table<String> {
    Table::new(rules.iter().map(|rule| (rule, format!("{}/{}", rule.route.name, rule.index))))
}

fn found(rules: &[Rule], request: &str) -> Option<String> {
    table(rules).find(&Request::parse(request).asked()).map(|found| found.value.clone())
}

#[test]
fn what_a_match_means() {
    for (description, matches, request, meets) in [
        ("the default is every path", "", "GET a/", true),
        ("a prefix means itself", "/foo/*", "GET a/foo", true),
        ("with a slash", "/foo/*", "GET a/foo/", true),
        ("and what is below", "/foo/*", "GET a/foo/bar", true),
        ("by whole elements", "/foo/*", "GET a/foobar", false),
        ("with case", "/foo/*", "GET a/Foo", false),
        ("undecoded", "/foo/*", "GET a/%66oo", false),
        ("an exact path means itself alone", "/foo", "GET a/foo/", false),
        ("an exact path", "/foo", "GET a/foo", true),
        ("the method", "POST", "GET a/", false),
        ("the method", "POST", "POST a/", true),
        ("a header", "x:1", "GET a/ x:1", true),
        ("with its whole value", "x:1", "GET a/ x:12", false),
        ("that is there", "x:1", "GET a/", false),
        ("lines are joined by commas", "x:1,2", "GET a/ x:1 x:2", true),
        ("all of them", "x:1", "GET a/ x:1 x:2", false),
        ("two headers", "x:1 y:2", "GET a/ x:1", false),
        ("two headers", "x:1 y:2", "GET a/ y:2 x:1", true),
        ("a parameter", "?q=a", "GET a/?q=a", true),
        ("among others", "?q=a", "GET a/?p&q=a&r=1", true),
        ("the first one counts", "?q=a", "GET a/?q=b&q=a", false),
        ("decoded", "?q=a", "GET a/?%71=%61", true),
        ("decoded but once", "?q=a", "GET a/?q=%2561", false),
        ("a stray percent sign stands for itself", "?q=%a", "GET a/?q=%a", true),
        ("that is there", "?q=a", "GET a/", false),
        ("an empty one", "?q=", "GET a/?q", true),
    ] {
        let rules = [rule("r", None, 0, &[""], &[matches])];
        assert_eq!(found(&rules, request).is_some(), meets, "{description}: {matches:?} and {request}");
    }
}

#[test]
fn precedence() {
    // The winner stands first; what is listed after it would match too.
    type Candidate<'a> = (&'a str, Option<i64>, usize, &'a [&'a str], &'a [&'a str]);
    let cases: &[(&str, &str, &[Candidate<'_>])] = &[
        (
            "an exact own hostname before everything",
            "GET a.b.c/long/path x:1",
            &[
                ("exact", Some(9), 0, &["a.b.c"], &[""]),
                ("wild", Some(1), 0, &["*.b.c"], &["GET /long/path x:1"]),
                ("none", Some(0), 0, &[""], &["GET /long/path x:1"]),
            ],
        ),
        (
            "the longer wildcard, then a route without hostname",
            "GET a.b.c/long",
            &[
                ("longer", Some(9), 0, &["*.b.c"], &[""]),
                ("shorter", Some(1), 0, &["*.c"], &["/long"]),
                ("none", Some(0), 0, &[""], &["/long"]),
            ],
        ),
        (
            "an exact path before a prefix of any length, with method and headers",
            "GET a/foo/bar x:1",
            &[("exact", None, 0, &[""], &["/foo/bar"]), ("prefix", None, 0, &[""], &["GET /foo/bar/* x:1"])],
        ),
        (
            "the longer prefix before methods",
            "GET a/foo/bar",
            &[
                ("longer", None, 0, &[""], &["/foo/*"]),
                ("shorter", None, 0, &[""], &["GET /* x:1", "GET /*"]),
            ],
        ),
        (
            "a method before headers",
            "GET a/ x:1 y:2",
            &[("method", None, 0, &[""], &["GET"]), ("headers", None, 0, &[""], &["x:1 y:2"])],
        ),
        (
            "more headers, then more parameters",
            "GET a/?q=1&r=2 x:1 y:2",
            &[
                ("headers", None, 0, &[""], &["x:1 y:2"]),
                ("parameters", None, 0, &[""], &["x:1 ?q=1 ?r=2"]),
                ("less", None, 0, &[""], &["x:1 ?q=1"]),
            ],
        ),
        (
            "the older route before the name, unknown ages last",
            "GET a/",
            &[("b", Some(1), 0, &[""], &[""]), ("a", Some(2), 0, &[""], &[""]), ("0", None, 0, &[""], &[""])],
        ),
        (
            "the name, then the first rule",
            "GET a/",
            &[
                ("a", None, 0, &[""], &["/none", ""]),
                ("a", None, 1, &[""], &[""]),
                ("b", None, 0, &[""], &[""]),
            ],
        ),
        (
            "one route with two hostnames counts by the better one",
            "GET a.b/",
            &[("two", Some(9), 0, &["*.b", "a.b"], &[""]), ("one", Some(1), 0, &["*.b"], &["/"])],
        ),
    ];
    for (description, request, candidates) in cases {
        let rules: Vec<Rule> = candidates
            .iter()
            .map(|(name, created, index, hosts, matches)| rule(name, *created, *index, hosts, matches))
            .collect();
        for first in 0..rules.len() {
            let mut order = rules.clone();
            order.rotate_left(first);
            let winner = format!("{}/{}", rules[0].route.name, rules[0].index);
            assert_eq!(found(&order, request), Some(winner), "{description}, given from {first}");
        }
        for (after, loser) in rules.iter().enumerate().skip(1) {
            let alone = format!("{}/{}", loser.route.name, loser.index);
            assert_eq!(
                found(&rules[after..], request),
                Some(alone),
                "{description}: rule {after} matches too"
            );
        }
    }
}

#[test]
fn it_is_known_where_paths_decide() {
    let rules = [
        rule("a", None, 0, &["a.test"], &["", "GET", "x:y"]),
        rule("b", None, 0, &["b.test"], &["", "/p/*"]),
        rule("c", None, 0, &["c.test"], &["/c"]),
        rule("d", None, 0, &["*.d.test"], &["/d/*"]),
        rule("e", None, 0, &["x.d.test", ""], &[""]),
    ];
    // What a wider name brings along counts too.
    for (host, expected) in [("a.test", false), ("b.test", true), ("x.d.test", true), ("other.test", false)] {
        let request = Request::parse(&format!("GET {host}/"));
        let table = table(&rules);
        assert_eq!(table.find(&request.asked()).map(|found| found.by_path), Some(expected), "{host}");
    }
}

#[test]
fn the_own_hostname_ranks_where_the_intersection_is_the_same() {
    let on_listener = |name: &str, created, own: &str, matches: &[&str]| {
        let mut made = rule(name, Some(created), 0, &[own], matches);
        made.hosts[0].matches = Hostname::parse("abc.example.com");
        made
    };
    let rules = [
        on_listener("older", 1, "*.example.com", &["/long/prefix/*"]),
        on_listener("newer", 2, "abc.example.com", &["/long/* x:1"]),
    ];
    assert_eq!(found(&rules, "GET abc.example.com/long/prefix x:1").as_deref(), Some("newer/0"));
    // What misses falls through to the less specific host.
    assert_eq!(found(&rules, "GET abc.example.com/long/prefix").as_deref(), Some("older/0"));
    assert_eq!(found(&rules, "GET other.example.com/long/prefix"), None);
}

/// Every candidate looked at, one by one.
fn reference<'r>(rules: &'r [Rule], request: &Request) -> Option<(&'r Rule, usize)> {
    let path_rank = |path: &PathMatch| match path {
        PathMatch::Exact(path) => (request.path == **path).then_some((1, 0)),
        PathMatch::Prefix(prefix) => {
            let below = format!("{prefix}/");
            (request.path == **prefix || request.path.starts_with(&below)).then_some((0, prefix.len()))
        }
    };
    let mut met = Vec::new();
    for rule in rules {
        for host in rule
            .hosts
            .iter()
            .filter(|host| host.matches.as_ref().is_none_or(|name| name.matches(&request.host)))
        {
            for (index, matched) in rule.matches.iter().enumerate() {
                let method = matched.method.as_ref().is_none_or(|method| *method == request.method);
                let headers = matched.headers.iter().all(|(name, value)| {
                    let lines: Vec<&[u8]> =
                        request.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                    !lines.is_empty() && lines.join(&b","[..]) == value.as_bytes()
                });
                if let (Some(path), true, true) = (path_rank(&matched.path), method, headers) {
                    let own = host.own.as_ref().map_or((false, 0), Hostname::specificity);
                    let rank = (own, path, matched.method.is_some(), matched.headers.len());
                    let age = (rule.created.unwrap_or(i64::MAX), rule.route.clone(), rule.index, index);
                    met.push((Reverse(rank), age, rule, index));
                }
            }
        }
    }
    met.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    met.first().map(|(_, _, rule, index)| (*rule, *index))
}

proptest! {
    #[test]
    fn finds_what_the_reference_finds(
        rules in prop::collection::vec(
            (
                "[a-c]", prop::option::of(0..3i64), 0..2usize,
                prop::collection::vec(prop::sample::select(vec!["", "*.c", "*.b.c", "a.b.c", "b.c"]), 1..3),
                prop::collection::vec(
                    ("(GET |POST )?", "(/|/a|/a/b|/\\*|/a/\\*|/a/b/\\*)", "( x:1)?", "( y:1)?"),
                    1..3,
                ),
            ),
            0..8,
        ),
        host in prop::sample::select(vec!["a.b.c", "x.b.c", "b.c", "x.c", "c", "d"]),
        path in "(/[ab]){0,3}/?",
        method in "(GET|POST)",
        headers in "( x:[12])?( x:2)?( y:1)?",
    ) {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|(name, created, index, hosts, matches)| {
                let matches: Vec<String> = matches.iter().map(|(m, p, x, y)| format!("{m}{p}{x}{y}")).collect();
                let matches: Vec<&str> = matches.iter().map(String::as_str).collect();
                rule(name, *created, *index, hosts, &matches)
            })
            .collect();
        let path = if path.starts_with('/') { path } else { format!("/{path}") };
        let request = Request::parse(&format!("{method} {host}{path}{headers}"));
        let table = Table::new(rules.iter().map(|rule| (rule, rule)));
        let found = table.find(&request.asked());
        let expected = reference(&rules, &request);
        // Equal rules cannot be told apart but by what they hold.
        prop_assert_eq!(found.map(|found| (found.value.route.clone(), found.value.index, found.matched.clone())),
            expected.map(|(rule, index)| (rule.route.clone(), rule.index, rule.matches[index].clone())));
    }
}
