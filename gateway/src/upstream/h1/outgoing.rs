//! A request on its way out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::UPGRADE;
use http::{HeaderValue, Method, Request};
use http_body::{Body, Frame};

use super::connection::Connection;
use super::frame::{HeadReader, Length, Limits, request};

/// What has not been sent yet: a piece that is being written, and the body behind it, which is asked for more only when
/// that piece is out.
pub struct Outgoing<B> {
    method: Method,
    /// The protocol that the connection is to go on with. Whoever does not mean it sends no such field.
    upgrade: Option<HeaderValue>,
    piece: Piece,
    /// `piece` is the first one, which begins with the head: as long as it is, all of the request is at hand.
    is_first: bool,
    /// `None` once it has ended.
    body: Option<B>,
    /// Of the body as announced, less what was taken from it.
    length: Length,
    /// The body waits until the backend asks for it.
    waits: bool,
}

/// Bytes that leave in one write if the socket takes them.
#[derive(Default)]
struct Piece {
    before: BytesMut,
    data: Bytes,
    after: &'static [u8],
    written: usize,
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub enum SendError<E> {
    /// The connection takes nothing more.
    Write(io::Error),
    /// The body broke off.
    Body(E),
    /// The body is longer or shorter than it said.
    Length,
}

impl<B: Body<Data = Bytes> + Unpin> Outgoing<B> {
    /// A request in origin-form. Its body's length is announced if it is known.
    pub fn new(request: Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        let body = Some(body).filter(|body| !body.is_end_stream());
        let length = match &body {
            None => Length::None,
            Some(body) => body.size_hint().exact().map_or(Length::Chunked, Length::Exact),
        };
        Self {
            piece: Piece { before: request::head(&parts, length), ..Piece::default() },
            is_first: true,
            waits: body.is_some() && request::expects_continue(&parts.headers),
            upgrade: parts.headers.get(UPGRADE).cloned(),
            method: parts.method,
            body,
            length,
        }
    }

    /// A reader for its answer.
    pub(super) fn reader(&self, limits: Limits) -> HeadReader {
        HeadReader::new(&self.method, self.upgrade.clone(), limits)
    }

    /// Whether sending it twice does no more than sending it once (RFC 9110 §9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// Whether nothing of it has left.
    pub fn is_unsent(&self) -> bool {
        self.is_first && self.piece.written == 0
    }

    /// Begins anew; false if what has been sent is no longer at hand.
    pub fn rewind(&mut self) -> bool {
        self.piece.written = 0;
        self.is_first
    }

    /// Whether the body is being held back until the backend asks for it.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Holds it back no longer.
    pub(super) fn go(&mut self) {
        self.waits = false;
    }

    /// Sends until everything is out, or the socket or the body keeps us waiting.
    pub(super) fn poll_send(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError<B::Error>>> {
        let takes_data = self.body.is_some() && self.piece.data.is_empty() && !self.waits;
        // A body that is there already leaves with the head.
        if self.is_unsent()
            && takes_data
            && let Poll::Ready(frame) = self.poll_body(cx)
        {
            self.load(frame)?;
        }
        loop {
            while self.piece.remaining() > 0 {
                let written = ready!(connection.poll_write(cx, &self.piece.slices()));
                match written.map_err(SendError::Write)? {
                    0 => return Poll::Ready(Err(SendError::Write(io::ErrorKind::WriteZero.into()))),
                    written => self.piece.written += written,
                }
            }
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            if self.waits {
                return Poll::Pending;
            }
            let frame = ready!(self.poll_body(cx));
            self.is_first = false;
            self.piece = Piece::default();
            self.load(frame)?;
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    /// Puts a frame behind what is in the piece.
    fn load(&mut self, frame: Option<Result<Frame<Bytes>, B::Error>>) -> Result<(), SendError<B::Error>> {
        let Some(frame) = frame.transpose().map_err(SendError::Body)? else {
            return self.end(request::LAST_CHUNK);
        };
        match frame.into_data() {
            Ok(data) => self.load_data(data),
            Err(frame) => match frame.into_trailers() {
                // Behind a body of known length there is no place for trailers (RFC 9112 §7.1.2).
                Ok(trailers) if self.length == Length::Chunked => {
                    self.piece.before.extend_from_slice(&request::trailers(&trailers));
                    self.length = Length::None;
                    Ok(())
                }
                _ => Ok(()),
            },
        }
    }

    fn load_data(&mut self, data: Bytes) -> Result<(), SendError<B::Error>> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.length {
            Length::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(SendError::Length)?;
            }
            Length::Chunked => {
                request::put_chunk_line(&mut self.piece.before, data.len());
                self.piece.after = request::CHUNK_END;
            }
            Length::None | Length::UntilClose => return Err(SendError::Length),
        }
        self.piece.data = data;
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.end(request::LAST_CHUNK_END)?;
        }
        Ok(())
    }

    /// The body has ended; `last` ends a chunked one on the wire, if its trailers have not done so.
    fn end(&mut self, last: &'static [u8]) -> Result<(), SendError<B::Error>> {
        self.body = None;
        match self.length {
            Length::Exact(1..) => return Err(SendError::Length),
            Length::Chunked => self.piece.after = last,
            Length::Exact(0) | Length::None | Length::UntilClose => {}
        }
        self.length = Length::None;
        Ok(())
    }
}

impl Piece {
    fn remaining(&self) -> usize {
        (self.before.len() + self.data.len() + self.after.len()).saturating_sub(self.written)
    }

    /// What has not been written yet.
    fn slices(&self) -> [IoSlice<'_>; 3] {
        let mut passed = self.written;
        [&self.before[..], &self.data[..], self.after].map(|part| {
            let skip = passed.min(part.len());
            passed -= skip;
            IoSlice::new(&part[skip..])
        })
    }
}

impl<B> std::fmt::Debug for Outgoing<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("method", &self.method)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
