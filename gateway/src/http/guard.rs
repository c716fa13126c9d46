//! Stands between a client's stream and hyper on HTTP/1.1 and lets nothing through that two readers might understand
//! in two ways.
//!
//! Bytes are read into hyper's own buffer and stay there when the [`Framer`] passes them; only the part of a head, or of
//! a line between chunks, is kept back until the rest has come. A request at fault is answered in its turn: hyper gets
//! a well-formed one in its place, and the service asks [`Intake`] by the request's number whether to answer it with
//! the fault. That number is counted on both sides of hyper and never travels, so that no client can forge it. A fault
//! in a body breaks the body off; whoever reads it finds the fault in the error.
//!
//! Behind a request to leave HTTP nothing goes on until the service says that it was answered like any other. If it was
//! not, hyper is done, and what has come behind it is still here for the other protocol.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Fault, Framer};
use super::watch::Activity;
use crate::telemetry::Limit;

/// Up to here, what was kept back goes to the front of the reader's buffer when more comes; beyond, a client that sends
/// byte by byte would have it copied each time.
const KEPT_IN_PLACE_BYTES_MAX: usize = 1024;

/// So much is taken from a client that sends on before it knows whether it has left HTTP, and one more read.
const EARLY_BYTES_MAX: usize = 16 * 1024;

/// What the guard and the service tell each other.
#[derive(Debug)]
pub(crate) struct Intake {
    activity: Rc<Activity>,
    /// Requests that the service has seen.
    seen: Cell<u64>,
    /// Up to this one all have been answered, and not with 101.
    answered: Cell<u64>,
    /// Whoever waits for that to change.
    waiting: RefCell<Option<Waker>>,
    /// The request that is refused, by its number from 1. Nothing comes after it.
    refused: Cell<Option<(u64, Fault)>>,
    /// Whether a head has begun and not come to its end.
    in_head: Cell<bool>,
    timed_out: Cell<bool>,
}

impl Intake {
    pub(crate) fn new(activity: Rc<Activity>) -> Self {
        Self {
            activity,
            seen: Cell::new(0),
            answered: Cell::new(0),
            waiting: RefCell::new(None),
            refused: Cell::new(None),
            in_head: Cell::new(false),
            timed_out: Cell::new(false),
        }
    }

    /// Takes the next request; tells what is wrong if it only stands for the one that came. To be called once for each
    /// request, in their order.
    pub(crate) fn take(&self) -> Option<Fault> {
        let number = self.seen.get() + 1;
        self.seen.set(number);
        self.refused.get().filter(|(refused, _)| *refused == number).map(|(_, fault)| fault)
    }

    /// The request that was taken last stays within HTTP: what follows it is the next one.
    pub(crate) fn answered(&self) {
        self.answered.set(self.seen.get());
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// A head has had its time: at its next read the guard refuses it. `false`: there is none under way.
    pub(super) fn time_out(&self) -> bool {
        self.timed_out.set(self.in_head.get());
        if self.in_head.get() {
            self.in_head(false);
        }
        self.timed_out.get()
    }

    /// Whether a client is in the middle of a head.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.get()
    }

    fn in_head(&self, under_way: bool) {
        self.in_head.set(under_way);
        self.activity.in_head(under_way);
    }
}

/// A client's stream, guarded.
pub(crate) struct Guard<I> {
    io: I,
    framer: Framer,
    intake: Rc<Intake>,
    /// The first `ready` bytes may go on; the others wait for more.
    kept: BytesMut,
    ready: usize,
    /// A fault in a body, to be told once.
    broken: Option<Fault>,
    /// Nothing is read any more. Not the end of the stream either: hyper would take that for a client that has left.
    shut: bool,
}

impl<I> Guard<I> {
    pub(crate) fn new(io: I, framer: Framer, intake: Rc<Intake>) -> Self {
        Self { io, framer, intake, kept: BytesMut::new(), ready: 0, broken: None, shut: false }
    }

    /// The stream beneath, and what came behind a request to leave HTTP.
    pub(super) fn into_parts(self) -> (I, BytesMut) {
        (self.io, self.kept)
    }

    /// Gives out what was kept back.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.kept[..length]);
        self.kept.advance(length);
        self.ready -= length;
        if self.kept.is_empty() {
            self.kept = BytesMut::new();
        }
    }

    /// After the framer has looked at everything that is there.
    fn conclude(&mut self, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.refuse(fault),
            None => self.intake.in_head(self.framer.is_in_head()),
        }
    }

    fn refuse(&mut self, fault: Fault) {
        self.shut = true;
        self.intake.in_head(false);
        if self.framer.is_before_body() {
            let stand_in = self.framer.stand_in(&self.kept[self.ready..]);
            self.kept.truncate(self.ready);
            self.kept.extend_from_slice(&stand_in);
            self.ready = self.kept.len();
            self.intake.refused.set(Some((self.framer.heads() + 1, fault)));
        } else {
            self.kept.truncate(self.ready);
            self.broken = Some(fault);
        }
    }
}

impl<I: AsyncRead + Unpin> Guard<I> {
    /// Reads behind what is kept, in the reader's buffer, and leaves there what passes. `true`: the stream has ended.
    fn poll_in_place(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = buffer.filled().len();
        buffer.put_slice(&self.kept);
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if !matches!(polled, Poll::Ready(Ok(()))) || buffer.filled().len() == before {
            buffer.set_filled(start);
            return polled.map_ok(|()| true);
        }
        let bytes = &buffer.filled()[start..];
        let advance = self.framer.advance(bytes);
        self.kept.clear();
        if advance.passed < bytes.len() {
            self.kept.extend_from_slice(&bytes[advance.passed..]);
        } else if self.kept.capacity() > 0 {
            self.kept = BytesMut::new();
        }
        buffer.set_filled(start + advance.passed);
        self.conclude(advance.fault);
        Poll::Ready(Ok(false))
    }

    /// Reads to what is kept; the reader's buffer serves to read with. `true`: the stream has ended.
    fn poll_aside(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let ended = ready!(self.poll_keep(cx, buffer))?;
        if !ended {
            self.look_at_kept();
        }
        Poll::Ready(Ok(ended))
    }

    /// The same without a look at it.
    fn poll_keep(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let ended = buffer.filled().len() == start;
        self.kept.extend_from_slice(&buffer.filled()[start..]);
        buffer.set_filled(start);
        Poll::Ready(Ok(ended))
    }

    fn look_at_kept(&mut self) {
        let advance = self.framer.advance(&self.kept);
        self.ready = advance.passed;
        self.conclude(advance.fault);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        loop {
            if this.ready > 0 {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if let Some(fault) = this.broken.take() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
            }
            if this.shut {
                // The service's answer ends the connection.
                return Poll::Pending;
            }
            if this.intake.timed_out.take() {
                this.refuse(Fault::HeadTimeout);
                continue;
            }
            if this.framer.waits() {
                if this.intake.answered.get() >= this.framer.heads() {
                    this.framer.resume();
                    this.look_at_kept();
                    continue;
                }
                this.intake.waiting.replace(Some(cx.waker().clone()));
                if this.kept.len() >= EARLY_BYTES_MAX {
                    return Poll::Pending;
                }
                if ready!(this.poll_keep(cx, buffer))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // Place for more than what was kept, or nothing would ever be read.
            let kept_max = KEPT_IN_PLACE_BYTES_MAX.min(buffer.remaining() / 2);
            let ended = if this.kept.len() <= kept_max {
                ready!(this.poll_in_place(cx, buffer))?
            } else {
                ready!(this.poll_aside(cx, buffer))?
            };
            if ended || buffer.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The fault that broke a body off, if one did.
pub(crate) fn fault_of(error: &hyper::Error) -> Option<Fault> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref::<Fault>().copied()
}

/// The limit that was hit, if it was one. A clock's are counted where it rings.
pub(super) fn limit_of(fault: Fault) -> Option<Limit> {
    Some(match fault {
        Fault::TargetTooLong => Limit::RequestTargetBytesMax,
        Fault::HeadTooLarge | Fault::TrailersTooLarge => Limit::RequestHeadBytesMax,
        Fault::TooManyFields | Fault::TooManyTrailers => Limit::RequestFieldsMax,
        Fault::ChunkLineTooLong => Limit::ChunkLineBytesMax,
        Fault::ChunkExtensionsTooLong => Limit::ChunkExtensionBytesMax,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
