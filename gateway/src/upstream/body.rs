//! The body of a backend's answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::endpoint::{Busy, RequestBody};
use super::h1::frame::Fault;
use super::h1::streaming::StreamError;
use super::h1::{Connection, Streaming};

/// Streams a backend's answer. When it has been read to its end an HTTP/1.1 connection goes back to the pool; dropped
/// before, the connection is closed, since the rest of the answer would stand in the next one's way.
pub struct UpstreamBody<B>(Source<B>);

enum Source<B> {
    /// All of it is here; empty once it has been handed on.
    Whole(Bytes),
    Http1(Box<Streaming<B>>, Busy<B>),
    Http2(Incoming, #[allow(dead_code, reason = "held until dropped")] Busy<B>),
    /// It broke off, which has still to be told.
    Broken(Option<BodyError>),
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// On HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] StreamError),
    /// On HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl<B: RequestBody> UpstreamBody<B> {
    pub(super) fn whole(bytes: Bytes, connection: Option<Connection>, busy: &Busy<B>) -> Self {
        give_back(busy, connection);
        Self(Source::Whole(bytes))
    }

    pub(super) fn http1(streaming: Box<Streaming<B>>, busy: Busy<B>) -> Self {
        Self(Source::Http1(streaming, busy))
    }

    pub(super) fn http2(incoming: Incoming, busy: Busy<B>) -> Self {
        Self(Source::Http2(incoming, busy))
    }

    /// Nothing more comes: the connection is free for others.
    fn end(&mut self) {
        let source = std::mem::replace(&mut self.0, Source::Whole(Bytes::new()));
        if let Source::Http1(streaming, busy) = source {
            give_back(&busy, streaming.connection());
        }
    }
}

fn give_back<B>(busy: &Busy<B>, connection: Option<Connection>) {
    if let Some(connection) = connection {
        busy.endpoint().give_back(connection);
    }
}

impl<B: RequestBody> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.0 {
            Source::Whole(bytes) => {
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(std::mem::take(bytes)))));
            }
            Source::Broken(error) => {
                let error = error.take().unwrap_or(BodyError::Http1(Fault::Cut.into()));
                return Poll::Ready(Some(Err(error)));
            }
            Source::Http1(streaming, _) => ready!(streaming.poll_frame(cx)).map(|frame| Ok(frame?)),
            Source::Http2(incoming, _) => ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| Ok(frame?)),
        };
        match frame {
            Some(Ok(frame)) => {
                if this.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                // Whoever is told drops what it has not sent yet: it gets the time to send it first.
                this.0 = Source::Broken(Some(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Broken(_) => false,
            Source::Http1(streaming, _) => streaming.is_ended(),
            Source::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Http1(streaming, _) => {
                streaming.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Source::Http2(incoming, _) => incoming.size_hint(),
            Source::Broken(_) => SizeHint::default(),
        }
    }
}

impl<B> std::fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source: &dyn std::fmt::Debug = match &self.0 {
            Source::Whole(bytes) => bytes,
            Source::Http1(streaming, _) => streaming,
            Source::Http2(incoming, _) => incoming,
            Source::Broken(error) => error,
        };
        f.debug_tuple("UpstreamBody").field(source).finish()
    }
}
