//! Policies of trust that were written but cannot be read.
//!
//! Leaving such a policy out like any other faulty object would serve without client certificates what was meant to
//! demand them. What can still be told of its target is kept, so that those listeners are not served at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::defaults;
use super::object::Origin;

/// Namespace and name of a Gateway, and the name of a listener of it.
pub type ListenerName = (String, String, String);

/// A FrontendTLSPolicy that cannot be read, and the listeners it may have been meant for.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadablePolicy {
    /// Where it stands.
    pub origin: Origin,
    /// Namespace and name of the Gateway; `None` where that could not be read either, which means any.
    pub gateway: Option<(String, String)>,
    /// Names of the listeners; empty means all of the Gateway.
    pub section_names: Vec<String>,
    /// Listeners that were in service before the policy was written: it never took effect, and they stay as they are.
    pub spared: Arc<BTreeSet<ListenerName>>,
}

impl UnreadablePolicy {
    /// Whether this listener must not be served because the policy may have been meant for it.
    pub fn may_cover(&self, namespace: &str, gateway: &str, listener: &str) -> bool {
        let meant = self.gateway.as_ref().is_none_or(|(space, name)| space == namespace && name == gateway);
        meant
            && (self.section_names.is_empty() || self.section_names.iter().any(|name| name == listener))
            && !self.spared.contains(&(namespace.to_owned(), gateway.to_owned(), listener.to_owned()))
    }

    /// What a faulty document says of its target, if it is such a policy.
    pub(super) fn in_value(value: &Value, origin: &Origin) -> Option<UnreadablePolicy> {
        if value.get("kind")?.as_str()? != "FrontendTLSPolicy" {
            return None;
        }
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let own = text("/metadata/namespace").unwrap_or_else(|| defaults::NAMESPACE.to_owned());
        let gateway =
            text("/spec/targetRef/name").map(|name| (text("/spec/targetRef/namespace").unwrap_or(own), name));
        // Half a list might leave out the listener that was meant.
        let names = value.pointer("/spec/targetRef/sectionNames").and_then(Value::as_array);
        let names =
            names.and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        let section_names = if gateway.is_some() { names.unwrap_or_default() } else { Vec::new() };
        Some(UnreadablePolicy { origin: origin.clone(), gateway, section_names, spared: Arc::default() })
    }

    /// Whether a text that is no YAML looks like such a policy.
    pub(super) fn in_text(text: &str, origin: Origin) -> Option<UnreadablePolicy> {
        let says_so = text.lines().any(|line| line.contains("kind") && line.contains("FrontendTLSPolicy"));
        says_so.then(|| UnreadablePolicy {
            origin,
            gateway: None,
            section_names: Vec::new(),
            spared: Arc::default(),
        })
    }
}
