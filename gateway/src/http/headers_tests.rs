//! Header fields before and after.

use super::*;

fn fields(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(" | ").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    headers
}

fn sorted(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

static PEER: HeaderValue = HeaderValue::from_static("192.0.2.1");
static HOST_SENT: HeaderValue = HeaderValue::from_static("A.example:8443");
static ID: HeaderValue = HeaderValue::from_static("id-1");
static CERT: HeaderValue = HeaderValue::from_static(":AAAA:");

fn told() -> Told<'static> {
    Told {
        peer: &PEER,
        scheme: "https",
        host: Some(&HOST_SENT),
        request_id: &ID,
        client_cert: None,
        peer_is_trusted: false,
        backend_is_http1: true,
    }
}

const OURS: &str = "x-forwarded-for: 192.0.2.1 | x-forwarded-host: A.example:8443 | x-forwarded-proto: https | x-request-id: id-1";

#[test]
fn a_request_on_its_way() {
    for (description, sent, expected) in [
        (
            "what has nothing to do with us stays",
            "accept: */* | x-a: 1 | x-a: 2",
            "accept: */* | x-a: 1 | x-a: 2",
        ),
        (
            "hop-by-hop fields go",
            "connection: keep-alive | keep-alive: 5 | proxy-connection: x | transfer-encoding: chunked",
            "",
        ),
        (
            "what connection names goes",
            "connection: X-A, close | connection: x-b | x-a: 1 | x-b: 2 | x-c: 3",
            "x-c: 3",
        ),
        (
            "but what frames or names the request stays",
            "connection: host, content-length | host: a | content-length: 3",
            "host: a | content-length: 3",
        ),
        (
            "and the chain of proxies",
            "connection: x-forwarded-for | x-forwarded-for: 1.1.1.1",
            "x-forwarded-for: 1.1.1.1, 192.0.2.1",
        ),
        ("upgrades go", "connection: upgrade, http2-settings | upgrade: h2c | http2-settings: AAA", ""),
        ("te stays for trailers alone", "te: gzip, Trailers;q=1", ""),
        ("te stays for trailers alone", "te: gzip, Trailers", "te: trailers | connection: te"),
        ("identities are ours", "client-cert: :x: | client-cert-chain: y | x-forwarded-client-cert: z", ""),
        (
            "in any spelling",
            "client_cert: x | Client_Cert-Chain: y | x_forwarded_client_cert: z | x-forwarded_client-cert: z",
            "",
        ),
        (
            "but no other name",
            "client-certs: x | client_certificate: y",
            "client-certs: x | client_certificate: y",
        ),
        (
            "disguises of what we tell go too",
            "x_forwarded_for: 1 | x_forwarded_proto: https | x_request_id: 1",
            "",
        ),
        (
            "what we tell replaces what was sent",
            "x-forwarded-proto: http | x-forwarded-host: evil | x-request-id: evil",
            "",
        ),
        (
            "our peer is added to the chain",
            "x-forwarded-for: 1.1.1.1 | x-forwarded-for: 2.2.2.2",
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 192.0.2.1",
        ),
        (
            "nothing that frames the message for some",
            "content_length: 5 | Transfer_Encoding: chunked | transfer_encodings: x",
            "transfer_encodings: x",
        ),
        (
            "credentials for a proxy are not for the backend",
            "proxy-authorization: x | authorization: y",
            "authorization: y",
        ),
    ] {
        let mut headers = fields(sent);
        to_backend(&mut headers, &told());
        let mut expected = fields(expected);
        for (name, value) in &fields(OURS) {
            expected.entry(name).or_insert(value.clone());
        }
        assert_eq!(sorted(&headers), sorted(&expected), "{description}");
    }
}

#[test]
fn a_verified_client_is_named() {
    let mut headers = fields("client-cert: :forged: | connection: client-cert");
    to_backend(&mut headers, &Told { client_cert: Some(&CERT), ..told() });
    assert_eq!(headers.get_all(CLIENT_CERT).iter().collect::<Vec<_>>(), [":AAAA:"]);
}

#[test]
fn a_trusted_proxy_is_believed_but_for_the_identity() {
    let sent = "x-forwarded-proto: http | x-forwarded-host: b | x-request-id: theirs | x-forwarded-for: 1.1.1.1 | client-cert: x";
    let mut headers = fields(sent);
    to_backend(&mut headers, &Told { peer_is_trusted: true, ..told() });
    let expected = "x-forwarded-proto: http | x-forwarded-host: b | x-request-id: theirs | x-forwarded-for: 1.1.1.1, 192.0.2.1";
    assert_eq!(sorted(&headers), sorted(&fields(expected)));
    let mut headers = HeaderMap::new();
    to_backend(&mut headers, &Told { peer_is_trusted: true, ..told() });
    assert_eq!(sorted(&headers), sorted(&fields(OURS)));
}

#[test]
fn an_answer_on_its_way() {
    for (description, sent, known, expected) in [
        (
            "hop-by-hop fields go",
            "connection: x-a | x-a: 1 | keep-alive: 1 | transfer-encoding: chunked | x-b: 2",
            true,
            "x-b: 2",
        ),
        ("a length that is known stays", "content-length: 3", true, "content-length: 3"),
        ("one that is not goes", "content-length: 3", false, ""),
        (
            "nothing else",
            "set-cookie: a | set-cookie: b | trailer: x",
            true,
            "set-cookie: a | set-cookie: b | trailer: x",
        ),
    ] {
        let mut headers = fields(sent);
        to_client(&mut headers, known);
        assert_eq!(sorted(&headers), sorted(&fields(expected)), "{description}");
    }
}

#[test]
fn trailers_carry_no_identity() {
    let mut trailers = fields(
        "grpc-status: 0 | client-cert: x | client_cert: x | x-forwarded-for: 1 | host: b | content-length: 1",
    );
    trailers_to_backend(&mut trailers);
    assert_eq!(sorted(&trailers), ["grpc-status: 0"]);
}

#[test]
fn what_frames_a_request_is_written_anew() {
    for (description, sent, length, expected) in [
        ("a known length", "content-length: 3", Some(3), "content-length: 3"),
        ("as we have it", "content-length: 007", Some(7), "content-length: 7"),
        ("alone", "content-length: 3 | transfer-encoding: chunked", Some(3), "content-length: 3"),
        ("none that nobody knows", "content-length: 3 | transfer-encoding: chunked | a: b", None, "a: b"),
    ] {
        let mut headers = fields(sent);
        frame(&mut headers, length);
        assert_eq!(sorted(&headers), sorted(&fields(expected)), "{description}");
    }
}

#[test]
fn a_modifier_sets_adds_removes_but_never_frames() {
    let mut headers = fields("x-a: 1 | x-b: 2 | x-c: 3 | content-length: 3");
    let pairs = |text| fields(text).iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    edit(
        &mut headers,
        &HeaderEdit {
            set: pairs("x-a: 9 | content-length: 0 | transfer-encoding: chunked"),
            add: pairs("x-b: 9 | x-d: 9"),
            remove: vec!["x-c".parse().unwrap(), CONTENT_LENGTH],
        },
    );
    assert_eq!(sorted(&headers), ["content-length: 3", "x-a: 9", "x-b: 2", "x-b: 9", "x-d: 9"]);
}
