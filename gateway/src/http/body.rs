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
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::headers;
use super::serve::Held;
use crate::model::Reason;
use crate::telemetry::Outcome;
use crate::upstream::UpstreamBody;

/// A request's body on its way to the backend.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Upload>>);

#[derive(Debug)]
struct Upload {
    incoming: Incoming,
    progress: Rc<Progress>,
    received: Arc<AtomicU64>,
    pause_max: Duration,
    /// Runs only while the client keeps us waiting.
    pause: Option<Pin<Box<Sleep>>>,
}

/// How far an upload has come; shared with the request that it belongs to.
#[derive(Debug)]
pub struct Progress {
    moved: Cell<Instant>,
    ended: Cell<bool>,
    fault: Cell<Option<Reason>>,
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
    pub fn fault(&self) -> Option<Reason> {
        self.fault.get()
    }
}

impl RequestBody {
    /// Wraps a body; `received` counts its bytes. A request without one has no progress to follow.
    pub fn new(
        incoming: Incoming,
        received: impl FnOnce() -> Arc<AtomicU64>,
        pause_max: Duration,
    ) -> (Self, Option<Rc<Progress>>) {
        if incoming.is_end_stream() {
            return (Self(None), None);
        }
        let progress = Rc::new(Progress {
            moved: Cell::new(Instant::now()),
            ended: Cell::new(false),
            fault: Cell::new(None),
        });
        let upload =
            Upload { incoming, progress: Rc::clone(&progress), received: received(), pause_max, pause: None };
        (Self(Some(Box::new(upload))), Some(progress))
    }
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
            self.progress.fault.set(Some(Reason::RequestTimeout));
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
                } else if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers_to_backend(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.progress.fault.set(Some(Reason::ClientClosed));
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
    outcome: Outcome,
    /// Keeps the connection from being idle until the answer is written.
    _held: Held,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Relayed { body: UpstreamBody<RequestBody>, deadline: Option<Pin<Box<Sleep>>> },
    Broken,
}

/// Why an answer broke off; never told apart from a cut by the client.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The backend's body broke off.
    #[error("the backend's body broke off: {0}")]
    Upstream(hyper::Error),
    /// The rule's timeout ended it.
    #[error("the answer was not complete in time")]
    Deadline,
}

impl ResponseBody {
    /// An answer of our own; empty: none.
    pub fn whole(bytes: Bytes, outcome: Outcome, held: Held) -> Self {
        Self { content: Content::Whole(bytes), outcome, _held: held }
    }

    /// The backend's answer, cut off at the deadline.
    pub fn relayed(
        body: UpstreamBody<RequestBody>,
        deadline: Option<Instant>,
        outcome: Outcome,
        held: Held,
    ) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { content: Content::Relayed { body, deadline }, outcome, _held: held }
    }

    fn broken(&mut self, reason: Reason, error: RelayError) -> Option<Result<Frame<Bytes>, RelayError>> {
        self.content = Content::Broken;
        self.outcome.refuse(reason);
        Some(Err(error))
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
        let frame = match &mut this.content {
            Content::Broken => return Poll::Ready(None),
            Content::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::Relayed { body, deadline } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let Some(deadline) = deadline else { return Poll::Pending };
                    ready!(deadline.as_mut().poll(cx));
                    return Poll::Ready(this.broken(Reason::UpstreamTimeout, RelayError::Deadline));
                }
            },
        };
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.outcome.sent(data.len());
                } else if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers_to_client(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => this.broken(Reason::UpstreamBodyCut, RelayError::Upstream(error)),
            None => {
                this.outcome.complete();
                this.content = Content::Whole(Bytes::new());
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Relayed { body, .. } => body.is_end_stream(),
            // Never a clean end: the error has been told, and nobody may take it for one.
            Content::Broken => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Relayed { body, .. } => body.size_hint(),
            Content::Broken => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // What is at its end need not have been asked for it.
        if self.is_end_stream() {
            self.outcome.complete();
        }
    }
}
