//! Whatever bytes a client sends: a strict backend reads the requests that those bytes are, each of them once and in
//! their order, and nothing else; and each request gets its own answer.
//!
//! `PROPTEST_CASES=1000000` asks for more than the few of every day.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::world::*;
use crate::fuzzing::read_answer;
use crate::fuzzing::reference::{self, Request};
use crate::http::Wire;
use crate::http::frame::tests::traffic;
use crate::tls::Credential;
use crate::upstream::h1::frame::{Fault, Limits};

/// Cases that one world serves; its log is kept in memory.
const CASES_PER_WORLD: usize = 1000;
const ANSWER: Limits = Limits { head_bytes_max: 64 * 1024, fields_max: 100, interim_max: 8 };

/// What the backend has read.
#[derive(Default)]
struct Read {
    requests: RefCell<Vec<Request>>,
    /// What a strict reader cannot take.
    faults: RefCell<Vec<String>>,
}

/// Reads strictly; answers with the request's number.
async fn strict_backend() -> (SocketAddr, Rc<Read>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, read) = (listener.local_addr().unwrap(), Rc::<Read>::default());
    let log = Rc::clone(&read);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(converse(stream, Rc::clone(&log)));
        }
    });
    (address, read)
}

async fn converse(mut stream: TcpStream, log: Rc<Read>) {
    let mut bytes = Vec::new();
    loop {
        match reference::request(&bytes) {
            Ok(Some((request, length))) => {
                bytes.drain(..length);
                let number = log.requests.borrow().len();
                let body = if request.method == "HEAD" { "" } else { "ok" };
                log.requests.borrow_mut().push(request);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nx-number: {number}\r\ncontent-length: 2\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            Err(fault) => return log.faults.borrow_mut().push(fault),
        }
    }
}

/// A gateway before a strict backend, for many cases.
struct Bench {
    runtime: Runtime,
    local: LocalSet,
    world: World,
    read: Rc<Read>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        let (world, read) = local.block_on(&runtime, async {
            let (address, read) = strict_backend().await;
            let rules = vec![rule("", "", forward())];
            (World::new(&[listener("", rules)], Some(address), &Plan::default()), read)
        });
        Self { runtime, local, world, read }
    }

    /// Sends the bytes, waits for the answers to the whole requests in them, then leaves; gives every answer that came.
    fn answers(&self, bytes: &[u8], sent: &[Request]) -> Vec<Answer> {
        self.read.requests.borrow_mut().clear();
        let talk = async {
            let mut client = self.world.connect_as(Wire::Http1, None, Credential::None);
            // A connection that is closed at a fault need not take what is behind it.
            let _ = client.write_all(bytes).await;
            let (mut answers, mut read) = (Vec::new(), Vec::new());
            while let Some(request) = sent.get(answers.len()) {
                let method = Method::from_bytes(request.method.as_bytes()).unwrap();
                match read_answer(&method, ANSWER, [&read[..]]) {
                    Ok(message) => {
                        let field =
                            |name| message.head.headers.get(name).and_then(|value| value.to_str().ok());
                        let number = field("x-number").and_then(|text| text.parse().ok());
                        let (is_ours, is_last) =
                            (field("yett-reason").is_some(), field("connection") == Some("close"));
                        answers.push(Answer { number, is_ours });
                        if is_ours && is_last {
                            // What stands for a request line at fault is no HEAD, and its answer has a body.
                            let _ = client.read_to_end(&mut read).await;
                            assert!(
                                !String::from_utf8_lossy(&read).contains("x-number"),
                                "behind the last answer"
                            );
                            return answers;
                        }
                        read.drain(..read.len() - message.surplus.len());
                    }
                    Err(Fault::Cut) => {
                        if client.read_buf(&mut read).await.unwrap_or(0) == 0 {
                            assert!(read.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&read));
                            return answers;
                        }
                    }
                    Err(fault) => panic!("the client reads {fault}: {:?}", String::from_utf8_lossy(&read)),
                }
            }
            // Whatever else is to come, one refusal, comes without our waiting for it.
            let _ = client.shutdown().await;
            client.read_to_end(&mut read).await.unwrap();
            let rest = String::from_utf8_lossy(&read);
            let rest = rest.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&rest);
            let is_refusal = rest.starts_with("HTTP/1.") && rest.matches("\r\nyett-reason: ").count() == 1;
            assert!(rest.is_empty() || is_refusal, "answers to nothing: {rest}");
            answers
        };
        self.local.block_on(&self.runtime, within(talk))
    }
}

struct Answer {
    /// The number of the backend's request that it answers.
    number: Option<usize>,
    is_ours: bool,
}

/// Whether the backend was asked what the client had asked.
fn same(sent: &Request, read: &Request) -> Result<(), String> {
    // In origin-form, where an empty path is `/`.
    let target = match sent.target.split_once("://") {
        Some((scheme, rest)) if !scheme.starts_with('/') => {
            let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
            if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
        }
        _ => sent.target.clone(),
    };
    if (&sent.method, &target, &sent.body) != (&read.method, &read.target, &read.body) {
        return Err(format!("{sent:?} became {read:?}"));
    }
    let ours = [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "content-length",
    ];
    let sent_fields: HashSet<_> = sent.fields.iter().collect();
    for field @ (name, value) in &read.fields {
        let framing = name == "transfer-encoding" && value == b"chunked";
        let trailers = (name == "te" && value == b"trailers") || (name == "connection" && value == b"te");
        // However the client spelt it, and whatever else it named there.
        let upgrade = name == "connection"
            && value == b"upgrade"
            && sent.fields.iter().any(|(name, _)| name == "upgrade");
        if !ours.contains(&&**name) && !framing && !trailers && !upgrade && !sent_fields.contains(field) {
            return Err(format!("{name}: {value:?} was made up: {sent:?} became {read:?}"));
        }
    }
    let invented = read.trailers.iter().find(|trailer| !sent.trailers.contains(trailer));
    invented.map_or(Ok(()), |trailer| Err(format!("the trailer {trailer:?} was made up")))
}

fn check(bench: &Bench, bytes: &[u8]) {
    let (sent, _) = reference::requests(bytes);
    let answers = bench.answers(bytes, &sent);
    let faults = bench.read.faults.take();
    assert!(faults.is_empty(), "a strict backend refuses what it was sent: {faults:?}");
    let read = bench.read.requests.borrow();
    let mut next = 0;
    for (place, answer) in answers.iter().enumerate() {
        let Some(number) = answer.number else {
            assert!(answer.is_ours, "an answer of nobody");
            continue;
        };
        let sent =
            sent.get(place).unwrap_or_else(|| panic!("{:?} is no request to a strict reader", read[number]));
        assert_eq!(number, next, "another request's answer");
        next += 1;
        same(sent, &read[number]).unwrap_or_else(|found| panic!("{found}"));
    }
    assert_eq!(read.len(), next, "requests that nobody was answered for: {:?}", &read[next..]);
}

/// Requests put together of sound and unsound parts.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "GET /a HTTP/1.1\r\nHost: a\r\n",
        "POST /b?c HTTP/1.1\r\nHost: a\r\n",
        "POST /d HTTP/1.1\r\nhost: A.:80\r\n",
        "PUT http://a/e HTTP/1.1\r\nHost: a\r\n",
        "GET http://a?f HTTP/1.1\r\nHost: a\r\n",
        "HEAD /g HTTP/1.1\r\nHost: a\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n",
        "DELETE /h HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n",
        "POST /i HTTP/1.1\r\n",
    ]);
    let field = select(vec![
        "Content-Length: 0\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 44\r\n",
        "content-length : 3\r\n",
        "Content-Length: +3\r\n",
        "Content_Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "X: y\r\nX: z\r\n",
        "X: y\r\n folded\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "Client-Cert: forged\r\n",
        "Connection: content-length, host, x\r\n",
        "Connection: close\r\n",
        "TE: trailers\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
    ]);
    let body = select(vec![
        "",
        "abc",
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;x=y\r\nabc\r\n0\r\nX-T: 1\r\nContent-Length: 5\r\n\r\n",
        "03\r\nabc\r\n2c\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX-Y: abcde\r\n0\r\n\r\n",
        "GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Y: abcd\r\n\r\n",
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n",
        "3\nabc\n0\n\n",
    ]);
    let request = (line, vec(field, 0..3), body)
        .prop_map(|(line, fields, body)| format!("{line}{}\r\n{body}", fields.concat()).into_bytes());
    let change = (any::<Index>(), 0..3u8, select(b"\r\n\0 \t:;,0159aAfFx-_/HGT*\x7f\xe4".to_vec()));
    (vec(request, 1..4), vec(change, 0..3)).prop_map(|(requests, changes)| {
        let mut bytes = requests.concat();
        for (place, kind, byte) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    })
}

#[test]
fn no_bytes_make_a_backend_read_other_requests() {
    let bench = RefCell::new(Bench::new());
    let cases = Cell::new(0_usize);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let run = runner.run(&prop_oneof![3 => hostile(), 1 => traffic()], |bytes| {
        cases.set(cases.get() + 1);
        if cases.get().is_multiple_of(CASES_PER_WORLD) {
            bench.replace(Bench::new());
        }
        check(&bench.borrow(), &bytes);
        Ok::<(), TestCaseError>(())
    });
    match run {
        Err(TestError::Fail(why, bytes)) => panic!("{why}: {:?}", String::from_utf8_lossy(&bytes)),
        run => run.unwrap(),
    }
}
