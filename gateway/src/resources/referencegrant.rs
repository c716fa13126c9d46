//! ReferenceGrant: lets objects of other namespaces refer to those of its own.

use serde::Deserialize;

/// `spec` of a `gateway.networking.k8s.io` ReferenceGrant, v1 and v1beta1 alike.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ReferenceGrant {
    /// Who may refer, 1 to 16.
    pub from: Vec<ReferenceGrantFrom>,
    /// To what, 1 to 16.
    pub to: Vec<ReferenceGrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ReferenceGrantFrom {
    /// API group of the referring object.
    pub group: String,
    /// Kind of the referring object.
    pub kind: String,
    /// Namespace of the referring object.
    pub namespace: String,
}

/// What may be referred to, in the grant's own namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct ReferenceGrantTo {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// One object; every object of the kind when absent.
    #[serde(default)]
    pub name: Option<String>,
}

impl ReferenceGrant {
    /// Whether this grant lets an object (group, kind, namespace) refer to an object (group, kind, name) of the
    /// namespace that the grant stands in.
    pub fn permits(&self, from: (&str, &str, &str), to: (&str, &str, &str)) -> bool {
        self.from.iter().any(|f| (f.group.as_str(), f.kind.as_str(), f.namespace.as_str()) == from)
            && self.to.iter().any(|t| {
                (t.group.as_str(), t.kind.as_str()) == (to.0, to.1)
                    && t.name.as_deref().is_none_or(|name| name == to.2)
            })
    }
}
