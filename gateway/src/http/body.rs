//! Bodies on their way, streamed with the back-pressure of whoever reads them.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::frame::Fault;
use super::serve::Held;
use super::watch::Activity;
use super::{Limits, guard, headers};
use crate::model::Reason;
use crate::runtime::Room;
use crate::telemetry::{Limit, Outcome, Telemetry};
use crate::upstream::UpstreamBody;
use crate::upstream::body::BodyError;

/// How fast a client has to read a piece of an answer on HTTP/2, beyond the pause that it may always make.
pub const RESPONSE_BYTES_PER_SECOND_MIN: u64 = 4 * 1024;

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

/// An answer's body. It owns the request's outcome: when it is dropped the request is over.
#[derive(Debug)]
pub struct ResponseBody {
    content: Content,
    /// `None`: with the answer the connection leaves HTTP, and the tunnel owns the outcome.
    outcome: Option<Outcome>,
}

#[derive(Debug)]
enum Content {
    /// Of our own making; empty once it is sent. The connection is held until it is written.
    Whole(Bytes, #[allow(dead_code, reason = "held until dropped")] Held),
    Relayed(Rc<Relay>),
}

/// A backend's answer under way. The connection's clock sees it too, since a client that stops reading an HTTP/2 stream
/// keeps hyper from asking for more: nobody else would ever look at it again.
#[derive(Debug)]
pub(super) struct Relay {
    /// `None` once it was cut off or came to its end.
    body: RefCell<Option<UpstreamBody<RequestBody>>>,
    /// Since when a piece of how many bytes lies with hyper and nobody has asked for the next one.
    offered: Cell<Option<(Instant, usize)>>,
    is_complete: Cell<bool>,
    deadline: Option<Instant>,
    alarm: RefCell<Option<Pin<Box<Sleep>>>>,
    room: RefCell<Room>,
    /// Who waits for the next piece.
    waiting: RefCell<Option<Waker>>,
    activity: Rc<Activity>,
    held: RefCell<Option<Held>>,
}

impl Relay {
    /// Lets go of the backend if the client has left a piece lying for longer than the pause, and than the slowest
    /// client needs for it, or if the time is up and it has not taken the last one. Tells whether it did.
    pub(super) fn cut_if_stalled(&self, now: Instant, pause_max: Duration) -> bool {
        let stalled = self.offered.get().is_some_and(|(since, bytes)| {
            let needed = Duration::from_secs(bytes as u64 / RESPONSE_BYTES_PER_SECOND_MIN);
            now.duration_since(since) >= pause_max + needed
                || self.deadline.is_some_and(|deadline| deadline <= now)
        });
        if stalled {
            self.offered.set(None);
            // The stream may stay as long as its connection; it no longer keeps that busy.
            drop((self.body.take(), self.held.take()));
        }
        stalled
    }

    /// Lets go of the backend, since the client is refused now, and has the stream reset.
    pub(super) fn cut(&self) {
        if self.is_end_stream() {
            return;
        }
        self.offered.set(None);
        drop((self.body.take(), self.held.take()));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        self.offered.set(None);
        let mut body = self.body.borrow_mut();
        if let Some(refusal) = self.activity.told().refusal().filter(|_| !self.is_complete.get()) {
            *body = None;
            return Poll::Ready(Some(Err(RelayError::Refused(refusal.reason))));
        }
        if self.room.borrow_mut().poll(cx).is_pending() {
            self.wait(cx);
            return Poll::Pending;
        }
        let Some(streaming) = body.as_mut() else {
            return Poll::Ready((!self.is_complete.get()).then_some(Err(RelayError::Stalled)));
        };
        let Poll::Ready(frame) = Pin::new(streaming).poll_frame(cx) else {
            self.wait(cx);
            let mut alarm = self.alarm.borrow_mut();
            let Some(deadline) = self.deadline else { return Poll::Pending };
            ready!(alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx));
            *body = None;
            return Poll::Ready(Some(Err(RelayError::Deadline)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.room.borrow().take(length);
                self.offered.set(Some((Instant::now(), length)));
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                *body = None;
                Some(Err(RelayError::Upstream(error)))
            }
            None => {
                *body = None;
                self.is_complete.set(true);
                None
            }
        })
    }

    /// Has a cut wake who waits.
    fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
    }

    fn is_end_stream(&self) -> bool {
        // What was cut off never ends cleanly: its error may not have been told yet.
        self.is_complete.get() || self.body.borrow().as_ref().is_some_and(Body::is_end_stream)
    }
}

/// Why an answer broke off; never told apart from a cut by the client.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The backend's body broke off.
    #[error("the backend's body broke off: {0}")]
    Upstream(BodyError),
    /// The client left it lying.
    #[error("the client did not take the answer")]
    Stalled,
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
        Self { content: Content::Whole(bytes, held), outcome: Some(outcome) }
    }

    /// None, and nothing of HTTP behind it.
    pub fn switched(held: Held) -> Self {
        Self { content: Content::Whole(Bytes::new(), held), outcome: None }
    }

    /// The backend's answer, cut off at the deadline.
    pub fn relayed(
        body: UpstreamBody<RequestBody>,
        deadline: Option<Instant>,
        outcome: Outcome,
        held: Held,
    ) -> Self {
        let activity = Rc::clone(held.activity());
        let relay = Rc::new(Relay {
            body: RefCell::new(Some(body)),
            offered: Cell::new(None),
            is_complete: Cell::new(false),
            deadline,
            alarm: RefCell::new(None),
            room: RefCell::new(Room::new(Arc::clone(held.pressure()))),
            waiting: RefCell::new(None),
            activity: Rc::clone(&activity),
            held: RefCell::new(Some(held)),
        });
        activity.watch(&relay);
        Self { content: Content::Relayed(relay), outcome: Some(outcome) }
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
        let mut frame = match &mut this.content {
            Content::Whole(bytes, _) => (!bytes.is_empty()).then(|| Ok(Frame::data(std::mem::take(bytes)))),
            Content::Relayed(relay) => ready!(relay.poll_frame(cx)),
        };
        let Some(outcome) = &mut this.outcome else { return Poll::Ready(frame) };
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    outcome.sent(data.len());
                } else if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers_to_client(trailers);
                }
            }
            Some(Err(RelayError::Upstream(_))) => outcome.refuse(Reason::UpstreamBodyCut),
            Some(Err(RelayError::Deadline)) => outcome.refuse(Reason::UpstreamTimeout),
            Some(Err(RelayError::Refused(reason))) => outcome.refuse(*reason),
            Some(Err(RelayError::Stalled)) | None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes, _) => bytes.is_empty(),
            Content::Relayed(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relayed(relay) => {
                relay.body.borrow().as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }
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
        if let Content::Relayed(relay) = &self.content {
            relay.activity.unwatch(relay);
            // The stream may be gone before it was asked for more.
            if let Some(refusal) = relay.activity.told().refusal().filter(|_| !relay.is_end_stream())
                && let Some(outcome) = &mut self.outcome
            {
                outcome.refuse(refusal.reason);
            }
        }
    }
}
