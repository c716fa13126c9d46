//! Client certificates: `spec.tls.frontend` of Gateways (GEP-91) and FrontendTLSPolicies.
//!
//! Trust fails closed: where verification was asked for and cannot be had, the listener is not served. It is never
//! served without.

use std::collections::BTreeMap;

use super::conditions::Fault;
use super::findings::{Code, Findings};
use super::gateway::GatewayState;
use super::trust::{CaReference, Reasons, Trust};
use crate::model::{ClientValidation, Protocol, ValidationMode};
use crate::resources::gateway::{FrontendTls, FrontendValidation, FrontendValidationMode};

/// The words of a listener's conditions.
const REASONS: Reasons = Reasons { unusable: "InvalidCACertificateRef", kind: "InvalidCACertificateKind" };

/// The reason of a listener that has no trust anchor left.
pub(super) const NO_ANCHORS: &str = "NoValidCACertificate";

/// What a validation block comes to.
#[derive(Clone, Debug)]
struct Outcome {
    client: Option<ClientValidation>,
    faults: Vec<Fault>,
}

/// Applies `spec.tls.frontend` to the HTTPS listeners of the Gateway, by port.
pub(super) fn apply_gateway(gateway: &mut GatewayState<'_>, trust: &mut Trust<'_>, findings: &mut Findings) {
    let object = gateway.object;
    let Some(frontend) = object.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else { return };
    gateway.insecure_fallback = note_insecure(gateway, frontend, findings);
    let mut outcomes: BTreeMap<Option<usize>, Outcome> = BTreeMap::new();
    for listener in &mut gateway.listeners {
        if listener.protocol != Some(Protocol::Https) {
            continue;
        }
        let entry = frontend.per_port.iter().position(|entry| entry.port == listener.spec.port);
        let (validation, field) = match entry {
            Some(index) => {
                (&frontend.per_port[index].tls.validation, format!("spec.tls.frontend.perPort[{index}].tls"))
            }
            None => (&frontend.default.validation, "spec.tls.frontend.default".to_owned()),
        };
        let Some(validation) = validation else { continue };
        let outcome = outcomes
            .entry(entry)
            .or_insert_with(|| judge(object, validation, &format!("{field}.validation"), trust, findings));
        listener.unresolved.extend(outcome.faults.iter().cloned());
        listener.client = outcome.client.clone();
        if outcome.client.is_none() && listener.refused.is_none() {
            let words = Fault::merged(&outcome.faults).map_or_else(
                || format!("{field}.validation: names no CA certificate"),
                |fault| fault.message,
            );
            listener.refused = Some(Fault::new(NO_ANCHORS, words));
        }
    }
    for (index, entry) in frontend.per_port.iter().enumerate() {
        if !outcomes.contains_key(&Some(index)) && entry.tls.validation.is_some() {
            let words = format!("no HTTPS listener has port {}", entry.port);
            let field = format!("spec.tls.frontend.perPort[{index}].port");
            findings.warning(Code::NotApplied, object, &field, words);
        }
    }
}

fn judge(
    gateway: &crate::resources::Object<crate::resources::Gateway>,
    validation: &FrontendValidation,
    field: &str,
    trust: &mut Trust<'_>,
    findings: &mut Findings,
) -> Outcome {
    let references: Vec<CaReference<'_>> = validation
        .ca_certificate_refs
        .iter()
        .enumerate()
        .map(|(index, reference)| CaReference {
            group: &reference.group,
            kind: &reference.kind,
            namespace: reference.namespace.as_deref(),
            name: &reference.name,
            field: format!("{field}.caCertificateRefs[{index}]"),
        })
        .collect();
    let (bundle, faults) = trust.bundle(gateway, &references, REASONS, findings);
    let mode = match validation.mode {
        FrontendValidationMode::AllowValidOnly => ValidationMode::AllowValidOnly,
        FrontendValidationMode::AllowInsecureFallback => ValidationMode::AllowInsecureFallback,
    };
    let client =
        bundle.map(|trust| ClientValidation { mode, trust, subject_alt_names: Vec::new(), revocation: None });
    Outcome { client, faults }
}

fn note_insecure(gateway: &GatewayState<'_>, frontend: &FrontendTls, findings: &mut Findings) -> bool {
    let insecure = |validation: &Option<FrontendValidation>| {
        validation.as_ref().is_some_and(|v| v.mode == FrontendValidationMode::AllowInsecureFallback)
    };
    let mut fields = Vec::new();
    if insecure(&frontend.default.validation) {
        fields.push("spec.tls.frontend.default.validation.mode".to_owned());
    }
    for (index, entry) in frontend.per_port.iter().enumerate() {
        if insecure(&entry.tls.validation) {
            fields.push(format!("spec.tls.frontend.perPort[{index}].tls.validation.mode"));
        }
    }
    for field in &fields {
        let words = "clients without a valid certificate are let in, unverified";
        findings.warning(Code::InsecureValidation, gateway.object, field, words);
    }
    !fields.is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, base64, brief, condition, listener, pki, status, yaml};
    use crate::model::{FrontendId, ObjectName, Plan, ValidationMode};
    use crate::translate::translate;

    fn documents(frontend: &str, extra: &str) -> String {
        let ca = pki::ca("root");
        let server = ca.server("leaf", &["a.test"]);
        let indented = ca.pem().replace('\n', "\n    ");
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, namespace: web}}
spec:
  gatewayClassName: c
  tls: {{frontend: {frontend}}}
  listeners:
  - {{name: plain, port: 80, protocol: HTTP}}
  - {{name: default, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
  - {{name: other, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca, namespace: web}}
data:
  ca.crt: |
    {indented}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca, namespace: elsewhere}}
data:
  ca.crt: |
    {indented}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca, namespace: web}}
data: {{ca.crt: {ca}, ca.crl: {crl}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: partly, namespace: web}}
data:
  ca.crt: |
    -----BEGIN CERTIFICATE-----
    aGVsbG8=
    -----END CERTIFICATE-----
    {indented}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: empty, namespace: web}}
data: {{}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: server, namespace: web}}
data: {{tls.crt: {crt}, tls.key: {key}}}
{extra}",
            ca = base64(ca.pem()),
            crl = base64(ca.crl()),
            crt = base64(server.pem()),
            key = base64(server.key_pem()),
        )
    }

    fn validation(references: &str) -> String {
        format!("{{validation: {{caCertificateRefs: [{references}]}}}}")
    }

    fn map(name: &str) -> String {
        format!("{{group: \"\", kind: ConfigMap, name: {name}}}")
    }

    fn client(plan: &Plan, port: u16) -> Option<&crate::model::ClientValidation> {
        let id = FrontendId { gateway: ObjectName::new("web", "g"), port };
        plan.frontends.get(&id)?.listeners[0].tls.as_ref()?.client.as_ref()
    }

    #[test]
    fn default_and_per_port() {
        let frontend = format!(
            "{{default: {}, perPort: [{{port: 8443, tls: {}}}]}}",
            validation(&map("ca")),
            validation("{group: \"\", kind: Secret, name: ca}")
        );
        let (plan, report) = translate(&yaml(&documents(&frontend, "")), &testing::facts());
        let default = client(&plan, 443).unwrap();
        assert_eq!(&*default.trust.source, "ConfigMap web/ca");
        assert_eq!((default.mode, default.trust.crls.len()), (ValidationMode::AllowValidOnly, 0));
        let other = client(&plan, 8443).unwrap();
        assert_eq!((&*other.trust.source, other.trust.crls.len()), ("Secret web/ca", 1));
        assert!(client(&plan, 80).is_none());
        assert_eq!(plan.frontends.len(), 3);
        assert_eq!(report.findings, []);
        let gateway = status(&report, "Gateway", "web", "g");
        assert_eq!(brief(&gateway, "ResolvedRefs"), "True/ResolvedRefs");
        assert_eq!(brief(&gateway, "InsecureFrontendValidationMode"), "-");
    }

    #[test]
    fn a_port_without_validation_of_its_own_is_open() {
        let frontend =
            format!("{{default: {}, perPort: [{{port: 8443, tls: {{}}}}]}}", validation(&map("ca")));
        let (plan, _) = translate(&yaml(&documents(&frontend, "")), &testing::facts());
        assert!(client(&plan, 443).is_some());
        let id = FrontendId { gateway: ObjectName::new("web", "g"), port: 8443 };
        assert!(plan.frontends.contains_key(&id) && client(&plan, 8443).is_none());
    }

    #[test]
    fn what_cannot_be_verified_is_not_served() {
        let ca = map("ca");
        let missing = map("missing");
        let far = "{group: \"\", kind: ConfigMap, name: ca, namespace: elsewhere}";
        let service = "{group: \"\", kind: Service, name: ca}";
        let bundle = "{group: certificates.k8s.io, kind: ClusterTrustBundle, name: b}";
        let served = "True/Accepted";
        let closed = "False/NoValidCACertificate";
        let table = [
            ("good", ca.clone(), "True/ResolvedRefs", served, 1),
            ("missing", missing.clone(), "False/InvalidCACertificateRef", closed, 0),
            ("no anchor in it", map("empty"), "False/InvalidCACertificateRef", closed, 0),
            ("another kind", service.to_owned(), "False/InvalidCACertificateKind", closed, 0),
            ("a trust bundle", bundle.to_owned(), "False/InvalidCACertificateKind", closed, 0),
            ("elsewhere without grant", far.to_owned(), "False/RefNotPermitted", closed, 0),
            ("one bad, one good", format!("{missing}, {ca}"), "False/InvalidCACertificateRef", served, 1),
            ("the same twice", format!("{ca}, {ca}"), "True/ResolvedRefs", served, 1),
            ("all bad", format!("{service}, {missing}"), "False/InvalidCACertificateKind", closed, 0),
            ("a bad block in a good bundle", map("partly"), "True/ResolvedRefs", served, 1),
        ];
        for (description, references, resolved, accepted, anchors) in table {
            let frontend = format!("{{default: {}}}", validation(&references));
            let resources = yaml(&documents(&frontend, ""));
            let (plan, report) = translate(&resources, &testing::bound(&resources));
            for (name, port) in [("default", 443), ("other", 8443)] {
                let status = listener(&report, "web", "g", name);
                assert_eq!(brief(&status, "ResolvedRefs"), resolved, "{description}");
                assert_eq!(brief(&status, "Accepted"), accepted, "{description}");
                let programmed = if anchors > 0 { "True/Programmed" } else { "False/Invalid" };
                assert_eq!(brief(&status, "Programmed"), programmed, "{description}");
                assert_eq!(
                    client(&plan, port).map_or(0, |c| c.trust.anchors.len()),
                    anchors,
                    "{description}"
                );
                if resolved.starts_with("False") {
                    let message = condition(&status, "ResolvedRefs")["message"].to_string();
                    assert!(
                        message.contains("spec.tls.frontend.default.validation.caCertificateRefs[0]"),
                        "{message}"
                    );
                }
            }
            let id = |port| FrontendId { gateway: ObjectName::new("web", "g"), port };
            assert!(plan.frontends.contains_key(&id(80)), "{description}: cleartext goes on");
            assert_eq!(plan.frontends.contains_key(&id(443)), anchors > 0, "{description}");
            assert_eq!(
                brief(&listener(&report, "web", "g", "plain"), "Accepted"),
                "True/Accepted",
                "{description}"
            );
            if resolved.starts_with("False") || description.contains("block") {
                assert!(
                    report.findings.iter().any(|f| f.severity == crate::model::Severity::Error),
                    "{description}"
                );
            }
        }
    }

    #[test]
    fn a_grant_opens_the_way() {
        let far = "{group: \"\", kind: ConfigMap, name: ca, namespace: elsewhere}";
        let grant = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: elsewhere}\n\
                     spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: web}], to: [{group: \"\", kind: ConfigMap}]}\n";
        let frontend = format!("{{default: {}}}", validation(far));
        let (plan, _) = translate(&yaml(&documents(&frontend, grant)), &testing::facts());
        assert_eq!(&*client(&plan, 443).unwrap().trust.source, "ConfigMap elsewhere/ca");
    }

    #[test]
    fn the_insecure_mode_is_said() {
        let insecure =
            format!("{{validation: {{mode: AllowInsecureFallback, caCertificateRefs: [{}]}}}}", map("ca"));
        let frontend =
            format!("{{default: {}, perPort: [{{port: 8443, tls: {insecure}}}]}}", validation(&map("ca")));
        let (plan, report) = translate(&yaml(&documents(&frontend, "")), &testing::facts());
        assert_eq!(client(&plan, 443).unwrap().mode, ValidationMode::AllowValidOnly);
        assert_eq!(client(&plan, 8443).unwrap().mode, ValidationMode::AllowInsecureFallback);
        let gateway = status(&report, "Gateway", "web", "g");
        assert_eq!(brief(&gateway, "InsecureFrontendValidationMode"), "True/ConfigurationChanged");
        assert!(report.findings.iter().any(|f| f.code == "YT0213" && f.line > 0));
    }

    #[test]
    fn dates_of_anchors_are_said() {
        let frontend = format!("{{default: {}}}", validation(&map("ca")));
        let resources = yaml(&documents(&frontend, ""));
        let mut facts = testing::facts();
        facts.now += 400 * 24 * 3600;
        let (plan, report) = translate(&resources, &facts);
        assert!(client(&plan, 443).is_some());
        let anchor = report.findings.iter().find(|f| f.code == "YT0212").unwrap();
        assert_eq!((anchor.object.as_str(), anchor.field.as_str()), ("ConfigMap web/ca", "data[\"ca.crt\"]"));
        assert_eq!(anchor.severity, crate::model::Severity::Warning);
        let server = report.findings.iter().find(|f| f.code == "YT0208").unwrap();
        assert_eq!(server.severity, crate::model::Severity::Error);
    }
}
