//! Where desired state comes from.
//!
//! A source notices changes, gathers the whole set of objects and says what was wrong with them. It knows nothing of
//! what the objects mean.

pub mod file;

pub use file::{FileSource, ReloadHandle, read_once};

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
