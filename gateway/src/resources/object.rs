//! An object with its metadata and the place it was read from, and the ordered set of the objects of one kind.

use std::fmt;
use std::sync::Arc;

use super::backend::Backend;
use super::configmap::ConfigMap;
use super::endpointslice::EndpointSlice;
use super::frontendtlspolicy::FrontendTlsPolicy;
use super::gateway::Gateway;
use super::gatewayclass::GatewayClass;
use super::httproute::HttpRoute;
use super::meta::ObjectMeta;
use super::namespace::Namespace;
use super::referencegrant::ReferenceGrant;
use super::secret::Secret;
use super::service::Service;
use super::spans::{Place, Spans};

/// An object as written, complete with defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T> {
    /// Its metadata.
    pub meta: ObjectMeta,
    /// Its `spec`; for kinds without one (Secret, ConfigMap, EndpointSlice), the members beside the metadata.
    pub spec: T,
    /// Where it was read.
    pub origin: Origin,
}

/// Where an object was read, down to its fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The file; `None` for objects that did not come from one.
    pub file: Option<Arc<str>>,
    /// Which document of the file, from 0.
    pub document: u32,
    /// Where the fields stand.
    pub spans: Arc<Spans>,
}

impl Origin {
    /// The place of a field such as `spec.listeners[0].tls`; of the nearest field around it where it was not written.
    pub fn locate(&self, path: &str) -> Place {
        self.spans.locate(path)
    }
}

/// What a kind is called.
pub trait Kind {
    /// Version served by us, group included: `gateway.networking.k8s.io/v1`.
    const API_VERSION: &'static str;
    /// The kind's name.
    const KIND: &'static str;
    /// Whether its objects live in namespaces.
    const NAMESPACED: bool = true;
}

macro_rules! kinds {
    ($($type:ty: $version:literal $kind:literal;)+) => {
        $(impl Kind for $type {
            const API_VERSION: &'static str = $version;
            const KIND: &'static str = $kind;
        })+
    };
}

kinds! {
    Gateway: "gateway.networking.k8s.io/v1" "Gateway";
    HttpRoute: "gateway.networking.k8s.io/v1" "HTTPRoute";
    ReferenceGrant: "gateway.networking.k8s.io/v1" "ReferenceGrant";
    FrontendTlsPolicy: "alb.networking.azure.io/v1" "FrontendTLSPolicy";
    Secret: "v1" "Secret";
    ConfigMap: "v1" "ConfigMap";
    Service: "v1" "Service";
    EndpointSlice: "discovery.k8s.io/v1" "EndpointSlice";
    Backend: "gateway.yett.dev/v1alpha1" "Backend";
}

impl Kind for GatewayClass {
    const API_VERSION: &'static str = "gateway.networking.k8s.io/v1";
    const KIND: &'static str = "GatewayClass";
    const NAMESPACED: bool = false;
}

impl Kind for Namespace {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Namespace";
    const NAMESPACED: bool = false;
}

impl<T> Object<T> {
    /// The order of objects: by namespace, then by name.
    pub fn key(&self) -> (&str, &str) {
        (&self.meta.namespace, &self.meta.name)
    }
}

impl<T: Kind> fmt::Display for Object<T> {
    /// `Kind namespace/name`, as findings name objects; `Kind name` where there is no namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key() {
            ("", name) => write!(f, "{} {name}", T::KIND),
            (namespace, name) => write!(f, "{} {namespace}/{name}", T::KIND),
        }
    }
}

/// The objects of one kind, ordered by namespace and name.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects<T> {
    sorted: Vec<Arc<Object<T>>>,
}

impl<T> Default for Objects<T> {
    fn default() -> Objects<T> {
        Objects { sorted: Vec::new() }
    }
}

impl<T> Objects<T> {
    /// The object of this name; the namespace is empty for kinds without one.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object<T>>> {
        self.sorted.get(self.position(namespace, name).ok()?)
    }

    /// All objects, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Object<T>>> {
        self.sorted.iter()
    }

    /// The objects of one namespace, in order.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<Object<T>>> {
        let start = self.sorted.partition_point(|object| *object.meta.namespace < *namespace);
        let end = self.sorted.partition_point(|object| *object.meta.namespace <= *namespace);
        self.sorted.get(start..end).unwrap_or_default().iter()
    }

    /// Adds an object. The one that holds the name already stays, and the newcomer comes back with it as the error.
    pub fn insert(&mut self, object: Object<T>) -> Result<(), Box<(Object<T>, Arc<Object<T>>)>> {
        match self.position(&object.meta.namespace, &object.meta.name) {
            Ok(position) => Err(Box::new((object, Arc::clone(&self.sorted[position])))),
            Err(position) => {
                self.sorted.insert(position, Arc::new(object));
                Ok(())
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    fn position(&self, namespace: &str, name: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|object| object.key().cmp(&(namespace, name)))
    }
}

impl<'a, T> IntoIterator for &'a Objects<T> {
    type Item = &'a Arc<Object<T>>;
    type IntoIter = std::slice::Iter<'a, Arc<Object<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(namespace: &str, name: &str) -> Object<Namespace> {
        let meta =
            ObjectMeta { name: name.to_owned(), namespace: namespace.to_owned(), ..ObjectMeta::default() };
        Object { meta, spec: Namespace {}, origin: Origin::default() }
    }

    #[test]
    fn objects_stay_in_order_and_names_are_unique() {
        let mut objects = Objects::default();
        for (space, name) in [("b", "x"), ("a", "z"), ("c", "a"), ("b", "a"), ("a-b", "m")] {
            objects.insert(namespace(space, name)).unwrap();
        }
        assert!(objects.insert(namespace("b", "x")).is_err());
        let keys: Vec<_> = objects.iter().map(|object| object.key()).collect();
        assert_eq!(keys, [("a", "z"), ("a-b", "m"), ("b", "a"), ("b", "x"), ("c", "a")]);
        assert_eq!(objects.in_namespace("b").count(), 2);
        assert_eq!(objects.in_namespace("a").count(), 1);
        assert_eq!(objects.in_namespace("none").count(), 0);
        assert!(objects.get("a-b", "m").is_some() && objects.get("a", "m").is_none());
    }
}
