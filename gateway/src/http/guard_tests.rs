//! The guard with hyper behind it: both see the same requests, and a refused one in its place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::*;
use crate::http::frame::{self, tests as framing};
use crate::telemetry::Metrics;

const LIMITS: frame::Limits = frame::Limits { head_bytes_max: 512, target_bytes_max: 64, fields_max: 8 };

/// A client that has sent these pieces, each of which is a read of its own, and stays.
struct Client(VecDeque<Vec<u8>>);

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(piece) = self.0.front_mut() else { return Poll::Pending };
        let length = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece[..length]);
        piece.drain(..length);
        if piece.is_empty() {
            self.0.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Target, body, and trailers.
    Whole(String, Vec<u8>, usize),
    /// It stood for a refused one.
    Refused(Fault),
    /// Its body broke off.
    Broken(Option<Fault>),
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a service behind hyper and the guard sees, until nothing more happens; and how the connection ended, if it did.
fn served(pieces: &[&[u8]]) -> (Vec<Seen>, Option<Result<(), String>>) {
    let intake = Rc::new(Intake::new(Activity::new(crate::http::Limits::default(), Metrics::new())));
    let seen = RefCell::new(Vec::new());
    let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
    let io = Guard::new(Client(pieces), Framer::new(LIMITS, 443), Rc::clone(&intake));
    let service = service_fn(|request: Request<Incoming>| async {
        let what = match intake.take() {
            Some(fault) => Seen::Refused(fault),
            None => see(request).await,
        };
        intake.answered();
        let mut response = Response::new(Empty::<Bytes>::new());
        if matches!(what, Seen::Refused(_)) {
            response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        }
        seen.borrow_mut().push(what);
        Ok::<_, Infallible>(response)
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_headers(8).max_header_size(8192);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let ended = {
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        loop {
            match connection.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(ended) => break Some(ended.map_err(|error| format!("{error:?}"))),
                Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
                Poll::Pending => break None,
            }
        }
    };
    (seen.into_inner(), ended)
}

async fn see(request: Request<Incoming>) -> Seen {
    let target = request.uri().to_string();
    match request.into_body().collect().await {
        Ok(body) => {
            let trailers = body.trailers().map_or(0, http::HeaderMap::len);
            Seen::Whole(target, body.to_bytes().to_vec(), trailers)
        }
        Err(error) => Seen::Broken(fault_of(&error)),
    }
}

/// The same by the framer alone.
fn framed(bytes: &[u8]) -> Vec<Seen> {
    framing::messages(LIMITS, bytes)
        .into_iter()
        .map(|message| match message {
            framing::Message::Whole { target, body, trailers } => {
                // In the spelling that hyper gives it.
                let target = target.parse::<http::Uri>().unwrap().to_string();
                Seen::Whole(target, body, trailers)
            }
            framing::Message::Refused(fault) => Seen::Refused(fault),
            framing::Message::Broken(fault) => Seen::Broken(Some(fault)),
        })
        .collect()
}

/// Whether hyper ends the connection before the client's last request, as it may.
fn may_close(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|version| version == b"HTTP/1.0")
}

#[test]
fn a_refusal_keeps_its_place() {
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    let upload = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let bad = "GET /bad HTTP/1.1\r\n\r\n";
    let broken = "POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nx\r\n";
    let whole = |target: &str, body: &[u8]| Seen::Whole(target.into(), body.into(), 0);
    for (description, bytes, expected) in [
        ("alone", bad.to_owned(), vec![Seen::Refused(Fault::HostMissing)]),
        (
            "behind another",
            format!("{good}{bad}"),
            vec![whole("/good", b""), Seen::Refused(Fault::HostMissing)],
        ),
        (
            "behind a body, with more behind it",
            format!("{upload}{bad}{good}{good}"),
            vec![whole("/upload", b"abc"), Seen::Refused(Fault::HostMissing)],
        ),
        (
            "in a body",
            format!("{good}{broken}{good}"),
            vec![whole("/good", b""), Seen::Broken(Some(Fault::ChunkSize))],
        ),
    ] {
        let (seen, ended) = served(&[bytes.as_bytes()]);
        assert_eq!(seen, expected, "{description}");
        assert_eq!(ended, Some(Ok(())), "{description}");
        let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
        assert_eq!(served(&pieces).0, expected, "{description}: byte by byte");
    }
}

#[test]
fn a_request_that_looks_like_a_stand_in_is_none() {
    let (seen, _) = served(&[b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n- * HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert_eq!(seen, [Seen::Whole("*".into(), Vec::new(), 0), Seen::Refused(Fault::Target)]);
}

#[test]
fn a_head_that_has_had_its_time_is_refused() {
    let intake = Rc::new(Intake::new(Activity::new(crate::http::Limits::default(), Metrics::new())));
    assert!(!intake.time_out(), "nothing has come");
    let client = Client([b"GET /x HTTP/1.1\r\nHo".to_vec()].into());
    let mut guard = Guard::new(client, Framer::new(LIMITS, 443), Rc::clone(&intake));
    let mut storage = [0; 64];
    let mut buffer = ReadBuf::new(&mut storage);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buffer).is_pending());
    assert!(buffer.filled().is_empty(), "a part of a head was passed");
    assert!(intake.is_in_head() && intake.time_out() && !intake.is_in_head());
    assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buffer).is_ready());
    assert_eq!(buffer.filled(), b"GET /x HTTP/1.1\r\n\r\n");
    assert_eq!(intake.take(), Some(Fault::HeadTimeout));
    assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buffer).is_pending(), "nothing follows");
}

#[test]
fn heads_larger_than_the_readers_buffer_pass() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(400));
    let whole = format!("{head}{head}POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    for (piece, room) in [(1, 1), (7, 16), (100, 30), (1000, 3), (5, 1000)] {
        let intake = Rc::new(Intake::new(Activity::new(crate::http::Limits::default(), Metrics::new())));
        let client = Client(whole.as_bytes().chunks(piece).map(<[u8]>::to_vec).collect());
        let mut guard = Guard::new(client, Framer::new(LIMITS, 443), intake);
        let mut cx = Context::from_waker(Waker::noop());
        let mut passed = Vec::new();
        loop {
            let mut storage = vec![0; room];
            let mut buffer = ReadBuf::new(&mut storage);
            match Pin::new(&mut guard).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(read) => {
                    read.unwrap();
                    assert!(!buffer.filled().is_empty(), "an end that is none");
                    passed.extend_from_slice(buffer.filled());
                }
                Poll::Pending => break,
            }
        }
        assert_eq!(String::from_utf8(passed).unwrap(), whole, "pieces of {piece} to buffers of {room}");
        assert_eq!(guard.kept.capacity(), 0, "what was kept is let go");
    }
}

proptest! {
    #[test]
    fn hyper_sees_the_requests_that_the_guard_sees(
        bytes in framing::traffic(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let expected = framed(&bytes);
        let (seen, ended) = served(&framing::cut(&bytes, &places));
        if may_close(&bytes) {
            prop_assert!(expected.starts_with(&seen), "{:?} {:?}", seen, expected);
        } else {
            prop_assert_eq!(&seen, &expected);
            let ends = matches!(expected.last(), Some(Seen::Refused(_) | Seen::Broken(_)));
            prop_assert_eq!(ended, ends.then_some(Ok(())), "hyper found fault with what the guard passed");
        }
    }
}
