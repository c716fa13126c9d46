//! Names and paths as they stand on the wire: each row says what the client sends, what it is answered, what the backend
//! reads, and whether the connection goes on.

use std::time::Duration;

use gateway_tests::manifests::{gateway, http, https, route, to};
use gateway_tests::{Ca, Http, Node, Site, Tls};
use serde_json::json;

use crate::framing::{Exchange, Raw, whole};

/// What comes behind each row: answered if the connection goes on.
fn next(host: &str) -> String {
    format!("GET /next HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Target and host of each request that a backend has read, but for [`next`]'s.
fn asked(raw: &Raw) -> Vec<(String, String)> {
    let (seen, mut found) = (raw.take(), Vec::new());
    let mut rest = &seen[..];
    while let Some(length) = whole(rest) {
        let head = String::from_utf8_lossy(&rest[..length]).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
        found.push((target, host));
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "a part of a request: {:?}", String::from_utf8_lossy(rest));
    found.retain(|(target, _)| target != "/next");
    found
}

/// Listeners of one port for `a.test` and `*.w.test`, before a raw backend.
fn names() -> (Node, Raw, Site) {
    let (ca, raw, site) = (Ca::root("servers"), Raw::start(), Site::new());
    site.tls_secret("exact", &ca.server(&["a.test"]));
    site.tls_secret("wild", &ca.server(&["*.w.test"]));
    site.service("raw", &[raw.address]);
    let listeners =
        [https("exact", 443, Some("a.test"), "exact"), https("wild", 443, Some("*.w.test"), "wild")];
    site.apply(gateway("gw", &listeners));
    site.apply(route("all", "gw", &to("raw")));
    (Node::on(&site).ready(), raw, site)
}

/// Description, the request, the status, the host that the backend is told (none: it reads nothing), and whether the
/// connection goes on. The server name is `a.test`.
type Name = (&'static str, &'static str, u16, Option<&'static str>, bool);

const NAMES: &[Name] = &[
    ("as it is", "GET / HTTP/1.1\r\nHost: a.test\r\n", 200, Some("a.test"), true),
    ("the root's dot", "GET / HTTP/1.1\r\nHost: A.TEST.\r\n", 200, Some("A.TEST."), true),
    ("a port", "GET / HTTP/1.1\r\nHost: a.test:443\r\n", 200, Some("a.test:443"), true),
    ("absolute-form", "GET https://A.test./ HTTP/1.1\r\nHost: a.test\r\n", 200, Some("a.test"), true),
    (
        "absolute-form with a port",
        "GET https://a.test/ HTTP/1.1\r\nHost: a.test:443\r\n",
        200,
        Some("a.test:443"),
        true,
    ),
    ("another listener's", "GET / HTTP/1.1\r\nHost: x.w.test\r\n", 421, None, true),
    ("in large letters, with dot and port", "GET / HTTP/1.1\r\nHost: X.W.TEST.:443\r\n", 421, None, true),
    ("in absolute-form", "GET https://x.w.test/ HTTP/1.1\r\nHost: x.w.test\r\n", 421, None, true),
    ("nobody's", "GET / HTTP/1.1\r\nHost: b.test\r\n", 404, None, true),
    ("a suffix alone", "GET / HTTP/1.1\r\nHost: w.test\r\n", 404, None, true),
    ("two meanings", "GET https://x.w.test/ HTTP/1.1\r\nHost: a.test\r\n", 400, None, false),
    ("the other way", "GET https://a.test/ HTTP/1.1\r\nHost: x.w.test\r\n", 400, None, false),
    ("another port in the target", "GET https://a.test:8443/ HTTP/1.1\r\nHost: a.test\r\n", 400, None, false),
    ("a list", "GET / HTTP/1.1\r\nHost: a.test, x.w.test\r\n", 400, None, false),
    ("two fields", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: x.w.test\r\n", 400, None, false),
    ("user information", "GET / HTTP/1.1\r\nHost: a.test@x.w.test\r\n", 400, None, false),
    ("an encoded dot", "GET / HTTP/1.1\r\nHost: a%2etest\r\n", 400, None, false),
    ("two dots", "GET / HTTP/1.1\r\nHost: a.test..\r\n", 400, None, false),
    ("none", "GET / HTTP/1.1\r\nX: y\r\n", 400, None, false),
    ("folded", "GET / HTTP/1.1\r\nHost: a.test\r\n .w.test\r\n", 400, None, false),
];

#[test]
fn a_host_is_one_name_or_none_on_http1() {
    let (node, raw, _site) = names();
    for (description, head, status, host, goes_on) in NAMES {
        let mut link = Tls::new().name("a.test").connect(node.https()).unwrap();
        let text = link.exchange(format!("{head}\r\n{}", next("a.test")).as_bytes()).unwrap();
        let statuses = Exchange { text, closed: true }.statuses();
        let expected = if *goes_on { vec![*status, 200] } else { vec![*status] };
        assert_eq!(statuses, expected, "{description}");
        let hosts: Vec<String> = asked(&raw).into_iter().map(|(_, host)| host).collect();
        assert_eq!(hosts, host.iter().copied().collect::<Vec<_>>(), "{description}");
    }
}

#[test]
fn an_authority_is_one_name_or_none_on_http2() {
    let (node, raw, _site) = names();
    for (authority, field, status, host) in [
        ("a.test", None, 200, Some("a.test")),
        ("A.TEST.", None, 200, Some("A.TEST.")),
        ("a.test:443", None, 200, Some("a.test:443")),
        ("a.test", Some("a.test"), 200, Some("a.test")),
        ("a.test", Some("A.test.:443"), 200, Some("A.test.:443")),
        ("x.w.test", None, 421, None),
        ("X.W.TEST.:443", None, 421, None),
        ("b.test", None, 404, None),
        ("a.test", Some("x.w.test"), 400, None),
        ("x.w.test", Some("a.test"), 400, None),
        ("a.test:8443", Some("a.test"), 400, None),
        ("a.test", Some("a.test, x.w.test"), 400, None),
        ("a.test", Some(""), 400, None),
        ("a.test..", None, 400, None),
    ] {
        let link = Tls::new().name("a.test").alpn(&["h2"]).open(node.https());
        let fields: Vec<(&str, &str)> = field.map(|field| ("host", field)).into_iter().collect();
        let link = link.authority(authority);
        let answer = link.get_with("/", &fields);
        assert_eq!(answer.status.as_u16(), status, "{authority}, {field:?}");
        let hosts: Vec<String> = asked(&raw).into_iter().map(|(_, host)| host).collect();
        assert_eq!(hosts, host.into_iter().collect::<Vec<_>>(), "{authority}, {field:?}");
        // One stream's fault is no other one's.
        assert_eq!(link.authority("a.test").get("/next").status.as_u16(), 200, "{authority}, {field:?}");
        raw.take();
    }
}

/// A path, and the reason why it is refused where rules look at paths.
const PATHS: &[(&str, Option<&str>)] = &[
    ("/public/a..b/.c;d?e=/../%2f", None),
    ("/sm%C3%B8r%20br%C3%B8d%3F", None),
    ("//double", None),
    ("/public/https://a.test/;v=1/a%3Bb", None),
    ("//admin", Some("ambiguous_path")),
    ("/admin;x", Some("ambiguous_path")),
    ("/admin%3bx", Some("ambiguous_path")),
    ("/public/../admin", Some("ambiguous_path")),
    ("/./admin", Some("ambiguous_path")),
    ("/public/%2e%2E/admin", Some("ambiguous_path")),
    ("/public/.%2e/admin", Some("ambiguous_path")),
    ("/public/..;/admin", Some("ambiguous_path")),
    ("/public%2f..%2fadmin", Some("ambiguous_path")),
    ("/public%5C..%5Cadmin", Some("ambiguous_path")),
    ("/admin%00.png", Some("ambiguous_path")),
    ("/%61dmin", Some("ambiguous_path")),
    ("/%", Some("ambiguous_path")),
    ("/public/..\\admin", Some("bad_request")),
];

fn paths(by_path: bool, settings: &str) -> (Node, Raw, Site) {
    let (raw, site) = (Raw::start(), Site::new());
    site.service("raw", &[raw.address]);
    site.apply(gateway("gw", &[http("clear", 80)]));
    let mut rules = to("raw");
    if by_path {
        let mut admin = rules[0].clone();
        admin["matches"] = json!([{"path": {"type": "PathPrefix", "value": "/admin"}}]);
        rules.as_array_mut().unwrap().push(admin);
    }
    site.apply(route("all", "gw", &rules));
    (Node::on(&site).settings(settings).ready(), raw, site)
}

#[test]
fn a_path_is_forwarded_as_it_came_or_refused_where_it_might_be_anothers() {
    for (by_path, settings) in [(true, ""), (false, ""), (true, "refuse_ambiguous_paths = false\n")] {
        let (node, raw, _site) = paths(by_path, settings);
        for (path, reason) in PATHS {
            let reason = reason.filter(|reason| (by_path && settings.is_empty()) || *reason == "bad_request");
            let expected: Vec<&str> = if reason.is_none() { vec![*path] } else { Vec::new() };
            let targets = || asked(&raw).into_iter().map(|(target, _)| target).collect::<Vec<_>>();

            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n{}", next("a"));
            let exchange =
                Exchange::with(node.http(), request.as_bytes(), usize::MAX, Duration::from_secs(10));
            // What is malformed ends an HTTP/1.1 connection; what might only be meant in another way does not.
            let status = if reason.is_some() { 400 } else { 200 };
            let statuses = if reason == Some("bad_request") { vec![400] } else { vec![status, 200] };
            assert_eq!(exchange.statuses(), statuses, "{path}: {}", exchange.text);
            let told =
                reason.is_none_or(|reason| exchange.text.contains(&format!("\r\nyett-reason: {reason}\r\n")));
            assert!(told, "{path}: {}", exchange.text);
            assert_eq!(targets(), expected, "{path}");

            let link = Http::clear_h2(node.http());
            let answer = link.get(path);
            assert_eq!(answer.status.as_u16(), status, "{path} on HTTP/2");
            assert_eq!(reason.unwrap_or_default(), answer.reason(), "{path} on HTTP/2");
            assert_eq!(targets(), expected, "{path} on HTTP/2");
            assert_eq!(link.get("/next").status.as_u16(), 200, "{path} on HTTP/2");
            raw.take();
        }
    }
}
