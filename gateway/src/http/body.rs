//! Bodies on their way, streamed with the back-pressure of whoever reads them.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::connection::Held;
use super::cut::Cut;
use super::frame::Fault;
use super::{Limits, guard, headers};
use crate::model::Reason;
use crate::runtime::Room;
use crate::telemetry::{Limit, Outcome, Telemetry};
use crate::upstream::UpstreamBody;
use crate::upstream::body::BodyError;

/// How much of an unwanted upload is read after its answer on HTTP/2, and for how long.
const DISCARD_BYTES_MAX: usize = 1 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// A request's body on its way to the backend.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Upload>>);

#[derive(Debug)]
struct Upload {
    incoming: Incoming,
    multiplexed: bool,
    progress: Rc<Progress>,
    received: Arc<AtomicU64>,
    telemetry: Arc<Telemetry>,
    /// How many bytes may still come.
    left: u64,
    pause_max: Duration,
    /// HTTP/2 has nobody else who counts them.
    trailers_max: usize,
    /// Runs only while the client keeps us waiting.
    pause: Option<Pin<Box<Sleep>>>,
}

/// How far an upload has come; shared with the request that it belongs to.
#[derive(Debug)]
pub struct Progress {
    moved: Cell<Instant>,
    ended: Cell<bool>,
    broken: Cell<Option<Broken>>,
}

/// Why an upload broke off, as its request has to know it.
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// The client went away.
    Left,
    /// The client kept us waiting.
    Paused,
    /// It is longer than a body may be.
    TooLarge,
    /// What came was no body.
    Malformed(Fault),
}

/// Why an upload broke off.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client went away or broke the protocol.
    #[error("the client broke off: {0}")]
    Client(hyper::Error),
    /// The client kept us waiting.
    #[error("nothing came for {0:?}")]
    Pause(Duration),
    /// It is longer than a body may be.
    #[error("the body is too large")]
    TooLarge,
    /// What came behind it is over a limit.
    #[error("{0}")]
    Trailers(Fault),
}

impl Progress {
    /// When the last piece came.
    pub fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Whether all of it has come.
    pub fn is_complete(&self) -> bool {
        self.ended.get()
    }

    /// Why it broke off, if it did.
    pub fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }
}

impl RequestBody {
    /// Wraps a body; `received` counts its bytes. A request without one has no progress to follow. On a `multiplexed`
    /// connection (HTTP/2) what nobody reads is discarded for a while when this is dropped. Limits that are hit are counted
    /// here: an answer may have begun by then, and nobody else would know.
    pub fn new(
        incoming: Incoming,
        multiplexed: bool,
        received: impl FnOnce() -> Arc<AtomicU64>,
        limits: &Limits,
        telemetry: &Arc<Telemetry>,
    ) -> (Self, Option<Rc<Progress>>) {
        if incoming.is_end_stream() {
            return (Self(None), None);
        }
        let progress = Rc::new(Progress {
            moved: Cell::new(Instant::now()),
            ended: Cell::new(false),
            broken: Cell::new(None),
        });
        let upload = Upload {
            incoming,
            multiplexed,
            progress: Rc::clone(&progress),
            received: received(),
            telemetry: Arc::clone(telemetry),
            left: limits.request_body_bytes(),
            pause_max: limits.request_body_timeout,
            trailers_max: limits.request_fields_max,
            pause: None,
        };
        (Self(Some(Box::new(upload))), Some(progress))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(upload) = self.0.take() else { return };
        if upload.multiplexed && !upload.incoming.is_end_stream() && upload.progress.broken().is_none() {
            tokio::task::spawn_local(discard(upload.incoming));
        }
    }
}

/// Takes what still comes of an upload that nobody wants. HTTP/2 resets a stream whose body is let go of as soon as the
/// answer is written, and some clients that are still sending then report the reset and not the answer.
async fn discard(mut incoming: Incoming) {
    let read = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = incoming.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    // Either limit ends it alike.
    let _ = timeout(DISCARD_TIME_MAX, read).await;
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut self.get_mut().0 {
            Some(upload) => upload.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |upload| upload.incoming.size_hint())
    }
}

impl Upload {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(self.pause_max)));
            ready!(pause.as_mut().poll(cx));
            self.progress.broken.set(Some(Broken::Paused));
            self.telemetry.metrics.limit_hit(Limit::RequestBodyTimeout);
            return Poll::Ready(Some(Err(UploadError::Pause(self.pause_max))));
        };
        self.pause = None;
        self.progress.moved.set(Instant::now());
        if self.incoming.is_end_stream() {
            self.progress.ended.set(true);
        }
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
                    let Some(left) = self.left.checked_sub(data.len() as u64) else {
                        self.progress.broken.set(Some(Broken::TooLarge));
                        self.telemetry.metrics.limit_hit(Limit::RequestBodyBytesMax);
                        return Poll::Ready(Some(Err(UploadError::TooLarge)));
                    };
                    self.left = left;
                } else if let Some(trailers) = frame.trailers_mut() {
                    if trailers.len() > self.trailers_max {
                        let fault = Fault::TooManyTrailers;
                        self.progress.broken.set(Some(Broken::Malformed(fault)));
                        return Poll::Ready(Some(Err(UploadError::Trailers(fault))));
                    }
                    headers::trailers_to_backend(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let broken = guard::fault_of(&error).map_or(Broken::Left, Broken::Malformed);
                self.progress.broken.set(Some(broken));
                Some(Err(UploadError::Client(error)))
            }
            None => {
                self.progress.ended.set(true);
                None
            }
        })
    }
}

/// An answer's body. It owns the request's outcome: when it is dropped the request is over. On HTTP/2 that is also what
/// becomes of a client that does not take it: the stream's task is ended, see [`super::streams`].
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    /// `None`: with the answer the connection leaves HTTP, and the tunnel owns the outcome.
    outcome: Option<Outcome>,
    /// The connection, until the answer is written.
    held: Held,
}

#[derive(Debug)]
enum Content {
    /// Of our own making; empty once it is sent.
    Whole(Bytes),
    Relayed(Relay),
}

/// A backend's answer under way.
#[derive(Debug)]
struct Relay {
    /// `None` once it was cut off or came to its end.
    body: Option<UpstreamBody<RequestBody>>,
    is_complete: bool,
    deadline: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    room: Room,
}

impl Relay {
    fn poll_frame(
        &mut self,
        told: &Cut,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        if let Some(refusal) = told.refusal().filter(|_| !self.is_complete) {
            self.body = None;
            return Poll::Ready(Some(Err(RelayError::Refused(refusal.reason))));
        }
        if self.room.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let Some(streaming) = self.body.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(streaming).poll_frame(cx) else {
            let Some(deadline) = self.deadline else { return Poll::Pending };
            ready!(self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx));
            self.body = None;
            return Poll::Ready(Some(Err(RelayError::Deadline)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.room.take(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.body = None;
                Some(Err(RelayError::Upstream(error)))
            }
            None => {
                self.body = None;
                self.is_complete = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        // What was cut off never ends cleanly: its error may not have been told yet.
        self.is_complete || self.body.as_ref().is_some_and(Body::is_end_stream)
    }
}

/// Why an answer broke off; never told apart from a cut by the client.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The backend's body broke off.
    #[error("the backend's body broke off: {0}")]
    Upstream(BodyError),
    /// The rule's timeout ended it.
    #[error("the answer was not complete in time")]
    Deadline,
    /// The client is refused now.
    #[error("the client is refused: {0}")]
    Refused(Reason),
}

impl ResponseBody {
    /// An answer of our own; empty: none.
    pub fn whole(bytes: Bytes, outcome: Outcome, held: Held) -> Self {
        Self::new(Content::Whole(bytes), None, Some(outcome), held)
    }

    /// None, and nothing of HTTP behind it.
    pub fn switched(held: Held) -> Self {
        Self::new(Content::Whole(Bytes::new()), None, None, held)
    }

    /// The backend's answer, cut off at the deadline.
    pub fn relayed(
        body: UpstreamBody<RequestBody>,
        deadline: Option<Instant>,
        outcome: Outcome,
        held: Held,
    ) -> Self {
        let room = Room::new(Arc::clone(held.pressure()));
        let relay = Relay { body: Some(body), is_complete: false, deadline, alarm: None, room };
        Self::new(Content::Relayed(relay), deadline, Some(outcome), held)
    }

    fn new(content: Content, deadline: Option<Instant>, outcome: Option<Outcome>, mut held: Held) -> Self {
        if !content.is_end_stream() {
            held.answering(deadline, matches!(content, Content::Relayed(_)));
        }
        Self { content, outcome, held }
    }
}

impl Content {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Relayed(relay) => relay.is_end_stream(),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let this = self.get_mut();
        let stream = this.held.stream();
        if let Some(stream) = stream {
            stream.taken();
        }
        let mut frame = match &mut this.content {
            Content::Whole(bytes) => (!bytes.is_empty()).then(|| Ok(Frame::data(std::mem::take(bytes)))),
            Content::Relayed(relay) => ready!(relay.poll_frame(this.held.told(), cx)),
        };
        let Some(outcome) = &mut this.outcome else { return Poll::Ready(frame) };
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    outcome.sent(data.len());
                    if let Some(stream) = stream {
                        stream.offer(data.len());
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers_to_client(trailers);
                }
            }
            Some(Err(RelayError::Upstream(_))) => outcome.refuse(Reason::UpstreamBodyCut),
            Some(Err(RelayError::Deadline)) => outcome.refuse(Reason::UpstreamTimeout),
            Some(Err(RelayError::Refused(reason))) => outcome.refuse(*reason),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relayed(relay) => relay.body.as_ref().map_or_else(SizeHint::default, Body::size_hint),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // What is at its end need not have been asked for it.
        if self.is_end_stream()
            && let Some(outcome) = &mut self.outcome
        {
            outcome.complete();
        }
        // The stream may be gone before it was asked for more.
        if let Content::Relayed(relay) = &self.content
            && let Some(refusal) = self.held.told().refusal().filter(|_| !relay.is_end_stream())
            && let Some(outcome) = &mut self.outcome
        {
            outcome.refuse(refusal.reason);
        }
    }
}
