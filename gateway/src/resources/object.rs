//! An object with its metadata and the place it was read from, and the ordered set of the objects of one kind.

use std::fmt;
use std::sync::Arc;

use super::Resources;
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
use super::revocationpolicy::RevocationPolicy;
use super::secret::{FILE_ANNOTATION_PREFIX, Secret};
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
    /// A value `data["key"]` is found wherever it was written.
    pub fn locate(&self, path: &str) -> Place {
        let key = path.strip_prefix("data[\"").and_then(|rest| rest.strip_suffix("\"]"));
        let elsewhere = key.filter(|_| self.spans.find(path).is_none()).and_then(|key| {
            let annotation = format!("metadata.annotations[\"{FILE_ANNOTATION_PREFIX}{key}\"]");
            let written = [annotation, format!("stringData[\"{key}\"]"), format!("binaryData[\"{key}\"]")];
            written.iter().find_map(|path| self.spans.find(path))
        });
        elsewhere.unwrap_or_else(|| self.spans.locate(path))
    }
}

/// What a kind is called.
pub trait Kind {
    /// Version served by us, group included: `gateway.networking.k8s.io/v1`.
    const API_VERSION: &'static str;
    /// The kind's name.
    const KIND: &'static str;
    /// Whether its objects live in namespaces.
    const NAMESPACED: bool;
    /// Whether its fields stand in a `spec`, rather than beside the metadata.
    const HAS_SPEC: bool;
}

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownKind {
    /// Version served by us, group included.
    pub api_version: &'static str,
    /// The kind's name.
    pub kind: &'static str,
    /// Whether its objects are looked at where something names them, and not otherwise.
    pub is_by_name: bool,
}

macro_rules! kinds {
    ($($type:ident $field:ident: $version:literal $kind:literal, namespaced $namespaced:literal, spec $spec:literal;)+) => {
        $(impl Kind for $type {
            const API_VERSION: &'static str = $version;
            const KIND: &'static str = $kind;
            const NAMESPACED: bool = $namespaced;
            const HAS_SPEC: bool = $spec;
        })+

        /// Every kind that is read.
        pub fn known_kinds() -> impl Iterator<Item = KnownKind> {
            [$(($version, $kind)),+].into_iter().map(|(api_version, kind)| KnownKind {
                api_version,
                kind,
                is_by_name: matches!(kind, Secret::KIND | ConfigMap::KIND),
            })
        }

        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyObject {
            $(#[doc = concat!("A ", $kind, ".")] $type(Arc<Object<$type>>),)+
        }

        impl AnyObject {
            /// Its metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self {
                    $(AnyObject::$type(object) => &object.meta,)+
                }
            }

            /// Changes its metadata; other holders of the same object keep theirs.
            pub fn meta_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(AnyObject::$type(object) => &mut Arc::make_mut(object).meta,)+
                }
            }

            /// Where it was read.
            pub fn origin(&self) -> &Origin {
                match self {
                    $(AnyObject::$type(object) => &object.origin,)+
                }
            }
        }

        impl fmt::Display for AnyObject {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(AnyObject::$type(object) => object.fmt(f),)+
                }
            }
        }

        impl Resources {
            /// Adds an object. Where another one of the same kind and name is there already it stays, and its origin is
            /// the error.
            pub fn insert(&mut self, object: AnyObject) -> Result<(), Origin> {
                match object {
                    $(AnyObject::$type(object) => {
                        self.$field.insert(object).map_err(|incumbent| incumbent.origin.clone())
                    })+
                }
            }

            /// Where the object that findings name so (`Kind namespace/name`) was read.
            pub fn origin(&self, object: &str) -> Option<&Origin> {
                let (kind, name) = object.split_once(' ')?;
                let (namespace, name) = name.split_once('/').unwrap_or(("", name));
                match kind {
                    $($kind => Some(&self.$field.get(namespace, name)?.origin),)+
                    _ => None,
                }
            }

            /// Objects of all kinds together.
            pub fn len(&self) -> usize {
                [$(self.$field.len()),+].iter().sum()
            }

            /// Whether there is no object of any kind.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }
    };
}

kinds! {
    GatewayClass gateway_classes: "gateway.networking.k8s.io/v1" "GatewayClass", namespaced false, spec true;
    Gateway gateways: "gateway.networking.k8s.io/v1" "Gateway", namespaced true, spec true;
    HttpRoute http_routes: "gateway.networking.k8s.io/v1" "HTTPRoute", namespaced true, spec true;
    ReferenceGrant reference_grants: "gateway.networking.k8s.io/v1" "ReferenceGrant", namespaced true, spec true;
    FrontendTlsPolicy frontend_tls_policies:
        "alb.networking.azure.io/v1" "FrontendTLSPolicy", namespaced true, spec true;
    Namespace namespaces: "v1" "Namespace", namespaced false, spec false;
    Secret secrets: "v1" "Secret", namespaced true, spec false;
    ConfigMap config_maps: "v1" "ConfigMap", namespaced true, spec false;
    Service services: "v1" "Service", namespaced true, spec true;
    EndpointSlice endpoint_slices: "discovery.k8s.io/v1" "EndpointSlice", namespaced true, spec false;
    Backend backends: "gateway.yett.dev/v1alpha1" "Backend", namespaced true, spec true;
    RevocationPolicy revocation_policies:
        "gateway.yett.dev/v1alpha1" "RevocationPolicy", namespaced true, spec true;
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

    /// Adds an object. Where another one holds its name already, that one stays and comes back as the error.
    pub fn insert(&mut self, object: Arc<Object<T>>) -> Result<(), Arc<Object<T>>> {
        match self.position(&object.meta.namespace, &object.meta.name) {
            Ok(position) => Err(Arc::clone(&self.sorted[position])),
            Err(position) => {
                self.sorted.insert(position, object);
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

    fn namespace(namespace: &str, name: &str) -> Arc<Object<Namespace>> {
        let meta =
            ObjectMeta { name: name.to_owned(), namespace: namespace.to_owned(), ..ObjectMeta::default() };
        Arc::new(Object { meta, spec: Namespace {}, origin: Origin::default() })
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
