//! RevocationPolicies: which listeners each is about, which of several wins, what its sources hold, and their status.
//!
//! A policy that names a listener says something about its clients' certificates even where it cannot be followed: then
//! nobody of that listener is known not to be revoked. A policy without a say (overruled, or with a target that is not
//! there) touches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::conditions::{Conditions, Fault};
use super::findings::{Code, Findings};
use super::gateway::GatewayState;
use super::trust::Values;
use super::{World, age, class, policies};
use crate::model::{
    ClientRevocation, CrlMaterial, ObjectStatus, OnUnknown, Protocol, RevocationAnswer, RevocationDepth,
    RevocationRules,
};
use crate::resources::refs::PolicyTargetReference;
use crate::resources::revocationpolicy::{self as written, CrlReference, RevocationPolicy};
use crate::resources::{ConfigMap, Gateway, Kind, Object, Objects, PolicyKind, Resources, Secret, defaults};

/// Keys that hold revocation lists where none is named.
const LIST_SUFFIX: &str = ".crl";
/// The reason of a source that leads nowhere.
const NO_SOURCE: &str = "InvalidSourceRef";

/// A policy on its way from document to plan.
struct PolicyState<'a> {
    object: &'a Object<RevocationPolicy>,
    targets: Vec<TargetState<'a>>,
    /// What is not supported.
    refused: Option<Fault>,
    /// Sources that lead nowhere.
    unresolved: Vec<Fault>,
}

/// One of a policy's targets.
struct TargetState<'a> {
    reference: &'a PolicyTargetReference,
    controller: &'a str,
    /// The Gateway and those of its listeners that are meant, by position.
    gateway: usize,
    listeners: Vec<usize>,
    /// Why there are none.
    refused: Option<Fault>,
    /// Listeners that another policy has.
    lost: Vec<Fault>,
}

/// Applies every policy to the Gateways' listeners; the status of each. Clients have to be asked for certificates before.
pub(super) fn apply(
    world: World<'_>,
    gateways: &mut [GatewayState<'_>],
    findings: &mut Findings,
) -> Vec<ObjectStatus> {
    withhold_unreadable(world, gateways, findings);
    let mut objects: Vec<&Arc<Object<RevocationPolicy>>> =
        world.resources.revocation_policies.iter().collect();
    objects.sort_by_key(|policy| age(&policy.meta));
    let mut states: Vec<PolicyState<'_>> =
        objects.into_iter().map(|object| read(world, object, gateways)).collect();
    let owners = settle(&mut states, gateways);
    let mut statuses = Vec::new();
    for (index, state) in states.iter_mut().enumerate() {
        let owned: Vec<(usize, usize)> =
            owners.iter().filter(|(_, owner)| **owner == index).map(|(place, _)| *place).collect();
        let revocation = revocation(world, state);
        for (gateway, listener) in &owned {
            if let Some(client) = &mut gateways[*gateway].listeners[*listener].client {
                client.revocation = Some(revocation.clone());
            }
        }
        report(state, &owned, gateways, findings);
        statuses.extend(status(world, state));
    }
    statuses
}

/// Takes out of service what a policy that nobody can read may have been meant for, where clients show certificates.
fn withhold_unreadable(world: World<'_>, gateways: &mut [GatewayState<'_>], findings: &mut Findings) {
    for gateway in gateways {
        let (namespace, name) = gateway.object.key();
        for listener in gateway.listeners.iter_mut().filter(|listener| listener.client.is_some()) {
            let kind = PolicyKind::Revocation;
            let Some(words) = policies::unreadable(world, kind, namespace, name, &listener.spec.name) else {
                continue;
            };
            let field = format!("spec.listeners[{}]", listener.index);
            findings.error(Code::ListenerRefused, gateway.object, &field, &words);
            listener.refused.get_or_insert_with(|| Fault::at("UnreadablePolicy", &field, words));
        }
    }
}

fn read<'a>(
    world: World<'a>,
    object: &'a Object<RevocationPolicy>,
    gateways: &[GatewayState<'a>],
) -> PolicyState<'a> {
    let targets = object.spec.target_refs.iter().enumerate();
    let targets = targets.filter_map(|(index, reference)| target(world, object, index, reference, gateways));
    PolicyState { object, targets: targets.collect(), refused: unsupported(object), unresolved: Vec::new() }
}

/// What a target comes to; `None`: it is not ours to judge.
fn target<'a>(
    world: World<'a>,
    policy: &'a Object<RevocationPolicy>,
    index: usize,
    reference: &'a PolicyTargetReference,
    gateways: &[GatewayState<'a>],
) -> Option<TargetState<'a>> {
    let field = format!("spec.targetRefs[{index}]");
    let of = |controller, gateway, listeners, refused| TargetState {
        reference,
        controller,
        gateway,
        listeners,
        refused,
        lost: Vec::new(),
    };
    // In a cluster a policy is ours only through one of our Gateways.
    let missing =
        |fault| world.facts.file_mode.then(|| of(class::OWN_CONTROLLER, usize::MAX, Vec::new(), Some(fault)));
    if (reference.group.as_str(), reference.kind.as_str()) != (defaults::GATEWAY_GROUP, Gateway::KIND) {
        let words = format!("a {} of group `{}` is no Gateway", reference.kind, reference.group);
        return missing(Fault::at("Invalid", &field, words));
    }
    let namespace = policy.meta.namespace.as_str();
    if world.resources.gateways.get(namespace, &reference.name).is_none() {
        let words = format!("Gateway {namespace}/{} does not exist", reference.name);
        return missing(Fault::at("TargetNotFound", &field, words));
    }
    let position =
        gateways.iter().position(|gateway| gateway.object.key() == (namespace, reference.name.as_str()))?;
    let gateway = &gateways[position];
    let (listeners, refused) = match sections(gateway, reference, &field) {
        Ok(listeners) => (listeners, None),
        Err(fault) => (Vec::new(), Some(fault)),
    };
    Some(of(gateway.controller, position, listeners, refused))
}

fn sections(
    gateway: &GatewayState<'_>,
    reference: &PolicyTargetReference,
    field: &str,
) -> Result<Vec<usize>, Fault> {
    let https = |index: &usize| gateway.listeners[*index].protocol == Some(Protocol::Https);
    let Some(section) = &reference.section_name else {
        let all: Vec<usize> = (0..gateway.listeners.len()).filter(https).collect();
        let words = format!("Gateway {} has no HTTPS listener", gateway.name);
        return if all.is_empty() { Err(Fault::at("Invalid", field, words)) } else { Ok(all) };
    };
    let field = format!("{field}.sectionName");
    match gateway.listeners.iter().position(|listener| listener.spec.name == *section) {
        Some(index) if https(&index) => Ok(vec![index]),
        Some(_) => {
            let words = format!("listener {section} of Gateway {} is not of protocol HTTPS", gateway.name);
            Err(Fault::at("Invalid", &field, words))
        }
        None => {
            let words = format!("Gateway {} has no listener {section}", gateway.name);
            Err(Fault::at("TargetNotFound", &field, words))
        }
    }
}

/// Gives each listener to one policy (GEP-713): one that names the listener goes before one that names the Gateway, of
/// equal ones the older wins. `policies` are in order of age.
fn settle(
    policies: &mut [PolicyState<'_>],
    gateways: &[GatewayState<'_>],
) -> BTreeMap<(usize, usize), usize> {
    let mut owners: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for specific in [true, false] {
        for index in 0..policies.len() {
            let names: Vec<String> = policies.iter().map(|policy| policy.object.to_string()).collect();
            for (position, target) in policies[index].targets.iter_mut().enumerate() {
                if target.reference.section_name.is_some() != specific {
                    continue;
                }
                for listener in &target.listeners {
                    let owner = *owners.entry((target.gateway, *listener)).or_insert(index);
                    if owner != index {
                        let name = &gateways[target.gateway].listeners[*listener].spec.name;
                        let words = format!("listener {name} has {}, which goes before it", names[owner]);
                        let field = format!("spec.targetRefs[{position}]");
                        target.lost.push(Fault::at("Conflicted", &field, words));
                    }
                }
                if !target.listeners.is_empty() && target.lost.len() == target.listeners.len() {
                    target.refused = Fault::merged(&target.lost);
                }
            }
        }
    }
    owners
}

/// What is part of the kind and cannot be followed yet.
fn unsupported(policy: &Object<RevocationPolicy>) -> Option<Fault> {
    let mut faults = Vec::new();
    for (index, source) in policy.spec.sources.iter().enumerate() {
        let name = match (&source.crl, &source.ocsp) {
            (_, Some(_)) => "ocsp",
            (Some(crl), _) if crl.url.is_some() => "crl.url",
            (Some(crl), _) if crl.distribution_points.is_some() => "crl.distributionPoints",
            _ => continue,
        };
        let words = "is not supported yet; until it is, the status of every client is unknown";
        faults.push(Fault::at("UnsupportedValue", &format!("spec.sources[{index}].{name}"), words));
    }
    Fault::merged(&faults)
}

/// What the listeners of a policy go by. A policy that cannot be followed leaves every status unknown, and lets nobody
/// pass for it.
fn revocation(world: World<'_>, state: &mut PolicyState<'_>) -> ClientRevocation {
    let spec = &state.object.spec;
    let rules = RevocationRules {
        policy: state.object.to_string().into(),
        depth: match spec.depth {
            written::RevocationDepth::Chain => RevocationDepth::Chain,
            written::RevocationDepth::Leaf => RevocationDepth::Leaf,
        },
        on_unknown: match spec.on_unknown {
            written::OnUnknown::Allow if state.refused.is_none() => OnUnknown::Allow,
            written::OnUnknown::Allow | written::OnUnknown::Deny => OnUnknown::Deny,
        },
        staleness_max_s: i64::try_from(spec.max_staleness.as_secs()).unwrap_or(i64::MAX),
        answer: match spec.answer {
            written::RevocationAnswer::Http400 => RevocationAnswer::Http400,
            written::RevocationAnswer::CloseConnections => RevocationAnswer::CloseConnections,
            written::RevocationAnswer::TlsAlert => RevocationAnswer::TlsAlert,
        },
    };
    if state.refused.is_some() {
        return ClientRevocation { rules, crls: Vec::new(), is_complete: false };
    }
    let mut crls: Vec<CrlMaterial> = Vec::new();
    for (index, source) in spec.sources.iter().enumerate() {
        let Some(crl) = &source.crl else { continue };
        match material(world, state.object, crl, &format!("spec.sources[{index}].crl")) {
            Ok(found) => crls.extend(found),
            Err(fault) => state.unresolved.push(fault),
        }
    }
    ClientRevocation { rules, crls, is_complete: state.unresolved.is_empty() }
}

fn material(
    world: World<'_>,
    policy: &Object<RevocationPolicy>,
    crl: &written::CrlSource,
    field: &str,
) -> Result<Vec<CrlMaterial>, Fault> {
    let namespace = policy.meta.namespace.as_str();
    if let Some(reference) = &crl.secret_ref {
        return of_object(&world.resources.secrets, namespace, reference, &format!("{field}.secretRef"));
    }
    if let Some(reference) = &crl.config_map_ref {
        return of_object(
            &world.resources.config_maps,
            namespace,
            reference,
            &format!("{field}.configMapRef"),
        );
    }
    let path = crl.path.as_deref().unwrap_or_default();
    let field = format!("{field}.path");
    match policy.spec.files.get(path) {
        Some(Ok(files)) if files.is_empty() => {
            Err(Fault::at(NO_SOURCE, &field, format!("{path} holds no file that ends in {LIST_SUFFIX}")))
        }
        Some(Ok(files)) => {
            let material = |file: &written::CrlFile| CrlMaterial {
                source: format!("{policy} {}", file.name).into(),
                data: Arc::clone(&file.data),
            };
            Ok(files.iter().map(material).collect())
        }
        Some(Err(words)) => Err(Fault::at(NO_SOURCE, &field, format!("{path}: {words}"))),
        None => Err(Fault::at(NO_SOURCE, &field, "files are read beside manifests alone")),
    }
}

fn of_object<T: Kind + Values>(
    objects: &Objects<T>,
    namespace: &str,
    reference: &CrlReference,
    field: &str,
) -> Result<Vec<CrlMaterial>, Fault> {
    let Some(object) = objects.get(namespace, &reference.name) else {
        let words = format!("{} {namespace}/{} does not exist", T::KIND, reference.name);
        return Err(Fault::at(NO_SOURCE, field, words));
    };
    let keys: Vec<&str> = match &reference.key {
        Some(key) => vec![key],
        None => object.spec.keys().into_iter().filter(|key| key.ends_with(LIST_SUFFIX)).collect(),
    };
    if keys.is_empty() {
        return Err(Fault::at(NO_SOURCE, field, format!("{object} has no key that ends in {LIST_SUFFIX}")));
    }
    let material = |key: &str| match object.spec.value(key) {
        Some(data) => Ok(CrlMaterial { source: format!("{object} {key}").into(), data: data.into() }),
        None => Err(Fault::at(NO_SOURCE, field, format!("{object} has no key {key}"))),
    };
    keys.into_iter().map(material).collect()
}

/// Whether the documents hold the revocation data of a source, named as in [`CrlMaterial::source`], be it in force
/// somewhere or not.
pub fn holds_list(resources: &Resources, source: &str) -> bool {
    let mut parts = source.splitn(3, ' ');
    let (Some(kind), Some(object), Some(place)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((namespace, name)) = object.split_once('/') else { return false };
    if kind == Secret::KIND {
        let secret = resources.secrets.get(namespace, name);
        return secret.is_some_and(|secret| secret.spec.value(place).is_some());
    }
    if kind == ConfigMap::KIND {
        let map = resources.config_maps.get(namespace, name);
        return map.is_some_and(|map| map.spec.value(place).is_some());
    }
    let policy =
        resources.revocation_policies.get(namespace, name).filter(|_| kind == RevocationPolicy::KIND);
    let mut files = policy.into_iter().flat_map(|policy| policy.spec.files.values().flatten().flatten());
    files.any(|file| *file.name == *place)
}

fn report(
    state: &PolicyState<'_>,
    owned: &[(usize, usize)],
    gateways: &[GatewayState<'_>],
    findings: &mut Findings,
) {
    let policy = state.object;
    if let Some(fault) = &state.refused {
        findings.error(Code::PolicyRefused, policy, &fault.field, &fault.words);
    }
    for fault in &state.unresolved {
        findings.error(Code::RevocationSourceUnusable, policy, &fault.field, &fault.words);
    }
    for target in &state.targets {
        // That one listener of a Gateway has a policy of its own is how it is meant to be.
        if let Some(fault) = &target.refused {
            findings.error(Code::PolicyRefused, policy, &fault.field, &fault.words);
        }
    }
    for (gateway, listener) in owned {
        let (gateway, listener) = (&gateways[*gateway], &gateways[*gateway].listeners[*listener]);
        if listener.client.is_none() && listener.refused.is_none() {
            let words = format!(
                "listener {} of Gateway {} asks for no client certificates",
                listener.spec.name, gateway.name
            );
            findings.warning(Code::NotApplied, policy, "spec.targetRefs", words);
        }
    }
}

#[derive(Serialize)]
struct Status<'a> {
    ancestors: Vec<Ancestor<'a>>,
}

/// Gateway API `PolicyAncestorStatus`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ancestor<'a> {
    ancestor_ref: AncestorReference<'a>,
    controller_name: &'a str,
    conditions: Conditions,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AncestorReference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    section_name: Option<&'a str>,
}

fn status(world: World<'_>, state: &PolicyState<'_>) -> Option<ObjectStatus> {
    let ancestors: Vec<_> = state.targets.iter().map(|target| ancestor(world, state, target)).collect();
    (!ancestors.is_empty()).then(|| super::status(state.object, &Status { ancestors }))
}

fn ancestor<'a>(world: World<'_>, state: &PolicyState<'a>, target: &TargetState<'a>) -> Ancestor<'a> {
    let policy = state.object;
    let PolicyTargetReference { group, kind, name, section_name } = target.reference;
    let mut conditions = Conditions::new(policy.meta.generation);
    let refused = target.refused.as_ref().or(state.refused.as_ref());
    conditions.unless("Accepted", refused, "Valid RevocationPolicy");
    conditions.unless("ResolvedRefs", Fault::merged(&state.unresolved).as_ref(), "");
    // A target without a say has no data either.
    if target.refused.is_none() {
        match world.facts.revocation.get(&policy.to_string()) {
            Some(data) if data.is_fresh => {
                conditions.yes("RevocationDataFresh", data.reason, data.message.clone());
            }
            Some(data) => {
                conditions.no("RevocationDataFresh", &Fault::new(data.reason, data.message.clone()));
            }
            None => {
                let words = "no listener that asks for client certificates goes by the policy";
                conditions.no("RevocationDataFresh", &Fault::new("NotInForce", words));
            }
        }
    }
    Ancestor {
        ancestor_ref: AncestorReference {
            group,
            kind,
            namespace: &policy.meta.namespace,
            name,
            section_name: section_name.as_deref(),
        },
        controller_name: target.controller,
        conditions,
    }
}

#[cfg(test)]
#[path = "revocation_tests.rs"]
mod tests;
