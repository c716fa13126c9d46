//! The clocks of a connection: idle, head, and a client that does not take its answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::Limits;
use super::body::Relay;
use super::cut::Cut;
use crate::model::Refusal;
use crate::telemetry::{ConnectionEnd, Limit, OpenConnection};

/// How long an HTTP/1.1 connection that is to end may have been idle and still be waited for.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a connection is doing; shared by its stream, its requests and its clock.
#[derive(Debug)]
pub(super) struct Activity {
    limits: Limits,
    /// Whether it is HTTP/2.
    multiplexed: Cell<bool>,
    /// Requests in progress.
    busy: Cell<usize>,
    /// Since when there is none.
    idle_since: Cell<Instant>,
    /// Since when a head is awaited whose first byte has come, or a connection's first one.
    head_since: Cell<Option<Instant>>,
    /// Since when the connection is to end.
    closing_since: Cell<Option<Instant>>,
    /// Answers of backends under way; on HTTP/1.1, where the stream itself shows a client that does not read, only how
    /// many.
    relays: RefCell<Vec<Rc<Relay>>>,
    /// How often the client was heard or took something.
    moved: Cell<u64>,
    relaying: Cell<usize>,
    cut: Cut,
    /// Whether a request has ever begun.
    begun: Cell<bool>,
    first: Notify,
}

impl Activity {
    pub(super) fn new(limits: Limits) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            limits,
            multiplexed: Cell::new(false),
            busy: Cell::new(0),
            idle_since: Cell::new(now),
            head_since: Cell::new(Some(now)),
            closing_since: Cell::new(None),
            relays: RefCell::default(),
            moved: Cell::new(0),
            relaying: Cell::new(0),
            cut: Cut::default(),
            begun: Cell::new(false),
            first: Notify::new(),
        })
    }

    pub(super) fn is_http2(&self) {
        self.multiplexed.set(true);
    }

    /// Keeps an eye on an answer.
    pub(super) fn watch(&self, relay: &Rc<Relay>) {
        self.relaying.set(self.relaying.get() + 1);
        if self.multiplexed.get() {
            self.relays.borrow_mut().push(Rc::clone(relay));
        }
    }

    /// No longer. There are at most as many as streams, and the one that ends is mostly among the last.
    pub(super) fn unwatch(&self, relay: &Rc<Relay>) {
        self.relaying.set(self.relaying.get() - 1);
        let mut relays = self.relays.borrow_mut();
        if let Some(place) = relays.iter().rposition(|other| Rc::ptr_eq(other, relay)) {
            relays.swap_remove(place);
        }
    }

    /// Lets go of the backends of answers that the client does not take. Tells how many.
    fn cut_stalled(&self) -> usize {
        let (now, pause_max) = (Instant::now(), self.limits.response_stall_timeout);
        self.relays.borrow().iter().filter(|relay| relay.cut_if_stalled(now, pause_max)).count()
    }

    /// Breaks off what is under way: backends are let go of, requests that wait for one are told. `true`: an HTTP/1.1
    /// connection has come to its end with that, since an answer that has begun cannot be taken back.
    pub(super) fn cut(&self, refusal: &Refusal) -> bool {
        self.cut.make(refusal);
        self.relays.borrow().iter().for_each(|relay| relay.cut());
        !self.multiplexed.get() && self.relaying.get() > 0
    }

    /// Told when that happens.
    pub(super) fn told(&self) -> &Cut {
        &self.cut
    }

    /// Whether a request has ever begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    pub(super) fn begin(&self) {
        self.busy.set(self.busy.get() + 1);
        if !self.begun.replace(true) {
            self.first.notify_one();
        }
    }

    /// Waits for the connection's first request: a client that has just come is not sent away without an answer. Not for
    /// longer than a connection that is to end may go on without one.
    pub(super) async fn first_request(&self) {
        if !self.begun.get() {
            let _ = timeout(self.limits.close_timeout, self.first.notified()).await;
        }
    }

    /// Waits until an HTTP/1.1 client that was heard a moment ago has begun its next request, or is quiet. It may have sent
    /// it already, and would lose it with the connection; told with an answer that there will be no other, it loses
    /// nothing. Looked at again whenever the connection has been polled.
    pub(super) async fn quiet(&self) {
        if self.multiplexed.get() {
            return;
        }
        let mut alarm = std::pin::pin!(sleep_until(self.idle_since.get() + LAST_CALL));
        poll_fn(|cx| if self.busy.get() > 0 { Poll::Ready(()) } else { alarm.as_mut().poll(cx) }).await;
    }

    pub(super) fn end(&self) {
        self.busy.set(self.busy.get() - 1);
        if self.busy.get() == 0 {
            self.idle_since.set(Instant::now());
        }
    }

    pub(super) fn close(&self) {
        if self.closing_since.get().is_none() {
            self.closing_since.set(Some(Instant::now()));
        }
    }

    /// A number that is another one whenever the client has been heard, or has taken something.
    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }

    fn heard(&self) {
        if self.multiplexed.get() {
            // Frames are not heads; a client may open a connection before it has a request.
            self.head_since.set(None);
        }
    }

    /// On HTTP/1.1: whether the part of a head has come, and the rest has not.
    pub(super) fn in_head(&self, under_way: bool) {
        match (under_way, self.head_since.get()) {
            (false, _) => self.head_since.set(None),
            (true, None) => self.head_since.set(Some(Instant::now())),
            (true, Some(_)) => {}
        }
    }

    /// When the connection has had its time, by which limit.
    fn due(&self) -> (Instant, Option<Limit>) {
        let idle_since = self.idle_since.get();
        if self.busy.get() > 0 {
            // Looked at again then: a request has clocks of its own, but for a client that does not read.
            (Instant::now() + self.limits.response_stall_timeout / 2, None)
        } else if let Some(since) = self.closing_since.get() {
            (since.max(idle_since) + self.limits.close_timeout, None)
        } else if let Some(since) = self.head_since.get() {
            // Nobody need hurry while an earlier request keeps the connection busy.
            (since.max(idle_since) + self.limits.request_head_timeout, Some(Limit::RequestHeadTimeout))
        } else {
            (idle_since + self.limits.idle_timeout, Some(Limit::IdleTimeout))
        }
    }

    /// Waits until the connection has had its time; tells of answers that were cut off meanwhile. To be polled whenever its connection has been: a limit that comes
    /// nearer is seen only then.
    pub(super) async fn overdue(&self, stalled: impl Fn(usize)) -> Option<Limit> {
        let mut alarm = std::pin::pin!(sleep_until(self.due().0));
        poll_fn(|cx| {
            loop {
                // A limit that moved away, as it does with every request, costs nothing until the alarm.
                let (due, _) = self.due();
                if due < alarm.deadline() {
                    alarm.as_mut().reset(due);
                }
                ready!(alarm.as_mut().poll(cx));
                match self.cut_stalled() {
                    0 => {}
                    count => stalled(count),
                }
                let (due, limit) = self.due();
                if due <= Instant::now() {
                    return Poll::Ready(limit);
                }
                alarm.as_mut().reset(due);
            }
        })
        .await
    }
}

/// A client's stream under watch, with what has been read of it already.
pub(super) struct Watched<I> {
    io: I,
    ahead: Bytes,
    activity: Rc<Activity>,
    open: Rc<OpenConnection>,
    pause_max: Duration,
    /// Runs only while the client does not take what we write.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, ahead: Bytes, activity: Rc<Activity>, open: Rc<OpenConnection>) -> Self {
        let pause_max = activity.limits.response_stall_timeout;
        Self { io, ahead, activity, open, pause_max, pause: None }
    }

    /// The stream beneath, and what has been read of it and not yet given out.
    pub(super) fn into_parts(self) -> (I, Bytes) {
        (self.io, self.ahead)
    }

    fn watch<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.pause = None;
            self.activity.moved.set(self.activity.moved.get().wrapping_add(1));
            return polled;
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(self.pause_max)));
        ready!(pause.as_mut().poll(cx));
        self.open.end(ConnectionEnd::Stalled);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
        } else {
            let length = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..length]);
            this.ahead.advance(length);
        }
        if buffer.filled().len() > before {
            this.activity.moved.set(this.activity.moved.get().wrapping_add(1));
            this.activity.heard();
        } else if room > 0 {
            // Under TLS its word of parting may come before the end of its stream.
            this.open.end(ConnectionEnd::ClientClosed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The stream beneath has limits of its own for this.
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
