//! Documents as written: the objects that desired state is made of.
//!
//! In comes the text of documents, out come typed [`Object`]s in [`Resources`], complete with the defaults of their
//! kinds and knowing where each field stands, and [`Problem`]s for everything that was not understood. What the objects
//! mean together is for translation to say; where the text comes from is for the sources to know.
//!
//! Field names are those of Gateway API v1.7.0. Nothing here touches a file, a clock or a log.

pub mod backend;
mod checks;
pub mod configmap;
pub mod defaults;
pub mod endpointslice;
pub mod frontendtlspolicy;
pub mod gateway;
pub mod gatewayclass;
pub mod httproute;
pub mod meta;
pub mod namespace;
mod object;
mod problem;
mod read;
pub mod referencegrant;
mod referred;
pub mod refs;
pub mod revocationpolicy;
pub mod secret;
pub mod service;
mod spans;
#[cfg(test)]
mod tests;
mod unreadable;
mod yaml;

pub use backend::Backend;
pub use checks::outline::{KnownField, KnownForm};
pub use configmap::ConfigMap;
pub use endpointslice::EndpointSlice;
pub use frontendtlspolicy::FrontendTlsPolicy;
pub use gateway::Gateway;
pub use gatewayclass::GatewayClass;
pub use httproute::HttpRoute;
pub use meta::ObjectMeta;
pub use namespace::Namespace;
pub use object::{AnyObject, Kind, KnownKind, Object, Objects, Origin, known_kinds};
pub use problem::{Code, Problem, Severity};
pub use read::{Entry, Identity, duplicate, known_fields, read};
pub use referencegrant::ReferenceGrant;
pub use referred::Referred;
pub use revocationpolicy::RevocationPolicy;
pub use secret::{Secret, SecretBytes};
pub use service::Service;
pub use spans::{Place, Spans};
pub use unreadable::{ListenerName, PolicyKind, UnreadablePolicy};

/// The whole set of objects that desired state is made of, each kind ordered by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// GatewayClasses; without namespace.
    pub gateway_classes: Objects<GatewayClass>,
    /// Gateways.
    pub gateways: Objects<Gateway>,
    /// HTTPRoutes.
    pub http_routes: Objects<HttpRoute>,
    /// FrontendTLSPolicies.
    pub frontend_tls_policies: Objects<FrontendTlsPolicy>,
    /// ReferenceGrants.
    pub reference_grants: Objects<ReferenceGrant>,
    /// Namespaces; without namespace.
    pub namespaces: Objects<Namespace>,
    /// Secrets.
    pub secrets: Objects<Secret>,
    /// ConfigMaps.
    pub config_maps: Objects<ConfigMap>,
    /// Services.
    pub services: Objects<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Objects<EndpointSlice>,
    /// Backends of our own.
    pub backends: Objects<Backend>,
    /// RevocationPolicies of our own.
    pub revocation_policies: Objects<RevocationPolicy>,
    /// Policies that say whom to trust and cannot be read: what they may cover must not be served.
    pub unreadable_policies: Vec<UnreadablePolicy>,
}

impl Resources {
    /// Whether an object of namespace `holder.2`, of group and kind `holder.0` and `holder.1`, may refer to the object
    /// (group, kind, namespace, name): always within its own namespace, else by a ReferenceGrant of the other one.
    pub fn may_refer(&self, holder: (&str, &str, &str), to: (&str, &str, &str, &str)) -> bool {
        let (group, kind, namespace, name) = to;
        holder.2 == namespace
            || self
                .reference_grants
                .in_namespace(namespace)
                .any(|grant| grant.spec.permits(holder, (group, kind, name)))
    }
}
