//! The tasks of an HTTP/2 connection's streams.
//!
//! hyper gives each stream to its executor, which is ours: nowhere else can a stream be ended whose client does not take
//! the answer, since hyper waits for a window to open and looks neither at the clock nor at the answer's body meanwhile.
//! A task that is ended resets its stream and lets go of the backend.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::watch::Activity;

/// How fast a client has to read a piece of an answer on HTTP/2, beyond the pause that it may always make.
const RESPONSE_BYTES_PER_SECOND_MIN: u64 = 4 * 1024;

/// Runs hyper's tasks on this worker.
#[derive(Clone, Debug)]
pub(super) struct Streams(pub(super) Rc<Activity>);

/// A stream under way, as its answer and the connection's clock see it.
#[derive(Debug)]
pub(super) struct Stream {
    task: OnceCell<AbortHandle>,
    /// When hyper got the last piece of the answer.
    offered: Cell<Instant>,
    /// How long that piece is, while it lies there and nobody has asked for the next one.
    lying: Cell<Option<usize>>,
    deadline: Cell<Option<Instant>>,
    /// Whether its answer is a backend's.
    is_relayed: Cell<bool>,
}

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        let stream = Rc::new(Stream {
            task: OnceCell::new(),
            offered: Cell::new(Instant::now()),
            lying: Cell::new(None),
            deadline: Cell::new(None),
            is_relayed: Cell::new(false),
        });
        let (activity, entering) = (Rc::clone(&self.0), Rc::clone(&stream));
        let task = tokio::task::spawn_local(async move {
            // The request begins within the first poll of the future, and takes it from there.
            activity.enter(entering);
            future.await
        });
        let _ = stream.task.set(task.abort_handle());
    }
}

impl Stream {
    /// The answer has begun, perhaps a backend's; it is to be done by then.
    pub(super) fn answering(&self, deadline: Option<Instant>, is_relayed: bool) {
        self.is_relayed.set(is_relayed);
        self.offered.set(Instant::now());
        self.deadline.set(deadline);
    }

    /// A piece of so many bytes is handed to hyper.
    pub(super) fn offer(&self, bytes: usize) {
        self.offered.set(Instant::now());
        self.lying.set(Some(bytes));
    }

    /// hyper asks for the next one.
    pub(super) fn taken(&self) {
        self.lying.set(None);
    }

    /// Ends the stream if the client has left a piece lying for longer than the pause, and than the slowest client needs
    /// for it, or if the time is up and it has not taken the last one. Tells whether it did.
    pub(super) fn cut_if_stalled(&self, now: Instant, pause_max: Duration) -> bool {
        let stalled = self.lying.get().is_some_and(|bytes| {
            let needed = Duration::from_secs(bytes as u64 / RESPONSE_BYTES_PER_SECOND_MIN);
            now.duration_since(self.offered.get()) >= pause_max + needed
                || self.deadline.get().is_some_and(|deadline| deadline <= now)
        });
        if stalled {
            self.cut();
        }
        stalled
    }

    /// Ends the stream if its answer is a backend's.
    pub(super) fn cut_if_relayed(&self) {
        if self.is_relayed.get() {
            self.cut();
        }
    }

    fn cut(&self) {
        self.lying.set(None);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Whether nothing need have left of the answer since then: the backend has given nothing, or the client takes
    /// nothing.
    pub(super) fn is_still_since(&self, then: Instant) -> bool {
        self.lying.get().is_some() || self.offered.get() <= then
    }
}
