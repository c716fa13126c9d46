//! An answer that is read from its connection while it is relayed.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::connection::Connection;
use super::frame::{Decoder, Fault, Step};
use super::outgoing::{Outgoing, SendError};

/// The rest of an answer, and the rest of the request if the backend answers while it still reads.
pub struct Streaming<B> {
    connection: Connection,
    decoder: Decoder,
    /// Found already, in this order.
    ahead: [Option<Step>; 2],
    upload: Option<Outgoing<B>>,
    keeps: bool,
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke.
    #[error("reading from the backend: {0}")]
    Read(io::Error),
    /// The body is malformed or cut.
    #[error("the answer is malformed: {0}")]
    Malformed(#[from] Fault),
    /// What was left of the request's body did not come: no answer to the whole of it can be meant.
    #[error("the request's body broke off")]
    Upload,
}

impl<B: Body<Data = Bytes> + Unpin> Streaming<B> {
    pub(super) fn new(
        connection: Connection,
        decoder: Decoder,
        ahead: [Option<Step>; 2],
        upload: Option<Outgoing<B>>,
        keeps: bool,
    ) -> Self {
        Self { connection, decoder, ahead, upload, keeps }
    }

    /// The next piece; the rest of the request is sent on meanwhile.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if let Err(error) = self.send(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let step = match ready!(self.poll_step(cx)) {
            Ok(step) => step,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        Poll::Ready(match step {
            Step::Data(data) => {
                if let Err(error) = self.look_ahead() {
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(Frame::data(data)))
            }
            Step::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Step::End | Step::More => None,
        })
    }

    /// Whether all of it has been handed on.
    pub fn is_ended(&self) -> bool {
        self.decoder.is_ended() && self.ahead.iter().all(Option::is_none)
    }

    /// Bytes that are to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.ahead.iter().flatten().try_fold(self.decoder.left()?, |left, step| match step {
            Step::Data(data) => Some(left + data.len() as u64),
            // What has trailers has to end in chunks on its further way too.
            _ => None,
        })
    }

    /// The connection, if the answer has ended and another request may follow it.
    pub fn connection(mut self) -> Option<Connection> {
        let is_free =
            self.keeps && self.is_ended() && self.upload.is_none() && self.connection.buffer.is_empty();
        self.connection.rest();
        is_free.then_some(self.connection)
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, StreamError>> {
        if let Some(step) = self.ahead.iter_mut().find_map(Option::take) {
            return Poll::Ready(Ok(step));
        }
        loop {
            match self.decoder.decode(&mut self.connection.buffer)? {
                Step::More => {}
                step => return Poll::Ready(Ok(step)),
            }
            match ready!(self.connection.poll_fill(cx)) {
                Ok(0) => {
                    self.decoder.closed()?;
                    return Poll::Ready(Ok(Step::End));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(StreamError::Read(error))),
            }
        }
    }

    /// Whether a piece is the last one should be known with it: the client is told in the same write, and the
    /// connection is free the sooner.
    fn look_ahead(&mut self) -> Result<(), StreamError> {
        if self.ahead[1].is_none() {
            self.ahead[1] = match self.decoder.decode(&mut self.connection.buffer)? {
                Step::End | Step::More => None,
                step => Some(step),
            };
        }
        Ok(())
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        // The backend has begun its answer without having been asked to wait.
        upload.go();
        match upload.poll_send(&mut self.connection, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            // It may close for reading and still mean its answer.
            Poll::Ready(Err(SendError::Write(_))) => self.keeps = false,
            Poll::Ready(Err(SendError::Body(_) | SendError::Length)) => return Err(StreamError::Upload),
        }
        self.upload = None;
        Ok(())
    }
}

impl<B> std::fmt::Debug for Streaming<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}
