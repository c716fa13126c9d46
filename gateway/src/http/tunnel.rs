//! A connection after it has left HTTP: bytes both ways, until both sides have ended or nothing moves any more.
//!
//! It begins when the client has been sent the backend's 101, with what either side sent ahead of its turn. A side that
//! ends its writing is told to the other, which may go on writing. Whoever drops [`Tunnel::run`] cuts it off.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;

use super::RequestBody;
use super::cut::Cut;
use crate::model::Reason;
use crate::telemetry::{Limit, Metrics, Outcome};
use crate::upstream::Switched;

/// How much is read at once.
const READ_BYTES_MAX: usize = 16 * 1024;

/// A client's stream that can end its writing and go on reading.
pub trait HalfClose: AsyncRead + AsyncWrite + Unpin {
    /// From now on a shutdown ends our side and no more: what still comes is for somebody to read.
    fn half_close(&mut self);
}

impl<I: HalfClose> HalfClose for TlsStream<I> {
    fn half_close(&mut self) {
        self.get_mut().0.half_close();
    }
}

/// What a connection goes on with. It owns the outcome of the request that it began with.
#[derive(Debug)]
pub(super) struct Tunnel {
    upstream: Switched<RequestBody>,
    outcome: Outcome,
    /// Bytes for the client.
    sent: AtomicU64,
    is_running: bool,
}

/// How it ended, unless both sides came to their end.
enum Broken {
    Client(io::ErrorKind),
    Backend(io::ErrorKind),
    Idle,
    Refused(Reason),
}

impl Tunnel {
    pub(super) fn new(upstream: Switched<RequestBody>, outcome: Outcome) -> Self {
        Self { upstream, outcome, sent: AtomicU64::new(0), is_running: false }
    }

    /// Runs it to its end. `early`: what the client has sent already; `idle_max`: zero is no limit; `cut`: made where the
    /// client is refused meanwhile.
    pub(super) async fn run(
        mut self,
        mut client: impl HalfClose,
        early: BytesMut,
        idle_max: Duration,
        metrics: &Metrics,
        cut: &Cut,
    ) {
        self.is_running = true;
        client.half_close();
        let Self { upstream, outcome, sent, .. } = &mut self;
        let received = outcome.received();
        let mut up = Flow::new(early, &received);
        let mut down = Flow::new(std::mem::take(&mut upstream.ahead), sent);
        let mut alarm = (!idle_max.is_zero()).then(|| Box::pin(sleep_until(Instant::now() + idle_max)));
        let mut cut = pin!(cut.made());
        let ended = poll_fn(|cx| {
            if let Poll::Ready(refusal) = cut.as_mut().poll(cx) {
                return Poll::Ready(Err(Broken::Refused(refusal.reason)));
            }
            let moved = [
                up.poll(&mut client, &mut upstream.stream, cx),
                down.poll(&mut upstream.stream, &mut client, cx),
            ];
            match (&up.state, &down.state) {
                // Who has been told the end need not say goodbye: most clients close without a word then.
                (State::Unreadable(_), State::Ended) => return Poll::Ready(Ok(())),
                (State::Unreadable(error), _) | (_, State::Unwritable(error)) => {
                    return Poll::Ready(Err(Broken::Client(error.kind())));
                }
                (_, State::Unreadable(error)) => return Poll::Ready(Err(Broken::Backend(error.kind()))),
                // A backend that takes no more may still have something to say.
                (State::Ended | State::Unwritable(_), State::Ended) => return Poll::Ready(Ok(())),
                _ => {}
            }
            let Some(alarm) = &mut alarm else { return Poll::Pending };
            if moved.contains(&true) {
                alarm.as_mut().reset(Instant::now() + idle_max);
            }
            alarm.as_mut().poll(cx).map(|()| Err(Broken::Idle))
        })
        .await;
        self.is_running = false;
        match ended {
            Ok(()) => self.outcome.complete(),
            Err(Broken::Client(error)) => tracing::debug!(%error, "a client broke a tunnel off"),
            Err(Broken::Backend(error)) => {
                tracing::debug!(%error, "a backend broke a tunnel off");
                self.outcome.refuse(Reason::UpstreamBodyCut);
            }
            Err(Broken::Refused(reason)) => self.outcome.refuse(reason),
            Err(Broken::Idle) => {
                metrics.limit_hit(Limit::TunnelIdleTimeout);
                self.outcome.refuse(Reason::TunnelIdle);
            }
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.outcome.sent(usize::try_from(*self.sent.get_mut()).unwrap_or(usize::MAX));
        if self.is_running {
            self.outcome.refuse(Reason::CutOff);
        }
    }
}

/// One direction.
struct Flow<'a> {
    state: State,
    /// Read, and not written yet. Nothing more is read meanwhile.
    waiting: BytesMut,
    /// What has been written may still be held back by its writer.
    is_unflushed: bool,
    /// The source has ended.
    is_ending: bool,
    /// Bytes read.
    count: &'a AtomicU64,
}

enum State {
    Open,
    /// The destination has been told that the source has ended.
    Ended,
    Unreadable(io::Error),
    Unwritable(io::Error),
}

impl<'a> Flow<'a> {
    fn new(waiting: BytesMut, count: &'a AtomicU64) -> Self {
        count.fetch_add(waiting.len() as u64, Ordering::Relaxed);
        Self { state: State::Open, waiting, is_unflushed: false, is_ending: false, count }
    }

    /// Moves what can be moved now. Whether anything did.
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> bool {
        let mut moved = false;
        if matches!(self.state, State::Open)
            && let Poll::Ready(state) = self.poll_on(from, to, &mut moved, cx)
        {
            self.state = state;
        }
        moved
    }

    /// Moves bytes until there is none to come, or somebody has to be waited for.
    fn poll_on(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<State> {
        let mut space = [MaybeUninit::uninit(); READ_BYTES_MAX];
        loop {
            while !self.waiting.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting)) {
                    Ok(0) => return Poll::Ready(State::Unwritable(io::ErrorKind::WriteZero.into())),
                    Ok(written) => self.waiting.advance(written),
                    Err(error) => return Poll::Ready(State::Unwritable(error)),
                }
                (*moved, self.is_unflushed) = (true, true);
            }
            if self.is_ending {
                let ended = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                return Poll::Ready(ended.map_or_else(State::Unwritable, |()| State::Ended));
            }
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.is_ending = true,
                Poll::Ready(Ok(())) => {
                    self.count.fetch_add(buffer.filled().len() as u64, Ordering::Relaxed);
                    self.waiting.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(State::Unreadable(error)),
                Poll::Pending => {
                    // An idle tunnel holds no memory.
                    self.waiting = BytesMut::new();
                    if self.is_unflushed {
                        if let Err(error) = ready!(Pin::new(&mut *to).poll_flush(cx)) {
                            return Poll::Ready(State::Unwritable(error));
                        }
                        self.is_unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
