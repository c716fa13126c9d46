//! Upgrades, on the side of the process that ends: starts the successor, leaves it what it needs, and waits until it
//! serves. Until then this process serves on, whatever becomes of the other.

use std::env;
use std::ffi::OsString;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::admin::{NotUpgraded, Upgraded};
use crate::handover::{self, Channel, Facts, HandoverError, Item, Verdict, Word};
use crate::telemetry::event::UpgradeFailed;
use crate::telemetry::{Telemetry, UpgradeResult};

/// How long a successor that has closed the channel may take to end, and one that was told to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a successor may take to end that says it cannot serve: it may have a connection or two.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether a successor has ended.
const END_LOOK: Duration = Duration::from_millis(20);

/// Where the answer to `POST /upgrade` goes.
pub(super) type Answer = oneshot::Sender<Result<Upgraded, NotUpgraded>>;

/// Why there was no upgrade.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// One at a time.
    #[error("an upgrade is under way")]
    UnderWay,
    /// A successor would know the documents alone.
    #[error("{0}: a successor would not have it; mend the documents first, or restart")]
    Kept(String),
    /// What is to be left cannot be.
    #[error("cannot leave anything to a successor: {0}")]
    Descriptors(#[from] io::Error),
    /// As above.
    #[error("cannot leave anything to a successor: {0}")]
    Offer(#[from] HandoverError),
    /// No such program, say.
    #[error("cannot start {}: {source}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its own words stand in the log.
    #[error("the successor ended before it was ready ({0})")]
    Ended(String),
    /// It said so.
    #[error("the successor cannot serve: {0}")]
    Failed(String),
    /// It hangs, or has too much to do.
    #[error("the successor was not ready within {0:?} (upgrade_timeout)")]
    Timeout(Duration),
}

impl UpgradeError {
    fn result(&self) -> UpgradeResult {
        match self {
            Self::UnderWay | Self::Kept(_) => UpgradeResult::Refused,
            Self::Descriptors(_) | Self::Offer(_) | Self::Start { .. } => UpgradeResult::NotStarted,
            Self::Ended(_) | Self::Failed(_) => UpgradeResult::Failed,
            Self::Timeout(_) => UpgradeResult::Timeout,
        }
    }
}

/// Asked for by a signal or a command, one at a time.
pub(super) struct Upgrades {
    program: Program,
    limit: Duration,
    asked: Signal,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    ready: Pin<Box<dyn Future<Output = Result<Heir, UpgradeError>>>>,
    answer: Option<Answer>,
}

/// What happens next.
pub(super) enum Next {
    /// Somebody sent SIGUSR2.
    Asked,
    /// The successor serves.
    Ready(Heir, Option<Answer>),
    /// It does not.
    Failed(UpgradeError, Option<Answer>),
}

impl Upgrades {
    /// None yet. `limit`: how long a successor may take to become ready.
    ///
    /// # Errors
    /// The system does not tell of signals, or what program this is.
    pub(super) fn new(limit: Duration) -> io::Result<Self> {
        let asked = signal(SignalKind::user_defined2())?;
        Ok(Self { program: Program::own()?, limit, asked, under_way: None })
    }

    /// What happens next; cancel-safe.
    pub(super) async fn next(&mut self) -> Next {
        let ready = async {
            match &mut self.under_way {
                Some(under_way) => under_way.ready.as_mut().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.asked.recv() => Next::Asked,
            ready = ready => {
                let answer = self.under_way.take().and_then(|under_way| under_way.answer);
                match ready {
                    Ok(heir) => Next::Ready(heir, answer),
                    Err(error) => Next::Failed(error, answer),
                }
            }
        }
    }

    /// Gives up the one that is under way: this process is to end, and so is its successor.
    pub(super) fn give_up(&mut self) {
        self.under_way = None;
    }

    /// Whether one is under way.
    pub(super) fn under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Starts a successor and leaves it this.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn begin(
        &mut self,
        facts: &Facts,
        items: &[Item],
        answer: &mut Option<Answer>,
    ) -> Result<(), UpgradeError> {
        let (channel, theirs) = Channel::pair()?;
        // First of all: from here on it is on its way, even if this process should be killed.
        channel.offer(facts, items)?;
        let child = self.program.start(theirs)?;
        let process = child.id();
        let started = Started { child: Kept(Some(child)), channel };
        tracing::info!(process, program = %self.program.path.display(), "a successor was started");
        let ready = Box::pin(started.ready(self.limit));
        self.under_way = Some(UnderWay { ready, answer: answer.take() });
        Ok(())
    }
}

/// Tells, counts and answers that there was no upgrade.
pub(super) fn failed(error: &UpgradeError, answer: Option<Answer>, telemetry: &Telemetry) {
    let result = error.result();
    UpgradeFailed { result, error }.emit(telemetry);
    if let Some(answer) = answer {
        // Whoever asked may have gone.
        let _ = answer.send(Err(NotUpgraded { result, words: error.to_string() }));
    }
}

/// A successor that serves.
pub(super) struct Heir {
    channel: Channel,
    /// Its process id.
    pub(super) process: u32,
    /// The generation that it serves.
    pub(super) generation: u64,
    /// What it has no use for.
    pub(super) left: Vec<String>,
}

impl Heir {
    /// The last word of this process, when it no longer accepts.
    pub(super) fn relieved(&self) {
        if let Err(error) = self.channel.tell(&Word::Relieved) {
            tracing::error!(%error, "the successor is gone");
        }
    }
}

/// What is run again: the same program with the same arguments.
struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This process's own. A path that it was started by is kept as it is, links and all, for what it leads to now may
    /// be another version.
    fn own() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let named = arguments.next().map(PathBuf::from).filter(|path| path.components().nth(1).is_some());
        let path = match named.map(std::path::absolute) {
            Some(Ok(path)) if path.exists() => path,
            _ => env::current_exe()?,
        };
        Ok(Self { path, arguments: arguments.collect() })
    }

    fn start(&self, channel: std::os::fd::OwnedFd) -> Result<Child, UpgradeError> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::from(channel)).env(handover::VARIABLE, "stdin");
        // These speak to this process: the successor gets descriptors from it alone, and its watchdog is its own.
        handover::LISTEN_VARIABLES.iter().chain(&["WATCHDOG_PID"]).for_each(|name| {
            command.env_remove(name);
        });
        command.spawn().map_err(|source| UpgradeError::Start { path: self.path.clone(), source })
    }
}

/// A successor that was started and does not serve yet.
struct Started {
    child: Kept,
    channel: Channel,
}

/// A child that is told to end when this is dropped: this process serves on, or ends as it was told.
struct Kept(Option<Child>);

impl Started {
    async fn ready(self, limit: Duration) -> Result<Heir, UpgradeError> {
        let Self { mut child, channel } = self;
        match timeout(limit, channel.hear::<Verdict>()).await {
            Ok(Ok(Verdict::Ready { process, generation, left })) => {
                child.0 = None;
                Ok(Heir { channel, process, generation, left })
            }
            Ok(Ok(Verdict::Failed { words })) => {
                tokio::task::spawn_local(async move { child.end(FAREWELL_TIMEOUT).await });
                Err(UpgradeError::Failed(words))
            }
            Ok(Err(error)) => match child.end(END_TIMEOUT).await {
                Some(status) => Err(UpgradeError::Ended(status.to_string())),
                None => Err(UpgradeError::Ended(error.to_string())),
            },
            Err(_) => {
                child.end(Duration::ZERO).await;
                Err(UpgradeError::Timeout(limit))
            }
        }
    }
}

impl Kept {
    /// Waits for its end so long, then asks for it, then forces it.
    async fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let child = self.0.as_mut()?;
        for (signal, patience) in
            [(None, patience), (Some(Kill::TERM), END_TIMEOUT), (Some(Kill::KILL), END_TIMEOUT)]
        {
            if let Some(signal) = signal {
                send(child, signal);
            }
            let deadline = Instant::now() + patience;
            loop {
                match child.try_wait() {
                    Ok(None) if Instant::now() < deadline => sleep(END_LOOK).await,
                    Ok(None) => break,
                    ended => {
                        self.0 = None;
                        return ended.ok().flatten();
                    }
                }
            }
        }
        None
    }
}

/// Sends a signal to a child that has not been waited for.
fn send(child: &Child, signal: Kill) {
    if let Some(process) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may just have ended; its number is nobody else's until it is waited for.
        let _ = kill_process(process, signal);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Told, not killed: it may have accepted something. It is not waited for, since this process ends, too.
        if let Some(child) = self.0.take() {
            send(&child, Kill::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_result() {
        let error = || io::Error::other("x");
        for (failed, expected) in [
            (UpgradeError::UnderWay, UpgradeResult::Refused),
            (UpgradeError::Kept("x".into()), UpgradeResult::Refused),
            (UpgradeError::Descriptors(error()), UpgradeResult::NotStarted),
            (UpgradeError::Start { path: "x".into(), source: error() }, UpgradeResult::NotStarted),
            (UpgradeError::Ended("x".into()), UpgradeResult::Failed),
            (UpgradeError::Timeout(Duration::ZERO), UpgradeResult::Timeout),
        ] {
            assert_eq!(failed.result(), expected, "{failed}");
        }
    }
}
