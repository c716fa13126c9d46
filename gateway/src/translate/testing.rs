//! What the tests of translation share: documents from snippets, facts, a small PKI, and look-ups in a report.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::Value;

use crate::model::{Facts, Report};
use crate::resources::Resources;

/// The documents of a text; panics where the text has a fault.
pub(super) fn yaml(text: &str) -> Resources {
    let (resources, problems) = Resources::from_text(text);
    assert!(problems.is_empty(), "{problems:#?}\n{text}");
    resources
}

/// File mode on the unspecified addresses, nothing bound yet, at the time of the certificates of [`pki`].
pub(super) fn facts() -> Facts {
    Facts {
        controllers: BTreeSet::from([
            super::class::OWN_CONTROLLER.to_owned(),
            super::class::ALB_CONTROLLER.to_owned(),
        ]),
        file_mode: true,
        bind_addresses: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
        node_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        now: pki::NOW,
        ..Facts::default()
    }
}

/// As [`facts`], with every frontend of the plan bound.
pub(super) fn bound(resources: &Resources) -> Facts {
    let mut facts = facts();
    let (plan, _) = super::translate(resources, &facts);
    facts.bound = plan.frontends.keys().map(|id| (id.clone(), Ok(()))).collect();
    facts
}

/// For a value of a Secret; quoted, so that an empty one is no null.
pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// The status of an object; an empty namespace for kinds without one.
pub(super) fn status(report: &Report, kind: &str, namespace: &str, name: &str) -> Value {
    let found = report.objects.iter().find(|object| {
        *object.kind == *kind
            && object.namespace.as_deref().unwrap_or_default() == namespace
            && *object.name == *name
    });
    found.unwrap_or_else(|| panic!("no status of {kind} {namespace}/{name}")).status.clone()
}

/// The status of one listener.
pub(super) fn listener(report: &Report, namespace: &str, gateway: &str, name: &str) -> Value {
    let gateway = status(report, "Gateway", namespace, gateway);
    let listeners = gateway["listeners"].as_array().unwrap();
    listeners.iter().find(|listener| listener["name"] == name).unwrap().clone()
}

/// A condition of whatever has `conditions`; null where there is none of the type.
pub(super) fn condition(of: &Value, kind: &str) -> Value {
    let conditions = of["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).cloned().unwrap_or(Value::Null)
}

/// `status/reason` of a condition, or `-` where there is none.
pub(super) fn brief(of: &Value, kind: &str) -> String {
    match condition(of, kind) {
        Value::Null => "-".to_owned(),
        condition => {
            format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
        }
    }
}

pub(super) mod pki {
    //! A certificate authority of a moment, valid for a year around [`NOW`].

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
        KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    };

    /// 2026-11-24.
    pub(crate) const NOW: i64 = 1_795_478_400;

    pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

    pub(crate) struct Leaf {
        pem: String,
        key: String,
    }

    fn params(name: &str, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2026, 6, 1);
        params.not_after = rcgen::date_time_ymd(2027, 6, 1);
        params
    }

    pub(crate) fn ca(name: &str) -> Ca {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    impl Ca {
        pub(crate) fn pem(&self) -> String {
            self.0.pem()
        }

        pub(crate) fn key_pem(&self) -> String {
            self.0.key().serialize_pem()
        }

        pub(crate) fn server(&self, name: &str, names: &[&str]) -> Leaf {
            let key = KeyPair::generate().unwrap();
            let certificate = params(name, names).signed_by(&key, &self.0).unwrap();
            Leaf { pem: certificate.pem(), key: key.serialize_pem() }
        }

        pub(crate) fn crl(&self) -> String {
            let params = CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(2026, 11, 1),
                next_update: rcgen::date_time_ymd(2026, 12, 1),
                crl_number: SerialNumber::from(1u64),
                issuing_distribution_point: None,
                revoked_certs: Vec::<RevokedCertParams>::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(&self.0).unwrap().pem().unwrap()
        }
    }

    impl Leaf {
        pub(crate) fn pem(&self) -> String {
            self.pem.clone()
        }

        pub(crate) fn key_pem(&self) -> String {
            self.key.clone()
        }
    }
}
