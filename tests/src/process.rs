//! A process that a test has started, or that one of those has started and left behind.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::Once;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

use crate::wait;

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// The process; not killed when dropped.
pub(crate) struct Process {
    id: Pid,
    child: Option<Child>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts one. What it leaves behind when it ends falls to this process instead of the machine's first.
    pub(crate) fn start(command: &mut Command) -> Self {
        static REAPER: Once = Once::new();
        REAPER.call_once(|| set_child_subreaper(Some(getpid())).expect("a process may become a reaper"));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { id: pid(child.id()), child: Some(child), ended: None }
    }

    /// One that a process of ours has started.
    pub(crate) fn descendant(id: u32) -> Self {
        Self { id: pid(id), child: None, ended: None }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has. Of one whose parent lives it is the parent that hears how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = match &mut self.child {
                Some(child) => child.try_wait().expect("a child can be waited for"),
                None => match waitpid(Some(self.id), WaitOptions::NOHANG) {
                    Ok(waited) => waited.map(|(_, status)| ExitStatus::from_raw(status.as_raw())),
                    // Not ours, or not yet.
                    Err(rustix::io::Errno::CHILD) => None,
                    Err(error) => panic!("cannot wait for a process: {}", io::Error::from(error)),
                },
            };
        }
        self.ended
    }

    /// Kills it and waits until it is gone, or has been left to its parent.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_some() || kill_process(self.id, Signal::KILL).is_err() {
            return;
        }
        wait::until("a killed process to be gone", GONE, || {
            (self.ended().is_some() || self.is_zombie()).then_some(())
        });
    }

    fn is_zombie(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')) && self.child.is_none()
    }

    /// What it has started and has not ended.
    pub(crate) fn children(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten() {
            let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(listed.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        all
    }
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process has a number")
}
