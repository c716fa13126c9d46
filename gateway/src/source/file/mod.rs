//! Desired state from files: the manifests of some directories and files, followed as they change.
//!
//! [`FileSource::read`] gathers everything there is now; [`FileSource::changed`] waits until that is worth doing again.
//! What was good stays in service while its newer version is not: an object leaves only when its file is gone, or reads
//! in full without it, and the last set stays when nothing usable is left.

mod annotation;
mod lists;
mod memory;
mod scan;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::memory::Memory;
use self::scan::{Named, Scan, scan};
use self::watch::Watch;
use super::{Loaded, Trigger, finding};
use crate::resources::{Code, Place, Problem, Severity};

/// Quiet that has to follow a change before it is read: editors and `kubectl cp` write in several steps. Short, since a
/// revocation waits for it too; what is caught half written all the same costs a finding, and the former version serves.
const QUIET: Duration = Duration::from_millis(50);
/// Longest wait for quiet.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the content is compared without being told of a change: network file systems tell of none.
const POLL: Duration = Duration::from_secs(60);
/// Attempts at reading a set that did not change meanwhile.
const STABLE_READS_MAX: usize = 3;

/// Manifests in files and directories.
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    memory: Memory,
    watch: Watch,
    asked: Arc<Notify>,
    /// Fingerprint of what `last` was made of.
    fingerprint: Option<u64>,
    last: Loaded,
    /// When the change that waits for quiet was first heard of.
    stirred: Option<Instant>,
    next_poll: Instant,
    poll: Duration,
}

/// Gathers what the files and directories hold now, as a source does that has just begun, without following them.
pub fn read_once(paths: &[PathBuf]) -> Loaded {
    let mut found = scan(paths, &Named::default());
    let mut problems = std::mem::take(&mut found.problems);
    let taken = Memory::default().take(&mut found);
    problems.extend(taken.problems);
    let findings = problems.into_iter().map(finding).collect();
    Loaded { resources: taken.resources.unwrap_or_default(), findings, changed: true }
}

impl FileSource {
    /// A source of these files and directories, in this order; nothing is read yet. Has to be made within a tokio
    /// runtime with time.
    pub fn new(paths: Vec<PathBuf>) -> FileSource {
        FileSource::with_poll(paths, POLL)
    }

    fn with_poll(paths: Vec<PathBuf>, poll: Duration) -> FileSource {
        FileSource {
            paths,
            memory: Memory::default(),
            watch: Watch::new(),
            asked: Arc::new(Notify::new()),
            fingerprint: None,
            last: Loaded::default(),
            stirred: None,
            next_poll: Instant::now() + poll,
            poll,
        }
    }

    /// A notice by which others ask for a reload.
    pub(super) fn asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// Waits until the set should be read again. May be dropped and called anew without missing a change.
    pub async fn changed(&mut self) -> Trigger {
        loop {
            if let Some(since) = self.stirred {
                self.quiet(since).await;
                self.stirred = None;
                return Trigger::Changed;
            }
            tokio::select! {
                () = self.watch.stirred() => self.stirred = Some(Instant::now()),
                () = self.asked.notified() => return Trigger::Asked,
                () = sleep_until(self.next_poll) => {
                    self.next_poll = Instant::now() + self.poll;
                    if Some(scan(&self.paths, self.memory.named()).fingerprint()) != self.fingerprint {
                        return Trigger::Polled;
                    }
                }
            }
        }
    }

    /// Waits until nothing has stirred for a while, or for too long already.
    async fn quiet(&self, since: Instant) {
        let latest = since + QUIET_WAIT_MAX;
        while Instant::now() < latest {
            let until = latest.min(Instant::now() + QUIET);
            if timeout_at(until, self.watch.stirred()).await.is_err() {
                break;
            }
        }
    }

    /// Gathers the whole set as it is now. Blocks for as long as the files take to read.
    pub fn read(&mut self) -> Loaded {
        self.next_poll = Instant::now() + self.poll;
        let mut found = self.stable_scan();
        if self.fingerprint == Some(found.fingerprint()) {
            self.last.changed = false;
            return self.last.clone();
        }
        let mut problems = std::mem::take(&mut found.problems);
        let taken = self.memory.take(&mut found);
        // Files that objects name are known only now.
        found.retain(self.memory.named());
        self.watch.follow(&found.watched);
        self.fingerprint = Some(found.fingerprint());
        problems.extend(self.watch.problem());
        problems.extend(taken.problems);
        match taken.resources {
            Some(resources) => self.last.resources = resources,
            None => problems.push(self.nothing_usable()),
        }
        self.last.findings = problems.into_iter().map(finding).collect();
        self.last.changed = true;
        self.last.clone()
    }

    /// Looks at the files until two looks agree: a volume may be swapped under us while we read it. What has to be
    /// watched is known from the first look, so whatever changes after the second one is told of.
    fn stable_scan(&mut self) -> Scan {
        let mut found = scan(&self.paths, self.memory.named());
        for _ in 1..STABLE_READS_MAX {
            self.watch.follow(&found.watched);
            let again = scan(&self.paths, self.memory.named());
            let stable = again.fingerprint() == found.fingerprint();
            found = again;
            if stable {
                break;
            }
        }
        self.watch.follow(&found.watched);
        found
    }

    fn nothing_usable(&self) -> Problem {
        let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        let count = self.last.resources.len();
        Problem {
            code: Code::KeptLastGood,
            severity: Severity::Error,
            file: None,
            place: Place::default(),
            object: String::new(),
            field: String::new(),
            message: format!(
                "no usable object in {}: the last {count} good ones stay in service",
                paths.join(", ")
            ),
            help: None,
        }
    }
}
