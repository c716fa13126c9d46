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
                // All that are served on a port agree on it.
                proxy_protocol: listener.proxy_protocol,
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

#[cfg(test)]
mod tests {
    use super::super::testing::{self, base64, pki, yaml};
    use crate::model::{Action, Plan, Reason};
    use crate::translate::translate;

    /// A narrow listener that wants certificates, a wide one that does not, and a route on both.
    fn documents(narrow_certificate: &str, ca: &str, hostnames: &str) -> String {
        let root = pki::ca("root");
        let server = root.server("leaf", &["a.test"]);
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, namespace: web}}
spec:
  gatewayClassName: c
  listeners:
  - {{name: narrow, port: 443, protocol: HTTPS, hostname: {{}}, tls: {{certificateRefs: [{{name: {narrow_certificate}}}]}}}}
  - {{name: wide, port: 443, protocol: HTTPS, hostname: '*.test', tls: {{certificateRefs: [{{name: server}}]}}}}
  - {{name: elsewhere, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: server}}]}}}}
---
apiVersion: alb.networking.azure.io/v1
kind: FrontendTLSPolicy
metadata: {{name: p, namespace: web}}
spec:
  targetRef: {{group: gateway.networking.k8s.io, kind: Gateway, name: g, sectionNames: [narrow]}}
  default: {{verify: {{caCertificateRef: {{name: {ca}}}}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: web}}
spec: {{parentRefs: [{{name: g}}], hostnames: [{hostnames}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ca, namespace: web}}
data: {{ca.crt: {ca_pem}}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: server, namespace: web}}
data: {{tls.crt: {crt}, tls.key: {key}}}
",
            ca_pem = base64(root.pem()),
            crt = base64(server.pem()),
            key = base64(server.key_pem()),
        )
        .replace("hostname: {}", "hostname: a.test")
    }

    /// `listener host action` for every rule and host.
    fn rules(plan: &Plan) -> Vec<String> {
        let mut rules = Vec::new();
        for listener in plan.frontends.values().flat_map(|frontend| &frontend.listeners) {
            for rule in &listener.rules {
                let action = match rule.action {
                    Action::Refuse(Reason::RouteNotFound) => "withheld",
                    _ => "route",
                };
                for host in &rule.hosts {
                    let host = host.matches.as_ref().map_or("any".to_owned(), ToString::to_string);
                    rules.push(format!("{} {host} {action}", listener.name.trim_start_matches("web/g/")));
                }
            }
        }
        rules.sort();
        rules
    }

    #[test]
    fn the_hosts_of_a_listener_out_of_service_are_not_served_by_a_wider_one() {
        let table: [(&str, &str, &str, &str, &[&str]); 4] = [
            (
                "both in service",
                "server",
                "ca",
                "a.test, b.test",
                &[
                    "elsewhere a.test route",
                    "elsewhere b.test route",
                    "narrow a.test route",
                    "wide a.test route",
                    "wide b.test route",
                ],
            ),
            (
                "no trust anchor",
                "server",
                "gone",
                "a.test, b.test",
                &[
                    "elsewhere a.test route",
                    "elsewhere b.test route",
                    "wide a.test withheld",
                    "wide b.test route",
                ],
            ),
            (
                "no server certificate",
                "gone",
                "ca",
                "a.test, b.test",
                &[
                    "elsewhere a.test route",
                    "elsewhere b.test route",
                    "wide a.test withheld",
                    "wide b.test route",
                ],
            ),
            (
                "a route for any host",
                "server",
                "gone",
                "",
                &["elsewhere any route", "wide *.test route", "wide a.test withheld"],
            ),
        ];
        for (description, certificate, ca, hostnames, expected) in table {
            let (plan, _) = translate(&yaml(&documents(certificate, ca, hostnames)), &testing::facts());
            assert_eq!(rules(&plan), expected, "{description}");
        }
    }
}
