//! Requests through the guard: whoever reads behind it, hyper or a backend, sees the same messages as the guard did.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reference;
use crate::http::frame::{Fault, Framer, Limits};
use crate::http::guard::{Guard, Intake, fault_of};
use crate::http::watch::Activity;
use crate::telemetry::Metrics;

/// One registry for all runs: making one costs more than a run.
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(Metrics::new);

/// Low, so that they are met.
pub(crate) const LIMITS: Limits = Limits { head_bytes_max: 512, target_bytes_max: 64, fields_max: 8 };

/// A connection's bytes: the guard lets the same pass however they come, and hyper and a strict reader find the same
/// requests in what has passed.
pub fn requests(input: &[u8]) {
    let (seed, bytes) = super::split(input);
    let whole = pass([bytes]);
    assert!(bytes.starts_with(&whole.0), "the guard made something up");
    assert_eq!(pass(super::pieces(seed, bytes)), whole, "it matters how the bytes come");

    let expected = expected(&whole);
    let (seen, ended) = served(&super::pieces(seed, bytes));
    if may_close(bytes) {
        assert!(expected.starts_with(&seen), "hyper sees {seen:?}, not {expected:?}");
    } else {
        assert_eq!(seen, expected, "hyper sees something else");
        let ends = matches!(expected.last(), Some(Seen::Refused(_) | Seen::Broken(_)));
        assert_eq!(ended, ends.then_some(Ok(())), "hyper found fault with what the guard passed");
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Target, body, and trailers.
    Whole(String, Vec<u8>, usize),
    /// It stood for a refused one.
    Refused(Fault),
    /// Its body broke off.
    Broken(Option<Fault>),
}

/// What the guard's framer passes, and the fault behind it; whether that one is a head's.
type Passed = (Vec<u8>, Option<(Fault, bool)>);

fn pass<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Passed {
    let mut framer = Framer::new(LIMITS, 443);
    let (mut passed, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let advance = framer.advance(&kept);
            passed.extend(kept.drain(..advance.passed));
            if let Some(fault) = advance.fault {
                return (passed, Some((fault, framer.is_before_body())));
            }
            if !framer.waits() {
                break;
            }
            // Asked to leave HTTP, we stay.
            framer.resume();
        }
    }
    (passed, None)
}

/// What a service is to see: the whole requests that a strict reader finds, then the fault.
fn expected((passed, fault): &Passed) -> Vec<Seen> {
    let (found, error) = reference::requests(passed);
    assert_eq!(error, None, "to a strict reader, behind {found:?}");
    let whole = found.into_iter().map(|request| {
        // In the spelling that hyper gives it.
        let target = request.target.parse::<http::Uri>();
        let target = target.unwrap_or_else(|_| panic!("the target {:?} passed", request.target)).to_string();
        Seen::Whole(target, request.body, request.trailers.len())
    });
    let fault = fault.map(|(fault, before_body)| match before_body {
        true => Seen::Refused(fault),
        false => Seen::Broken(Some(fault)),
    });
    whole.chain(fault).collect()
}

/// Whether hyper ends the connection before the client's last request, as it may.
fn may_close(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.contains("http/1.0") || text.contains("connection") || text.contains("upgrade")
}

/// What a service behind hyper and the guard sees, until nothing more happens; and how the connection ended, if it did.
pub(crate) fn served(pieces: &[&[u8]]) -> (Vec<Seen>, Option<Result<(), String>>) {
    let intake = Rc::new(Intake::new(Activity::new(crate::http::Limits::default(), Arc::clone(&METRICS))));
    let seen = RefCell::new(Vec::new());
    let io = Guard::new(Client::new(pieces), Framer::new(LIMITS, 443), Rc::clone(&intake));
    let service = service_fn(|request: Request<Incoming>| async {
        let mut response = Response::new(Empty::<Bytes>::new());
        if request.method() == Method::CONNECT {
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
        }
        let what = match intake.take() {
            Some(fault) => Seen::Refused(fault),
            None => see(request).await,
        };
        intake.answered();
        if matches!(what, Seen::Refused(_)) {
            response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        }
        seen.borrow_mut().push(what);
        Ok::<_, Infallible>(response)
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_headers(LIMITS.fields_max).max_header_size(8192);
    let ended = {
        let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        to_rest(connection).map(|ended| ended.map_err(|error| format!("{error:?}")))
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

/// A client that has sent these pieces, each of which is a read of its own, and stays.
pub(crate) struct Client(VecDeque<Vec<u8>>);

impl Client {
    pub(crate) fn new(pieces: &[&[u8]]) -> Self {
        Self(pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect())
    }
}

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

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls as long as something wakes; `None`: it waits for what never comes.
pub(super) fn to_rest<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => return None,
        }
    }
}
