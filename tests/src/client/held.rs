//! An HTTP/1.1 or HTTP/2 connection that a test holds open and uses again.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Link, block_on, spawn};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

type Payload = BoxBody<Bytes, io::Error>;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Option<HeaderMap>,
    /// What broke the body off, if something did.
    pub broken: Option<String>,
}

impl Answer {
    /// The first value of a field, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `yett-reason`, or nothing.
    pub fn reason(&self) -> &str {
        self.header("yett-reason")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

#[derive(Clone)]
enum Sender {
    One(std::sync::Arc<tokio::sync::Mutex<http1::SendRequest<Payload>>>),
    Two(http2::SendRequest<Payload>),
}

/// The connection.
pub struct Http {
    sender: Sender,
    driver: JoinHandle<Result<(), hyper::Error>>,
    authority: String,
}

/// A request whose body the test sends piece by piece.
pub struct Upload {
    pieces: Option<mpsc::Sender<io::Result<Frame<Bytes>>>>,
    answer: JoinHandle<Result<Answer, hyper::Error>>,
}

impl Http {
    pub(super) fn over(link: Link) -> Self {
        let h2 = link.alpn().as_deref() == Some("h2");
        block_on(Self::handshake(TokioIo::new(link.stream), h2))
    }

    /// HTTP/1.1 without TLS.
    ///
    /// # Panics
    /// When there is no connection.
    pub fn clear(address: SocketAddr) -> Self {
        block_on(async { Self::handshake(TokioIo::new(Self::tcp(address).await), false).await })
    }

    /// HTTP/2 without TLS, by prior knowledge.
    ///
    /// # Panics
    /// When there is no connection.
    pub fn clear_h2(address: SocketAddr) -> Self {
        block_on(async { Self::handshake(TokioIo::new(Self::tcp(address).await), true).await })
    }

    async fn tcp(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("the gateway accepts")
    }

    async fn handshake<S>(io: TokioIo<S>, h2: bool) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let authority = "gw.test".to_owned();
        if h2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.expect("the HTTP/2 preface is answered");
            return Self { sender: Sender::Two(sender), driver: spawn(connection), authority };
        }
        let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1 needs no answer to begin");
        let sender = Sender::One(std::sync::Arc::new(tokio::sync::Mutex::new(sender)));
        Self { sender, driver: spawn(connection), authority }
    }

    /// With this authority in each request to come.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        authority.clone_into(&mut self.authority);
        self
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// When the connection breaks before the answer's head.
    pub fn try_get(&self, path: &str) -> Result<Answer, hyper::Error> {
        self.try_get_with(path, &[])
    }

    /// Asks for `path` with these fields.
    ///
    /// # Errors
    /// When the connection breaks before the answer's head.
    pub fn try_get_with(&self, path: &str, fields: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        let request = self.request(Method::GET, path, fields);
        self.send(request, Empty::new().map_err(|never| match never {}).boxed())
    }

    /// Asks for `path`.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// Asks for `path` with these fields.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.try_get_with(path, fields).unwrap_or_else(|error| panic!("no answer to GET {path}: {error:?}"))
    }

    /// Sends a body to `path`.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn post(&self, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
        let request = self.request(Method::POST, path, fields);
        self.send(request, body).unwrap_or_else(|error| panic!("no answer to POST {path}: {error:?}"))
    }

    /// Begins a request and leaves its body open.
    pub fn upload(&self, path: &str, fields: &[(&str, &str)]) -> Upload {
        let (pieces, receiver) = mpsc::channel(4);
        let request = self.request(Method::POST, path, fields);
        let sender = self.sender.clone();
        let answer = spawn(async move { send(sender, request.map(|()| Pieces(receiver).boxed())).await });
        Upload { pieces: Some(pieces), answer }
    }

    /// Begins a GET and returns at once.
    pub fn begin(&self, path: &str) -> Upload {
        let request = self.request(Method::GET, path, &[]);
        let sender = self.sender.clone();
        let answer = spawn(async move {
            send(sender, request.map(|()| Empty::new().map_err(|never| match never {}).boxed())).await
        });
        Upload { pieces: None, answer }
    }

    /// Waits until the server has closed the connection.
    ///
    /// # Panics
    /// When it does not within `limit`.
    pub fn closed(self, limit: Duration) {
        let Self { sender, driver, .. } = self;
        let ended = block_on(async { timeout(limit, driver).await });
        drop(sender);
        assert!(ended.is_ok(), "the server kept the connection open for {limit:?}");
    }

    /// Whether the connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            // A sender that is locked has an answer under way.
            Sender::One(sender) => sender.try_lock().is_ok_and(|sender| sender.is_closed()),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    fn request(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method);
        request = match self.sender {
            Sender::One(_) => request.uri(path).header("host", &self.authority),
            Sender::Two(_) => request.uri(format!("https://{}{path}", self.authority)),
        };
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a test makes valid requests")
    }

    fn send(&self, request: Request<()>, body: Payload) -> Result<Answer, hyper::Error> {
        block_on(send(self.sender.clone(), request.map(|()| body)))
    }
}

async fn send(sender: Sender, request: Request<Payload>) -> Result<Answer, hyper::Error> {
    let exchange = async {
        let response = match sender {
            Sender::One(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Two(mut sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, mut body) = response.into_parts();
        let mut answer = Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: Vec::new(),
            trailers: None,
            broken: None,
        };
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => answer.body.extend_from_slice(&data),
                Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
                Err(error) => {
                    answer.broken = Some(format!("{error:?}"));
                    break;
                }
            }
        }
        Ok(answer)
    };
    timeout(ANSWER_LIMIT, exchange)
        .await
        .unwrap_or_else(|_| panic!("no whole answer within {ANSWER_LIMIT:?}"))
}

impl Upload {
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the request is over.
    pub fn piece(&self, piece: impl Into<Bytes>) -> Result<(), &'static str> {
        let pieces = self.pieces.as_ref().ok_or("the body is done")?;
        block_on(pieces.send(Ok(Frame::data(piece.into())))).map_err(|_| "the request is over")
    }

    /// Ends the body with trailers.
    pub fn trailers(&mut self, fields: HeaderMap) {
        if let Some(pieces) = self.pieces.take() {
            block_on(pieces.send(Ok(Frame::trailers(fields)))).ok();
        }
    }

    /// Whether the answer is there.
    pub fn answered(&self) -> bool {
        self.answer.is_finished()
    }

    /// Ends the body and waits for the answer.
    ///
    /// # Errors
    /// When the connection breaks before the answer's head.
    ///
    /// # Panics
    /// When the answer takes longer than 30 s.
    pub fn finish(mut self) -> Result<Answer, hyper::Error> {
        self.pieces = None;
        self.answer_while_open()
    }

    /// Waits for the answer with the body still open.
    ///
    /// # Errors
    /// When the connection breaks before the answer's head.
    ///
    /// # Panics
    /// When the answer takes longer than 30 s.
    pub fn answer_while_open(self) -> Result<Answer, hyper::Error> {
        let Self { pieces, answer } = self;
        let answered = block_on(answer).expect("the request's task ends");
        drop(pieces);
        answered
    }
}

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
