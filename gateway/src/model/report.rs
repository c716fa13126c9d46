//! What became of every object: findings with their place, and the status that a cluster would hold.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// The outcome of a translation for people and clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Faults and oddities, in the order of the documents.
    pub findings: Vec<Finding>,
    /// Status of every object that has one, ordered by kind, namespace, name.
    pub objects: Vec<ObjectStatus>,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, but is likely not what was meant.
    Warning,
    /// The object or part named is not in service.
    Error,
}

/// A fault or oddity with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable code, `YT0104`.
    pub code: &'static str,
    /// How grave.
    pub severity: Severity,
    /// The file, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
    /// 1-based; 0: unknown.
    pub line: u32,
    /// 1-based; 0: unknown.
    pub column: u32,
    /// `Kind namespace/name`; empty where no object can be named.
    pub object: String,
    /// Path of the field (`spec.listeners[0].tls`); empty: the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where we can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Finding {
    /// The order of the documents: by file, line and column; what has no file comes last.
    pub fn order(&self, other: &Finding) -> Ordering {
        fn place(finding: &Finding) -> impl Ord + '_ {
            (finding.file.is_none(), &finding.file, finding.line, finding.column)
        }
        fn rest(finding: &Finding) -> impl Ord + '_ {
            (&finding.object, &finding.field, finding.code, &finding.message)
        }
        place(self).cmp(&place(other)).then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}:{}: ", self.line, self.column)?;
        }
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}[{}]: ", self.code)?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// An object's status, without times: the status writer knows when a condition turned.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// `gateway.networking.k8s.io/v1`
    pub api_version: Arc<str>,
    /// `Gateway`
    pub kind: Arc<str>,
    /// The object's namespace; `None` for cluster-scoped kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's metadata.generation.
    pub generation: i64,
    /// The `status` object in the API's own form. Conditions are in the form of [`Condition`], wherever they stand.
    pub status: Value,
}

/// metav1.Condition without its lastTransitionTime, which the status writer adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`
    pub status: &'static str,
    /// One CamelCase word.
    pub reason: &'static str,
    /// Words for people; always serialized, since the API requires the field.
    pub message: String,
    /// The generation that was looked at.
    pub observed_generation: i64,
}
