//! A worker: one thread with a runtime of its own, so that nothing of a request is shared or stolen.
//!
//! The choice of a current-thread runtime with a [`LocalSet`] is made here and nowhere else.

use std::io;
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime;
use tokio::task::LocalSet;

use super::confine;

/// What the names of workers' threads begin with.
pub const THREAD: &str = "yett-worker-";

/// Starts the worker with this number; `run` makes the future it lives for, on its own thread. The thread ends with
/// the future; tasks that it left behind are dropped. With a CPU it keeps to that one. It has no capability.
pub fn spawn<F>(
    index: usize,
    cpu: Option<usize>,
    run: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("{THREAD}{index}")).spawn(move || {
        if let Some(cpu) = cpu {
            keep_to(index, cpu);
        }
        confine::thread();
        LocalSet::new().block_on(&runtime, run());
        // Whatever still sits in a blocking call (a name lookup) must not hold up the exit.
        runtime.shutdown_background();
    })
}

fn keep_to(index: usize, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    match sched_setaffinity(None, &only) {
        Ok(()) => tracing::debug!(worker = index, cpu, "the worker keeps to its CPU"),
        // It serves all the same.
        Err(error) => tracing::warn!(worker = index, cpu, %error, "the worker cannot keep to its CPU"),
    }
}

/// How many workers `setting` means: itself, or one for each CPU that this process may use.
pub fn count(setting: usize) -> usize {
    match setting {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// The CPUs that this thread may run on, in order; empty where the system does not say.
pub fn cpus() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}
