//! WebSocket, and any other protocol that both ends agree on: a tunnel after the backend's 101, and nothing before it.

use std::time::Duration;

use gateway_tests::manifests::{gateway, http, route, to};
use gateway_tests::node::Start;
use gateway_tests::scene::Stage;
use gateway_tests::websocket::{self, WebSocket};
use gateway_tests::{Node, Raw, Scene, Site, Wire, wait};
use serde_json::json;

/// The usual scene with a route to a backend of its own, which says that it speaks WebSocket.
fn scene(backend: &Raw, with: impl FnOnce(Start) -> Start) -> Scene {
    let stage = Stage::new();
    let (address, port) = (backend.address().ip().to_string(), backend.address().port());
    stage.site.apply(json!({
        "apiVersion": "gateway.yett.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "raw"},
        "spec": {"endpoints": [{"address": address, "port": port}], "appProtocol": "kubernetes.io/ws"},
    }));
    let backend = json!([{"group": "gateway.yett.dev", "kind": "Backend", "name": "raw"}]);
    stage.site.apply(route("all", "gw", &json!([{"backendRefs": backend}])));
    stage.start_with(with)
}

fn open_to_raw(scene: &Scene) -> f64 {
    scene.node.metrics().sum("yett_upstream_connections_active", &[("backend", "default/raw")])
}

#[test]
fn a_websocket_talks_through_mtls() {
    let backend = Raw::start(|wire, _| websocket::serve(wire));
    let scene = scene(&backend, |start| start);
    let link = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
    let mut socket = WebSocket::open(link, "/chat?room=1").unwrap();
    let mut bytes = 0;
    for length in [0, 5, 125, 126, 65_535, 65_536, 1_000_000] {
        let message: Vec<u8> = (0..=255).cycle().take(length).collect();
        assert_eq!(socket.echo(&message), message, "{length} bytes");
        bytes += length;
    }
    assert!(socket.ping());
    assert!(open_to_raw(&scene) >= 1.0);
    assert_eq!(scene.node.metrics().sum("yett_http_requests_active", &[]), 1.0);
    assert!(socket.close(), "both sides close");
    let line = scene.node.lines(1, |line| line["http"]["path"] == "/chat?room=*").remove(0);
    assert_eq!((&line["status"], line.get("reason")), (&json!(101), None), "{line}");
    for (count, least) in [("bytes_in", bytes), ("bytes_out", bytes)] {
        assert!(line[count].as_u64().unwrap() > least as u64, "{line}");
    }
    wait::soon("the backend's connection to be given up", || open_to_raw(&scene) == 0.0);
    assert_eq!(scene.node.metrics().sum("yett_http_requests_total", &[("code", "101")]), 1.0);
    let head = backend.take();
    for part in ["\r\nupgrade: websocket\r\n", "\r\nconnection: upgrade\r\n", "\r\nclient-cert: :"] {
        assert!(head.contains(part), "{part:?} in {head}");
    }
}

#[test]
fn either_side_may_end_first_and_early_bytes_are_kept() {
    let backend = Raw::start(|mut wire, number| {
        wire.head();
        wire.send("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\nahead\n");
        if number == 0 {
            // The client ends first, and is answered then.
            let said = wire.rest();
            wire.send(format!("you said {said:?}"));
        } else {
            wire.end();
            wire.rest();
        }
    });
    let scene = scene(&backend, |start| start);
    let ask = "GET /lines HTTP/1.1\r\nHost: gw.test\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\n";
    for client_first in [true, false] {
        let mut link = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
        link.send(format!("{ask}early\n"));
        let head = link.until("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(link.until("\n").unwrap(), "ahead\n");
        if client_first {
            link.send("last\n");
            link.end();
            assert_eq!(link.rest(), r#"you said "early\nlast\n""#);
        } else {
            assert_eq!(link.rest(), "");
            assert!(link.send("last\n"), "the other direction is still open");
            link.end();
        }
        let mut seen = String::new();
        wait::soon("all of it at the backend", || {
            seen.push_str(&backend.take());
            seen.ends_with("\r\n\r\nearly\nlast\n")
        });
    }
    let lines = scene.node.lines(2, |line| line["status"] == 101);
    assert!(lines.iter().all(|line| line["bytes_in"] == 11 && line.get("reason").is_none()), "{lines:?}");
}

#[test]
fn a_revoked_client_is_refused_before_the_backend_hears_of_it() {
    let backend = Raw::start(|wire, _| websocket::serve(wire));
    let scene = scene(&backend, |start| start);
    let mallory = scene.ca.client("mallory");
    let link = || scene.tls(&mallory).connect(scene.node.https()).unwrap();
    let (mut before, held) = (WebSocket::open(link(), "/").unwrap(), link());
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    let connections = backend.connections();
    backend.take();
    for link in [held, link()] {
        let answer = WebSocket::open(link, "/").err().expect("a revoked client gets no tunnel");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("\r\nyett-reason: certificate_revoked\r\n"), "{answer}");
    }
    assert_eq!((backend.connections(), backend.take()), (connections, String::new()));
    // Streams that are open go on unless the policy says otherwise.
    assert_eq!(before.echo(b"still"), b"still");
}

#[test]
fn tunnels_live_until_the_drain_has_had_its_time() {
    let backend = Raw::start(|wire, _| websocket::serve(wire));
    let mut scene = scene(&backend, |start| start.arg("--drain-timeout").arg("2s"));
    let link = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
    let mut socket = WebSocket::open(link, "/").unwrap();
    scene.node.signal("TERM");
    wait::soon("unreadiness", || scene.node.try_admin("/readyz").is_some_and(|(status, _)| status == 503));
    assert_eq!(socket.echo(b"still here"), b"still here");
    assert!(socket.is_cut());
    assert_eq!(scene.node.ended(Duration::from_secs(20)).code(), Some(0));
    let lines = scene.node.access_log();
    assert_eq!((&lines[0]["status"], &lines[0]["reason"]), (&json!(101), &json!("cut_off")), "{lines:?}");
}

#[test]
fn a_tunnel_that_carries_nothing_ends() {
    let backend = Raw::start(|wire, _| websocket::serve(wire));
    let scene = scene(&backend, |start| start.settings("[limits]\ntunnel_idle_timeout = \"1s\"\n"));
    let link = scene.tls(&scene.alice).connect(scene.node.https()).unwrap();
    let mut socket = WebSocket::open(link, "/").unwrap();
    assert!(socket.is_cut());
    scene.node.lines(1, |line| line["reason"] == "tunnel_idle" && line["status"] == 101);
    scene.node.wait_metric("yett_limit_hits_total", &[("limit", "tunnel_idle_timeout")], 1.0);
    wait::soon("the backend's connection to be given up", || open_to_raw(&scene) == 0.0);
}

/// What a client sends, what the backend answers to each request head, the statuses that the client reads, whether its
/// connection is closed, and the request lines that the backend reads.
struct Row {
    description: &'static str,
    sends: &'static str,
    answer: &'static str,
    statuses: &'static [u16],
    is_closed: bool,
    backend: &'static [&'static str],
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const SWITCHED: &str = "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const WS: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const A: &[&str] = &["GET /a HTTP/1.1"];

/// A request that goes on as a plain one: its backend is not asked to switch, and must not do so.
macro_rules! plain {
    ($description:literal, $sends:literal, $answer:expr, $status:literal) => {
        Row {
            description: $description,
            sends: $sends,
            answer: $answer,
            statuses: &[$status],
            is_closed: false,
            backend: A,
        }
    };
}

const ROWS: &[Row] = &[
    Row {
        description: "200 to an upgrade, and another request behind it",
        sends: concat!(
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET /b HTTP/1.1\r\nHost: a\r\nClient-Cert: forged\r\n\r\n"
        ),
        answer: OK,
        statuses: &[200, 200],
        is_closed: false,
        backend: &["GET /a HTTP/1.1", "GET /b HTTP/1.1"],
    },
    Row {
        description: "200 to an upgrade, and a request in the frames behind it",
        sends: concat!(
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "\0GET /admin HTTP/1.1\r\nHost: a\r\nClient-Cert: forged\r\n\r\n"
        ),
        answer: OK,
        statuses: &[200, 400],
        is_closed: true,
        backend: A,
    },
    Row {
        description: "the same behind another request",
        sends: concat!(
            "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET /admin HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
        answer: OK,
        statuses: &[200, 200, 400],
        is_closed: true,
        backend: &["GET /0 HTTP/1.1", "GET /a HTTP/1.1"],
    },
    Row {
        description: "101 without a protocol",
        sends: WS,
        answer: "HTTP/1.1 101 x\r\nconnection: upgrade\r\n\r\nevil",
        statuses: &[502],
        is_closed: false,
        backend: A,
    },
    Row {
        description: "101 to another protocol",
        sends: WS,
        answer: "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nevil",
        statuses: &[502],
        is_closed: false,
        backend: A,
    },
    Row {
        description: "101 with a body",
        sends: WS,
        answer: "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 4\r\n\r\nevil",
        statuses: &[502],
        is_closed: false,
        backend: A,
    },
    Row {
        description: "101 on an older version",
        sends: WS,
        answer: "HTTP/1.0 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nevil",
        statuses: &[502],
        is_closed: false,
        backend: A,
    },
    plain!("101 unasked", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", SWITCHED, 502),
    plain!(
        "HTTP/2 in clear",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        OK,
        200
    ),
    plain!(
        "HTTP/2 in clear, granted",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nevil",
        502
    ),
    plain!(
        "two protocols",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        OK,
        200
    ),
    plain!(
        "two lines",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
        SWITCHED,
        502
    ),
    plain!(
        "not of this connection",
        "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        SWITCHED,
        502
    ),
    plain!(
        "with a body",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n.",
        SWITCHED,
        502
    ),
    plain!(
        "with an empty body in chunks",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        SWITCHED,
        502
    ),
    Row {
        description: "another method",
        sends: "POST /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        answer: OK,
        statuses: &[200],
        is_closed: false,
        backend: &["POST /a HTTP/1.1"],
    },
    Row {
        description: "an older version",
        sends: "GET /a HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        answer: OK,
        statuses: &[200],
        is_closed: true,
        backend: A,
    },
    Row {
        description: "CONNECT",
        sends: "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        answer: SWITCHED,
        statuses: &[501],
        is_closed: false,
        backend: &[],
    },
];

#[test]
fn nothing_but_a_101_to_a_real_upgrade_opens_a_tunnel() {
    let backend = Raw::start(|mut wire, _| {
        while let Some(head) = wire.head() {
            let body = usize::from(head.contains("\r\ncontent-length: 1\r\n"));
            if wire.exactly(body).is_none() {
                return;
            }
            if head.contains("\r\ntransfer-encoding: chunked\r\n") && wire.until("0\r\n\r\n").is_none() {
                return;
            }
            // The path says which row is asked.
            let row = head.split("\r\nx-row: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            wire.send(row.map_or(OK, |row| ROWS[row.parse::<usize>().unwrap()].answer));
        }
    });
    let site = Site::new();
    site.service("raw", &[backend.address()]);
    site.apply(gateway("gw", &[http("clear", 80)]));
    site.apply(route("all", "gw", &to("raw")));
    let node = Node::on(&site).ready();
    for (index, row) in ROWS.iter().enumerate() {
        backend.take();
        let mut client = Wire::to(node.http());
        client.send(row.sends.replace("Host: a\r\n", &format!("Host: a\r\nX-Row: {index}\r\n")));
        let mut text = String::new();
        for _ in row.statuses {
            text.push_str(&client.head().unwrap_or_default());
        }
        let (more, mut is_closed) = client.pause(Duration::from_millis(50));
        text.push_str(&more);
        let seen = backend.take();
        if !is_closed {
            // The connection goes on as HTTP, to the same rules.
            client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
            is_closed = !client.head().is_some_and(|head| head.starts_with("HTTP/1.1 200 "));
        }
        let statuses: Vec<u16> =
            text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect();
        assert_eq!((&statuses[..], is_closed), (row.statuses, row.is_closed), "{}: {text}", row.description);
        assert!(!text.contains("evil"), "{}: {text}", row.description);
        let lines: Vec<&str> =
            seen.lines().filter(|line| line.ends_with(" HTTP/1.1") || line.ends_with(" HTTP/1.0")).collect();
        assert_eq!(lines, row.backend, "{}: {seen}", row.description);
        assert!(!seen.contains("forged") && !seen.contains("h2c"), "{}: {seen}", row.description);
        assert!(!seen.to_ascii_lowercase().contains("http2-settings"), "{}: {seen}", row.description);
        if !row.sends.starts_with(WS) && !row.description.contains("behind") {
            assert!(!seen.contains("upgrade"), "{}: {seen}", row.description);
        }
    }
    // A backend that keeps its answer back gets nothing of what the client sends meanwhile.
    assert!(node.access_log().iter().all(|line| line["status"] != 101));
}

/// RFC 8441 is not offered; a client that uses it all the same loses that stream, and no other.
#[test]
fn over_http_2_no_tunnel_is_opened() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start();
    let mut client = Wire::to(scene.node.http());
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let text =
        |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let headers = |stream: u8, fields: &[Vec<u8>]| {
        let block = fields.concat();
        // END_HEADERS, and END_STREAM for what is no CONNECT.
        let flags = if fields[0][0] == 0x82 { 5 } else { 4 };
        [&[0, 0, u8::try_from(block.len()).unwrap(), 1, flags, 0, 0, 0, stream][..], &block].concat()
    };
    // Literals without indexing: :method by its name's index, :protocol by its name.
    let method = text(&[0x02], "CONNECT");
    let authority = text(&[0x01], "gw.test");
    let protocol = text(b"\0\x09:protocol", "websocket");
    let (get, http, root) = (vec![0x82], vec![0x86], vec![0x84]);
    client.send(headers(1, &[method.clone(), protocol, http.clone(), root.clone(), authority.clone()]));
    client.send(headers(3, &[method, authority.clone()]));
    client.send(headers(5, &[get, http, root, authority]));
    let (mut resets, mut answered, mut settings) = (Vec::new(), Vec::new(), false);
    // PROTOCOL_ERROR on the stream that asked.
    while !resets.contains(&(1, 1)) || answered.len() < 2 {
        let head = client.exactly(9).expect("the connection lives");
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = client.exactly(length).expect("a whole frame");
        match head[3] {
            1 => answered.push(head[8]),
            3 => resets.push((head[8], payload[3])),
            // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)
            4 => settings |= payload.chunks(6).any(|setting| setting.starts_with(&[0, 8])),
            7 => panic!("GOAWAY: {payload:?}"),
            _ => {}
        }
    }
    answered.sort_unstable();
    assert_eq!((answered, settings), (vec![3, 5], false));
    let line = scene.node.lines(1, |line| line["http"]["method"] == "CONNECT").remove(0);
    assert_eq!((&line["status"], &line["reason"]), (&json!(501), &json!("not_implemented")));
    assert_eq!(scene.backend.count(), 1, "the GET alone");
}
