//! A worker: one thread with a runtime of its own, so that nothing of a request is shared or stolen.
//!
//! The choice of a current-thread runtime with a [`LocalSet`] is made here and nowhere else.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::task::LocalSet;

/// What the names of workers' threads begin with.
pub const THREAD: &str = "yett-worker-";

/// Starts the worker with this number; `run` makes the future it lives for, on its own thread. The thread ends with
/// the future; tasks that it left behind are dropped.
pub fn spawn<F>(index: usize, run: impl FnOnce() -> F + Send + 'static) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("{THREAD}{index}")).spawn(move || {
        LocalSet::new().block_on(&runtime, run());
        // Whatever still sits in a blocking call (a name lookup) must not hold up the exit.
        runtime.shutdown_background();
    })
}

/// How many workers `setting` means: itself, or one for each CPU that this process may use.
pub fn count(setting: usize) -> usize {
    match setting {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
