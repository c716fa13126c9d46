//! The plan: what the data plane is to do, made of nothing but what was accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::World;
use super::backends::Backends;
use super::gateway::{GatewayState, bind_port};
use super::listeners::ListenerState;
use super::routes::RulesByListener;
use crate::model::listener::{Frontend, FrontendId, Listener, Protocol, TlsTermination};
use crate::model::route::RuleHost;
use crate::model::{Action, BackendKey, Hostname, ObjectName, PathMatch, Plan, Reason, RequestMatch, Rule};

/// Puts the served listeners with their rules together, and the backends that these refer to.
pub(super) fn build(
    world: World<'_>,
    gateways: &[GatewayState<'_>],
    mut rules: RulesByListener,
    backends: &Backends<'_>,
) -> Plan {
    let mut plan = Plan::default();
    for (position, gateway) in gateways.iter().enumerate() {
        for listener in gateway.listeners.iter().filter(|listener| gateway.serves(listener)) {
            let Some(protocol) = listener.protocol else { continue };
            let rules = rules.remove(&(position, listener.index)).unwrap_or_default();
            let port = listener.spec.port;
            let id = FrontendId { gateway: gateway.name.clone(), port };
            let frontend = plan.frontends.entry(id.clone()).or_insert_with(|| Frontend {
                id,
                protocol,
                addresses: gateway.addresses.bind.clone(),
                bind_port: bind_port(world, port),
                listeners: Vec::new(),
            });
            frontend.listeners.push(served(gateway, listener, rules));
        }
    }
    plan.backends = used(&plan, backends);
    plan
}

fn served(gateway: &GatewayState<'_>, listener: &ListenerState<'_>, mut rules: Vec<Rule>) -> Listener {
    for host in withheld(gateway, listener) {
        withhold(&mut rules, &host, gateway);
    }
    let tls = (listener.protocol == Some(Protocol::Https)).then(|| TlsTermination {
        certificates: listener
            .certificates
            .iter()
            .map(|certificate| Arc::clone(&certificate.chain))
            .collect(),
        client: listener.client.clone(),
    });
    Listener {
        name: format!("{}/{}", gateway.name, listener.spec.name).into(),
        hostname: listener.hostname.clone(),
        tls,
        rules,
    }
}

/// Hosts within this listener's that belong to a listener of the same port which is not served.
fn withheld(gateway: &GatewayState<'_>, listener: &ListenerState<'_>) -> Vec<Hostname> {
    let within = |host: &Hostname| {
        listener
            .hostname
            .as_ref()
            .is_none_or(|own| own != host && own.intersection(host).as_ref() == Some(host))
    };
    let absent = gateway.listeners.iter().filter(|other| {
        other.spec.port == listener.spec.port && other.protocol.is_some() && !gateway.serves(other)
    });
    let mut hosts: Vec<Hostname> = absent.filter_map(|other| other.hostname.clone()).filter(within).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// A host keeps belonging to its listener while that one is out of service. Otherwise a route that is attached to both
/// would be reached through the wider one, which may not ask for the client certificate that the narrower one demands.
fn withhold(rules: &mut Vec<Rule>, host: &Hostname, gateway: &GatewayState<'_>) {
    let covered = |matches: &Option<Hostname>| {
        matches.as_ref().is_some_and(|m| m.intersection(host).as_ref() == Some(m))
    };
    for rule in rules.iter_mut() {
        rule.hosts.retain(|rule_host| !covered(&rule_host.matches));
    }
    rules.retain(|rule| !rule.hosts.is_empty());
    rules.push(Rule {
        route: ObjectName::clone(&gateway.name),
        created: None,
        index: 0,
        name: Some("withheld".into()),
        hosts: vec![RuleHost { matches: Some(host.clone()), own: Some(host.clone()) }],
        matches: vec![RequestMatch {
            path: PathMatch::Prefix("".into()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }],
        filters: Vec::new(),
        action: Action::Refuse(Reason::RouteNotFound),
        request_timeout: None,
        backend_timeout: None,
    });
}

fn used(plan: &Plan, backends: &Backends<'_>) -> BTreeMap<BackendKey, Arc<crate::model::Backend>> {
    let listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    let mut used = BTreeMap::new();
    for rule in listeners.flat_map(|listener| &listener.rules) {
        let Action::Forward(weighted) = &rule.action else { continue };
        for key in weighted.iter().filter_map(|backend| backend.target.as_ref().ok()) {
            if let Some(backend) = backends.get(key) {
                used.insert(key.clone(), Arc::clone(backend));
            }
        }
    }
    used
}
