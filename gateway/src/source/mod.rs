//! Where desired state comes from.
//!
//! A source notices changes, gathers the whole set of objects and says what was wrong with them. It knows nothing of
//! what the objects mean.

pub mod file;
pub mod kube;

use std::sync::Arc;

use tokio::sync::Notify;

pub use file::{FileSource, read_once};
pub use kube::KubeSource;

use crate::model;
use crate::resources::{self, Problem, Resources};

/// What a source gathered.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The whole set of objects.
    pub resources: Resources,
    /// What was found on the way, in the order of the documents.
    pub findings: Vec<model::Finding>,
    /// Whether anything differs from what was gathered the time before; true the first time.
    pub changed: bool,
}

/// Why a source should be read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// Something was seen to change.
    Changed,
    /// The regular look found a difference that nobody had told of.
    Polled,
    /// Somebody asked for it.
    Asked,
}

/// A problem of a document as a finding of the report.
pub fn finding(problem: Problem) -> model::Finding {
    model::Finding {
        code: problem.code.as_str(),
        severity: match problem.severity {
            resources::Severity::Warning => model::Severity::Warning,
            resources::Severity::Error => model::Severity::Error,
        },
        file: problem.file,
        line: problem.place.line,
        column: problem.place.column,
        object: problem.object,
        field: problem.field,
        message: problem.message,
        help: problem.help,
    }
}

/// Where desired state comes from in this process.
pub enum Source {
    /// Files and directories.
    Files(Box<FileSource>),
    /// A Kubernetes API server.
    Kube(Box<KubeSource>),
}

/// Lets others ask for a reload.
#[derive(Clone, Debug)]
pub struct ReloadHandle(Arc<Notify>);

impl ReloadHandle {
    /// Makes [`Source::changed`] return at once.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

impl Source {
    /// Waits until the whole set can be gathered: files can be at once.
    pub async fn complete(&mut self) {
        match self {
            Self::Files(_) => {}
            Self::Kube(source) => source.complete().await,
        }
    }

    /// Whether the whole set can be gathered now.
    pub fn is_complete(&mut self) -> bool {
        match self {
            Self::Files(_) => true,
            Self::Kube(source) => source.is_complete(),
        }
    }

    /// Waits until the set should be gathered again. May be dropped and called anew without missing a change.
    pub async fn changed(&mut self) -> Trigger {
        match self {
            Self::Files(source) => source.changed().await,
            Self::Kube(source) => source.changed().await,
        }
    }

    /// Gathers the whole set as it is now.
    pub fn read(&mut self) -> Loaded {
        match self {
            Self::Files(source) => source.read(),
            Self::Kube(source) => source.read(),
        }
    }

    /// A handle by which others ask for a reload.
    pub fn reload_handle(&self) -> ReloadHandle {
        ReloadHandle(match self {
            Self::Files(source) => source.asked(),
            Self::Kube(source) => source.asked(),
        })
    }
}
