//! Whether the workers get anywhere. Each gives a sign of life now and then from among its tasks; a thread of its own
//! looks whether they come, and ends the process with a dump when one has not come for too long: a worker that hangs
//! holds a share of every listener's connections, and a supervisor can only help a process that ends.
//!
//! The watch counts its own looks rather than time: a process that was stopped, or a machine that slept, is not one
//! that hangs.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::confine;

/// Looks within the time that a worker may be silent.
const LOOKS: usize = 8;

/// The signs of life of every worker.
#[derive(Debug)]
pub struct Progress {
    pulses: Box<[Pulse]>,
    /// How many looks in a row found the most silent worker silent.
    silent: AtomicUsize,
}

/// One worker's.
#[derive(Debug, Default)]
struct Pulse {
    /// 0 while it does not run: not begun, or ended as it should.
    thread: AtomicI32,
    beats: AtomicU64,
}

/// A worker that runs; it no longer does when this is dropped.
#[derive(Debug)]
pub struct Running {
    progress: Arc<Progress>,
    index: usize,
}

impl Progress {
    /// For this many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let pulses = (0..workers).map(|_| Pulse::default()).collect();
        Arc::new(Self { pulses, silent: AtomicUsize::new(0) })
    }

    /// Worker `index` runs on this thread.
    pub fn begin(self: &Arc<Self>, index: usize) -> Running {
        self.pulses[index].thread.store(rustix::thread::gettid().as_raw_pid(), Ordering::Relaxed);
        Running { progress: Arc::clone(self), index }
    }

    /// Whether every worker has lately given a sign of life: what a supervisor's own watchdog may be told.
    pub fn is_live(&self) -> bool {
        self.silent.load(Ordering::Relaxed) < LOOKS / 2
    }

    /// Starts the watch: a worker silent for `stall_timeout` (not zero) ends the process.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn watch(self: &Arc<Self>, stall_timeout: Duration) -> io::Result<()> {
        let progress = Arc::clone(self);
        let mut watch = Watch::new(self.pulses.len());
        thread::Builder::new().name("yett-watchdog".into()).spawn(move || {
            confine::thread();
            loop {
                pause(stall_timeout / 8);
                let beats = progress.pulses.iter().map(Pulse::state);
                let (worker, silent) = watch.look(beats);
                progress.silent.store(silent, Ordering::Relaxed);
                if silent >= LOOKS {
                    progress.give_up(worker, stall_timeout);
                }
            }
        })?;
        Ok(())
    }

    /// Tells what can be told and aborts, so that a core is there where cores are kept.
    fn give_up(&self, worker: usize, stall_timeout: Duration) -> ! {
        let mut dump = format!("worker {worker} has made no progress for {stall_timeout:?}");
        for (index, pulse) in self.pulses.iter().enumerate() {
            let (thread, beats) = (pulse.thread.load(Ordering::Relaxed), pulse.beats.load(Ordering::Relaxed));
            let of = |file: &str| {
                let text = fs::read_to_string(format!("/proc/self/task/{thread}/{file}"));
                text.map_or_else(|error| error.to_string(), |text| text.trim_end().to_owned())
            };
            let state = of("stat").rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
            let (state, wait, call) = (state.get(..1).unwrap_or("?").to_owned(), of("wchan"), of("syscall"));
            // Writing to a String cannot fail.
            let _ = write!(
                dump,
                "; worker {index}: thread {thread}, {beats} beats, state {state}, in {wait}, system call {call}"
            );
        }
        tracing::error!(limit = "hang_timeout", dump, "a worker hangs; the process ends");
        process::abort()
    }
}

impl Running {
    /// Gives signs of life for as long as it is polled; `stall_timeout` as the watch has it.
    pub async fn beat(&self, stall_timeout: Duration) {
        let mut beats = interval(stall_timeout / 16);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.progress.pulses[self.index].beats.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.progress.pulses[self.index].thread.store(0, Ordering::Relaxed);
    }
}

impl Pulse {
    /// How often it has beaten, while it runs.
    fn state(&self) -> Option<u64> {
        (self.thread.load(Ordering::Relaxed) != 0).then(|| self.beats.load(Ordering::Relaxed))
    }
}

/// What the watch has seen of each worker: its beats, and looks in a row that found no new one.
#[derive(Debug)]
struct Watch(Vec<(Option<u64>, usize)>);

impl Watch {
    fn new(workers: usize) -> Self {
        Self(vec![(None, 0); workers])
    }

    /// Looks once. Gives the most silent worker and for how many looks it has been.
    fn look(&mut self, beats: impl Iterator<Item = Option<u64>>) -> (usize, usize) {
        for ((seen, silent), now) in self.0.iter_mut().zip(beats) {
            *silent = if now.is_some() && *seen == now { *silent + 1 } else { 0 };
            *seen = now;
        }
        let silences = self.0.iter().map(|(_, silent)| *silent).enumerate();
        silences.max_by_key(|(_, silent)| *silent).unwrap_or_default()
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread of its own, which has nothing else to do")]
fn pause(span: Duration) {
    thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_that_runs_and_does_not_beat_is_silent() {
        let mut watch = Watch::new(2);
        for (description, beats, expected) in [
            ("nothing runs yet", [None, None], 0),
            ("both begin", [Some(0), Some(0)], 0),
            ("one beats", [Some(1), Some(0)], 1),
            ("the other is silent still", [Some(2), Some(0)], 2),
            ("it has come back", [Some(3), Some(1)], 0),
            ("the first is silent", [Some(3), Some(2)], 1),
            ("it has ended", [None, Some(3)], 0),
        ] {
            assert_eq!(watch.look(beats.into_iter()).1, expected, "{description}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_runs_beats() {
        let progress = Progress::new(1);
        let running = progress.begin(0);
        assert_eq!(progress.pulses[0].state(), Some(0));
        let span = Duration::from_secs(16);
        let _ = tokio::time::timeout(span, running.beat(span)).await;
        assert!(progress.pulses[0].state() >= Some(16));
        drop(running);
        assert_eq!(progress.pulses[0].state(), None);
    }
}
