//! The spec defaults of every kind read, in one place.
//!
//! An API server fills these in before a controller sees an object; a file has them missing. The serde types name the
//! functions here as their field defaults, so a value that has been read is complete and nothing later asks again.
//! The values are those of the Gateway API v1.7.0 definitions (`+kubebuilder:default`) and of the core kinds.

use std::time::Duration;

use super::gateway::{AllowedRoutes, FrontendValidationMode, NamespacesFrom, RouteNamespaces, TlsMode};
use super::httproute::{HttpPathMatch, HttpRouteMatch, HttpRouteRule, PathMatchType, ValueMatchType};

/// Group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The namespace of an object from a file that names none.
pub const NAMESPACE: &str = "default";

pub(super) fn gateway_group() -> String {
    GATEWAY_GROUP.to_owned()
}

pub(super) fn gateway_kind() -> String {
    "Gateway".to_owned()
}

pub(super) fn service_kind() -> String {
    "Service".to_owned()
}

pub(super) fn secret_kind() -> String {
    "Secret".to_owned()
}

/// Backend weight 1: an equal share.
pub(super) fn weight() -> u32 {
    1
}

/// A listener admits the routes of its own namespace.
pub(super) fn allowed_routes() -> AllowedRoutes {
    AllowedRoutes { namespaces: route_namespaces(), kinds: Vec::new() }
}

pub(super) fn route_namespaces() -> RouteNamespaces {
    RouteNamespaces { from: namespaces_from_same(), selector: None }
}

pub(super) fn namespaces_from_same() -> NamespacesFrom {
    NamespacesFrom::Same
}

pub(super) fn tls_mode() -> TlsMode {
    TlsMode::Terminate
}

pub(super) fn frontend_validation_mode() -> FrontendValidationMode {
    FrontendValidationMode::AllowValidOnly
}

pub(super) fn address_type() -> String {
    "IPAddress".to_owned()
}

/// A route without rules has one that matches every request.
pub(super) fn rules() -> Vec<HttpRouteRule> {
    vec![HttpRouteRule { matches: matches(), ..HttpRouteRule::default() }]
}

/// A rule without matches matches every request.
pub(super) fn matches() -> Vec<HttpRouteMatch> {
    vec![HttpRouteMatch { path: path_match(), ..HttpRouteMatch::default() }]
}

pub(super) fn path_match() -> HttpPathMatch {
    HttpPathMatch { kind: path_match_type(), value: path_value() }
}

pub(super) fn path_match_type() -> PathMatchType {
    PathMatchType::PathPrefix
}

pub(super) fn path_value() -> String {
    "/".to_owned()
}

pub(super) fn value_match_type() -> ValueMatchType {
    ValueMatchType::Exact
}

/// A redirect answers 302 Found.
pub(super) fn redirect_status() -> u16 {
    302
}

/// Seconds for which a CORS preflight may be cached.
pub(super) fn cors_max_age_s() -> u32 {
    5
}

/// A fraction is of 100.
pub(super) fn denominator() -> u32 {
    100
}

/// AGC's predefined policies: the older one, named by the kind `predefined`.
pub(super) fn agc_policy_name() -> String {
    "2023-06".to_owned()
}

pub(super) fn agc_policy_type() -> String {
    "predefined".to_owned()
}

pub(super) fn secret_type() -> String {
    "Opaque".to_owned()
}

pub(super) fn service_type() -> String {
    "ClusterIP".to_owned()
}

pub(super) fn port_protocol() -> String {
    "TCP".to_owned()
}

/// A [`Backend`](super::backend::Backend) speaks cleartext HTTP/1.1.
pub(super) fn backend_protocol() -> String {
    "http".to_owned()
}

/// A [`RevocationPolicy`](super::revocationpolicy::RevocationPolicy): data decides for a day past its nextUpdate.
pub(super) fn staleness_max() -> Duration {
    Duration::from_secs(24 * 3600)
}
