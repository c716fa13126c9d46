//! Routing rules, as accepted: every value is already checked and in the form the data plane needs.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::Reason;
use super::backend::BackendKey;
use super::name::{Hostname, ObjectName};

/// One rule of one route as it stands on one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The route.
    pub route: ObjectName,
    /// The route's creationTimestamp in Unix seconds; older routes win ties. Unknown ones count as equal.
    pub created: Option<i64>,
    /// The rule's position in the route.
    pub index: usize,
    /// The rule's name, where the document gives one.
    pub name: Option<Arc<str>>,
    /// For which hosts it stands on this listener; never empty.
    pub hosts: Vec<RuleHost>,
    /// Any of these; never empty (the default is the path prefix `/`).
    pub matches: Vec<RequestMatch>,
    /// In the order they apply.
    pub filters: Vec<Filter>,
    /// What becomes of a matched request.
    pub action: Action,
    /// `timeouts.request`: until the answer is complete. `None`: the default; zero: unbounded.
    pub request_timeout: Option<Duration>,
    /// `timeouts.backendRequest`: for one exchange with a backend.
    pub backend_timeout: Option<Duration>,
}

/// A host for which a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHost {
    /// Intersection of listener and route; `None`: any host.
    pub matches: Option<Hostname>,
    /// The route's own hostname, which ranks the rule before paths and headers do; `None`: the route has none.
    pub own: Option<Hostname>,
}

/// Conditions that all must hold (Gateway API `HTTPRouteMatch`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMatch {
    /// The path condition.
    pub path: PathMatch,
    /// The method, if one is demanded.
    pub method: Option<Method>,
    /// Exact header values. For a header that comes in several lines, their values joined by `,` count.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Exact query parameter values; the first occurrence of a name counts.
    pub query: Vec<(Arc<str>, Arc<str>)>,
}

/// How a path is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(Arc<str>),
    /// Element-wise prefix: `/foo` means `/foo` and `/foo/…`, not `/foobar`. Kept without its trailing slash
    /// (`/` is kept as the empty string).
    Prefix(Arc<str>),
}

/// A change to messages on their way.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// RequestHeaderModifier
    RequestHeaders(HeaderEdit),
    /// ResponseHeaderModifier
    ResponseHeaders(HeaderEdit),
}

/// Gateway API `HTTPHeaderFilter`; applied in the order set, add, remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdit {
    /// Replace all values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Append a value.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Drop all values.
    pub remove: Vec<HeaderName>,
}

/// What becomes of a matched request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To one of the backends, by weight.
    Forward(Vec<WeightedBackend>),
    /// RequestRedirect
    Redirect(Redirect),
    /// No usable backend, or something the rule asks for is not there: the reason's status for every request.
    Refuse(Reason),
}

/// A backendRef.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedBackend {
    /// Share of the sum of weights; zero takes nothing.
    pub weight: u32,
    /// The backend, or why its share is refused.
    pub target: Result<BackendKey, Reason>,
    /// Filters of this backendRef, after the rule's.
    pub filters: Vec<Filter>,
}

/// Gateway API `HTTPRequestRedirectFilter`; what is `None` stays as in the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<RedirectScheme>,
    /// Host of the Location.
    pub hostname: Option<Arc<str>>,
    /// Port of the Location. `None`: the scheme's well-known port where a scheme is given, else the listener's port.
    pub port: Option<u16>,
    /// A new path.
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// A redirect's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectScheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// Gateway API `HTTPPathModifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// ReplaceFullPath
    Full(Arc<str>),
    /// ReplacePrefixMatch: the matched prefix makes way for this.
    Prefix(Arc<str>),
}
