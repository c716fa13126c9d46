//! FrontendTLSPolicies: which listeners each is about, which of several wins, and their status.
//!
//! A policy that may speak about a listener and asks for verification, but cannot be followed, takes the listener out of service:
//! refusing the policy alone would open the listener to everybody. A policy without a say (another namespace's without
//! a grant, or one overruled) touches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::client_validation::NO_ANCHORS;
use super::conditions::{Conditions, Fault};
use super::findings::{Code, Findings};
use super::gateway::GatewayState;
use super::grants::{Holder, Unresolved, resolve};
use super::trust::{CaReference, Reasons, Trust};
use super::{World, age};
use crate::model::{ClientValidation, ObjectStatus, Protocol, ValidationMode};
use crate::resources::frontendtlspolicy::{FrontendTlsPolicy, FrontendTlsVerify};
use crate::resources::{Gateway, Kind, Object, PolicyKind, defaults};

const POLICY_REASONS: Reasons = Reasons { unusable: "InvalidCertificateRef", kind: "InvalidKind" };
const PREDEFINED: [&str; 2] = ["2023-06", "2023-06-S"];

/// What becomes of a policy.
#[derive(Debug, Default)]
struct Verdict {
    /// Why Accepted is False.
    refused: Option<Fault>,
    /// Sections of the target that are not there, or do not speak TLS.
    sections: Vec<Fault>,
    /// Listeners that an older policy has.
    lost: Vec<Fault>,
}

/// Applies every policy to the Gateways, oldest first; the status of each.
pub(super) fn apply(
    world: World<'_>,
    gateways: &mut [GatewayState<'_>],
    trust: &mut Trust<'_>,
    findings: &mut Findings,
) -> Vec<ObjectStatus> {
    let mut policies: Vec<&Arc<Object<FrontendTlsPolicy>>> =
        world.resources.frontend_tls_policies.iter().collect();
    policies.sort_by_key(|policy| age(&policy.meta));
    let mut owners: BTreeMap<(usize, usize), String> = BTreeMap::new();
    let mut statuses = Vec::new();
    withhold_unreadable(world, gateways, findings);
    for policy in policies {
        let verdict = match target(world, policy, gateways) {
            Target::Foreign => continue,
            Target::Refused(fault) => Verdict { refused: Some(fault), ..Verdict::default() },
            Target::Gateway(index) => {
                attach(policy, index, &mut gateways[index], &mut owners, trust, findings)
            }
        };
        report(policy, &verdict, findings);
        statuses.push(status(policy, &verdict));
    }
    statuses
}

/// Takes out of service what a policy that nobody can read may have been meant for. A Gateway that says itself how
/// clients are verified has overruled it.
fn withhold_unreadable(world: World<'_>, gateways: &mut [GatewayState<'_>], findings: &mut Findings) {
    for gateway in gateways {
        if has_own_validation(gateway) {
            continue;
        }
        let (namespace, name) = gateway.object.key();
        for listener in &mut gateway.listeners {
            if listener.protocol != Some(Protocol::Https) {
                continue;
            }
            let Some(words) =
                unreadable(world, PolicyKind::FrontendTls, namespace, name, &listener.spec.name)
            else {
                continue;
            };
            let field = format!("spec.listeners[{}]", listener.index);
            findings.error(Code::ListenerRefused, gateway.object, &field, &words);
            listener.refused.get_or_insert_with(|| Fault::at(NO_ANCHORS, &field, words));
        }
    }
}

/// What to say of a listener that a policy which nobody can read may have been meant for.
pub(super) fn unreadable(
    world: World<'_>,
    kind: PolicyKind,
    namespace: &str,
    gateway: &str,
    listener: &str,
) -> Option<String> {
    let policies = world.resources.unreadable_policies.iter().filter(|policy| policy.kind == kind);
    let covering = policies.filter(|policy| policy.may_cover(namespace, gateway, listener));
    let policy = covering.min_by_key(|policy| policy.origin.file.clone())?;
    let file = policy.origin.file.as_deref().map(|file| format!(" in {file}")).unwrap_or_default();
    Some(format!("a {}{file} cannot be read and may be about it", kind.as_str()))
}

fn has_own_validation(gateway: &GatewayState<'_>) -> bool {
    gateway.object.spec.tls.as_ref().is_some_and(|tls| tls.frontend.is_some())
}

enum Target {
    /// Not ours to judge.
    Foreign,
    /// The policy has no say.
    Refused(Fault),
    /// One of our Gateways, by position.
    Gateway(usize),
}

fn target(world: World<'_>, policy: &Object<FrontendTlsPolicy>, gateways: &[GatewayState<'_>]) -> Target {
    let reference = &policy.spec.target_ref;
    // In a cluster a policy is ours only through one of our Gateways; what leads to none is not.
    let unless_cluster = |fault: Fault| match world.facts.file_mode {
        true => Target::Refused(fault),
        false => Target::Foreign,
    };
    if reference.group != defaults::GATEWAY_GROUP {
        let words = format!("group `{}` is not {}", reference.group, defaults::GATEWAY_GROUP);
        return unless_cluster(Fault::at("InvalidGroup", "spec.targetRef.group", words));
    }
    if reference.kind != Gateway::KIND {
        let words = format!("kind {} is not Gateway", reference.kind);
        return unless_cluster(Fault::at("InvalidKind", "spec.targetRef.kind", words));
    }
    let gateways_written = &world.resources.gateways;
    let namespace = reference.namespace.as_deref();
    match resolve(world, Holder::of(policy), gateways_written, namespace, &reference.name) {
        Ok(found) => match gateways.iter().position(|gateway| gateway.object.key() == found.key()) {
            Some(index) => Target::Gateway(index),
            None => Target::Foreign,
        },
        Err(unresolved @ Unresolved::Missing(_)) => {
            unless_cluster(unresolved.fault("spec.targetRef", "InvalidTargetReference"))
        }
        Err(unresolved @ Unresolved::NotPermitted(_)) => {
            unless_cluster(unresolved.fault("spec.targetRef", "RefNotPermitted"))
        }
    }
}

fn attach(
    policy: &Object<FrontendTlsPolicy>,
    gateway_index: usize,
    gateway: &mut GatewayState<'_>,
    owners: &mut BTreeMap<(usize, usize), String>,
    trust: &mut Trust<'_>,
    findings: &mut Findings,
) -> Verdict {
    if has_own_validation(gateway) {
        let words =
            format!("Gateway {} says in its own spec.tls.frontend how clients are verified", gateway.name);
        return Verdict {
            refused: Some(Fault::at("Conflicted", "spec.targetRef", words)),
            ..Verdict::default()
        };
    }
    let (listeners, mut verdict) = sections(policy, gateway);
    verdict.refused = content_fault(policy);
    if listeners.is_empty() && verdict.refused.is_none() {
        verdict.refused = Fault::merged(&verdict.sections);
    }
    let Some(verify) = verify(policy) else { return verdict };
    let mut won = Vec::new();
    for index in listeners {
        if let Some(owner) = owners.get(&(gateway_index, index)) {
            let name = &gateway.listeners[index].spec.name;
            let words = format!("listener {name} has {owner}, which is older");
            verdict.lost.push(Fault::at("Conflicted", "spec.targetRef", words));
            continue;
        }
        owners.insert((gateway_index, index), policy.to_string());
        won.push(index);
    }
    if won.is_empty() && verdict.refused.is_none() {
        verdict.refused = Fault::merged(&verdict.lost);
        return verdict;
    }
    let refused_by_content = verdict.refused.is_some();
    let reference = ca_reference(verify);
    let (bundle, faults) = trust.bundle(policy, &[reference], POLICY_REASONS, findings);
    if verdict.refused.is_none() {
        verdict.refused = Fault::merged(&faults);
    }
    let names = verify.subject_alt_names.iter().map(|name| name.as_str().into()).collect();
    let client = match bundle {
        Some(trust) if !refused_by_content => Ok(ClientValidation {
            mode: ValidationMode::AllowValidOnly,
            trust,
            subject_alt_names: names,
            revocation: None,
        }),
        _ => Err(Withheld::by(policy, &verdict, &faults)),
    };
    for index in won {
        let listener = &mut gateway.listeners[index];
        match &client {
            Ok(client) => listener.client = Some(client.clone()),
            Err(withheld) => {
                listener.unresolved.extend(withheld.unresolved.clone());
                listener.refused.get_or_insert_with(|| withheld.refused.clone());
            }
        }
    }
    verdict
}

/// What a listener is told when its policy cannot be followed.
struct Withheld {
    refused: Fault,
    unresolved: Option<Fault>,
}

impl Withheld {
    fn by(policy: &Object<FrontendTlsPolicy>, verdict: &Verdict, faults: &[Fault]) -> Withheld {
        let words = |fault: &Fault| format!("{policy}: {}", fault.message);
        let unresolved = Fault::merged(faults).map(|fault| {
            let reason = match fault.reason {
                "InvalidKind" => "InvalidCACertificateKind",
                "RefNotPermitted" => "RefNotPermitted",
                _ => "InvalidCACertificateRef",
            };
            Fault::new(reason, words(&fault))
        });
        let refused = match (&unresolved, &verdict.refused) {
            (Some(fault), _) => Fault::new(NO_ANCHORS, fault.message.clone()),
            (None, Some(fault)) => Fault::new("UnsupportedValue", words(fault)),
            (None, None) => Fault::new(NO_ANCHORS, format!("{policy}: no trust anchor")),
        };
        Withheld { refused, unresolved }
    }
}

/// The HTTPS listeners the policy is about, and what its sectionNames name in vain.
fn sections(policy: &Object<FrontendTlsPolicy>, gateway: &GatewayState<'_>) -> (Vec<usize>, Verdict) {
    let https = |index: usize| gateway.listeners[index].protocol == Some(Protocol::Https);
    let mut verdict = Verdict::default();
    let names = &policy.spec.target_ref.section_names;
    if names.is_empty() {
        let listeners: Vec<usize> = (0..gateway.listeners.len()).filter(|index| https(*index)).collect();
        if listeners.is_empty() {
            let words = format!("Gateway {} has no HTTPS listener", gateway.name);
            verdict.sections.push(Fault::at("InvalidTargetReference", "spec.targetRef", words));
        }
        return (listeners, verdict);
    }
    let mut listeners = Vec::new();
    for (position, name) in names.iter().enumerate() {
        let field = format!("spec.targetRef.sectionNames[{position}]");
        match gateway.listeners.iter().position(|listener| listener.spec.name == *name) {
            Some(index) if https(index) => {
                if !listeners.contains(&index) {
                    listeners.push(index);
                }
            }
            found => {
                let words = match found {
                    Some(_) => {
                        format!("listener {name} of Gateway {} is not of protocol HTTPS", gateway.name)
                    }
                    None => format!("Gateway {} has no listener {name}", gateway.name),
                };
                verdict.sections.push(Fault::at("InvalidTargetReference", &field, words));
            }
        }
    }
    (listeners, verdict)
}

/// What is wrong with the policy in itself.
fn content_fault(policy: &Object<FrontendTlsPolicy>) -> Option<Fault> {
    if policy.spec.overriding.is_some() {
        let words = "is not supported; use spec.default";
        return Some(Fault::at("OverrideNotSupported", "spec.override", words));
    }
    let policy_type = &policy.spec.default.as_ref()?.policy_type;
    let known = policy_type.kind == "predefined" && PREDEFINED.contains(&policy_type.name.as_str());
    (!known).then(|| {
        let words = format!(
            "{} {} is not known; predefined 2023-06 and 2023-06-S are",
            policy_type.kind, policy_type.name
        );
        Fault::at("Invalid", "spec.default.policyType", words)
    })
}

/// The verification that the policy asks for, in the right place or not.
fn verify(policy: &Object<FrontendTlsPolicy>) -> Option<&FrontendTlsVerify> {
    let of = |config: &'_ Option<crate::resources::frontendtlspolicy::FrontendTlsPolicyConfig>| {
        config.as_ref().is_some_and(|config| config.verify.is_some())
    };
    let config = if of(&policy.spec.default) { &policy.spec.default } else { &policy.spec.overriding };
    config.as_ref()?.verify.as_ref()
}

fn ca_reference(verify: &FrontendTlsVerify) -> CaReference<'_> {
    let reference = &verify.ca_certificate_ref;
    CaReference {
        group: &reference.group,
        kind: &reference.kind,
        namespace: reference.namespace.as_deref(),
        name: &reference.name,
        field: "spec.default.verify.caCertificateRef".to_owned(),
    }
}

fn report(policy: &Object<FrontendTlsPolicy>, verdict: &Verdict, findings: &mut Findings) {
    if let Some(fault) = &verdict.refused {
        findings.error(Code::PolicyRefused, policy, &fault.field, &fault.words);
    }
    for fault in verdict.sections.iter().chain(&verdict.lost) {
        if verdict.refused.as_ref() != Some(fault) {
            findings.error(Code::PolicyTarget, policy, &fault.field, &fault.words);
        }
    }
}

#[derive(Serialize)]
struct Status {
    conditions: Conditions,
}

fn status(policy: &Object<FrontendTlsPolicy>, verdict: &Verdict) -> ObjectStatus {
    let mut conditions = Conditions::new(policy.meta.generation);
    conditions.unless("Accepted", verdict.refused.as_ref(), "Valid FrontendTLSPolicy");
    // Said only when there is something to say: the policy holds for the listeners that are left.
    if let Some(fault) = Fault::merged(&verdict.sections) {
        conditions.no("ResolvedRefs", &fault);
    }
    if verdict.refused.is_none()
        && let Some(fault) = Fault::merged(&verdict.lost)
    {
        conditions.yes("Conflicted", fault.reason, fault.message);
    }
    super::status(policy, &Status { conditions })
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
