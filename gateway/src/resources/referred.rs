//! Which Secrets and ConfigMaps the other objects name: a source need not have any but these.

use std::collections::BTreeSet;

use super::{ConfigMap, Kind as _, Resources, Secret};

/// A Secret or ConfigMap that something names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Referred {
    /// `Secret` or `ConfigMap`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Resources {
    /// The Secrets and ConfigMaps that Gateways and policies name, whether or not they may: that is judged later, and an
    /// object that nobody may refer to is not looked at.
    pub fn referred(&self) -> BTreeSet<Referred> {
        let mut referred = BTreeSet::new();
        let mut add = |kind: &str, namespace: &str, name: &str| {
            let kind = match kind {
                Secret::KIND => Secret::KIND,
                ConfigMap::KIND => ConfigMap::KIND,
                _ => return,
            };
            referred.insert(Referred { kind, namespace: namespace.to_owned(), name: name.to_owned() });
        };
        for gateway in &self.gateways {
            let own = gateway.meta.namespace.as_str();
            for tls in gateway.spec.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
                for reference in &tls.certificate_refs {
                    add(&reference.kind, reference.namespace.as_deref().unwrap_or(own), &reference.name);
                }
            }
            let frontend = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
            let configs = frontend.iter().flat_map(|frontend| {
                std::iter::once(&frontend.default).chain(frontend.per_port.iter().map(|port| &port.tls))
            });
            for validation in configs.filter_map(|config| config.validation.as_ref()) {
                for reference in &validation.ca_certificate_refs {
                    add(&reference.kind, reference.namespace.as_deref().unwrap_or(own), &reference.name);
                }
            }
        }
        for policy in &self.frontend_tls_policies {
            let own = policy.meta.namespace.as_str();
            let config = policy.spec.default.as_ref();
            if let Some(verify) = config.and_then(|config| config.verify.as_ref()) {
                let reference = &verify.ca_certificate_ref;
                add(&reference.kind, reference.namespace.as_deref().unwrap_or(own), &reference.name);
            }
        }
        for policy in &self.revocation_policies {
            let own = policy.meta.namespace.as_str();
            for crl in policy.spec.sources.iter().filter_map(|source| source.crl.as_ref()) {
                if let Some(reference) = &crl.secret_ref {
                    add(Secret::KIND, own, &reference.name);
                }
                if let Some(reference) = &crl.config_map_ref {
                    add(ConfigMap::KIND, own, &reference.name);
                }
            }
        }
        referred
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gateways_and_policies_name_is_found_in_the_namespace_that_is_meant() {
        let (resources, problems) = Resources::from_text(
            r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: front}
spec:
  gatewayClassName: yett
  listeners:
  - name: l
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{name: server}, {name: other, namespace: certs}]}
  tls:
    frontend:
      default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}
      perPort: [{port: 443, tls: {validation: {caCertificateRefs: [{group: "", kind: Secret, name: ca2, namespace: pki}]}}}]
---
apiVersion: alb.networking.azure.io/v1
kind: FrontendTLSPolicy
metadata: {name: p, namespace: front}
spec:
  targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}
  default: {verify: {caCertificateRef: {name: contoso}}}
---
apiVersion: gateway.yett.dev/v1alpha1
kind: RevocationPolicy
metadata: {name: r, namespace: front}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}]
  sources: [{crl: {secretRef: {name: lists}}}, {crl: {configMapRef: {name: lists}}}]
"#,
        );
        assert_eq!(problems, []);
        let names: Vec<_> = resources
            .referred()
            .into_iter()
            .map(|one| format!("{} {}/{}", one.kind, one.namespace, one.name))
            .collect();
        let expected = [
            "ConfigMap front/ca",
            "ConfigMap front/lists",
            "Secret certs/other",
            "Secret front/contoso",
            "Secret front/lists",
            "Secret front/server",
            "Secret pki/ca2",
        ];
        assert_eq!(names, expected);
    }
}
