//! Conditions: what stands in `status` about an object, and the faults that make one False.

use serde::Serialize;

use crate::model::Condition;

/// Why a condition is False: one CamelCase word of the API's vocabulary, and words that name the object and the field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) reason: &'static str,
    /// Path of the field at fault; empty: the object as a whole.
    pub(super) field: String,
    /// What is wrong, for findings, which name the field themselves.
    pub(super) words: String,
    /// The same for conditions: begins with the field.
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Fault {
        let message = message.into();
        Fault { reason, field: String::new(), words: message.clone(), message }
    }

    /// A fault of a field: the message begins with its path.
    pub(super) fn at(reason: &'static str, field: &str, words: impl AsRef<str>) -> Fault {
        let words = words.as_ref().to_owned();
        Fault { reason, field: field.to_owned(), message: format!("{field}: {words}"), words }
    }

    /// Several faults as one: the first one's reason, everybody's words.
    pub(super) fn merged(faults: &[Fault]) -> Option<Fault> {
        let first = faults.first()?;
        let mut messages: Vec<&str> = Vec::new();
        for fault in faults {
            if !messages.contains(&fault.message.as_str()) {
                messages.push(&fault.message);
            }
        }
        if let [_] = messages.as_slice() {
            return Some(first.clone());
        }
        Some(Fault::new(first.reason, messages.join("; ")))
    }
}

/// The conditions of one object or part, in the order they are added.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Conditions {
    list: Vec<Condition>,
    #[serde(skip)]
    generation: i64,
}

impl Conditions {
    /// No conditions yet, of an object of this generation.
    pub(super) fn new(generation: i64) -> Conditions {
        Conditions { list: Vec::new(), generation }
    }

    /// A condition that is True.
    pub(super) fn yes(&mut self, kind: &'static str, reason: &'static str, message: impl Into<String>) {
        self.add(kind, "True", reason, message.into());
    }

    /// A condition that is False.
    pub(super) fn no(&mut self, kind: &'static str, fault: &Fault) {
        self.add(kind, "False", fault.reason, fault.message.clone());
    }

    /// True with the reason of the same name, or False by the fault.
    pub(super) fn unless(&mut self, kind: &'static str, fault: Option<&Fault>, message: impl Into<String>) {
        match fault {
            None => self.yes(kind, kind, message),
            Some(fault) => self.no(kind, fault),
        }
    }

    fn add(&mut self, kind: &'static str, status: &'static str, reason: &'static str, message: String) {
        self.list.push(Condition { kind, status, reason, message, observed_generation: self.generation });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_merge_into_the_first_reason_and_all_words() {
        assert_eq!(Fault::merged(&[]), None);
        let faults = [Fault::new("A", "one"), Fault::new("B", "two"), Fault::new("B", "one")];
        assert_eq!(Fault::merged(&faults), Some(Fault::new("A", "one; two")));
    }

    #[test]
    fn conditions_serialize_as_the_api_has_them() {
        let mut conditions = Conditions::new(3);
        conditions.unless("Accepted", None, "fine");
        conditions.unless("ResolvedRefs", Some(&Fault::at("InvalidKind", "spec.x", "is wrong")), "");
        let expected = serde_json::json!([
            {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "fine", "observedGeneration": 3},
            {"type": "ResolvedRefs", "status": "False", "reason": "InvalidKind", "message": "spec.x: is wrong",
             "observedGeneration": 3},
        ]);
        assert_eq!(serde_json::to_value(&conditions).unwrap(), expected);
    }
}
