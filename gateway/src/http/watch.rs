//! The clocks of a connection: idle, head, and a client that does not take its answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::Limits;
use super::cut::Cut;
use super::streams::Stream;
use super::traffic::Traffic;
use crate::model::Refusal;
use crate::telemetry::{ConnectionEnd, Limit, Metrics, OpenConnection};

/// How long an HTTP/1.1 connection that is to end may have been idle and still be waited for.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a connection is doing; shared by its stream, its requests and its clock.
#[derive(Debug)]
pub(crate) struct Activity {
    limits: Limits,
    metrics: Arc<Metrics>,
    born: Instant,
    /// The frames of an HTTP/2 connection.
    traffic: RefCell<Option<Box<Traffic>>>,
    /// The stream whose task begins.
    entering: RefCell<Option<Rc<Stream>>>,
    /// Requests in progress.
    busy: Cell<usize>,
    /// Since when there is none.
    idle_since: Cell<Instant>,
    /// Since when a head is awaited whose first byte has come, or a connection's first one.
    head_since: Cell<Option<Instant>>,
    /// Since when the connection is to end.
    closing_since: Cell<Option<Instant>>,
    /// Streams whose answers are under way.
    streams: RefCell<Vec<Rc<Stream>>>,
    /// How often the client was heard or took something.
    moved: Cell<u64>,
    /// How many of a backend's answers are under way.
    relaying: Cell<usize>,
    cut: Cut,
    /// Whether a request has ever begun.
    begun: Cell<bool>,
    first: Notify,
}

impl Activity {
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            limits,
            metrics,
            born: now,
            traffic: RefCell::default(),
            entering: RefCell::default(),
            busy: Cell::new(0),
            idle_since: Cell::new(now),
            head_since: Cell::new(Some(now)),
            closing_since: Cell::new(None),
            streams: RefCell::default(),
            moved: Cell::new(0),
            relaying: Cell::new(0),
            cut: Cut::default(),
            begun: Cell::new(false),
            first: Notify::new(),
        })
    }

    pub(super) fn is_http2(&self) {
        let traffic = Traffic::new(self.limits.http2_control_frames_max);
        *self.traffic.borrow_mut() = Some(Box::new(traffic));
    }

    /// A backend's answer begins.
    pub(super) fn relay(&self) {
        self.relaying.set(self.relaying.get() + 1);
    }

    /// It has come to its end.
    pub(super) fn relayed(&self) {
        self.relaying.set(self.relaying.get() - 1);
    }

    /// A stream's task begins, and with it its request.
    pub(super) fn enter(&self, stream: Rc<Stream>) {
        self.entering.replace(Some(stream));
    }

    /// The stream of the request that begins.
    pub(super) fn entered(&self) -> Option<Rc<Stream>> {
        self.entering.take()
    }

    /// Keeps an eye on a stream's answer.
    pub(super) fn watch(&self, stream: &Rc<Stream>) {
        self.streams.borrow_mut().push(Rc::clone(stream));
    }

    /// No longer. There are at most as many as streams, and the one that ends is mostly among the last.
    pub(super) fn unwatch(&self, stream: &Rc<Stream>) {
        let mut streams = self.streams.borrow_mut();
        if let Some(place) = streams.iter().rposition(|other| Rc::ptr_eq(other, stream)) {
            streams.swap_remove(place);
        }
    }

    /// Ends the streams of answers that the client does not take.
    fn cut_stalled(&self) {
        let (now, pause_max) = (Instant::now(), self.limits.response_stall_timeout);
        let cut = self.streams.borrow().iter().filter(|stream| stream.cut_if_stalled(now, pause_max)).count();
        self.metrics.limit_hits(Limit::ResponseStallTimeout, cut as u64);
    }

    /// Whether the client does not take what is left of an answer whose stream's task is done: hyper has all of it, and
    /// no way to let go of it but with the connection.
    fn is_stuck(&self) -> bool {
        let Some(then) = Instant::now().checked_sub(self.limits.response_stall_timeout) else { return false };
        let still = self.traffic.borrow().as_ref().map_or(0, |traffic| {
            let age = then.checked_duration_since(self.born);
            age.map_or(0, |age| traffic.answers_still_since(age))
        });
        // Which of them are under way cannot be told, only how many.
        still > self.streams.borrow().iter().filter(|stream| stream.is_still_since(then)).count()
    }

    /// Breaks off what is under way: backends are let go of, requests that wait for one are told. `true`: an HTTP/1.1
    /// connection has come to its end with that, since an answer that has begun cannot be taken back.
    pub(super) fn cut(&self, refusal: &Refusal) -> bool {
        self.cut.make(refusal);
        self.streams.borrow().iter().for_each(|stream| stream.cut_if_relayed());
        self.traffic.borrow().is_none() && self.relaying.get() > 0
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
        if self.traffic.borrow().is_some() {
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

    /// Bytes have come. Tells how many of them may be passed on, and no more after these, of a client whose frames are
    /// too many.
    fn read(&self, bytes: &[u8]) -> Option<usize> {
        let mut traffic = self.traffic.borrow_mut();
        let traffic = traffic.as_mut().filter(|_| !bytes.is_empty())?;
        let flood = traffic.read(bytes, self.born.elapsed());
        // A client may open a connection before it has a request.
        self.in_head(traffic.is_in_head());
        let flood = flood?;
        self.metrics.limit_hit(Limit::Http2ControlFramesMax);
        Some(flood)
    }

    /// Bytes have left. Tells whether they have sent the client away at a limit.
    fn written<'a>(&self, slices: impl IntoIterator<Item = &'a [u8]>, mut count: usize) -> bool {
        let mut traffic = self.traffic.borrow_mut();
        let Some(traffic) = traffic.as_mut() else { return false };
        let age = self.born.elapsed();
        for slice in slices {
            let part = count.min(slice.len());
            traffic.written(&slice[..part], age, |limit| self.metrics.limit_hit(limit));
            count -= part;
        }
        traffic.is_sent_away()
    }

    /// Whether a part of a head has come, and the rest has not.
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
            let oldest = self.traffic.borrow().as_ref().and_then(|traffic| traffic.oldest_answer());
            let taken_by = oldest.map(|age| self.born + age + self.limits.response_stall_timeout);
            let idle_until = idle_since + self.limits.idle_timeout;
            match taken_by {
                Some(taken_by) if taken_by < idle_until => (taken_by, Some(Limit::ResponseStallTimeout)),
                _ => (idle_until, Some(Limit::IdleTimeout)),
            }
        }
    }

    /// Waits until the connection has had its time; ends streams whose answers are not taken meanwhile. To be polled
    /// whenever its connection has been: a limit that comes nearer is seen only then.
    pub(super) async fn overdue(&self) -> Option<Limit> {
        let mut alarm = std::pin::pin!(sleep_until(self.due().0));
        poll_fn(|cx| {
            loop {
                // A limit that moved away, as it does with every request, costs nothing until the alarm.
                let (due, _) = self.due();
                if due < alarm.deadline() {
                    alarm.as_mut().reset(due);
                }
                ready!(alarm.as_mut().poll(cx));
                self.cut_stalled();
                if self.closing_since.get().is_none() && self.is_stuck() {
                    return Poll::Ready(Some(Limit::ResponseStallTimeout));
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
    /// Nothing is read any more: to its reader the stream is at its end, which closes it in order.
    shut: bool,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, ahead: Bytes, activity: Rc<Activity>, open: Rc<OpenConnection>) -> Self {
        let pause_max = activity.limits.response_stall_timeout;
        Self { io, ahead, activity, open, pause_max, pause: None, shut: false }
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

impl<I: AsyncWrite + Unpin> Watched<I> {
    /// Tells a client in flood that the connection ends, as far as it takes that at once.
    fn go_away(&mut self, cx: &mut Context<'_>) {
        let frame = self.activity.traffic.borrow().as_ref().and_then(|traffic| traffic.go_away());
        if let Some(frame) = frame
            && Pin::new(&mut self.io).poll_write(cx, &frame).is_ready()
        {
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.shut {
            return Poll::Ready(Ok(()));
        }
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
        } else if room > 0 {
            // Under TLS its word of parting may come before the end of its stream.
            this.open.end(ConnectionEnd::ClientClosed);
        }
        if let Some(length) = this.activity.read(&buffer.filled()[before..]) {
            this.open.end(ConnectionEnd::Http2Limit);
            buffer.set_filled(before + length);
            this.shut = true;
            this.go_away(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled
            && self.activity.written([bytes], count)
        {
            self.open.end(ConnectionEnd::Http2Limit);
        }
        self.watch(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = polled
            && self.activity.written(slices.iter().map(|slice| &**slice), count)
        {
            self.open.end(ConnectionEnd::Http2Limit);
        }
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
