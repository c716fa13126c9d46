//! Where access log lines go: a bounded buffer that workers append to and one thread empties.
//!
//! A worker never waits for the disk: it takes a lock for the time of a copy. The thread is woken when the first line
//! of a batch arrives, gathers for a moment, and writes the batch with one call. What does not fit is dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::telemetry::denied;
use crate::telemetry::metrics::Metrics;

/// How long the writer gathers lines before it writes them.
pub const ACCESS_LOG_GATHER_MS: u64 = 10;

/// A batch of this size is written at once.
const BATCH_BYTES: usize = 256 << 10;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AccessTarget {
    /// Nowhere; requests are counted all the same.
    Off,
    /// Standard output.
    #[default]
    Stdout,
    /// A file that is appended to, made with mode 0640, and opened again on HUP.
    File(PathBuf),
}

impl FromStr for AccessTarget {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "off" => Self::Off,
            "stdout" | "-" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

impl std::fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Takes lines; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sink(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    buffer_bytes_max: usize,
    buffer: Mutex<Buffer>,
    /// Signals the writer: a first line, a full batch, reopen, close.
    work: Condvar,
    /// Signals who waits for the end: everything is written.
    done: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    reopen: bool,
    closing: bool,
    closed: bool,
}

impl Sink {
    /// Opens the target and starts the writer.
    pub(super) fn start(
        target: &AccessTarget,
        buffer_bytes_max: usize,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        if *target == AccessTarget::Off {
            return Ok(Self(None));
        }
        let output = Output::open(target)?;
        let shared = Arc::new(Shared::new(buffer_bytes_max, metrics));
        let for_writer = Arc::clone(&shared);
        let target = target.clone();
        thread::Builder::new()
            .name("yett-access-log".to_owned())
            .spawn(move || write_all(&for_writer, output, &target))?;
        Ok(Self(Some(shared)))
    }

    /// Keeps lines in memory.
    pub(super) fn in_memory(buffer_bytes_max: usize, metrics: &Arc<Metrics>) -> (Self, Lines) {
        let shared = Arc::new(Shared::new(buffer_bytes_max, metrics));
        (Self(Some(Arc::clone(&shared))), Lines(shared))
    }

    /// Whether lines are wanted at all.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes one line with its end.
    pub(super) fn append(&self, line: &[u8]) {
        let Some(shared) = &self.0 else { return };
        let mut buffer = shared.lock();
        if buffer.closed || buffer.lines.len() + line.len() > shared.buffer_bytes_max {
            drop(buffer);
            shared.metrics.access_log_dropped();
            return;
        }
        let before = buffer.lines.len();
        buffer.lines.extend_from_slice(line);
        let wake = before == 0 || (before < BATCH_BYTES && buffer.lines.len() >= BATCH_BYTES);
        drop(buffer);
        if wake {
            shared.work.notify_one();
        }
    }

    /// Has the file opened again before the next line is written.
    pub(super) fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.lock().reopen = true;
            shared.work.notify_one();
        }
    }

    /// Ends the writer once everything is written, or gives up at the deadline (a reader of ours may have stalled).
    pub(super) fn close(&self, deadline: Instant) {
        let Some(shared) = &self.0 else { return };
        let mut buffer = shared.lock();
        buffer.closing = true;
        shared.work.notify_one();
        while !buffer.closed {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            buffer = shared.done.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn new(buffer_bytes_max: usize, metrics: &Arc<Metrics>) -> Self {
        Self {
            buffer_bytes_max,
            buffer: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            metrics: Arc::clone(metrics),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        // Every change of the buffer is a single step, so a panic cannot leave it half done.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer thread: waits for a first line, gathers, swaps the buffer for an empty one, writes.
fn write_all(shared: &Shared, mut output: Output, target: &AccessTarget) {
    let mut batch = Vec::new();
    loop {
        let mut buffer = shared.lock();
        while buffer.lines.is_empty() && !buffer.reopen && !buffer.closing {
            buffer = shared.work.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        let gather_until = Instant::now() + Duration::from_millis(ACCESS_LOG_GATHER_MS);
        while buffer.lines.len() < BATCH_BYTES && !buffer.reopen && !buffer.closing {
            let Some(left) = gather_until.checked_duration_since(Instant::now()) else { break };
            buffer = shared.work.wait_timeout(buffer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut buffer.lines, &mut batch);
        let reopen = std::mem::take(&mut buffer.reopen);
        let ends = buffer.closing && batch.is_empty();
        buffer.closed = ends;
        drop(buffer);
        if ends {
            shared.done.notify_all();
            return;
        }
        // Lines up to the wish belong into the old file.
        output.write(&batch, &shared.metrics);
        batch.clear();
        batch.shrink_to(BATCH_BYTES * 2);
        if reopen {
            output.reopen(target);
        }
    }
}

enum Output {
    Stdout(io::Stdout),
    File(File),
}

impl Output {
    fn open(target: &AccessTarget) -> io::Result<Self> {
        match target {
            AccessTarget::Off | AccessTarget::Stdout => Ok(Self::Stdout(io::stdout())),
            AccessTarget::File(path) => {
                OpenOptions::new().create(true).append(true).mode(0o640).open(path).map(Self::File)
            }
        }
    }

    fn reopen(&mut self, target: &AccessTarget) {
        match Self::open(target) {
            Ok(output) => *self = output,
            // The open file still takes lines; losing it too would help nobody.
            Err(error) => {
                let error = denied::in_words(&error);
                tracing::error!(error, %target, "cannot open the access log again, writing on to the old file");
            }
        }
    }

    fn write(&mut self, batch: &[u8], metrics: &Metrics) {
        if batch.is_empty() {
            return;
        }
        let written = match self {
            Self::Stdout(stdout) => stdout.write_all(batch).and_then(|()| stdout.flush()),
            Self::File(file) => file.write_all(batch),
        };
        if let Err(error) = written {
            batch.iter().filter(|byte| **byte == b'\n').for_each(|_| metrics.access_log_lost());
            tracing::error!(%error, "cannot write the access log");
        }
    }
}

/// The lines of an access log in memory.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

impl Lines {
    /// The lines so far, each parsed; a line that is no JSON comes as a string.
    pub fn all(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8_lossy(&self.0.lock().lines).into_owned();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }

    /// Takes the text away.
    pub fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0.lock().lines)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn lines_reach_the_file_and_follow_it_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let metrics = Metrics::new();
        let sink = Sink::start(&AccessTarget::File(path.clone()), 1 << 20, &metrics).unwrap();
        sink.append(b"one\n");
        fs::rename(&path, &rotated).unwrap();
        sink.append(b"two\n");
        sink.reopen();
        let deadline = soon();
        while !path.exists() {
            assert!(Instant::now() < deadline, "the file was not opened again");
            thread::yield_now();
        }
        sink.append(b"three\n");
        sink.close(soon());
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        sink.append(b"late\n");
        assert!(metrics.render().contains("yett_access_log_dropped_total 1"));
    }

    #[test]
    fn what_does_not_fit_is_dropped_whole_and_counted() {
        let metrics = Metrics::new();
        let (sink, lines) = Sink::in_memory(10, &metrics);
        for line in ["one\n", "three\n", "two\n", "x\n", "y\n"] {
            sink.append(line.as_bytes());
        }
        assert_eq!(lines.take(), "one\nthree\n");
        sink.append(b"y\n");
        assert_eq!(lines.take(), "y\n");
        let text = metrics.render();
        assert!(text.contains("yett_access_log_dropped_total 3"), "{text}");
        assert!(text.contains(r#"yett_limit_hits_total{limit="access_log_buffer_bytes_max"} 3"#), "{text}");
    }

    #[test]
    fn targets() {
        for (text, target) in [
            ("off", AccessTarget::Off),
            ("stdout", AccessTarget::Stdout),
            ("/var/log/a.json", AccessTarget::File("/var/log/a.json".into())),
        ] {
            assert_eq!(text.parse(), Ok(target.clone()));
            assert_eq!(target.to_string(), text);
        }
    }
}
