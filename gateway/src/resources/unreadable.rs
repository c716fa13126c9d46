//! Policies of trust that were written but cannot be read.
//!
//! Leaving such a policy out like any other faulty object would serve without client certificates what was meant to
//! demand them, or revoked clients what was meant to refuse them. What can still be told of its target is kept, so that
//! those listeners are not served at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::object::{Kind, Origin};
use super::{FrontendTlsPolicy, Resources, RevocationPolicy, defaults};

/// Namespace and name of a Gateway, and the name of a listener of it.
pub type ListenerName = (String, String, String);

/// Which kind a policy of trust is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyKind {
    /// It demands client certificates.
    FrontendTls,
    /// It demands that they are not revoked.
    Revocation,
}

impl PolicyKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FrontendTls => FrontendTlsPolicy::KIND,
            Self::Revocation => RevocationPolicy::KIND,
        }
    }
}

/// A policy of trust that cannot be read, and the listeners it may have been meant for.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadablePolicy {
    /// Which kind.
    pub kind: PolicyKind,
    /// Where it stands.
    pub origin: Origin,
    /// What it was attached to; `None` where that could not be read either, which means anything.
    pub targets: Option<Vec<UnreadableTarget>>,
    /// Listeners that were in service before the policy was written: it never took effect, and they stay as they are.
    pub spared: Arc<BTreeSet<ListenerName>>,
}

/// A target of such a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnreadableTarget {
    /// Namespace and name of the Gateway.
    pub gateway: (String, String),
    /// Names of the listeners; empty means all of the Gateway.
    pub section_names: Vec<String>,
}

impl UnreadablePolicy {
    /// Whether this listener must not be served because the policy may have been meant for it.
    pub fn may_cover(&self, namespace: &str, gateway: &str, listener: &str) -> bool {
        let meant = |target: &UnreadableTarget| {
            let (space, name) = &target.gateway;
            space == namespace
                && name == gateway
                && (target.section_names.is_empty()
                    || target.section_names.iter().any(|name| name == listener))
        };
        self.targets.as_ref().is_none_or(|targets| targets.iter().any(meant))
            && !self.spared.contains(&(namespace.to_owned(), gateway.to_owned(), listener.to_owned()))
    }

    /// What a faulty document says of its targets, if it is such a policy.
    pub(super) fn in_value(value: &Value, origin: &Origin) -> Option<UnreadablePolicy> {
        let namespace =
            value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(defaults::NAMESPACE);
        let (kind, targets) = match value.get("kind")?.as_str()? {
            FrontendTlsPolicy::KIND => (PolicyKind::FrontendTls, frontend_target(value, namespace)),
            RevocationPolicy::KIND => (PolicyKind::Revocation, revocation_targets(value, namespace)),
            _ => return None,
        };
        Some(UnreadablePolicy { kind, origin: origin.clone(), targets, spared: Arc::default() })
    }

    /// Whether a text that is no YAML looks like such a policy.
    pub(super) fn in_text(text: &str, origin: Origin) -> Option<UnreadablePolicy> {
        let says =
            |kind: PolicyKind| text.lines().any(|line| line.contains("kind") && line.contains(kind.as_str()));
        let kind = [PolicyKind::FrontendTls, PolicyKind::Revocation].into_iter().find(|kind| says(*kind))?;
        Some(UnreadablePolicy { kind, origin, targets: None, spared: Arc::default() })
    }
}

impl Resources {
    /// Listeners that no unreadable policy may cover: one that comes later never was in force for them.
    pub fn settled_listeners(&self) -> BTreeSet<ListenerName> {
        let mut settled = BTreeSet::new();
        for gateway in &self.gateways {
            let (namespace, name) = gateway.key();
            for listener in &gateway.spec.listeners {
                let covers = |policy: &UnreadablePolicy| policy.may_cover(namespace, name, &listener.name);
                if !self.unreadable_policies.iter().any(covers) {
                    settled.insert((namespace.to_owned(), name.to_owned(), listener.name.clone()));
                }
            }
        }
        settled
    }
}

fn text(value: &Value, path: &str) -> Option<String> {
    value.pointer(path).and_then(Value::as_str).map(str::to_owned)
}

fn frontend_target(value: &Value, own_namespace: &str) -> Option<Vec<UnreadableTarget>> {
    let name = text(value, "/spec/targetRef/name")?;
    let namespace = text(value, "/spec/targetRef/namespace").unwrap_or_else(|| own_namespace.to_owned());
    // Half a list might leave out the listener that was meant.
    let names = value.pointer("/spec/targetRef/sectionNames").and_then(Value::as_array);
    let names = names.and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    Some(vec![UnreadableTarget { gateway: (namespace, name), section_names: names.unwrap_or_default() }])
}

/// All targets or none: the one that cannot be read may be the one that was meant.
fn revocation_targets(value: &Value, namespace: &str) -> Option<Vec<UnreadableTarget>> {
    let targets = value.pointer("/spec/targetRefs").and_then(Value::as_array)?;
    let target = |target: &Value| {
        let section_names = match target.get("sectionName") {
            Some(section) => section.as_str().map(str::to_owned).into_iter().collect(),
            None => Vec::new(),
        };
        Some(UnreadableTarget { gateway: (namespace.to_owned(), text(target, "/name")?), section_names })
    };
    let targets: Vec<_> = targets.iter().map(target).collect::<Option<_>>()?;
    (!targets.is_empty()).then_some(targets)
}
