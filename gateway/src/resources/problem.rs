//! What was not understood in a document, with its place.

use std::sync::Arc;

use super::spans::Place;

/// A fault or oddity of a document. Never holds a value of a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Which sort of fault.
    pub code: Code,
    /// How grave.
    pub severity: Severity,
    /// The file, where there is one.
    pub file: Option<Arc<str>>,
    /// Where in the file.
    pub place: Place,
    /// `Kind namespace/name`; empty where no object could be named.
    pub object: String,
    /// Path of the field, `spec.listeners[0].tls`; empty for the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where we can tell.
    pub help: Option<String>,
}

/// How grave a [`Problem`] is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The object is in service, but likely not as meant.
    Warning,
    /// The object, or the version of it that has the fault, is not in service.
    Error,
}

codes! {
    /// The sorts of faults a document can have. Codes are stable: a retired one is not given again.
    enum Code;

    /// The text is not valid YAML or JSON.
    Syntax = "YT0101",
    /// The document is no Kubernetes object: apiVersion, kind or metadata.name is missing or malformed.
    NotAnObject = "YT0102",
    /// No part of Yett reads objects of this kind or version.
    UnknownKind = "YT0103",
    /// The kind has no field of this name.
    UnknownField = "YT0104",
    /// A required field is missing.
    MissingField = "YT0105",
    /// A field has a value of the wrong type.
    WrongType = "YT0106",
    /// The value is none of those the field takes.
    NotInEnum = "YT0107",
    /// The value does not have the form the field asks for.
    BadFormat = "YT0108",
    /// A number, length or count is out of its bounds.
    OutOfBounds = "YT0109",
    /// Entries that must differ are equal.
    NotUnique = "YT0110",
    /// Fields contradict each other.
    Contradiction = "YT0111",
    /// Two documents describe the same object.
    Duplicate = "YT0112",
    /// The field is part of the kind but never supported.
    Unsupported = "YT0113",
    /// A file or directory cannot be read.
    Unreadable = "YT0120",
    /// A limit on the input was reached.
    LimitReached = "YT0121",
    /// A file named by an annotation cannot be used.
    FileAnnotation = "YT0122",
    /// An earlier version stays in service because the newer one is unusable.
    KeptLastGood = "YT0123",
    /// The operating system does not tell of changes.
    NotWatched = "YT0124",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code:?}");
            assert!(code.as_str().len() == 6 && code.as_str().starts_with("YT01"), "{code:?}");
            assert!(code.meaning().trim().ends_with('.'), "{code:?}");
        }
    }
}
