//! Which rule a request meets, what the rule does to it, and how load is shared.

use std::collections::BTreeMap;

use gateway_tests::manifests::{gateway, http, route, to};
use gateway_tests::{Backend, Curl, Http, Node, Site};
use serde_json::{Value, json};

struct Plain {
    node: Node,
    backends: Vec<Backend>,
    _site: Site,
}

/// A gateway in clear text with backends `a`, `b` and `c`.
fn plain(routes: &[Value]) -> Plain {
    let site = Site::new();
    let backends: Vec<Backend> = ["a", "b", "c"].into_iter().map(Backend::named).collect();
    for (name, backend) in ["a", "b", "c"].into_iter().zip(&backends) {
        site.service(name, &[backend.address()]);
    }
    site.apply(gateway("gw", &[http("clear", 80)]));
    for route in routes {
        site.apply(route.clone());
    }
    let node = Node::on(&site).ready();
    Plain { node, backends, _site: site }
}

fn matching(what: &Value, service: &str) -> Value {
    json!({"matches": [what], "backendRefs": [{"name": service, "port": 80}]})
}

#[test]
fn the_most_specific_rule_wins() {
    let mut named = route("named", "gw", &to("c"));
    named["spec"]["hostnames"] = json!(["exact.test"]);
    let rules = json!([
        matching(&json!({"path": {"type": "PathPrefix", "value": "/"}}), "a"),
        matching(&json!({"path": {"type": "PathPrefix", "value": "/one"}}), "b"),
        matching(&json!({"path": {"type": "Exact", "value": "/one/two"}}), "c"),
        matching(&json!({"path": {"type": "PathPrefix", "value": "/one"}, "method": "DELETE"}), "c"),
        matching(&json!({"headers": [{"name": "X-Color", "value": "red"}]}), "b"),
        matching(&json!({"queryParams": [{"name": "color", "value": "blue"}]}), "c"),
    ]);
    let this = plain(&[route("paths", "gw", &rules), named]);
    for (arguments, url, expected) in [
        (&[][..], "http://gw.test/", "a"),
        (&[], "http://gw.test/one", "b"),
        (&[], "http://gw.test/one/", "b"),
        (&[], "http://gw.test/one/more", "b"),
        (&[], "http://gw.test/onemore", "a"),
        (&[], "http://gw.test/one/two", "c"),
        (&[], "http://gw.test/one/two/", "b"),
        (&["--request", "DELETE"], "http://gw.test/one", "c"),
        (&["--header", "x-color: red"], "http://gw.test/", "b"),
        (&["--header", "x-color: green"], "http://gw.test/", "a"),
        (&[], "http://gw.test/?color=blue", "c"),
        (&[], "http://gw.test/?color=red", "a"),
        (&[], "http://exact.test/one", "c"),
    ] {
        let curl = arguments.iter().fold(Curl::to(this.node.http()), |curl, argument| curl.arg(argument));
        let answer = curl.get(url);
        assert_eq!(answer.status, 200, "{arguments:?} {url}: {answer:?}");
        assert_eq!(answer.header("x-backend"), [expected], "{arguments:?} {url}");
    }
}

#[test]
fn the_request_is_forwarded_byte_for_byte() {
    let this = plain(&[route("all", "gw", &to("a"))]);
    let target = "/a%2Fb/c;d?e=%20f&g";
    let answer = Curl::to(this.node.http()).arg("--path-as-is").get(&format!("http://gw.test{target}"));
    assert_eq!(answer.status, 200);
    assert_eq!(this.backends[0].last().target, target);
    let connection = Http::clear_h2(this.node.http());
    assert_eq!(connection.get(target).status, 200);
    assert_eq!(this.backends[0].last().target, target);
}

#[test]
fn weights_share_the_load_and_zero_gets_none() {
    let rules = json!([{"backendRefs": [
        {"name": "a", "port": 80, "weight": 3}, {"name": "b", "port": 80, "weight": 1},
        {"name": "c", "port": 80, "weight": 0},
    ]}]);
    let this = plain(&[route("all", "gw", &rules)]);
    let connection = Http::clear(this.node.http());
    let mut counts = BTreeMap::<String, usize>::new();
    for _ in 0..400 {
        *counts.entry(connection.get("/").header("x-backend").to_owned()).or_default() += 1;
    }
    // Six standard deviations of a binomial draw; a smooth scheme stays far inside.
    let a = counts.get("a").copied().unwrap_or_default();
    assert!((248..=352).contains(&a), "{counts:?}");
    assert_eq!(counts.get("c"), None, "{counts:?}");
}

#[test]
fn the_share_of_an_invalid_backend_is_answered_500() {
    let rules = json!([{"backendRefs": [
        {"name": "a", "port": 80, "weight": 1}, {"name": "missing", "port": 80, "weight": 1},
    ]}]);
    let this = plain(&[route("all", "gw", &rules)]);
    let connection = Http::clear(this.node.http());
    let statuses: Vec<u16> = (0..200).map(|_| connection.get("/").status.as_u16()).collect();
    let bad = statuses.iter().filter(|&&status| status == 500).count();
    assert!((50..=150).contains(&bad), "{bad} of 200 were answered 500");
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 200 - bad);
}

#[test]
fn endpoints_of_a_service_share_the_load() {
    let site = Site::new();
    let backends: Vec<Backend> = (0..3).map(|_| Backend::start()).collect();
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    site.service("echo", &addresses);
    site.apply(gateway("gw", &[http("clear", 80)]));
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).ready();
    let connection = Http::clear(node.http());
    for _ in 0..90 {
        assert_eq!(connection.get("/").status, 200);
    }
    for backend in &backends {
        assert!(backend.count() >= 10, "{} of 90", backend.count());
    }
}

#[test]
fn a_redirect_answers_without_a_backend() {
    let redirect = |path: &str, what: Value| {
        json!({
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": what}],
        })
    };
    let rules = json!([
        redirect("/plain", json!({"hostname": "new.test"})),
        redirect("/secure", json!({"scheme": "https", "statusCode": 301})),
        redirect("/port", json!({"port": 8080})),
        redirect("/full", json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/there"}})),
        redirect("/prefix", json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/moved"}})),
    ]);
    let this = plain(&[route("redirects", "gw", &rules)]);
    for (path, status, location) in [
        ("/plain/x?y=z", 302, "http://new.test/plain/x?y=z"),
        ("/secure/x", 301, "https://gw.test/secure/x"),
        ("/port/x", 302, "http://gw.test:8080/port/x"),
        ("/full/x", 302, "http://gw.test/there"),
        ("/prefix/x?y", 302, "http://gw.test/moved/x?y"),
    ] {
        let answer = Curl::to(this.node.http()).get(&format!("http://gw.test{path}"));
        assert_eq!(
            (answer.status, answer.header("location")),
            (status, vec![location]),
            "{path}: {answer:?}"
        );
    }
    assert!(this.backends.iter().all(|backend| backend.count() == 0));
}

#[test]
fn header_modifiers_change_what_they_name() {
    let rules = json!([{
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{"name": "X-Set", "value": "new"}], "add": [{"name": "X-Add", "value": "more"}],
                "remove": ["X-Remove"],
            }},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{"name": "X-Backend", "value": "hidden"}], "add": [{"name": "X-Kept", "value": "also"}],
                "remove": ["Content-Type"],
            }},
        ],
        "backendRefs": [{"name": "a", "port": 80}],
    }]);
    let this = plain(&[route("all", "gw", &rules)]);
    let curl = ["X-Set: old", "X-Add: first", "X-Remove: gone"]
        .into_iter()
        .fold(Curl::to(this.node.http()), Curl::header);
    let answer = curl.get("http://gw.test/");
    let seen = this.backends[0].last();
    assert_eq!(seen.header("x-set"), ["new"]);
    assert_eq!(seen.header("x-add").join(", "), "first, more");
    assert!(seen.header("x-remove").is_empty());
    assert_eq!(answer.header("x-backend"), ["hidden"]);
    assert_eq!(answer.header("x-kept"), ["also"]);
    assert!(answer.header("content-type").is_empty());
}

#[test]
fn a_listener_in_clear_text_speaks_both_protocols() {
    let this = plain(&[route("all", "gw", &to("a"))]);
    let answer = Curl::to(this.node.http()).arg("--http2-prior-knowledge").get("http://gw.test/");
    assert_eq!((answer.status, &*answer.version), (200, "2"), "{answer:?}");
    let answer = Curl::to(this.node.http()).http1().get("http://gw.test/");
    assert_eq!((answer.status, &*answer.version), (200, "1.1"), "{answer:?}");
    let answer = Curl::to(this.node.http()).arg("--http1.0").get("http://gw.test/");
    assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
}

#[test]
fn connections_to_the_backend_are_kept() {
    let site = Site::new();
    let backend = Backend::start();
    site.service("echo", &[backend.address()]);
    site.apply(gateway("gw", &[http("clear", 80)]));
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).arg("--workers").arg("1").ready();
    let connection = Http::clear(node.http());
    for _ in 0..50 {
        assert_eq!(connection.get("/").status, 200);
    }
    assert!(backend.connections() <= 3, "{} connections for 50 requests in a row", backend.connections());
}
