//! Object metadata: the part of `metadata` that a gateway looks at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// `metadata` of an object (Kubernetes `ObjectMeta`). Fields that no part of Yett reads are dropped.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// DNS subdomain, unique for its kind within the namespace.
    pub name: String,
    /// Empty for kinds without a namespace; the reader puts `default` where a file names none.
    #[serde(default)]
    pub namespace: String,
    /// Labels, for selectors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Counts the changes of the spec; what `observedGeneration` refers to. 0 where none was given: the file source
    /// then counts for itself, from 1.
    #[serde(default)]
    pub generation: i64,
    /// When the object was made; decides who is older. Absent in files, usually.
    #[serde(default, deserialize_with = "timestamp")]
    pub creation_timestamp: Option<Timestamp>,
    /// Identity given by an API server.
    #[serde(default)]
    pub uid: Option<String>,
    /// Version given by an API server, opaque.
    #[serde(default)]
    pub resource_version: Option<String>,
}

/// RFC 3339, as the API server writes it; `null` is what unset times serialise to.
fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// Selects objects by their labels (`LabelSelector`): every requirement has to hold, and none at all selects everything.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must be there with exactly these values.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default)]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// How `values` are applied to it.
    pub operator: SelectorOperator,
    /// At least one for `In` and `NotIn`, none for the others.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum SelectorOperator {
    /// The label is there and its value is listed.
    In,
    /// The label is missing or its value is not listed.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl LabelSelectorRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            SelectorOperator::Exists => value.is_some(),
            SelectorOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let labels =
            BTreeMap::from([("env".to_owned(), "prod".to_owned()), ("team".to_owned(), "edge".to_owned())]);
        let table = [
            ("an empty selector takes everything", "{}", true),
            ("an equal label", r#"{"matchLabels": {"env": "prod"}}"#, true),
            ("another value", r#"{"matchLabels": {"env": "test"}}"#, false),
            ("a missing label", r#"{"matchLabels": {"zone": "a"}}"#, false),
            (
                "in",
                r#"{"matchExpressions": [{"key": "env", "operator": "In", "values": ["test", "prod"]}]}"#,
                true,
            ),
            (
                "not in",
                r#"{"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod"]}]}"#,
                false,
            ),
            (
                "not in holds for a missing label",
                r#"{"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}"#,
                true,
            ),
            ("exists", r#"{"matchExpressions": [{"key": "team", "operator": "Exists"}]}"#, true),
            (
                "does not exist",
                r#"{"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}"#,
                false,
            ),
            (
                "all requirements together",
                r#"{"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]}"#,
                false,
            ),
        ];
        for (description, selector, expected) in table {
            let selector: LabelSelector = serde_json::from_str(selector).unwrap();
            assert_eq!(selector.selects(&labels), expected, "{description}");
        }
    }
}
