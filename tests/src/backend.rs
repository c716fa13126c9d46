//! An HTTP/1.1 backend that writes down what reached it, from the moment the head is there.
//!
//! The path says how it answers: `/echo…` (and everything unnamed) as JSON, `/status/N`, `/bytes/N`,
//! `/mirror` (the body, streamed back), `/sink` (reads all, tells the length), `/held` (waits for
//! [`Backend::release`]), `/hang` (never), `/trailers`, `/hop` (hop-by-hop fields in the answer),
//! `/cut` (a chunked body that ends before its end), `/close` (the connection, without an answer).

use std::future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::response::Builder;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::wait;

/// How much of a body is kept; the rest is only counted.
const BODY_KEPT_BYTES_MAX: usize = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

type Payload = BoxBody<Bytes, io::Error>;
type Answer = Response<Payload>;

/// One request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The fields, names in lower case.
    pub headers: HeaderMap,
    /// The number of the connection it came on, from 1.
    pub connection: u64,
    /// The first 64 KiB of the body.
    pub body: Vec<u8>,
    /// How long the body was so far.
    pub body_len: u64,
    /// The trailers, once the body has ended.
    pub trailers: Option<HeaderMap>,
    /// Whether the body ended as it should.
    pub complete: bool,
}

impl Recorded {
    /// The values of a field, as text.
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).into_iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

struct Shared {
    name: String,
    requests: Mutex<Vec<Recorded>>,
    /// Places of `requests` that are free again; `None`: everything is kept.
    forgotten: Option<Mutex<Vec<usize>>>,
    is_http2: bool,
    connections: AtomicU64,
    released: watch::Sender<bool>,
}

impl Shared {
    /// Writes a request down and gives its place.
    fn record(&self, recorded: Recorded) -> usize {
        let mut requests = lock(&self.requests);
        if let Some(free) = self.forgotten.as_ref().and_then(|forgotten| lock(forgotten).pop()) {
            requests[free] = recorded;
            return free;
        }
        requests.push(recorded);
        requests.len() - 1
    }

    fn forget(&self, index: usize) {
        if let Some(forgotten) = &self.forgotten {
            lock(forgotten).push(index);
        }
    }
}

/// The backend; it ends when dropped.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Backend {
    /// Starts one that calls itself `echo`.
    pub fn start() -> Self {
        Self::named("echo")
    }

    /// Starts one that signs its answers with `x-backend: name`.
    ///
    /// # Panics
    /// When no socket is to be had.
    pub fn named(name: &str) -> Self {
        Self::at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts one that signs its answers, too, and forgets each request that it has answered, for as many as come.
    ///
    /// # Panics
    /// When no socket is to be had.
    pub fn forgetful(name: &str) -> Self {
        Self::with(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Some(Mutex::default()))
    }

    /// Starts one on an address of its own.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn at(name: &str, address: SocketAddr) -> Self {
        Self::with(name, address, None)
    }

    /// The same, speaking HTTP/2 with prior knowledge.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn http2_at(name: &str, address: SocketAddr) -> Self {
        Self::made(name, address, None, true)
    }

    fn with(name: &str, address: SocketAddr, forgotten: Option<Mutex<Vec<usize>>>) -> Self {
        Self::made(name, address, forgotten, false)
    }

    fn made(name: &str, address: SocketAddr, forgotten: Option<Mutex<Vec<usize>>>, is_http2: bool) -> Self {
        let listener = TcpListener::bind(address).expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            requests: Mutex::default(),
            forgotten,
            is_http2,
            connections: AtomicU64::new(0),
            released: watch::Sender::new(false),
        });
        let (stop, stopped) = oneshot::channel();
        let state = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(listener, state, stopped));
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that arrived so far.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    /// Whether any that arrived so far is picked; the last are looked at first.
    pub fn any(&self, pick: impl Fn(&Recorded) -> bool) -> bool {
        lock(&self.shared.requests).iter().rev().any(pick)
    }

    /// How many requests arrived so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The request that arrived last.
    ///
    /// # Panics
    /// When none did.
    pub fn last(&self) -> Recorded {
        lock(&self.shared.requests).last().cloned().expect("a request reached the backend")
    }

    /// Waits until `count` requests have arrived.
    pub fn wait_for(&self, count: usize) {
        wait::soon(&format!("{count} requests at the backend"), || self.count() >= count);
    }

    /// Lets every request that waits at `/held` go on.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Stops listening and drops every connection.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(listener: TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is non-blocking");
        let accept = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&shared), number, request));
                    let io = TokioIo::new(stream);
                    // A client that goes away is no fault of the backend.
                    if shared.is_http2 {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.ok();
                    } else {
                        http1::Builder::new().serve_connection(io, service).await.ok();
                    }
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

async fn answer(
    shared: Arc<Shared>,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (head, mut body) = request.into_parts();
    let index = {
        let recorded = Recorded {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers.clone(),
            connection,
            ..Recorded::default()
        };
        shared.record(recorded)
    };
    let path = head.uri.path();
    if path == "/mirror" {
        return Ok(mirror(shared, index, body));
    }
    if path == "/close" {
        return Err("closed on purpose".into());
    }
    if path == "/hang" {
        future::pending::<()>().await;
    }
    read(&shared, index, &mut body).await;
    let recorded = lock(&shared.requests)[index].clone();
    let response = Response::builder().header("x-backend", &shared.name);
    let answer = match path.split('/').nth(1).unwrap_or_default() {
        "status" => response.status(tail::<u16>(path)).body(full("")),
        "bytes" => response.body(count(tail(path))),
        "sink" => response.body(full(recorded.body_len.to_string())),
        "held" => {
            shared.released.subscribe().wait_for(|released| *released).await?;
            response.body(full("released"))
        }
        "trailers" => response.header("trailer", "x-checksum").body(trailers()),
        "hop" => hop(response).body(full("hop")),
        "cut" => response.body(cut()),
        _ => response.header("content-type", "application/json").body(full(echo(&shared, &recorded))),
    };
    shared.forget(index);
    Ok(answer?)
}

async fn read(shared: &Shared, index: usize, body: &mut Incoming) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return };
        let mut requests = lock(&shared.requests);
        let recorded = &mut requests[index];
        match frame.into_data() {
            Ok(data) => {
                recorded.body_len += data.len() as u64;
                let room = BODY_KEPT_BYTES_MAX - recorded.body.len();
                recorded.body.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => recorded.trailers = frame.into_trailers().ok(),
        }
    }
    lock(&shared.requests)[index].complete = true;
}

fn echo(shared: &Shared, recorded: &Recorded) -> String {
    let headers: Vec<(String, String)> = recorded
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    json!({
        "served_by": shared.name,
        "method": recorded.method,
        "target": recorded.target,
        "headers": headers,
        "body": String::from_utf8_lossy(&recorded.body),
    })
    .to_string()
}

fn tail<T: std::str::FromStr + Default>(path: &str) -> T {
    path.rsplit('/').next().and_then(|part| part.parse().ok()).unwrap_or_default()
}

fn full(text: impl Into<Bytes>) -> Payload {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// A body whose frames come through a channel; an error ends the connection in the middle.
struct Pieces(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context)
    }
}

fn frames() -> (mpsc::Sender<io::Result<Frame<Bytes>>>, Payload) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, Pieces(receiver).boxed())
}

fn count(bytes: u64) -> Payload {
    let (sender, body) = frames();
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b'y'; PIECE_BYTES]);
        let mut left = bytes;
        while left > 0 {
            let length = left.min(PIECE_BYTES as u64);
            let part = piece.slice(..usize::try_from(length).unwrap_or(PIECE_BYTES));
            if sender.send(Ok(Frame::data(part))).await.is_err() {
                return;
            }
            left -= length;
        }
    });
    body
}

fn mirror(shared: Arc<Shared>, index: usize, mut body: Incoming) -> Answer {
    let (sender, mirrored) = frames();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            lock(&shared.requests)[index].body_len += frame.data_ref().map_or(0, |data| data.len() as u64);
            if sender.send(Ok(frame)).await.is_err() {
                return;
            }
        }
        lock(&shared.requests)[index].complete = true;
        shared.forget(index);
    });
    Response::new(mirrored)
}

fn trailers() -> Payload {
    let (sender, body) = frames();
    tokio::spawn(async move {
        let mut fields = HeaderMap::new();
        fields.insert("x-checksum", HeaderValue::from_static("42"));
        // The receiver may be gone; then nobody misses them.
        sender.send(Ok(Frame::data(Bytes::from_static(b"with trailers")))).await.ok();
        sender.send(Ok(Frame::trailers(fields))).await.ok();
    });
    body
}

fn cut() -> Payload {
    let (sender, body) = frames();
    tokio::spawn(async move {
        sender.send(Ok(Frame::data(Bytes::from_static(b"the first half")))).await.ok();
        // Long enough for what is there to be on its way: a server that fails at once sends nothing at all.
        tokio::time::sleep(Duration::from_millis(50)).await;
        sender.send(Err(io::Error::other("cut on purpose"))).await.ok();
    });
    body
}

fn hop(response: Builder) -> Builder {
    response
        .header("connection", "x-internal, keep-alive")
        .header("x-internal", "secret")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("x-kept", "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Curl, Http};

    #[test]
    fn each_path_answers_as_it_says() {
        let backend = Backend::named("b");
        let ask = |path: &str| Curl::to(backend.address()).get(&format!("http://b.test{path}"));
        let echo = ask("/any?x=1");
        assert_eq!((echo.exit, echo.status), (0, 200));
        assert_eq!((&echo.json()["target"], &echo.json()["served_by"]), (&json!("/any?x=1"), &json!("b")));
        assert_eq!(ask("/status/418").status, 418);
        assert_eq!(ask("/bytes/40000").body.len(), 40_000);
        assert_ne!(ask("/cut").exit, 0);
        assert_eq!(ask("/hop").header("x-internal"), ["secret"]);
        assert_eq!(backend.count(), 5);
    }

    #[test]
    fn bodies_and_trailers_are_written_down() {
        let backend = Backend::start();
        let connection = Http::clear(backend.address());
        let mut upload = connection.upload("/sink", &[("trailer", "x-end")]);
        upload.piece("abc").unwrap();
        backend.wait_for(1);
        assert!(!backend.last().complete);
        let mut fields = HeaderMap::new();
        fields.insert("x-end", HeaderValue::from_static("1"));
        upload.trailers(fields);
        assert_eq!(upload.finish().unwrap().body, b"3");
        let seen = backend.last();
        assert!(seen.complete);
        assert_eq!((seen.body.as_slice(), seen.body_len), (&b"abc"[..], 3));
        assert_eq!(seen.trailers.unwrap()["x-end"], "1");
        let answer = connection.get_with("/trailers", &[("te", "trailers")]);
        assert_eq!(answer.trailers.unwrap()["x-checksum"], "42");
        assert_eq!(connection.post("/mirror", &[], vec![b'x'; 100_000]).body.len(), 100_000);
    }

    #[test]
    fn a_held_request_waits() {
        let backend = Backend::start();
        let connection = Http::clear(backend.address());
        let held = connection.begin("/held");
        backend.wait_for(1);
        assert!(!held.answered());
        backend.release();
        assert_eq!(held.finish().unwrap().body, b"released");
    }
}
