//! The one way from a reference to the object it names.
//!
//! A reference into another namespace needs a ReferenceGrant there. The grant is looked up first and the object only
//! if it is granted, so that nobody learns from a status whether an object of another namespace exists.

use std::sync::Arc;

use super::World;
use super::conditions::Fault;
use super::findings::Code;
use crate::resources::refs::namespace_or;
use crate::resources::{Kind, Object, Objects};

/// Who refers: group, kind and namespace of the object that a reference stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
}

impl<'a> Holder<'a> {
    pub(super) fn of<T: Kind>(object: &'a Object<T>) -> Holder<'a> {
        Holder { group: group::<T>(), kind: T::KIND, namespace: &object.meta.namespace }
    }
}

/// Why a reference leads nowhere, in words.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// No ReferenceGrant; nothing is said about whether the object exists.
    NotPermitted(String),
    /// Permitted, but there is no such object.
    Missing(String),
}

impl Unresolved {
    /// As a fault of the field: `RefNotPermitted`, or `missing` where the object is not there.
    pub(super) fn fault(&self, field: &str, missing: &'static str) -> Fault {
        match self {
            Unresolved::NotPermitted(words) => Fault::at("RefNotPermitted", field, words),
            Unresolved::Missing(words) => Fault::at(missing, field, words),
        }
    }

    /// The finding's code: [`Code::NotPermitted`], or `missing`.
    pub(super) fn code(&self, missing: Code) -> Code {
        match self {
            Unresolved::NotPermitted(_) => Code::NotPermitted,
            Unresolved::Missing(_) => missing,
        }
    }

    /// The words alone.
    pub(super) fn words(&self) -> &str {
        let (Unresolved::NotPermitted(words) | Unresolved::Missing(words)) = self;
        words
    }
}

/// The object of `objects` that a reference in `holder` names; `namespace` as written there.
pub(super) fn resolve<'a, T: Kind>(
    world: World<'a>,
    holder: Holder<'_>,
    objects: &'a Objects<T>,
    namespace: Option<&str>,
    name: &str,
) -> Result<&'a Arc<Object<T>>, Unresolved> {
    let namespace = namespace_or(namespace, holder.namespace);
    permit::<T>(world, holder, namespace, name)?;
    objects
        .get(namespace, name)
        .ok_or_else(|| Unresolved::Missing(format!("{} {namespace}/{name} does not exist", T::KIND)))
}

/// Whether `holder` may refer to the object of kind `T`, existing or not.
fn permit<T: Kind>(
    world: World<'_>,
    holder: Holder<'_>,
    namespace: &str,
    name: &str,
) -> Result<(), Unresolved> {
    let from = (holder.group, holder.kind, holder.namespace);
    if world.resources.may_refer(from, (group::<T>(), T::KIND, namespace, name)) {
        return Ok(());
    }
    Err(Unresolved::NotPermitted(format!(
        "no ReferenceGrant of namespace {namespace} lets a {} of namespace {} refer to {} {namespace}/{name}",
        holder.kind,
        holder.namespace,
        T::KIND,
    )))
}

/// The API group of a kind; empty for the core group.
pub(super) fn group<T: Kind>() -> &'static str {
    T::API_VERSION.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, yaml};
    use super::*;
    use crate::resources::{Gateway, Secret};

    #[test]
    fn the_grant_comes_before_the_object() {
        let resources = yaml(
            r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: web}
spec: {gatewayClassName: c, listeners: [{name: l, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Secret
metadata: {name: near, namespace: web}
---
apiVersion: v1
kind: Secret
metadata: {name: granted, namespace: certs}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, namespace: certs}
---
apiVersion: v1
kind: Secret
metadata: {name: other, namespace: closed}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: some, namespace: certs}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: web}]
  to: [{group: "", kind: Secret, name: granted}, {group: "", kind: Secret, name: gone}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: to-routes, namespace: closed}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: web}]
  to: [{group: "", kind: Secret}]
"#,
        );
        let facts = testing::facts();
        let world = World { resources: &resources, facts: &facts };
        let gateway: &Object<Gateway> = resources.gateways.get("web", "g").unwrap();
        let outcome = |namespace: Option<&str>, name: &str| match resolve::<Secret>(
            world,
            Holder::of(gateway),
            &resources.secrets,
            namespace,
            name,
        ) {
            Ok(_) => "found",
            Err(Unresolved::NotPermitted(_)) => "not permitted",
            Err(Unresolved::Missing(_)) => "missing",
        };
        let table = [
            ("the own namespace needs no grant", None, "near", "found"),
            ("also when named", Some("web"), "near", "found"),
            ("missing in the own namespace", None, "gone", "missing"),
            ("granted by name", Some("certs"), "granted", "found"),
            ("granted but missing", Some("certs"), "gone", "missing"),
            ("exists but not granted", Some("certs"), "hidden", "not permitted"),
            ("does not exist and is not granted", Some("certs"), "nothing", "not permitted"),
            ("granted to another kind", Some("closed"), "other", "not permitted"),
            ("no such namespace", Some("nowhere"), "x", "not permitted"),
        ];
        for (description, namespace, name, expected) in table {
            assert_eq!(outcome(namespace, name), expected, "{description}");
        }
    }
}
