//! When conditions turned. Pure: the caller says what time it is.
//!
//! A condition is told apart by where it stands, and a place by what the element says of itself (a listener's name, a
//! parent, an ancestor), not by its position: parents may come in another order without anything having happened.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::model::ObjectStatus;

/// The conditions seen so far: where each stands, its status, and when it got that.
#[derive(Clone, Debug, Default)]
pub struct Times(HashMap<String, Turned>);

#[derive(Clone, Debug)]
struct Turned {
    status: String,
    at: String,
}

impl Times {
    /// The objects in the API's form, with `lastTransitionTime` in every condition: `now` where its status is new or
    /// another than before, else as it was. Conditions that are gone are forgotten.
    pub fn stamp(&mut self, objects: &[ObjectStatus], now: i64) -> Vec<Value> {
        let now = Timestamp::from_second(now).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
        let mut seen = HashMap::with_capacity(self.0.len());
        let items = objects
            .iter()
            .map(|object| {
                let mut status = object.status.clone();
                let ObjectStatus { api_version, kind, namespace, name, .. } = object;
                let place =
                    format!("{api_version}/{kind}/{}/{name}", namespace.as_deref().unwrap_or_default());
                Stamp { former: &self.0, seen: &mut seen, now: &now }.walk(&place, &mut status);
                item(object, status)
            })
            .collect();
        self.0 = seen;
        items
    }
}

fn item(object: &ObjectStatus, status: Value) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), object.name.as_ref().into());
    if let Some(namespace) = &object.namespace {
        metadata.insert("namespace".to_owned(), namespace.as_ref().into());
    }
    metadata.insert("generation".to_owned(), object.generation.into());
    let mut item = Map::new();
    item.insert("apiVersion".to_owned(), object.api_version.as_ref().into());
    item.insert("kind".to_owned(), object.kind.as_ref().into());
    item.insert("metadata".to_owned(), metadata.into());
    item.insert("status".to_owned(), status);
    item.into()
}

struct Stamp<'a> {
    former: &'a HashMap<String, Turned>,
    seen: &'a mut HashMap<String, Turned>,
    now: &'a str,
}

impl Stamp<'_> {
    fn walk(&mut self, place: &str, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    match member {
                        Value::Array(conditions) if name == "conditions" => {
                            conditions.iter_mut().for_each(|condition| self.condition(place, condition));
                        }
                        _ => self.walk(&format!("{place}/{name}"), member),
                    }
                }
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter_mut().enumerate() {
                    let place = format!("{place}/{}", said_of_itself(index, element));
                    self.walk(&place, element);
                }
            }
            _ => {}
        }
    }

    fn condition(&mut self, place: &str, condition: &mut Value) {
        let text = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (place, status) = (format!("{place}/{}", text("type")), text("status"));
        let at = match self.former.get(&place) {
            Some(former) if former.status == status => former.at.clone(),
            _ => self.now.to_owned(),
        };
        if let Some(members) = condition.as_object_mut() {
            members.insert("lastTransitionTime".to_owned(), at.clone().into());
        }
        self.seen.insert(place, Turned { status, at });
    }
}

/// What tells an element of a status from its neighbours.
fn said_of_itself(index: usize, element: &Value) -> String {
    let named = ["name", "parentRef", "ancestorRef", "controllerName"].map(|name| element.get(name));
    if named.iter().all(Option::is_none) {
        return index.to_string();
    }
    named.into_iter().flatten().map(Value::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, status: Value) -> ObjectStatus {
        ObjectStatus {
            api_version: "gateway.networking.k8s.io/v1".into(),
            kind: "HTTPRoute".into(),
            namespace: Some("ns".into()),
            name: name.into(),
            generation: 3,
            status,
        }
    }

    fn condition(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "R", "message": message, "observedGeneration": 3})
    }

    fn parent(name: &str, conditions: &[Value]) -> Value {
        json!({"parentRef": {"name": name}, "controllerName": "c", "conditions": conditions})
    }

    fn time(value: &Value) -> &str {
        value["lastTransitionTime"].as_str().unwrap()
    }

    const T0: &str = "1970-01-01T00:00:10Z";
    const T1: &str = "1970-01-01T00:00:20Z";

    #[test]
    fn only_a_change_of_status_moves_the_time() {
        for (description, before, after, expected) in [
            ("nothing", condition("Accepted", "True", "a"), condition("Accepted", "True", "a"), T0),
            ("the message", condition("Accepted", "True", "a"), condition("Accepted", "True", "b"), T0),
            ("the status", condition("Accepted", "True", "a"), condition("Accepted", "False", "a"), T1),
            ("another type", condition("Accepted", "True", "a"), condition("Programmed", "True", "a"), T1),
        ] {
            let mut times = Times::default();
            let first = times.stamp(&[object("r", json!({"conditions": [before]}))], 10);
            assert_eq!(time(&first[0]["status"]["conditions"][0]), T0);
            let second = times.stamp(&[object("r", json!({"conditions": [after]}))], 20);
            assert_eq!(time(&second[0]["status"]["conditions"][0]), expected, "{description}");
        }
    }

    #[test]
    fn places_are_told_by_what_stands_there_not_by_order() {
        let (yes, no) = (condition("Accepted", "True", ""), condition("Accepted", "False", ""));
        let mut times = Times::default();
        let both = [parent("a", std::slice::from_ref(&yes)), parent("b", std::slice::from_ref(&no))];
        times.stamp(&[object("r", json!({"parents": both}))], 10);
        let swapped = [parent("b", std::slice::from_ref(&no)), parent("a", &[yes])];
        let items = times
            .stamp(&[object("r", json!({"parents": swapped})), object("s", json!({"conditions": [no]}))], 20);
        for parent in items[0]["status"]["parents"].as_array().unwrap() {
            assert_eq!(time(&parent["conditions"][0]), T0, "{parent}");
        }
        assert_eq!(time(&items[1]["status"]["conditions"][0]), T1, "another object's condition is another");
    }

    #[test]
    fn what_was_gone_begins_anew() {
        let objects =
            [object("r", json!({"listeners": [{"name": "l", "conditions": [condition("A", "True", "")]}]}))];
        let mut times = Times::default();
        times.stamp(&objects, 10);
        times.stamp(&[], 15);
        let items = times.stamp(&objects, 20);
        assert_eq!(time(&items[0]["status"]["listeners"][0]["conditions"][0]), T1);
    }

    #[test]
    fn the_form_is_that_of_the_api() {
        let mut cluster_scoped = object("class", json!({}));
        cluster_scoped.namespace = None;
        let items = Times::default().stamp(&[object("r", json!({"parents": []})), cluster_scoped], 10);
        assert_eq!(
            items[0],
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": {"name": "r", "namespace": "ns", "generation": 3}, "status": {"parents": []},
            })
        );
        assert!(items[1]["metadata"].get("namespace").is_none());
    }
}
