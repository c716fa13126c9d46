//! HTTP/1.1 towards the client: messages.

use std::time::Duration;

use http::StatusCode;

use super::world::*;
use crate::http::Wire;
use crate::model::route::{Redirect, RedirectScheme, WeightedBackend};
use crate::model::{Action, Filter, HeaderEdit, Reason};
use crate::tls::Credential;

#[test]
fn a_request_reaches_the_backend_and_its_answer_the_client() {
    run(async {
        let (address, seen) = backend(|_| {
            Reply::Keep(
                "HTTP/1.1 201 Created\r\ncontent-length: 5\r\nconnection: x-hop\r\nx-hop: 1\r\nx-end: 2\r\n\r\nhello".into(),
            )
        })
        .await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        let request = "POST /x?q=1 HTTP/1.1\r\nHost: A.example:80\r\nConnection: keep-alive, x-gone\r\nx-gone: 1\r\n\
            Client-Cert: :forged:\r\nclient_cert: forged\r\nX-Forwarded-For: 1.1.1.1\r\nx-stays: 1\r\ncontent-length: 3\r\n\r\nabc";
        let answer = ask(&mut client, request).await;
        assert!(
            answer.starts_with("HTTP/1.1 201 Created\r\n") && answer.ends_with("\r\n\r\nhello"),
            "{answer}"
        );
        assert!(answer.contains("x-end: 2\r\n") && !answer.contains("x-hop"), "{answer}");
        let request = seen.borrow()[0].clone();
        assert!(
            request.starts_with("POST /x?q=1 HTTP/1.1\r\n") && request.ends_with("\r\n\r\nabc"),
            "{request}"
        );
        for line in [
            "host: A.example:80",
            "x-stays: 1",
            "content-length: 3",
            "x-forwarded-for: 1.1.1.1, 192.0.2.1",
            "x-forwarded-host: A.example:80",
            "x-forwarded-proto: http",
        ] {
            assert!(request.contains(&format!("{line}\r\n")), "{line} in {request}");
        }
        for name in ["client-cert", "client_cert", "x-gone", "connection"] {
            assert!(!request.contains(&format!("{name}:")), "{name} in {request}");
        }
        // The connection and the backend's are kept.
        assert_eq!(status(&ask(&mut client, GET).await), 201);
        assert_eq!(seen.borrow().len(), 2);
        let lines = world.lines(2).await;
        assert_eq!(lines[0]["connection"]["id"], lines[1]["connection"]["id"]);
        assert_eq!(
            (&lines[0]["status"], &lines[0]["bytes_in"], &lines[0]["bytes_out"]),
            (&201.into(), &3.into(), &5.into())
        );
        assert_eq!(lines[0]["listener"], "default/gw/");
        assert!(lines[0].get("reason").is_none(), "{}", lines[0]);
    });
}

#[test]
fn what_is_answered_without_a_backend() {
    run(async {
        let redirect = Redirect {
            scheme: Some(RedirectScheme::Https),
            hostname: None,
            port: None,
            path: None,
            status: StatusCode::MOVED_PERMANENTLY,
        };
        let gone = WeightedBackend { weight: 1, target: Err(Reason::BackendInvalid), filters: Vec::new() };
        let idle = WeightedBackend { weight: 0, ..gone.clone() };
        let rules = vec![
            rule("a.example", "", forward()),
            rule("a.example", "/moved", Action::Redirect(redirect)),
            rule("a.example", "/refused", Action::Refuse(Reason::BackendInvalid)),
            rule("a.example", "/gone", Action::Forward(vec![gone])),
            rule("a.example", "/idle", Action::Forward(vec![idle])),
        ];
        let world = World::new(&[listener("a.example", rules)], None, &Plan::default());
        for (description, request, status_expected, reason_expected) in [
            ("no endpoint", "GET / HTTP/1.1\r\nHost: a.example\r\n", 503, Some("no_endpoints")),
            (
                "refused by the rule",
                "GET /refused HTTP/1.1\r\nHost: a.example\r\n",
                500,
                Some("backend_invalid"),
            ),
            (
                "an invalid backend's share",
                "GET /gone HTTP/1.1\r\nHost: a.example\r\n",
                500,
                Some("backend_invalid"),
            ),
            ("no weight at all", "GET /idle HTTP/1.1\r\nHost: a.example\r\n", 500, Some("backend_invalid")),
            ("no listener", "GET / HTTP/1.1\r\nHost: b.example\r\n", 404, Some("route_not_found")),
            ("a redirect", "GET /moved?q HTTP/1.1\r\nHost: A.example:80\r\n", 301, None),
            ("no host", "GET / HTTP/1.1\r\n", 400, Some("bad_request")),
            (
                "two hosts",
                "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n",
                400,
                Some("bad_request"),
            ),
            ("a malformed host", "GET / HTTP/1.1\r\nHost: a..example\r\n", 400, Some("bad_request")),
            (
                "two meanings",
                "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n",
                400,
                Some("bad_request"),
            ),
            (
                "connect",
                "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n",
                501,
                Some("not_implemented"),
            ),
            ("HTTP/1.0 without a host", "GET / HTTP/1.0\r\n", 404, Some("route_not_found")),
        ] {
            let answer = talk(world.connect(), &format!("{request}Connection: close\r\n\r\n")).await;
            assert_eq!(
                (status(&answer), reason(&answer)),
                (status_expected, reason_expected),
                "{description}: {answer}"
            );
            if let Some(reason) = reason_expected {
                let body: serde_json::Value =
                    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
                assert_eq!(body["reason"], reason, "{description}");
                assert!(answer.contains("cache-control: no-store\r\n"), "{description}: {answer}");
            } else {
                assert!(answer.contains("location: https://a.example/moved?q\r\n"), "{answer}");
            }
        }
        let lines = world.lines(12).await;
        assert_eq!(lines[0]["reason"], "no_endpoints");
        let metrics = world.server.telemetry.metrics.render();
        assert!(metrics.contains(
            "yett_http_refusals_total{listener=\"default/gw/a.example\",reason=\"no_endpoints\"} 1"
        ));
    });
}

#[test]
fn what_goes_wrong_with_a_backend() {
    run(async {
        let (address, _) = backend(|request| match request.split(' ').nth(1).unwrap() {
            "/closes" => Reply::Close(String::new()),
            "/nonsense" => Reply::Close("SSH-2.0-OpenSSH\r\n\r\n".into()),
            "/switches" => Reply::Keep(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".into(),
            ),
            "/cut" => Reply::Close("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".into()),
            "/cut-chunks" => {
                Reply::Close("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".into())
            }
            _ => Reply::Hang,
        })
        .await;
        let mut impatient = rule("", "/hangs", forward());
        impatient.request_timeout = Some(Duration::from_millis(50));
        let mut strict = rule("", "/hangs-too", forward());
        strict.backend_timeout = Some(Duration::from_millis(50));
        let rules = vec![rule("", "", forward()), impatient, strict];
        let world = World::new(&[listener("", rules)], Some(address), &Plan::default());
        for (path, status_expected, reason_expected) in [
            ("/closes", 502, Some("upstream_closed")),
            ("/nonsense", 502, Some("upstream_protocol")),
            ("/switches", 502, Some("upstream_protocol")),
            ("/hangs", 504, Some("upstream_timeout")),
            ("/hangs-too", 504, Some("upstream_timeout")),
            ("/cut", 200, None),
            ("/cut-chunks", 200, None),
        ] {
            let answer = talk(
                world.connect(),
                &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            )
            .await;
            assert_eq!(
                (status(&answer), reason(&answer)),
                (status_expected, reason_expected),
                "{path}: {answer}"
            );
            assert!(!answer.ends_with("\r\n0\r\n\r\n"), "{path}: a cut must not look like an end");
        }
        let lines = world.lines(7).await;
        assert_eq!(lines[6]["reason"], "upstream_body_cut", "{}", lines[6]);
    });
}

#[test]
fn nobody_listens() {
    run(async {
        let address = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let answer = ask(&mut world.connect(), GET).await;
        assert_eq!((status(&answer), reason(&answer)), (502, Some("upstream_connect_failed")));
    });
}

#[test]
fn bodies_stream_and_trailers_arrive() {
    run(async {
        let (address, seen) = backend(|_| {
            Reply::Keep(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n".into(),
            )
        })
        .await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTrailer: x-digest, client-cert\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-digest: 9\r\nclient-cert: forged\r\n\r\n";
        let answer = ask(&mut client, request).await;
        assert!(answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
        let request = seen.borrow()[0].clone();
        assert!(request.ends_with("3\r\nabc\r\n0\r\nx-digest: 9\r\n\r\n"), "{request}");
        assert!(request.contains("te: trailers\r\n"), "{request}");
    });
}

#[test]
fn filters_apply_in_order() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let set = |name: &str, value: &str| HeaderEdit {
            set: vec![(name.parse().unwrap(), value.parse().unwrap())],
            ..HeaderEdit::default()
        };
        let target = WeightedBackend {
            weight: 1,
            target: Ok(match forward() {
                Action::Forward(backends) => backends[0].target.clone().unwrap(),
                _ => unreachable!(),
            }),
            filters: vec![
                Filter::RequestHeaders(set("x-a", "backend")),
                Filter::ResponseHeaders(set("x-b", "backend")),
            ],
        };
        let mut edited = rule("", "", Action::Forward(vec![target]));
        edited.filters =
            vec![Filter::RequestHeaders(set("x-a", "rule")), Filter::ResponseHeaders(set("x-c", "rule"))];
        let world = World::new(&[listener("", vec![edited])], Some(address), &Plan::default());
        let answer = ask(&mut world.connect(), GET).await;
        assert!(answer.contains("x-b: backend\r\n") && answer.contains("x-c: rule\r\n"), "{answer}");
        assert!(seen.borrow()[0].contains("x-a: backend\r\n"));
    });
}

#[test]
fn another_listeners_host_is_misdirected_on_tls() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let hosts = ["", "second.example", "*.wildcard.example"];
        let listeners = hosts.map(|host| listener(host, vec![rule(host, "", forward())]));
        let plan = Plan { is_tls: true, ..Plan::default() };
        let world = World::new(&listeners, Some(address), &plan);
        let narrow = World::new(&listeners[1..], Some(address), &plan);
        for (description, world, sni, host, expected) in [
            ("its own", &world, Some("second.example"), "second.example", 200),
            ("in another spelling", &world, Some("second.example"), "SECOND.example.:8443", 200),
            ("another one's", &world, Some("second.example"), "a.wildcard.example", 421),
            ("the catch-all's", &world, Some("second.example"), "other.example", 421),
            ("a better one's", &world, Some("other.example"), "second.example", 421),
            ("one of the same", &world, Some("other.example"), "another.example", 200),
            ("under the same wildcard", &world, Some("a.wildcard.example"), "b.wildcard.example", 200),
            ("without a server name", &world, None, "other.example", 200),
            ("without a server name", &world, None, "second.example", 421),
            ("nobody's", &narrow, Some("second.example"), "other.example", 404),
            ("another one's", &narrow, Some("a.wildcard.example"), "second.example", 421),
        ] {
            let before = seen.borrow().len();
            let mut client = world.connect_as(Wire::Http1, Some(sni), Credential::None);
            let answer = ask(&mut client, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(status(&answer), expected, "{description}: {sni:?} {host}");
            assert_eq!(seen.borrow().len() - before, usize::from(expected == 200), "{description}");
            // The connection goes on.
            let own = sni.unwrap_or("other.example");
            let answer = ask(&mut client, &format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n")).await;
            assert_eq!(status(&answer), 200, "{description}: again");
        }
    });
}

#[test]
fn large_bodies_pass_both_ways() {
    run(async {
        let body = "0123456789abcdef".repeat(640 * 1024 / 16);
        let answer = body.clone();
        let (address, seen) = backend(move |_| ok(&answer)).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = talk(world.connect(), &(head + &body)).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")));
        assert!(seen.borrow()[0].ends_with(&format!("\r\n\r\n{body}")));
        let line = &world.lines(1).await[0];
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&body.len().into(), &body.len().into()));
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_when_its_body_is_wanted() {
    run(async {
        let (address, _) = backend(|_| ok("")).await;
        let rules = vec![rule("a", "", forward())];
        let world = World::new(&[listener("", rules)], Some(address), &Plan::default());
        for (host, first) in [("a", 100), ("b", 404)] {
            let mut client = world.connect();
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            );
            assert_eq!(status(&ask(&mut client, &head).await), first, "{host}");
            if first == 100 {
                assert_eq!(status(&ask(&mut client, "abc").await), 200);
            }
        }
    });
}

#[test]
fn a_body_over_the_limit_is_refused() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let limits = crate::http::Limits { request_body_bytes_max: 10, ..Default::default() };
        let plan = Plan { limits, ..Plan::default() };
        let world = World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &plan);
        for (description, rest, expected, whole) in [
            ("within", "Content-Length: 10\r\n\r\n0123456789", 200, 1),
            ("in chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", 200, 1),
            ("as it says", "Content-Length: 11\r\n\r\n01234567890", 413, 0),
            ("as it says, and not sent", "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n", 413, 0),
            (
                "as it shows",
                "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n",
                413,
                0,
            ),
        ] {
            seen.borrow_mut().clear();
            let mut client = world.connect();
            let answer = ask(&mut client, &format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}")).await;
            assert_eq!(status(&answer), expected, "{description}: {answer}");
            assert_eq!(seen.borrow().len(), whole, "{description}");
            if expected == 413 {
                assert_eq!(reason(&answer), Some("content_too_large"), "{description}");
                assert!(answer.contains("connection: close\r\n"), "{description}: {answer}");
            }
        }
        let metrics = world.server.telemetry.metrics.render();
        assert!(metrics.contains("yett_limit_hits_total{limit=\"request_body_bytes_max\"} 3"), "{metrics}");
    });
}

#[test]
fn answers_without_a_body_keep_their_length() {
    run(async {
        let (address, _) = backend(|request| {
            let status = if request.contains("/304") { "304 Not Modified" } else { "200 OK" };
            Reply::Keep(format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n"))
        })
        .await;
        let world =
            World::new(&[listener("a", vec![rule("a", "", forward())])], Some(address), &Plan::default());
        for (method, path, host, expected) in [
            ("HEAD", "/", "a", "200 OK"),
            ("GET", "/304", "a", "304 Not Modified"),
            ("HEAD", "/", "b", "404 Not Found"),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = talk(world.connect(), &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{answer}");
            // hyper leaves it out of a 304, where it is optional (RFC 9110 §8.6).
            let length = answer.contains("content-length: ") || path == "/304";
            assert!(answer.ends_with("\r\n\r\n") && length, "{answer}");
        }
        for line in world.lines(3).await {
            assert_ne!(line["reason"], "client_closed", "{line}");
        }
    });
}

#[test]
fn a_target_in_absolute_form_reaches_the_backend_in_origin_form() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        let mut client = world.connect();
        let request = "GET http://A.example:80/x?q HTTP/1.1\r\nHost: a.example\r\n\r\n";
        assert_eq!(status(&ask(&mut client, request).await), 200);
        assert!(seen.borrow()[0].starts_with("GET /x?q HTTP/1.1\r\n"), "{}", seen.borrow()[0]);
        assert!(seen.borrow()[0].contains("host: A.example:80\r\n"), "{}", seen.borrow()[0]);
        let answer = ask(&mut client, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(status(&answer), 200);
        assert!(seen.borrow()[1].contains(&format!("host: {address}\r\n")), "{}", seen.borrow()[1]);
    });
}

#[test]
fn a_target_in_absolute_form_without_a_path_gets_one() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let world =
            World::new(&[listener("", vec![rule("", "", forward())])], Some(address), &Plan::default());
        for (target, expected) in
            [("http://a?b=c", "/?b=c"), ("http://a", "/"), ("http://a/", "/"), ("http://a/?", "/?")]
        {
            let answer =
                ask(&mut world.connect(), &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!(status(&answer), 200, "{target}: {answer}");
            let request = seen.borrow_mut().pop().unwrap();
            assert!(request.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{target}: {request}");
        }
    });
}

#[test]
fn where_rules_look_at_paths_one_that_may_mean_another_is_refused() {
    run(async {
        let (address, seen) = backend(|_| ok("")).await;
        let rules = vec![
            rule("a.example", "", forward()),
            rule("a.example", "/admin", Action::Refuse(Reason::BackendInvalid)),
            rule("b.example", "", forward()),
        ];
        let world = World::new(&[listener("", rules)], Some(address), &Plan::default());
        let mut client = world.connect();
        for (host, path, expected) in [
            ("a.example", "/x/../admin", Some("ambiguous_path")),
            ("a.example", "/x%2F..%2Fadmin", Some("ambiguous_path")),
            ("a.example", "/%61dmin", Some("ambiguous_path")),
            ("a.example", "/admin/..", Some("ambiguous_path")),
            ("a.example", "//admin", Some("ambiguous_path")),
            ("a.example", "/admin%3Bx/a", Some("ambiguous_path")),
            ("a.example", "/admin//a", Some("backend_invalid")),
            ("a.example", "/admin", Some("backend_invalid")),
            ("a.example", "/x//y;z/%3B", None),
            ("b.example", "//admin", None),
            ("a.example", "/sm%C3%B8r?x=/../admin", None),
            ("b.example", "/x/../admin", None),
            ("b.example", "/x%2F..%2Fadmin", None),
        ] {
            // Whether a request is refused for its path says nothing about the next one.
            let answer = ask(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(reason(&answer), expected, "{host} {path}: {answer}");
            let request = seen.borrow_mut().pop();
            assert_eq!(request.is_some(), expected.is_none(), "{host} {path}");
            let forwarded =
                request.is_none_or(|request| request.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
            assert!(forwarded, "{host} {path} is not what was forwarded");
        }
    });
}
