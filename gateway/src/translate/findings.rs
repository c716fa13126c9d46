//! Findings of translation: their codes, and the list that gives each its place in the documents.

use crate::model::{Finding, Severity};
use crate::resources::{Kind, Object};

impl Code {
    /// What to do about it, where the code alone tells.
    fn help(self) -> Option<&'static str> {
        match self {
            Code::NotPermitted => {
                Some("a ReferenceGrant in the namespace of what is referred to would permit it")
            }
            Code::PortTaken => Some("give one of them another port, address or port map"),
            Code::NotBound => Some("free the port, or bind another one with --port-map LISTENER=BOUND"),
            Code::ListenerConflict => Some("give the listeners distinct host names, or other ports"),
            Code::CertificateDates | Code::TrustDates => Some("renew the certificate"),
            _ => None,
        }
    }
}

codes! {
    /// The sorts of findings that translation makes. Codes are stable: a retired one is not given again.
    enum Code;

    /// A GatewayClass asks for something that is not supported.
    ClassRefused = "YT0201",
    /// A Gateway as a whole cannot be served.
    GatewayRefused = "YT0202",
    /// A listener asks for something that is not supported.
    ListenerRefused = "YT0203",
    /// Listeners of one Gateway exclude each other.
    ListenerConflict = "YT0204",
    /// Another listener holds the address and port already.
    PortTaken = "YT0205",
    /// A socket could not be bound.
    NotBound = "YT0206",
    /// A server certificate cannot be used.
    CertificateUnusable = "YT0207",
    /// A server certificate has expired, is about to, or is not valid yet.
    CertificateDates = "YT0208",
    /// A reference into another namespace has no ReferenceGrant.
    NotPermitted = "YT0209",
    /// A bundle of trust anchors cannot be used.
    TrustUnusable = "YT0210",
    /// A part of a bundle of trust anchors cannot be used; the rest is.
    TrustPartlyUnusable = "YT0211",
    /// A trust anchor has expired, is about to, or is not valid yet.
    TrustDates = "YT0212",
    /// Clients without a valid certificate are let in by configuration.
    InsecureValidation = "YT0213",
    /// A policy is not accepted.
    PolicyRefused = "YT0214",
    /// A part of a policy's target is not there or belongs to another policy.
    PolicyTarget = "YT0215",
    /// A route names a Gateway that does not exist.
    ParentMissing = "YT0216",
    /// A route does not attach to a parent that it names.
    RouteNotAttached = "YT0217",
    /// A rule of a route cannot be applied.
    RuleDropped = "YT0218",
    /// A backend cannot be used.
    BackendUnresolved = "YT0219",
    /// A backend has no ready endpoint.
    NoEndpoints = "YT0220",
    /// A field is understood but has no effect yet.
    NotApplied = "YT0221",
    /// An object is meant for somebody else, or for nothing.
    NotOurs = "YT0222",
    /// A source of revocation data cannot be used.
    RevocationSourceUnusable = "YT0223",
}

/// Findings as they come; [`Findings::into_sorted`] puts them in the order of the documents.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// Something that is not in service. `field` is a path as in `spec.listeners[0].tls`, or empty.
    pub(super) fn error<T: Kind>(
        &mut self,
        code: Code,
        object: &Object<T>,
        field: &str,
        message: impl Into<String>,
    ) {
        self.add(code, Severity::Error, object, field, message.into());
    }

    /// Something that works but is likely not what was meant.
    pub(super) fn warning<T: Kind>(
        &mut self,
        code: Code,
        object: &Object<T>,
        field: &str,
        message: impl Into<String>,
    ) {
        self.add(code, Severity::Warning, object, field, message.into());
    }

    fn add<T: Kind>(
        &mut self,
        code: Code,
        severity: Severity,
        object: &Object<T>,
        field: &str,
        message: String,
    ) {
        let place = object.origin.locate(field);
        self.list.push(Finding {
            code: code.as_str(),
            severity,
            file: object.origin.file.clone(),
            line: place.line,
            column: place.column,
            object: object.to_string(),
            field: field.to_owned(),
            message,
            help: code.help().map(str::to_owned),
        });
    }

    /// By file, line and column; what has no file comes last. Repetitions are dropped.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.list.sort_by(Finding::order);
        self.list.dedup();
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_are_distinct_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code:?}");
            assert!(code.as_str().len() == 6 && code.as_str().starts_with("YT02"), "{code:?}");
            assert!(code.meaning().ends_with('.'), "{code:?}");
        }
    }
}
