//! The body of a backend's answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::endpoint::Busy;

/// Streams a backend's answer. When it has been read to its end an HTTP/1.1 connection goes back to the pool; dropped
/// before, the connection is closed, since the rest of the answer would stand in the next one's way.
pub struct UpstreamBody<B> {
    incoming: Incoming,
    busy: Option<Busy<B>>,
    sender: Option<http1::SendRequest<B>>,
}

impl<B> UpstreamBody<B> {
    pub(super) fn http1(incoming: Incoming, busy: Option<Busy<B>>, sender: http1::SendRequest<B>) -> Self {
        let mut body = Self { incoming, busy, sender: Some(sender) };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    pub(super) fn http2(incoming: Incoming, busy: Option<Busy<B>>) -> Self {
        Self { incoming, busy, sender: None }
    }

    fn end(&mut self) {
        if let (Some(busy), Some(sender)) = (self.busy.take(), self.sender.take()) {
            busy.endpoint().give_back(sender);
        }
    }
}

impl<B> Body for UpstreamBody<B> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) if !this.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => this.end(),
            Some(Err(_)) => {
                this.sender = None;
                this.busy = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<B> std::fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
