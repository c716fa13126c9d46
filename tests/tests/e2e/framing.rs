//! What breaks HTTP/1.1, or might mean two things, is answered by the gateway and never reaches the backend as a request.
//!
//! Each row is sent to the gateway as it stands, over a plain socket; the backend is a plain socket too, and what comes
//! there is compared byte for byte. The same rows against a proxy of the bare library show that they are worth something.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::manifests::{gateway, http, route, to};
use gateway_tests::{Node, Site, wait};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// What reaches the backend of a row.
#[derive(Clone, Copy, Debug)]
enum Backend {
    /// Not a byte.
    Nothing,
    /// At most the beginning of a request whose end never comes.
    Cut,
    /// These request lines, each of a whole request.
    Whole(&'static [&'static str]),
}

use Backend::{Cut, Nothing, Whole};

/// Description, what the client sends, the statuses that it reads, and what the backend reads. After an error the
/// connection is closed, else it goes on.
type Row = (&'static str, &'static str, &'static [u16], Backend);

/// A request for `/a` with these lines beside its host, and what follows.
macro_rules! post {
    ($lines:literal, $rest:literal) => {
        concat!("POST /a HTTP/1.1\r\nHost: a\r\n", $lines, "\r\n", $rest)
    };
}

macro_rules! chunked {
    ($rest:literal) => {
        post!("Transfer-Encoding: chunked\r\n", $rest)
    };
}

const ONE: Backend = Whole(&["POST /a HTTP/1.1"]);

const SOUND: &[Row] = &[
    ("a plain request", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[200], Whole(&["GET /a HTTP/1.1"])),
    (
        "two at once",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        &[200, 200],
        Whole(&["GET /a HTTP/1.1", "GET /b HTTP/1.1"]),
    ),
    (
        "a body that looks like a request",
        post!("Content-Length: 35\r\n", "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n..."),
        &[200],
        ONE,
    ),
    ("chunks", chunked!("5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"), &[200], ONE),
    ("no body", post!("Content-Length: 0\r\n", ""), &[200], ONE),
    ("absolute-form", "GET http://A:80/a HTTP/1.1\r\nHost: a\r\n\r\n", &[200], Whole(&["GET /a HTTP/1.1"])),
    ("an empty line first", "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[200], Whole(&["GET /a HTTP/1.1"])),
    (
        "forged names",
        "GET /a HTTP/1.1\r\nHost: a\r\nClient-Cert: forged\r\nclient_cert: forged\r\nX_Forwarded_For: forged\r\n\
         Content_Length: forged\r\nTransfer_Encoding: forged\r\nConnection: x-forwarded-for\r\n\r\n",
        &[200],
        Whole(&["GET /a HTTP/1.1"]),
    ),
    ("forged trailers", chunked!("0\r\nClient-Cert: forged\r\nX_Forwarded-For: forged\r\n\r\n"), &[200], ONE),
];

const LENGTH_AND_CHUNKS: &[Row] = &[
    (
        "a length before chunks",
        post!("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
        &[400],
        Nothing,
    ),
    (
        "chunks before a length",
        post!(
            "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
            "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
        ),
        &[400],
        Nothing,
    ),
    (
        "a length of zero beside chunks",
        post!("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        &[400],
        Nothing,
    ),
    ("two lengths", post!("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), &[400], Nothing),
    ("twice the same length", post!("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), &[400], Nothing),
    ("a list of lengths", post!("Content-Length: 2, 2\r\n", "ab"), &[400], Nothing),
    ("a signed length", post!("Content-Length: +2\r\n", "ab"), &[400], Nothing),
    ("a negative length", post!("Content-Length: -2\r\n", "ab"), &[400], Nothing),
    ("an octal length", post!("Content-Length: 02\r\n", "ab"), &[400], Nothing),
    ("a hexadecimal length", post!("Content-Length: 0x2\r\n", "ab"), &[400], Nothing),
    ("a huge length", post!("Content-Length: 18446744073709551617\r\n", "ab"), &[400], Nothing),
    (
        "chunks on an older version",
        "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
        Nothing,
    ),
    (
        "behind a sound request",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        &[200, 400],
        Whole(&["GET /a HTTP/1.1"]),
    ),
];

const CODINGS: &[Row] = &[
    ("another coding first", post!("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    (
        "another line first",
        post!("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        &[400],
        Nothing,
    ),
    (
        "another line behind",
        post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "0\r\n\r\n"),
        &[400],
        Nothing,
    ),
    ("chunked twice", post!("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    (
        "in two lines",
        post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        &[400],
        Nothing,
    ),
    ("identity", post!("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    ("an empty member", post!("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    ("other letters", post!("Transfer-Encoding: cHUNKED\r\n", "0\r\n\r\n"), &[400], Nothing),
    ("a space before the colon", post!("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    ("a vertical tab", post!("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    ("folded", post!("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), &[400], Nothing),
    ("not chunked at all", post!("Transfer-Encoding: gzip\r\n", "0\r\n\r\n"), &[400], Nothing),
];

const CHUNKS: &[Row] = &[
    ("a size with a sign", chunked!("+5\r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("with a prefix", chunked!("0x5\r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("with a space", chunked!("5 \r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("beyond every integer", chunked!("10000000000000005\r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("none", chunked!("\r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("a line feed alone", chunked!("5\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("a line feed in an extension", chunked!("5;\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("a zero byte in one", chunked!("5;\0\r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("a carriage return in one", chunked!("5;\rx\r\nhello\r\n0\r\n\r\n"), &[400], Cut),
    ("more than its size", chunked!("5\r\nhello!\r\n0\r\n\r\n"), &[400], Cut),
    ("a line feed behind it", chunked!("5\r\nhello\n0\r\n\r\n"), &[400], Cut),
    ("a trailer that frames", chunked!("0\r\nContent-Length: 5\r\n\r\n"), &[400], Cut),
    ("a trailer that is none", chunked!("0\r\nGET /admin HTTP/1.1\r\n\r\n"), &[400], Cut),
    ("a trailer with a zero byte", chunked!("0\r\nx: \0\r\n\r\n"), &[400], Cut),
];

const DISGUISES: &[Row] = &[
    ("a space before the colon", post!("Client-Cert : forged\r\n", ""), &[400], Nothing),
    ("a tab", post!("Client-Cert\t: forged\r\n", ""), &[400], Nothing),
    ("a zero byte", post!("Client-Cert\0: forged\r\n", ""), &[400], Nothing),
    ("no name", post!(": forged\r\n", ""), &[400], Nothing),
    ("no colon", post!("forged\r\n", ""), &[400], Nothing),
    ("behind a line feed", post!("X: y\nClient-Cert: forged\r\n", ""), &[400], Nothing),
    ("behind a carriage return", post!("X: y\rClient-Cert: forged\r\n", ""), &[400], Nothing),
    ("in a fold", post!("X: y\r\n Client-Cert: forged\r\n", ""), &[400], Nothing),
    ("before the first field", "GET /a HTTP/1.1\r\n Client-Cert: forged\r\nHost: a\r\n\r\n", &[400], Nothing),
];

const HOSTS: &[Row] = &[
    ("no host", "GET /a HTTP/1.1\r\n\r\n", &[400], Nothing),
    ("two", "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400], Nothing),
    ("twice the same", "GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("an empty one", "GET /a HTTP/1.1\r\nHost:\r\n\r\n", &[400], Nothing),
    ("a malformed one", "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", &[400], Nothing),
    ("user information", "GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n", &[400], Nothing),
    ("another in the target", "GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("another port in the target", "GET http://a:81/a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("in the target alone", "GET http://a/a HTTP/1.1\r\n\r\n", &[400], Nothing),
    ("another scheme", "GET ftp://a/a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("user information in the target", "GET http://u@a/a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
];

const LINES: &[Row] = &[
    ("line feeds alone", "GET /a HTTP/1.1\nHost: a\n\n", &[400], Nothing),
    ("one of them", "GET /a HTTP/1.1\r\nHost: a\n\r\n", &[400], Nothing),
    ("at the end", "GET /a HTTP/1.1\r\nHost: a\r\n\n", &[400], Nothing),
    ("many empty lines", "\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("a zero byte in the target", "GET /a\0 HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("a zero byte in a value", "GET /a HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", &[400], Nothing),
    ("a delete in a value", "GET /a HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", &[400], Nothing),
    ("a tab for a space", "GET\t/a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("two spaces", "GET  /a HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("no version", "GET /a\r\n\r\n", &[400], Nothing),
    ("another version", "GET /a HTTP/1.2\r\nHost: a\r\n\r\n", &[400], Nothing),
    ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n", &[400], Nothing),
];

/// A client's own word for what only we may tell.
const SPOOFED: &[Row] = &[
    ("the certificate", post!("Client-Cert: :forged:\r\n", ""), &[200], ONE),
    ("several times", post!("Client-Cert: :forged:\r\nclient-cert: :forged:\r\n", ""), &[200], ONE),
    ("for a backend that takes _ for -", post!("client_cert: :forged:\r\n", ""), &[200], ONE),
    ("its chain", post!("Client-Cert-Chain: :forged:\r\nCLIENT_CERT-chain: :forged:\r\n", ""), &[200], ONE),
    ("another proxy's", post!("X-Forwarded-Client-Cert: Hash=forged\r\n", ""), &[200], ONE),
    ("another proxy's, with _", post!("x_forwarded-client_cert: Hash=forged\r\n", ""), &[200], ONE),
    ("named by connection", post!("Connection: client-cert\r\nClient-Cert: forged\r\n", ""), &[200], ONE),
    ("how it came", post!("X-Forwarded-Proto: forged\r\nX-Forwarded-Host: forged\r\n", ""), &[200], ONE),
    (
        "how it came, with _",
        post!("X_Forwarded_For: forged\r\nx-forwarded_proto: forged\r\n", ""),
        &[200],
        ONE,
    ),
    ("which it is", post!("X-Request-Id: forged\r\nx_request_id: forged\r\n", ""), &[200], ONE),
    (
        "behind the body",
        chunked!("1\r\nx\r\n0\r\nx-forwarded-client-cert: forged\r\nX-Request-Id: forged\r\n\r\n"),
        &[200],
        ONE,
    ),
    (
        "for the proxies on the way",
        post!("Proxy-Authorization: forged\r\nProxy-Connection: forged\r\n", ""),
        &[200],
        ONE,
    ),
];

const ALL: [&[Row]; 8] = [SOUND, LENGTH_AND_CHUNKS, CODINGS, CHUNKS, DISGUISES, SPOOFED, HOSTS, LINES];

/// A backend that writes down every byte and answers each request that is whole.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Raw {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                thread::spawn(move || converse(stream, &log));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn converse(mut stream: TcpStream, log: &Mutex<Vec<u8>>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        log.lock().unwrap().extend_from_slice(&piece[..length]);
        bytes.extend_from_slice(&piece[..length]);
        while let Some(length) = whole(&bytes) {
            bytes.drain(..length);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

/// The length of the first request, if it is there as a whole. Reads it as a lenient backend would.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_ascii_lowercase();
    if lower.contains("\r\ntransfer-encoding:") {
        let end =
            if text[head..].starts_with("0\r\n") { head } else { head + text[head..].find("\r\n0\r\n")? + 2 };
        return text[end..].find("\r\n\r\n").map(|length| end + length + 4);
    }
    let length = lower.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap_or(0));
    (bytes.len() >= head + length).then_some(head + length)
}

/// What a client saw.
pub(crate) struct Exchange {
    pub(crate) text: String,
    pub(crate) closed: bool,
}

impl Exchange {
    /// Sends the bytes; reads until the connection ends, or there are as many answers as expected and no more come.
    pub(crate) fn with(address: SocketAddr, bytes: &[u8], answers: usize, patience: Duration) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(bytes).unwrap();
        let start = Instant::now();
        let mut exchange = Self { text: String::new(), closed: false };
        let mut piece = [0; 4096];
        while start.elapsed() < patience {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            match stream.read(&mut piece) {
                Ok(0) => {
                    exchange.closed = true;
                    break;
                }
                Ok(length) => exchange.text.push_str(&String::from_utf8_lossy(&piece[..length])),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    let last = *exchange.statuses().last().unwrap_or(&0);
                    if exchange.statuses().len() >= answers && last < 400 {
                        break;
                    }
                }
                Err(_) => {
                    exchange.closed = true;
                    break;
                }
            }
        }
        exchange
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect()
    }
}

/// Whether a row went as it should; if not, how.
fn judge(row: &Row, proxy: SocketAddr, backend: &Raw, patience: Duration) -> Result<Exchange, String> {
    let (_, bytes, answers, expected) = row;
    backend.take();
    let exchange = Exchange::with(proxy, bytes.as_bytes(), answers.len(), patience);
    if exchange.statuses() != *answers {
        return Err(format!("the client read {:?}", exchange.text));
    }
    let refused = answers.last().is_some_and(|status| *status >= 400);
    if exchange.closed != refused {
        return Err(format!("closed: {}", exchange.closed));
    }
    let seen = backend.take();
    let text = String::from_utf8_lossy(&seen);
    if text.contains("forged") {
        return Err(format!("the backend was told {text:?}"));
    }
    let mut lines = Vec::new();
    let mut rest = &seen[..];
    while let Some(length) = whole(rest) {
        let request = String::from_utf8_lossy(&rest[..length]).into_owned();
        let head = request.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        let framing = head
            .lines()
            .filter(|line| line.starts_with("content-length:") || line.starts_with("transfer-encoding:"));
        if framing.count() > 1 || head.matches("\r\nhost:").count() != 1 {
            return Err(format!("the backend read {request:?}"));
        }
        lines.push(request.lines().next().unwrap_or_default().to_owned());
        rest = &rest[length..];
    }
    let as_expected = match expected {
        Nothing => seen.is_empty(),
        Cut => lines.is_empty(),
        Whole(expected) => lines == *expected && rest.is_empty(),
    };
    if as_expected { Ok(exchange) } else { Err(format!("the backend read {text:?}")) }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    ALL.into_iter().flatten()
}

/// A gateway in clear before the backend.
fn gateway_before(backend: &Raw, settings: &str) -> (Node, Site) {
    let site = Site::new();
    site.service("raw", &[backend.address]);
    site.apply(gateway("gw", &[http("clear", 80)]));
    site.apply(route("all", "gw", &to("raw")));
    let node = Node::on(&site).settings(settings).ready();
    (node, site)
}

#[test]
fn each_row_is_answered_as_it_must_be() {
    let backend = Raw::start();
    let (node, _site) = gateway_before(&backend, "");
    let mut refusals = 0;
    for row in rows() {
        let exchange = judge(row, node.http(), &backend, Duration::from_secs(10));
        let exchange = exchange.unwrap_or_else(|found| panic!("{}: {found}", row.0));
        if row.2.last() == Some(&400) {
            refusals += 1;
            for part in [
                "\r\nyett-reason: bad_request\r\n",
                "\r\ncontent-type: application/problem+json\r\n",
                "\r\nconnection: close\r\n",
            ] {
                assert!(exchange.text.contains(part), "{}: {}", row.0, exchange.text);
            }
            let body = exchange.text.rsplit("\r\n\r\n").next().unwrap_or_default();
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!((&problem["reason"], &problem["status"]), (&"bad_request".into(), &400.into()));
            assert_ne!(
                problem["detail"], "The request is malformed",
                "{}: nobody learns what is wrong",
                row.0
            );
        }
    }
    let logged = node.lines(refusals, |line| line["reason"] == "bad_request");
    assert_eq!(logged.len(), refusals, "each refusal has its line");
    node.wait_metric("yett_http_refusals_total", &[("reason", "bad_request")], refusals as f64);
}

#[test]
fn the_bare_library_fails_many_rows() {
    let backend = Raw::start();
    let proxy = bare(backend.address);
    let failed: Vec<&str> = rows()
        .filter_map(|row| judge(row, proxy, &backend, Duration::from_millis(700)).err().map(|_| row.0))
        .collect();
    assert!(failed.len() >= 10, "{failed:?}");
    // It does serve what is sound, or the rows would show nothing.
    for row in &SOUND[..5] {
        assert!(!failed.contains(&row.0), "{}", row.0);
    }
}

#[test]
fn limits_are_answered_counted_and_cost_the_backend_nothing() {
    let backend = Raw::start();
    let settings = "[limits]\nrequest_head_timeout = \"700ms\"\nrequest_body_timeout = \"700ms\"\n";
    let (node, _site) = gateway_before(&backend, settings);
    let long = |length: usize| "x".repeat(length);
    let chunks = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (description, bytes, status, reason, limit) in [
        (
            "a long value",
            format!("GET /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(70_000)),
            431,
            "header_fields_too_large",
            "request_head_bytes_max",
        ),
        (
            "many fields",
            format!("GET /a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101)),
            431,
            "header_fields_too_large",
            "request_fields_max",
        ),
        (
            "many trailers",
            format!("{chunks}0\r\n{}\r\n", "X: y\r\n".repeat(101)),
            431,
            "header_fields_too_large",
            "request_fields_max",
        ),
        (
            "a long trailer",
            format!("{chunks}0\r\nX: {}\r\n\r\n", long(70_000)),
            431,
            "header_fields_too_large",
            "request_head_bytes_max",
        ),
        (
            "a long target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(20_000)),
            414,
            "uri_too_long",
            "request_target_bytes_max",
        ),
        (
            "a target without an end",
            format!("GET /{}", long(60_000)),
            414,
            "uri_too_long",
            "request_target_bytes_max",
        ),
        (
            "a long extension",
            format!("{chunks}5;{}\r\nhello\r\n0\r\n\r\n", long(2000)),
            400,
            "bad_request",
            "chunk_line_bytes_max",
        ),
        (
            "many extensions",
            format!("{chunks}{}0\r\n\r\n", format!("1;{}\r\nx\r\n", long(900)).repeat(10)),
            400,
            "bad_request",
            "chunk_extension_bytes_max",
        ),
        (
            "a head that stops",
            "GET /a HTTP/1.1\r\nHost: a\r\nX".to_owned(),
            408,
            "request_timeout",
            "request_head_timeout",
        ),
        (
            "behind a sound request",
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET".to_owned(),
            408,
            "request_timeout",
            "request_head_timeout",
        ),
        (
            "a body that stops",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello".to_owned(),
            408,
            "request_timeout",
            "request_body_timeout",
        ),
        (
            "a chunk's line that stops",
            format!("{chunks}5\r\nhello\r\n5;x"),
            408,
            "request_timeout",
            "request_body_timeout",
        ),
    ] {
        let before = node.metrics().sum("yett_limit_hits_total", &[("limit", limit)]);
        backend.take();
        let exchange = Exchange::with(node.http(), bytes.as_bytes(), usize::MAX, Duration::from_secs(10));
        assert_eq!(exchange.statuses().last(), Some(&status), "{description}: {}", exchange.text);
        assert!(exchange.closed, "{description}: left open");
        assert!(
            exchange.text.contains(&format!("\r\nyett-reason: {reason}\r\n")),
            "{description}: {}",
            exchange.text
        );
        let seen = backend.take();
        assert_eq!(whole(&seen).is_some(), exchange.statuses().contains(&200), "{description}");
        wait::soon(description, || node.metrics().sum("yett_limit_hits_total", &[("limit", limit)]) > before);
    }
}

/// A proxy as the library's documentation has it: what comes in goes out.
fn bare(backend: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(move |request| async move {
                    Ok::<_, Infallible>(pass(backend, request).await.unwrap_or_else(|_| {
                        let mut response = Response::new(Either::Right(Empty::new()));
                        *response.status_mut() = hyper::StatusCode::BAD_GATEWAY;
                        response
                    }))
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.ok() });
            }
        });
    });
    address
}

type Passed = Response<Either<Incoming, Empty<Bytes>>>;

async fn pass(
    backend: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Passed, Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(backend).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { connection.await.ok() });
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = path.clone().into();
    }
    *request.version_mut() = hyper::Version::HTTP_11;
    let response = sender.send_request(request.map(|body| body.boxed())).await?;
    Ok(response.map(Either::Left))
}
