//! What is known of the cluster: every object that was seen, as it was last fit for service. Pure: events come in, the
//! whole set goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::resources::{
    self, AnyObject, Code, Entry, Identity, ListenerName, Place, Problem, Referred, Resources, Severity,
    UnreadablePolicy,
};

/// Objects by kind and name.
#[derive(Debug, Default)]
pub(super) struct Store {
    held: BTreeMap<Identity, Held>,
    settled: Arc<BTreeSet<ListenerName>>,
}

#[derive(Debug)]
struct Held {
    /// Equal for equal versions of the object.
    version: String,
    /// The last version that was fit.
    object: Option<AnyObject>,
    problems: Vec<Problem>,
    unreadable: Option<UnreadablePolicy>,
}

impl Store {
    /// An object is as `json` says; `version` is its resourceVersion. Says whether anything is different now.
    pub(super) fn apply(&mut self, identity: Identity, version: &str, json: &str) -> bool {
        if self.held.get(&identity).is_some_and(|held| held.version == version) {
            return false;
        }
        let Some(Entry { object, mut problems, unreadable_policy, .. }) =
            resources::read(json, None).into_iter().next()
        else {
            return false;
        };
        let former = self.held.remove(&identity).and_then(|held| held.object);
        let object = match (object, former) {
            (None, Some(former)) => {
                problems.push(kept(&former));
                Some(former)
            }
            (object, _) => object,
        };
        let unreadable = unreadable_policy;
        self.held.insert(identity, Held { version: version.to_owned(), object, problems, unreadable });
        true
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, identity: &Identity) -> bool {
        self.held.remove(identity).is_some()
    }

    /// Of a kind there are these objects and no others; `place`: the namespace and name that the list was of, where it
    /// was of one object.
    pub(super) fn retain(
        &mut self,
        kind: &'static str,
        place: Option<(&str, &str)>,
        seen: &BTreeSet<Identity>,
    ) -> bool {
        let before = self.held.len();
        self.held.retain(|identity, _| {
            let is_listed = identity.kind == kind
                && place
                    .is_none_or(|(namespace, name)| identity.namespace == namespace && identity.name == name);
            !is_listed || seen.contains(identity)
        });
        self.held.len() < before
    }

    /// The whole set, with what was wrong with it.
    pub(super) fn gather(&mut self) -> (Resources, Vec<Problem>) {
        let mut resources = self.objects();
        let problems = self.held.values().flat_map(|held| held.problems.iter().cloned()).collect();
        let unreadable = self.held.values().filter_map(|held| held.unreadable.clone());
        let spared = |policy| UnreadablePolicy { spared: Arc::clone(&self.settled), ..policy };
        resources.unreadable_policies = unreadable.map(spared).collect();
        self.settled = Arc::new(resources.settled_listeners());
        (resources, problems)
    }
}

impl Store {
    /// What the objects name.
    pub(super) fn referred(&self) -> BTreeSet<Referred> {
        self.objects().referred()
    }

    fn objects(&self) -> Resources {
        let mut resources = Resources::default();
        for object in self.held.values().filter_map(|held| held.object.as_ref()) {
            // Names are keys here too: there is no other one.
            let _ = resources.insert(object.clone());
        }
        resources
    }
}

fn kept(object: &AnyObject) -> Problem {
    Problem {
        code: Code::KeptLastGood,
        severity: Severity::Warning,
        file: None,
        place: Place::default(),
        object: object.to_string(),
        field: String::new(),
        message: format!(
            "the last good version (generation {}) stays in service because the newer one is not fit for it",
            object.meta().generation
        ),
        help: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(kind: &'static str, name: &str) -> Identity {
        Identity { kind, namespace: "default".to_owned(), name: name.to_owned() }
    }

    fn gateway(port: &str) -> String {
        format!(
            r#"{{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway",
                "metadata":{{"name":"gw","namespace":"default","generation":3,"resourceVersion":"7"}},
                "spec":{{"gatewayClassName":"yett","listeners":[{{"name":"l","port":{port},"protocol":"HTTP"}}]}}}}"#
        )
    }

    #[test]
    fn the_last_good_version_stays_until_the_object_goes() {
        let mut store = Store::default();
        let gw = identity("Gateway", "gw");
        assert!(store.apply(gw.clone(), "7", &gateway("80")));
        assert!(!store.apply(gw.clone(), "7", &gateway("80")), "the same version once more");
        assert!(store.apply(gw.clone(), "8", &gateway("\"eighty\"")));
        let (resources, problems) = store.gather();
        assert_eq!(resources.gateways.len(), 1);
        assert_eq!(resources.gateways.get("default", "gw").unwrap().spec.listeners[0].port, 80);
        assert!(problems.iter().any(|problem| problem.code == Code::KeptLastGood), "{problems:?}");
        assert!(problems.len() > 1, "and why: {problems:?}");
        assert!(store.apply(gw.clone(), "9", &gateway("81")));
        let (resources, problems) = store.gather();
        assert_eq!(resources.gateways.get("default", "gw").unwrap().spec.listeners[0].port, 81);
        assert_eq!(problems, []);
        assert!(store.delete(&gw) && !store.delete(&gw));
        assert!(store.gather().0.is_empty());
    }

    #[test]
    fn a_list_takes_away_what_it_does_not_name_and_nothing_else() {
        let mut store = Store::default();
        let gw = identity("Gateway", "gw");
        store.apply(gw.clone(), "1", &gateway("80"));
        assert!(!store.retain("HTTPRoute", None, &BTreeSet::new()));
        assert!(!store.retain("Gateway", Some(("default", "other")), &BTreeSet::new()));
        assert!(!store.retain("Gateway", None, &BTreeSet::from([gw.clone()])));
        assert!(store.retain("Gateway", Some(("default", "gw")), &BTreeSet::new()));
    }

    #[test]
    fn a_policy_that_cannot_be_read_closes_what_was_not_open_before() {
        let mut store = Store::default();
        store.apply(identity("Gateway", "gw"), "1", &gateway("80"));
        store.gather();
        let policy = r#"{"apiVersion":"alb.networking.azure.io/v1","kind":"FrontendTLSPolicy",
            "metadata":{"name":"p","namespace":"default"},
            "spec":{"targetRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"gw"},"default":7}}"#;
        store.apply(identity("FrontendTLSPolicy", "p"), "1", policy);
        let (resources, _) = store.gather();
        assert_eq!(resources.unreadable_policies.len(), 1);
        assert!(!resources.unreadable_policies[0].may_cover("default", "gw", "l"), "it was open before");
        let mut afresh = Store::default();
        afresh.apply(identity("FrontendTLSPolicy", "p"), "1", policy);
        afresh.apply(identity("Gateway", "gw"), "1", &gateway("80"));
        assert!(afresh.gather().0.unreadable_policies[0].may_cover("default", "gw", "l"));
    }
}
