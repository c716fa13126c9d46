//! One request and the head of its answer.

use std::future::{Future as _, poll_fn};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::StatusCode;
use http_body::Body;
use tokio::time::sleep;

use super::connection::Connection;
use super::frame::{Decoder, Fault, Head, HeadReader, Length, Limits, Step};
use super::outgoing::{Outgoing, SendError};
use super::streaming::Streaming;

/// An answer, as far as it has come.
#[derive(Debug)]
pub struct Answered<B> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Answer<B>,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Answer<B> {
    /// All of it, and the connection if it can be used again.
    Whole(Bytes, Option<Connection>),
    /// There is none: with 101 the connection goes on with another protocol, whose first bytes may be in its buffer.
    Switched(Connection),
    /// It is still on its way.
    Streaming(Box<Streaming<B>>),
}

/// Why there is no answer.
pub enum Broken<B: Body> {
    /// The connection ended before the first byte of an answer; the request comes back if it is whole.
    Unanswered(Option<Outgoing<B>>, io::Error),
    /// The connection ended within the head.
    Ended(io::Error),
    /// The answer is malformed.
    Malformed(Fault),
    /// The request's body broke off.
    Body(B::Error),
    /// The request's body is not as long as it said.
    BodyLength,
}

/// Sends a request and waits for the head of its answer, which may come before the request's body has ended. A body that
/// its client holds back until it is asked for is held back for as long as `continue_timeout`.
///
/// Dropping the future closes the connection.
pub async fn exchange<B: Body<Data = Bytes> + Unpin>(
    mut connection: Connection,
    mut outgoing: Outgoing<B>,
    limits: Limits,
    continue_timeout: Duration,
) -> Result<Answered<B>, Broken<B>> {
    let mut waiting = Waiting { reader: outgoing.reader(limits), is_sent: false, has_answered: false };
    let mut patience = outgoing.waits().then(|| Box::pin(sleep(continue_timeout)));
    let head = poll_fn(|cx| {
        if patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready()) {
            patience = None;
            outgoing.go();
        }
        waiting.poll(&mut connection, &mut outgoing, cx)
    })
    .await;
    match head {
        Ok(head) => {
            let upload = (!waiting.is_sent).then_some(outgoing);
            answer(connection, head, upload, limits).map_err(Broken::Malformed)
        }
        Err(Broken::Ended(cause)) if !waiting.has_answered => Err(Broken::Unanswered(again(outgoing), cause)),
        Err(broken) => Err(broken),
    }
}

/// A request that may be sent once more: nothing of it has left, or it is idempotent and all of it is at hand.
fn again<B: Body<Data = Bytes> + Unpin>(mut outgoing: Outgoing<B>) -> Option<Outgoing<B>> {
    let allowed = outgoing.is_unsent() || outgoing.is_idempotent();
    (allowed && outgoing.rewind()).then_some(outgoing)
}

struct Waiting {
    reader: HeadReader,
    /// Nothing more is to be sent.
    is_sent: bool,
    has_answered: bool,
}

impl Waiting {
    fn poll<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        connection: &mut Connection,
        outgoing: &mut Outgoing<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Broken<B>>> {
        loop {
            let mut refused = None;
            if !self.is_sent {
                match outgoing.poll_send(connection, cx) {
                    Poll::Ready(Ok(())) => self.is_sent = true,
                    // A backend that wants no more of the request may have said why before it closed.
                    Poll::Ready(Err(SendError::Write(cause))) => refused = Some(cause),
                    Poll::Ready(Err(SendError::Body(error))) => return Poll::Ready(Err(Broken::Body(error))),
                    Poll::Ready(Err(SendError::Length)) => return Poll::Ready(Err(Broken::BodyLength)),
                    Poll::Pending => {}
                }
            }
            match connection.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    let cause = refused.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Poll::Ready(Err(Broken::Ended(cause)));
                }
                Poll::Ready(Ok(_)) => self.has_answered = true,
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(Broken::Ended(cause))),
                Poll::Pending => match refused {
                    Some(cause) => return Poll::Ready(Err(Broken::Ended(cause))),
                    None => return Poll::Pending,
                },
            }
            match self.reader.read(&mut connection.buffer) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) if self.reader.continued() => outgoing.go(),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Err(Broken::Malformed(fault))),
            }
        }
    }
}

/// What follows the head. Bytes that cannot be part of the answer spoil all of it, as long as nothing of it has been
/// used: they would be taken for the answer to somebody else.
fn answer<B: Body<Data = Bytes> + Unpin>(
    mut connection: Connection,
    head: Head,
    upload: Option<Outgoing<B>>,
    limits: Limits,
) -> Result<Answered<B>, Fault> {
    let Head { status, headers, length, keeps } = head;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // Who has not read the request cannot know what it asks for.
        return match upload {
            None => Ok(Answered { status, headers, body: Answer::Switched(connection) }),
            Some(_) => Err(Fault::Switched),
        };
    }
    // RFC 9112 §9.5: who answers so before the body has come does not want the rest of it.
    let upload_goes_on = upload.is_some() && status.is_success();
    let keeps = keeps && (upload.is_none() || upload_goes_on);
    let upload = upload.filter(|_| upload_goes_on);

    let mut decoder = Decoder::new(length, limits);
    let first = decoder.decode(&mut connection.buffer)?;
    let second = match &first {
        Step::Data(_) => decoder.decode(&mut connection.buffer)?,
        _ => Step::More,
    };
    let body = match (first, second) {
        (Step::End, _) => Answer::Whole(Bytes::new(), whole(connection, length, keeps, upload.is_none())?),
        (Step::Data(data), Step::End) => {
            Answer::Whole(data, whole(connection, length, keeps, upload.is_none())?)
        }
        (first, second) => {
            let ahead = [first, second].map(|step| Some(step).filter(|step| *step != Step::More));
            Answer::Streaming(Box::new(Streaming::new(connection, decoder, ahead, upload, keeps)))
        }
    };
    Ok(Answered { status, headers, body })
}

/// The connection of an answer that is whole, if it may be used again.
fn whole(
    mut connection: Connection,
    length: Length,
    keeps: bool,
    is_sent: bool,
) -> Result<Option<Connection>, Fault> {
    if !connection.buffer.is_empty() {
        return Err(if length == Length::None { Fault::UnexpectedBody } else { Fault::Surplus });
    }
    connection.rest();
    Ok((keeps && is_sent).then_some(connection))
}
