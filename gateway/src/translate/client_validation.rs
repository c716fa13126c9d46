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
    let client = bundle.map(|trust| ClientValidation { mode, trust, subject_alt_names: Vec::new() });
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
