//! What the gateway adds to a request, what it takes away, and what it never passes on.

use gateway_tests::scene::Stage;
use gateway_tests::{Curl, Http, Scene};
use http::{HeaderMap, HeaderName, HeaderValue};

fn with_clear_listener() -> Scene {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    stage.start()
}

const FORGED: [&str; 8] = [
    "Client-Cert: :Zm9yZ2Vk:",
    "client_cert: :Zm9yZ2Vk:",
    "CLIENT_CERT: :Zm9yZ2Vk:",
    "Client-Cert-Chain: :Zm9yZ2Vk:",
    "client_cert-chain: :Zm9yZ2Vk:",
    "client_cert_chain: :Zm9yZ2Vk:",
    "X-Forwarded-Client-Cert: Hash=forged",
    "x_forwarded-client_cert: Hash=forged",
];

fn forged(name: &str) -> bool {
    let name = name.replace('_', "-");
    ["client-cert", "client-cert-chain", "x-forwarded-client-cert"].contains(&&*name)
}

#[test]
fn the_verified_certificate_is_forwarded_and_every_forged_copy_is_removed() {
    let scene = with_clear_listener();
    for http in ["--http1.1", "--http2"] {
        let curl = FORGED.iter().fold(scene.curl(&scene.alice).arg(http), |curl, line| curl.header(line));
        assert_eq!(curl.get("https://gw.test/").status, 200);
        let seen = scene.backend.last();
        assert_eq!(seen.header("client-cert"), [scene.alice.client_cert_header()], "{http}");
        let names: Vec<&str> =
            seen.headers.keys().map(HeaderName::as_str).filter(|name| forged(name)).collect();
        assert_eq!(names, ["client-cert"], "{http}");
    }
    let curl = FORGED.iter().fold(Curl::to(scene.node.http()), |curl, line| curl.header(line));
    assert_eq!(curl.get("http://gw.test/").status, 200);
    let seen = scene.backend.last();
    assert!(!seen.headers.keys().any(|name| forged(name.as_str())), "{:?}", seen.headers);
}

#[test]
fn forged_copies_in_trailers_are_removed_and_others_kept() {
    let scene = with_clear_listener();
    for connection in [
        scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https()),
        scene.tls(&scene.alice).open(scene.node.https()),
        Http::clear(scene.node.http()),
    ] {
        let mut upload = connection.upload("/echo", &[("trailer", "x-kept, client-cert, client_cert")]);
        upload.piece("body").unwrap();
        let mut fields = HeaderMap::new();
        for name in ["client-cert", "client_cert", "x-forwarded-client-cert", "client_cert_chain"] {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static("forged"));
        }
        fields.insert("x-kept", HeaderValue::from_static("yes"));
        upload.trailers(fields);
        assert_eq!(upload.finish().unwrap().status, 200);
        let seen = scene.backend.last();
        let trailers = seen.trailers.expect("the trailers reach the backend");
        assert_eq!(trailers["x-kept"], "yes");
        assert!(!trailers.keys().any(|name| forged(name.as_str())), "{trailers:?}");
    }
}

#[test]
fn forwarding_fields_are_ours_and_the_clients_address_is_appended() {
    let scene = with_clear_listener();
    let forged = |curl: Curl| {
        [
            "X-Forwarded-Proto: gopher",
            "X-Forwarded-Host: evil.test",
            "X-Request-Id: mine",
            "X-Forwarded-For: 192.0.2.7",
        ]
        .into_iter()
        .fold(curl, Curl::header)
    };
    for (curl, url, proto) in [
        (scene.curl(&scene.alice).http1(), "https://gw.test/", "https"),
        (scene.curl(&scene.alice).http2(), "https://gw.test/", "https"),
        (Curl::to(scene.node.http()), "http://gw.test/", "http"),
    ] {
        assert_eq!(forged(curl).get(url).status, 200);
        let seen = scene.backend.last();
        assert_eq!(seen.header("x-forwarded-proto"), [proto]);
        assert_eq!(seen.header("x-forwarded-host"), ["gw.test"]);
        assert_eq!(seen.header("x-forwarded-for").join(", "), "192.0.2.7, 127.0.0.1");
        let id = seen.header("x-request-id");
        assert!(id.len() == 1 && !id[0].is_empty() && id[0] != "mine", "{id:?}");
        assert_eq!(seen.header("host"), ["gw.test"]);
        scene.node.lines(1, |line| line["request_id"] == id[0].as_str());
    }
}

#[test]
fn a_trusted_proxy_is_believed() {
    let stage = Stage::new();
    let scene = stage.start_with(|start| start.settings("trusted_proxies = [\"127.0.0.0/8\"]\n"));
    let curl =
        scene.curl(&scene.alice).header("X-Forwarded-Proto: http").header("X-Forwarded-Host: outer.test");
    assert_eq!(
        curl.header("X-Request-Id: theirs").header("Client-Cert: :eA==:").get("https://gw.test/").status,
        200
    );
    let seen = scene.backend.last();
    assert_eq!(seen.header("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.header("x-forwarded-host"), ["outer.test"]);
    assert_eq!(seen.header("x-request-id"), ["theirs"]);
    assert_eq!(
        seen.header("client-cert"),
        [scene.alice.client_cert_header()],
        "a certificate is never hearsay"
    );
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let scene = with_clear_listener();
    let fields = [
        "Connection: x-drop, client-cert, keep-alive",
        "X-Drop: 1",
        "Keep-Alive: timeout=9",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "TE: trailers, deflate",
        "X-Keep: 1",
    ];
    let curl = fields.into_iter().fold(scene.curl(&scene.alice).http1(), Curl::header);
    let answer = curl.get("https://gw.test/hop");
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = scene.backend.last();
    for name in ["x-drop", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
        assert!(seen.header(name).is_empty(), "{name} reached the backend: {:?}", seen.headers);
    }
    assert!(!seen.header("te").iter().any(|value| value.contains("deflate")), "{:?}", seen.headers);
    assert!(!seen.header("connection").iter().any(|value| value.contains("x-drop")), "{:?}", seen.headers);
    assert_eq!(seen.header("x-keep"), ["1"]);
    assert_eq!(
        seen.header("client-cert"),
        [scene.alice.client_cert_header()],
        "Connection may not name it away"
    );

    for name in ["x-internal", "keep-alive", "proxy-connection"] {
        assert!(answer.header(name).is_empty(), "{name} reached the client: {answer:?}");
    }
    assert_eq!(answer.header("x-kept"), ["yes"]);
}

#[test]
fn an_upgrade_to_h2c_is_never_forwarded() {
    let scene = with_clear_listener();
    let fields =
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"];
    for (curl, url) in [
        (Curl::to(scene.node.http()).http1(), "http://gw.test/"),
        (scene.curl(&scene.alice).http1(), "https://gw.test/"),
    ] {
        let answer = fields.into_iter().fold(curl, Curl::header).get(url);
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = scene.backend.last();
        for name in ["upgrade", "http2-settings"] {
            assert!(seen.header(name).is_empty(), "{name} reached the backend: {:?}", seen.headers);
        }
        let connection = seen.header("connection").join(",").to_ascii_lowercase();
        assert!(!connection.contains("upgrade") && !connection.contains("http2"), "{connection}");
    }
}
