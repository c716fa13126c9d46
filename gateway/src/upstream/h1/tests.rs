//! Exchanges over sockets.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::exchange::Answer;
use super::frame::{Fault, Limits};
use super::{Answered, Broken, Connection, Outgoing, exchange};

const LIMITS: Limits = Limits { head_bytes_max: 64 * 1024, fields_max: 100, interim_max: 2 };
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(10);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { timeout(PATIENCE, test).await.expect("in time") };
    LocalSet::new().block_on(&runtime, limited)
}

async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Connection::new(ours, ()), listener.accept().await.unwrap().0)
}

/// A body whose pieces a test hands over; it counts how often it was asked.
struct Pieces {
    frames: mpsc::Receiver<Frame<Bytes>>,
    length: Option<u64>,
}

type Hand = mpsc::Sender<Frame<Bytes>>;

fn pieces(length: Option<u64>) -> (Hand, Pieces) {
    let (hand, frames) = mpsc::channel(8);
    (hand, Pieces { frames, length })
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn request(method: &str, body: Pieces) -> Request<Pieces> {
    Request::builder().method(method).uri("/").body(body).unwrap()
}

fn empty(method: &str) -> Request<Pieces> {
    request(method, pieces(Some(0)).1)
}

/// Sends a request on a new connection to a backend that does this.
async fn ask<F: Future<Output = ()> + 'static>(
    request: Request<Pieces>,
    backend: impl FnOnce(TcpStream) -> F,
) -> Result<Answered<Pieces>, Broken<Pieces>> {
    let (connection, theirs) = pair().await;
    tokio::task::spawn_local(backend(theirs));
    exchange(connection, Outgoing::new(request), LIMITS, Duration::from_secs(5)).await
}

/// Reads from a client until its bytes end so.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "{}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8(bytes).unwrap()
}

/// Everything of a body: data, trailers, whether it broke off, and the connection if it is free.
async fn collect(answer: Answer<Pieces>) -> (Vec<u8>, HeaderMap, bool, Option<Connection>) {
    match answer {
        Answer::Whole(bytes, connection) => (bytes.to_vec(), HeaderMap::new(), false, connection),
        Answer::Switched(_) => panic!("nobody asked for another protocol"),
        Answer::Streaming(mut streaming) => {
            let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
            loop {
                match std::future::poll_fn(|cx| streaming.poll_frame(cx)).await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => body.extend_from_slice(&data),
                        Err(frame) => trailers = frame.into_trailers().unwrap(),
                    },
                    Some(Err(_)) => return (body, trailers, true, None),
                    None => return (body, trailers, false, streaming.connection()),
                }
            }
        }
    }
}

/// What becomes of the answer to a GET, if the backend writes this and then keeps quiet.
async fn answered(method: &str, answer: &'static str) -> Result<(Vec<u8>, bool, bool), Fault> {
    let asked = ask(empty(method), |mut theirs| async move {
        until(&mut theirs, "\r\n\r\n").await;
        theirs.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    match asked.await {
        Ok(answered) => {
            let (body, _, broke, connection) = collect(answered.body).await;
            Ok((body, broke, connection.is_some()))
        }
        Err(Broken::Malformed(fault)) => Err(fault),
        Err(_) => panic!("{answer:?} is neither read nor refused"),
    }
}

#[test]
fn a_connection_is_free_only_behind_an_answer_that_ends() {
    run(async {
        for (description, method, answer, expected) in [
            ("whole", "GET", "HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nab", Ok(("ab", false, true))),
            (
                "one chunk",
                "GET",
                "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                Ok(("ab", false, true)),
            ),
            (
                "chunks and trailers",
                "GET",
                "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nx-t: 1\r\n\r\n",
                Ok(("ab", false, true)),
            ),
            (
                "the last one",
                "GET",
                "HTTP/1.1 200 x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab",
                Ok(("ab", false, false)),
            ),
            ("to HEAD", "HEAD", "HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n", Ok(("", false, true))),
            ("to HEAD", "HEAD", "HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nab", Err(Fault::UnexpectedBody)),
            ("304", "GET", "HTTP/1.1 304 x\r\n\r\nab", Err(Fault::UnexpectedBody)),
            ("204", "GET", "HTTP/1.1 204 x\r\n\r\nab", Err(Fault::UnexpectedBody)),
            (
                "another answer behind it",
                "GET",
                "HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 200 x\r\n\r\n",
                Err(Fault::Surplus),
            ),
            (
                "another answer behind chunks",
                "GET",
                "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP/1.1 200 x\r\n\r\n",
                Err(Fault::Surplus),
            ),
            (
                "another answer behind many chunks",
                "GET",
                "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\nHTTP/1.1",
                Ok(("abc", false, false)),
            ),
            (
                "a malformed chunk",
                "GET",
                "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\nd\r\n0\r\n\r\n",
                Ok(("ab", true, false)),
            ),
        ] {
            let found = answered(method, answer).await;
            let expected = expected.map(|(body, broke, free)| (body.as_bytes().to_vec(), broke, free));
            assert_eq!(found, expected, "{description}");
        }
    });
}

#[test]
fn a_cut_body_breaks_off() {
    run(async {
        for (answer, breaks) in [
            ("HTTP/1.1 200 x\r\ncontent-length: 3\r\n\r\nab", true),
            ("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", true),
            ("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", true),
            ("HTTP/1.1 200 x\r\n\r\nab", false),
        ] {
            let asked = ask(empty("GET"), |mut theirs| async move {
                until(&mut theirs, "\r\n\r\n").await;
                theirs.write_all(answer.as_bytes()).await.unwrap();
            });
            let (body, _, broke, connection) = collect(asked.await.ok().unwrap().body).await;
            assert_eq!((&*body, broke, connection.is_some()), (&b"ab"[..], breaks, false), "{answer:?}");
        }
    });
}

#[test]
fn a_connection_that_ends_without_an_answer_gives_the_request_back_if_it_may_be_sent_again() {
    run(async {
        for (description, method, sent, comes_back) in [
            ("idempotent", "GET", None, true),
            ("idempotent, its body at hand", "PUT", Some(data("ab")), true),
            ("not idempotent", "POST", None, false),
            ("not idempotent", "POST", Some(data("ab")), false),
        ] {
            let (hand, body) = pieces(Some(if sent.is_some() { 2 } else { 0 }));
            let end = if sent.is_some() { "\r\n\r\nab" } else { "\r\n\r\n" };
            sent.into_iter().for_each(|frame| hand.try_send(frame).unwrap());
            let asked = ask(request(method, body), |mut theirs| async move {
                until(&mut theirs, end).await;
            });
            match asked.await {
                Err(Broken::Unanswered(again, _)) => assert_eq!(again.is_some(), comes_back, "{description}"),
                _ => panic!("{description}"),
            }
        }
        // A piece is gone, and none can say what became of it.
        let (hand, body) = pieces(Some(4));
        let _held = hand.clone();
        let asked = ask(request("PUT", body), |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            hand.try_send(data("ab")).unwrap();
            until(&mut theirs, "ab").await;
        });
        assert!(matches!(asked.await, Err(Broken::Unanswered(None, _))));
        // One byte is an answer begun.
        let asked = ask(empty("GET"), |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            theirs.write_all(b"H").await.unwrap();
        });
        assert!(matches!(asked.await, Err(Broken::Ended(_))));
    });
}

#[test]
fn bodies_are_framed_and_trailers_follow() {
    run(async {
        let trailers = HeaderMap::from_iter([("x-t".parse().unwrap(), "1".parse().unwrap())]);
        for (length, expected) in [
            (None, "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nx-t: 1\r\n\r\n"),
            (Some(3), "content-length: 3\r\n\r\nabc"),
        ] {
            let (hand, body) = pieces(length);
            for frame in [data("ab"), data(""), data("c"), Frame::trailers(trailers.clone())] {
                hand.try_send(frame).unwrap();
            }
            drop(hand);
            let asked = ask(request("POST", body), move |mut theirs| async move {
                let seen = until(&mut theirs, expected).await;
                assert_eq!(seen, format!("POST / HTTP/1.1\r\n{expected}"));
                theirs.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                std::future::pending::<()>().await;
            });
            let (.., connection) = collect(asked.await.ok().unwrap().body).await;
            assert!(connection.is_some());
        }
        for text in ["a", "abc"] {
            let (hand, body) = pieces(Some(2));
            hand.try_send(data(text)).unwrap();
            drop(hand);
            let asked = ask(request("POST", body), |_theirs| std::future::pending());
            assert!(matches!(asked.await, Err(Broken::BodyLength)), "{text}: not as long as it said");
        }
    });
}

#[test]
fn an_early_refusal_ends_the_upload() {
    run(async {
        let (hand, body) = pieces(None);
        let asked = ask(request("POST", body), |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            theirs.write_all(b"HTTP/1.1 413 x\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            std::future::pending::<()>().await;
        });
        let answered = asked.await.ok().unwrap();
        assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(hand.is_closed(), "nobody asks for more");
        let (body, _, broke, connection) = collect(answered.body).await;
        assert_eq!((&*body, broke, connection.is_some()), (&b"no"[..], false, false));
    });
}

#[test]
fn a_refusal_is_read_even_where_the_upload_cannot_go_on() {
    run(async {
        let (hand, body) = pieces(None);
        let feeding = tokio::task::spawn_local(async move {
            while hand.send(Frame::data(Bytes::from(vec![b'x'; 65_536]))).await.is_ok() {}
        });
        let asked = ask(request("POST", body), |mut theirs| async move {
            until(&mut theirs, "xxxx").await;
            theirs.write_all(b"HTTP/1.1 403 x\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(asked.await.ok().unwrap().status, StatusCode::FORBIDDEN);
        feeding.await.unwrap();
    });
}

#[test]
fn both_directions_at_once() {
    run(async {
        let (hand, body) = pieces(None);
        let asked = ask(request("POST", body), |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            theirs.write_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            until(&mut theirs, "1\r\na\r\n").await;
            theirs.write_all(b"1\r\na\r\n").await.unwrap();
            until(&mut theirs, "1\r\nb\r\n0\r\n\r\n").await;
            theirs.write_all(b"1\r\nb\r\n0\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        let Answer::Streaming(mut streaming) = asked.await.ok().unwrap().body else {
            panic!("it has not ended")
        };
        for text in ["a", "b"] {
            hand.try_send(data(text)).unwrap();
            let hand = (text == "b").then(|| hand.clone());
            drop(hand);
            if text == "b" {
                break;
            }
            let frame = std::future::poll_fn(|cx| streaming.poll_frame(cx)).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        drop(hand);
        let (body, _, broke, connection) = collect(Answer::Streaming(streaming)).await;
        assert_eq!((&*body, broke, connection.is_some()), (&b"b"[..], false, true));
    });
}

#[test]
fn a_body_that_is_held_back_waits_to_be_asked_for() {
    run(async {
        let waiting = |body| {
            let mut request = request("POST", body);
            request.headers_mut().insert("expect", "100-continue".parse().unwrap());
            request
        };
        let full = || {
            let (hand, body) = pieces(Some(2));
            hand.try_send(data("ab")).unwrap();
            (hand, body)
        };
        let (_hand, body) = full();
        let asked = ask(waiting(body), |mut theirs| async move {
            let head = until(&mut theirs, "\r\n\r\n").await;
            assert!(head.contains("expect: 100-continue\r\n"));
            theirs.write_all(b"HTTP/1.1 100 x\r\n\r\n").await.unwrap();
            assert_eq!(until(&mut theirs, "ab").await, "ab");
            theirs.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(asked.await.ok().unwrap().status, StatusCode::OK);

        let (hand, body) = full();
        let asked = ask(waiting(body), |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            theirs.write_all(b"HTTP/1.1 417 x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "nothing of the body is sent");
        });
        let answered = asked.await.ok().unwrap();
        assert_eq!(answered.status, StatusCode::EXPECTATION_FAILED);
        assert!(matches!(answered.body, Answer::Whole(_, None)) && hand.is_closed());

        // A backend that knows nothing of it gets the body all the same.
        let (connection, mut theirs) = pair().await;
        let (_hand, body) = full();
        let asked = exchange(connection, Outgoing::new(waiting(body)), LIMITS, Duration::from_millis(20));
        let backend = async {
            until(&mut theirs, "\r\n\r\nab").await;
            theirs.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        assert_eq!(tokio::join!(asked, backend).0.ok().unwrap().status, StatusCode::OK);
    });
}

#[test]
fn large_bodies_stream() {
    run(async {
        let length = 8 * 1024 * 1024;
        let asked = ask(empty("GET"), move |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            let head = format!("HTTP/1.1 200 x\r\ncontent-length: {length}\r\n\r\n");
            theirs.write_all(head.as_bytes()).await.unwrap();
            let block: Vec<u8> = (0..=255).cycle().take(65_536).collect();
            for _ in 0..length / block.len() {
                theirs.write_all(&block).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let (body, _, broke, connection) = collect(asked.await.ok().unwrap().body).await;
        assert!(!broke && connection.is_some() && body.len() == length);
        assert!(body.iter().enumerate().all(|(at, byte)| *byte == (at % 256) as u8));
    });
}

#[test]
fn a_connection_that_leaves_http_keeps_what_came_behind_the_answer() {
    run(async {
        let request = |body| {
            let request = Request::builder().uri("/").header("connection", "upgrade").header("upgrade", "x");
            request.body(body).unwrap()
        };
        let (hand, body) = pieces(Some(0));
        drop(hand);
        let asked = ask(request(body), |mut theirs| async move {
            let head = until(&mut theirs, "\r\n\r\n").await;
            assert!(head.contains("\r\nconnection: upgrade\r\nupgrade: x\r\n"), "{head}");
            let answer = b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nahead";
            theirs.write_all(answer).await.unwrap();
            std::future::pending::<()>().await;
        });
        let answered = asked.await.ok().unwrap();
        assert_eq!(answered.status, StatusCode::SWITCHING_PROTOCOLS);
        let Answer::Switched(connection) = answered.body else { panic!("it did not switch") };
        assert_eq!(connection.into_parts().1, "ahead");

        // Before the request has been sent to its end there is nothing to agree to.
        let (_hand, body) = pieces(None);
        let asked = ask(request(body), |mut theirs| async move {
            until(&mut theirs, "\r\n\r\n").await;
            theirs.write_all(b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        assert!(matches!(asked.await, Err(Broken::Malformed(Fault::Switched))));
    });
}
