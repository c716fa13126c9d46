//! The stages that loading goes through, and what can be said when one of them fails: the stage, what the system said,
//! and what would help.

use std::fmt;
use std::io;

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The kernel is new enough.
    Kernel,
    /// Names in a BPF file system, so that a crash loses nothing.
    Pins,
    /// Maps and programs are in the kernel.
    Load,
    /// The programs of the process's control group.
    Cgroup,
    /// The program of an interface.
    Attach,
    /// What listens is known to the programs.
    Sync,
}

impl Stage {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Kernel, Self::Pins, Self::Load, Self::Cgroup, Self::Attach, Self::Sync];

    /// As metrics and logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Pins => "pins",
            Self::Load => "load",
            Self::Cgroup => "cgroup",
            Self::Attach => "attach",
            Self::Sync => "sync",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a stage came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageResult {
    /// As it was asked for.
    Ok,
    /// In another way than was asked for first.
    Fallback,
    /// Not.
    Failed,
}

impl StageResult {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Fallback, Self::Failed];

    /// As metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fallback => "fallback",
            Self::Failed => "failed",
        }
    }
}

/// One stage's outcome in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageOutcome {
    /// Which.
    pub stage: Stage,
    /// How it came out.
    pub result: StageResult,
    /// One line: what was done, or why not.
    pub words: String,
}

/// A stage that failed.
#[derive(Debug, thiserror::Error)]
#[error("datapath: {stage}: {words}")]
pub struct StageError {
    /// Which.
    pub stage: Stage,
    /// One line: what, the system's word, what would help.
    pub words: String,
}

impl StageError {
    /// For a call of the system that failed.
    pub(super) fn system(stage: Stage, what: impl fmt::Display, error: &io::Error) -> Self {
        Self { stage, words: format!("{what}: {}", in_words(error)) }
    }

    /// For what the words say.
    pub(super) fn new(stage: Stage, words: impl Into<String>) -> Self {
        Self { stage, words: words.into() }
    }
}

/// An error of the system: its symbol, which is what can be looked up, and what would help.
pub(super) fn in_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => format!("EPERM: {}", capabilities_in_words()),
        Some(libc::EBUSY) => "EBUSY: another program has the place".to_owned(),
        Some(libc::EEXIST) => "EEXIST: another program is there in another mode".to_owned(),
        Some(libc::EINVAL) => "EINVAL: the kernel or the driver does not know this".to_owned(),
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP: the driver cannot do this".to_owned(),
        Some(libc::ENOSPC | libc::E2BIG) => format!("{error}: no room"),
        _ => error.to_string(),
    }
}

/// What loading asks for, and what of it this process has.
fn capabilities_in_words() -> String {
    use rustix::thread::CapabilitySet as Set;
    let needed = [(Set::BPF, "CAP_BPF"), (Set::NET_ADMIN, "CAP_NET_ADMIN"), (Set::PERFMON, "CAP_PERFMON")];
    let has = rustix::thread::capabilities(None).map_or(Set::empty(), |sets| sets.effective);
    let missing: Vec<_> =
        needed.iter().filter(|(one, _)| !has.contains(*one)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        "not allowed, though CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there: a policy of the machine forbids it"
            .to_owned()
    } else {
        format!("needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; without {}", missing.join(", "))
    }
}
