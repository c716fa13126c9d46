//! HTTPRoutes: to which listeners each attaches, for which hosts, and its status.

use std::collections::BTreeMap;

use serde::Serialize;

use super::World;
use super::backends::Backends;
use super::conditions::{Conditions, Fault};
use super::findings::{Code, Findings};
use super::gateway::GatewayState;
use super::listeners::ListenerState;
use super::rules::{self, Rules};
use crate::model::route::RuleHost;
use crate::model::{Hostname, ObjectStatus, Rule};
use crate::resources::gateway::{NamespacesFrom, RouteNamespaces};
use crate::resources::refs::{ParentReference, namespace_or};
use crate::resources::{Gateway, HttpRoute, Kind, Object, defaults};

const METADATA_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The rules of every listener, by position of the Gateway and of the listener in it.
pub(super) type RulesByListener = BTreeMap<(usize, usize), Vec<Rule>>;

/// Attaches every route; counts what is attached, and says what became of each route that has a parent of ours.
pub(super) fn attach(
    world: World<'_>,
    gateways: &mut [GatewayState<'_>],
    backends: &mut Backends<'_>,
    findings: &mut Findings,
) -> (RulesByListener, Vec<ObjectStatus>) {
    let mut attached = RulesByListener::new();
    let mut statuses = Vec::new();
    for route in &world.resources.http_routes {
        let parents = parents(world, route, gateways, findings);
        if parents.is_empty() {
            continue;
        }
        let built = rules::build(route, backends, findings);
        let hostnames = hostnames(route, findings);
        let refused = hostnames.as_ref().err().cloned().or_else(|| built.refused());
        let hostnames = hostnames.unwrap_or_default();
        let mut places: BTreeMap<(usize, usize), Vec<RuleHost>> = BTreeMap::new();
        let mut entries = Vec::new();
        for parent in parents {
            let gateway = &gateways[parent.gateway];
            let found = listeners_of(world, route, &parent, gateway, &hostnames);
            let outcome = match (&refused, found) {
                (None, Ok(found)) => Ok(found),
                // A parent that does not take the route is said before what is wrong with the route itself.
                (_, Err(fault)) => {
                    findings.error(Code::RouteNotAttached, route, &parent.field(), &fault.words);
                    Err(fault)
                }
                (Some(fault), Ok(_)) => Err(fault.clone()),
            };
            entries.push(entry(world, route, &parent, gateway, &built, &outcome));
            for (listener, hosts) in outcome.unwrap_or_default() {
                places.insert((parent.gateway, listener), hosts);
            }
        }
        for ((gateway, listener), hosts) in places {
            gateways[gateway].listeners[listener].attached += 1;
            let rules = built.rules.iter().map(|rule| Rule { hosts: hosts.clone(), ..rule.clone() });
            attached.entry((gateway, listener)).or_default().extend(rules);
        }
        statuses.push(super::status(route, &Status { parents: entries }));
    }
    (attached, statuses)
}

/// A parentRef to a Gateway of ours.
struct Parent<'a> {
    index: usize,
    reference: &'a ParentReference,
    gateway: usize,
}

impl Parent<'_> {
    fn field(&self) -> String {
        format!("spec.parentRefs[{}]", self.index)
    }
}

fn parents<'a>(
    world: World<'_>,
    route: &'a Object<HttpRoute>,
    gateways: &[GatewayState<'_>],
    findings: &mut Findings,
) -> Vec<Parent<'a>> {
    if world.facts.file_mode && route.spec.parent_refs.is_empty() {
        findings.warning(Code::NotOurs, route, "spec", "names no parent, so nothing serves it");
    }
    let mut parents = Vec::new();
    for (index, reference) in route.spec.parent_refs.iter().enumerate() {
        if (reference.group.as_str(), reference.kind.as_str()) != (defaults::GATEWAY_GROUP, Gateway::KIND) {
            continue;
        }
        let namespace = namespace_or(reference.namespace.as_deref(), &route.meta.namespace);
        let key = (namespace, reference.name.as_str());
        if let Some(gateway) = gateways.iter().position(|gateway| gateway.object.key() == key) {
            parents.push(Parent { index, reference, gateway });
        } else if world.facts.file_mode && world.resources.gateways.get(key.0, key.1).is_none() {
            // Whose Gateway it would be is unknown, so there is no status to write: a word to the user must do.
            let field = format!("spec.parentRefs[{index}]");
            let words = format!("Gateway {namespace}/{} does not exist", reference.name);
            findings.warning(Code::ParentMissing, route, &field, words);
        }
    }
    parents
}

/// The route's host names. One that cannot be read refuses the route: left out, the last one would open it to all.
fn hostnames(route: &Object<HttpRoute>, findings: &mut Findings) -> Result<Vec<Hostname>, Fault> {
    let mut names = Vec::new();
    for (index, text) in route.spec.hostnames.iter().enumerate() {
        let Some(name) = Hostname::parse(text) else {
            let field = format!("spec.hostnames[{index}]");
            let words = format!("`{text}` is not a host name");
            findings.error(Code::RuleDropped, route, &field, &words);
            return Err(Fault::at("UnsupportedValue", &field, words));
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The listeners that take the route by this parentRef, with the hosts for which they do.
fn listeners_of(
    world: World<'_>,
    route: &Object<HttpRoute>,
    parent: &Parent<'_>,
    gateway: &GatewayState<'_>,
    hostnames: &[Hostname],
) -> Result<Vec<(usize, Vec<RuleHost>)>, Fault> {
    let ParentReference { section_name, port, .. } = parent.reference;
    let field = parent.field();
    let named = |listener: &&ListenerState<'_>| {
        section_name.as_ref().is_none_or(|name| *name == listener.spec.name)
            && port.is_none_or(|port| port == listener.spec.port)
    };
    let candidates: Vec<&ListenerState<'_>> = gateway.listeners.iter().filter(named).collect();
    if candidates.is_empty() {
        let section = section_name.as_ref().map(|name| format!(" named {name}")).unwrap_or_default();
        let port = port.map(|port| format!(" on port {port}")).unwrap_or_default();
        let words = format!("Gateway {} has no listener{section}{port}", gateway.name);
        return Err(Fault::at("NoMatchingParent", &field, words));
    }
    let allowed: Vec<&ListenerState<'_>> =
        candidates.into_iter().filter(|listener| allows(world, gateway, listener, route)).collect();
    if allowed.is_empty() {
        let words = format!(
            "no listener of Gateway {} that it names allows HTTPRoutes of namespace {}",
            gateway.name, route.meta.namespace
        );
        return Err(Fault::at("NotAllowedByListeners", &field, words));
    }
    let with_hosts = allowed.into_iter().map(|listener| (listener.index, hosts(listener, hostnames)));
    let found: Vec<_> = with_hosts.filter(|(_, hosts)| !hosts.is_empty()).collect();
    if found.is_empty() {
        let words = format!("no listener of Gateway {} that it names has a host in common", gateway.name);
        return Err(Fault::at("NoMatchingListenerHostname", "spec.hostnames", words));
    }
    Ok(found)
}

fn allows(
    world: World<'_>,
    gateway: &GatewayState<'_>,
    listener: &ListenerState<'_>,
    route: &Object<HttpRoute>,
) -> bool {
    let kind = |kind: &crate::resources::gateway::RouteGroupKind| {
        kind.group == defaults::GATEWAY_GROUP && kind.kind == HttpRoute::KIND
    };
    let RouteNamespaces { from, selector } = &listener.spec.allowed_routes.namespaces;
    let namespace = &route.meta.namespace;
    listener.kinds.iter().any(kind)
        && match from {
            NamespacesFrom::All => true,
            NamespacesFrom::Same => *namespace == gateway.object.meta.namespace,
            NamespacesFrom::None => false,
            NamespacesFrom::Selector => selector.as_ref().is_some_and(|selector| {
                let object = world.resources.namespaces.get("", namespace);
                let mut labels = object.map(|object| object.meta.labels.clone()).unwrap_or_default();
                // An API server sets this one on every namespace.
                labels.insert(METADATA_NAME_LABEL.to_owned(), namespace.clone());
                selector.selects(&labels)
            }),
        }
}

/// What listener and route have in common; empty: nothing.
fn hosts(listener: &ListenerState<'_>, hostnames: &[Hostname]) -> Vec<RuleHost> {
    if hostnames.is_empty() {
        return vec![RuleHost { matches: listener.hostname.clone(), own: None }];
    }
    let common = |own: &Hostname| {
        let matches = match &listener.hostname {
            None => Some(own.clone()),
            Some(hostname) => hostname.intersection(own),
        };
        matches.map(|matches| RuleHost { matches: Some(matches), own: Some(own.clone()) })
    };
    hostnames.iter().filter_map(common).collect()
}

fn entry(
    world: World<'_>,
    route: &Object<HttpRoute>,
    parent: &Parent<'_>,
    gateway: &GatewayState<'_>,
    built: &Rules,
    outcome: &Result<Vec<(usize, Vec<RuleHost>)>, Fault>,
) -> Entry {
    let mut conditions = Conditions::new(route.meta.generation);
    conditions.unless("ResolvedRefs", Fault::merged(&built.unresolved).as_ref(), "");
    conditions.unless("Accepted", outcome.as_ref().err(), "Route is Accepted");
    let programmed = match outcome {
        Err(fault) => Some(Fault::new("Invalid", format!("the route is not accepted: {}", fault.message))),
        Ok(listeners) => not_programmed(world, gateway, listeners),
    };
    conditions.unless("Programmed", programmed.as_ref(), "Route is served");
    if let (Ok(_), Some(words)) = (outcome, built.partially_invalid()) {
        conditions.yes("PartiallyInvalid", "UnsupportedValue", words);
    }
    let mut reference = parent.reference.clone();
    let namespace = namespace_or(reference.namespace.as_deref(), &route.meta.namespace).to_owned();
    reference.namespace = Some(namespace);
    Entry { parent_ref: reference, controller_name: gateway.controller.to_owned(), conditions }
}

/// `None` as soon as one listener serves the route.
fn not_programmed(
    world: World<'_>,
    gateway: &GatewayState<'_>,
    listeners: &[(usize, Vec<RuleHost>)],
) -> Option<Fault> {
    let fault = |(index, _): &(usize, Vec<RuleHost>)| {
        let listener = &gateway.listeners[*index];
        gateway.not_programmed(world, listener).map(|fault| {
            Fault::new(fault.reason, format!("listener {}: {}", listener.spec.name, fault.message))
        })
    };
    let faults: Option<Vec<Fault>> = listeners.iter().map(fault).collect();
    Fault::merged(&faults?)
}

#[derive(Serialize)]
struct Status {
    parents: Vec<Entry>,
}

/// Gateway API `RouteParentStatus`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    parent_ref: ParentReference,
    controller_name: String,
    conditions: Conditions,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::testing::{self, brief, condition, listener, status, yaml};
    use crate::model::{Plan, Severity};
    use crate::resources::refs::ParentReference;
    use crate::translate::translate;

    const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: web}
spec:
  gatewayClassName: c
  listeners:
  - {name: any, port: 80, protocol: HTTP}
  - {name: wild, port: 81, protocol: HTTP, hostname: '*.a.test'}
  - {name: exact, port: 81, protocol: HTTP, hostname: b.test, allowedRoutes: {namespaces: {from: All}}}
  - name: labelled
    port: 82
    protocol: HTTP
    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: edge}}}}
  - {name: others, port: 83, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}
  - name: by-name
    port: 84
    protocol: HTTP
    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: far}}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: edge, labels: {team: edge}}
";

    fn route(namespace: &str, parent: &str, hostnames: &str) -> String {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: {namespace}}}\n\
             spec: {{parentRefs: [{{name: g, namespace: web{parent}}}], hostnames: [{hostnames}]}}\n"
        )
    }

    /// The listeners that have the route, with its hosts.
    fn places(plan: &Plan) -> Vec<String> {
        let mut places = Vec::new();
        for listener in plan.frontends.values().flat_map(|frontend| &frontend.listeners) {
            for rule in &listener.rules {
                let hosts: Vec<String> = rule
                    .hosts
                    .iter()
                    .map(|host| host.matches.as_ref().map_or("any".to_owned(), ToString::to_string))
                    .collect();
                places.push(format!("{}={}", listener.name.trim_start_matches("web/g/"), hosts.join("+")));
            }
        }
        places.sort();
        places
    }

    #[test]
    fn attachment() {
        let same = ["any=any", "exact=b.test", "wild=*.a.test"];
        let table: [(&str, String, &str, &[&str]); 17] = [
            ("to the whole Gateway", route("web", "", ""), "True/Accepted", &same),
            ("to one listener", route("web", ", sectionName: any", ""), "True/Accepted", &["any=any"]),
            ("by port", route("web", ", port: 81", ""), "True/Accepted", &["exact=b.test", "wild=*.a.test"]),
            ("no such listener", route("web", ", sectionName: x", ""), "False/NoMatchingParent", &[]),
            ("no such port", route("web", ", port: 99", ""), "False/NoMatchingParent", &[]),
            (
                "section and port apart",
                route("web", ", sectionName: any, port: 81", ""),
                "False/NoMatchingParent",
                &[],
            ),
            (
                "another namespace, Same",
                route("far", ", sectionName: any", ""),
                "False/NotAllowedByListeners",
                &[],
            ),
            (
                "another namespace, All",
                route("far", ", sectionName: exact", ""),
                "True/Accepted",
                &["exact=b.test"],
            ),
            ("a labelled namespace", route("edge", ", port: 82", ""), "True/Accepted", &["labelled=any"]),
            ("one without the label", route("far", ", port: 82", ""), "False/NotAllowedByListeners", &[]),
            ("by the namespace's name", route("far", ", port: 84", ""), "True/Accepted", &["by-name=any"]),
            (
                "a kind that is not allowed",
                route("web", ", port: 83", ""),
                "False/NotAllowedByListeners",
                &[],
            ),
            (
                "hosts within the listener's",
                route("web", ", port: 81", "x.a.test, y.test"),
                "True/Accepted",
                &["wild=x.a.test"],
            ),
            (
                "wider hosts",
                route("web", ", port: 81", "'*.test'"),
                "True/Accepted",
                &["exact=b.test", "wild=*.a.test"],
            ),
            (
                "several hosts",
                route("web", ", sectionName: any", "x.test, '*.y.test'"),
                "True/Accepted",
                &["any=x.test+*.y.test"],
            ),
            (
                "no host in common",
                route("web", ", port: 81", "c.test"),
                "False/NoMatchingListenerHostname",
                &[],
            ),
            (
                "the wildcard's own name",
                route("web", ", sectionName: wild", "a.test"),
                "False/NoMatchingListenerHostname",
                &[],
            ),
        ];
        for (description, route, accepted, expected) in table {
            let resources = yaml(&format!("{GATEWAY}{route}"));
            let (plan, report) = translate(&resources, &testing::bound(&resources));
            let namespace = resources.http_routes.iter().next().unwrap().meta.namespace.clone();
            let status = status(&report, "HTTPRoute", &namespace, "r");
            let parent = &status["parents"][0];
            assert_eq!(brief(parent, "Accepted"), accepted, "{description}");
            assert_eq!(places(&plan), expected, "{description}");
            let served = accepted.starts_with("True");
            assert_eq!(brief(parent, "Programmed") == "True/Programmed", served, "{description}");
            assert_eq!(parent["controllerName"], "gateway.yett.dev/controller");
            for name in ["any", "wild", "exact", "labelled", "others", "by-name"] {
                let attached = expected.iter().filter(|place| place.starts_with(&format!("{name}="))).count();
                assert_eq!(
                    listener(&report, "web", "g", name)["attachedRoutes"],
                    attached,
                    "{description}: {name}"
                );
            }
            if !served {
                assert!(report.findings.iter().any(|f| f.code == "YT0217" && f.line > 0), "{description}");
            }
        }
    }

    #[test]
    fn parents_that_are_not_there() {
        let resources = yaml(&route("web", "", ""));
        let (_, report) = translate(&resources, &testing::facts());
        assert_eq!(report.objects, []);
        let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
        assert_eq!((finding.code, finding.severity), ("YT0216", Severity::Warning));
        assert_eq!(finding.field, "spec.parentRefs[0]");
        assert!(finding.message.contains("Gateway web/g"));
        let cluster = crate::model::Facts { file_mode: false, ..testing::facts() };
        assert_eq!(translate(&resources, &cluster).1.findings, []);
    }

    #[test]
    fn what_nobody_serves_is_said_in_file_mode() {
        let class = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: c}\n\
                     spec: {controllerName: example.com/other}\n";
        let lost = route("web", "", "").replace("parentRefs: [{name: g, namespace: web}], ", "");
        let resources = yaml(&format!("{GATEWAY}{class}{lost}"));
        let (plan, report) = translate(&resources, &testing::facts());
        assert_eq!((plan, report.objects), (Plan::default(), Vec::new()));
        let found: Vec<&str> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
        assert_eq!(found, ["Gateway web/g", "HTTPRoute web/r"]);
        let cluster = crate::model::Facts { file_mode: false, ..testing::facts() };
        assert_eq!(translate(&resources, &cluster).1.findings, []);
    }

    #[test]
    fn each_parent_has_its_own_entry() {
        let text = format!(
            "{GATEWAY}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: web, generation: 7}}\n\
             spec: {{parentRefs: [{{name: g, sectionName: any}}, {{name: g, sectionName: x}}, {{name: elsewhere}}, \
             {{kind: Service, group: \"\", name: s}}]}}\n"
        );
        let mut resources = yaml(&text);
        let mut route = (**resources.http_routes.get("web", "r").unwrap()).clone();
        let twice = ParentReference { port: Some(80), ..route.spec.parent_refs[0].clone() };
        route.spec.parent_refs.push(twice);
        resources.http_routes = Default::default();
        resources.http_routes.insert(std::sync::Arc::new(route)).unwrap();
        let (plan, report) = translate(&resources, &testing::facts());
        let status = status(&report, "HTTPRoute", "web", "r");
        let parents: &Vec<Value> = status["parents"].as_array().unwrap();
        let outcomes: Vec<String> = parents.iter().map(|parent| brief(parent, "Accepted")).collect();
        assert_eq!(outcomes, ["True/Accepted", "False/NoMatchingParent", "True/Accepted"]);
        assert_eq!(parents[0]["parentRef"]["sectionName"], "any");
        assert_eq!(parents[2]["parentRef"]["port"], 80);
        assert_eq!(condition(&parents[1], "Accepted")["observedGeneration"], 7);
        // Two parentRefs to one listener are one attachment.
        assert_eq!(listener(&report, "web", "g", "any")["attachedRoutes"], 1);
        assert_eq!(places(&plan), ["any=any"]);
    }

    #[test]
    fn routes_count_where_the_listener_is_not_served() {
        let text = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: web}
spec:
  gatewayClassName: c
  listeners: [{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: gone}]}}]
";
        let route =
            route("web", "", "").replace("hostnames: []", "rules: [{backendRefs: [{name: gone, port: 80}]}]");
        let (plan, report) = translate(&yaml(&format!("{text}{route}")), &testing::facts());
        assert_eq!(plan, Plan::default());
        let status_of_listener = listener(&report, "web", "g", "l");
        assert_eq!(status_of_listener["attachedRoutes"], 1);
        assert_eq!(brief(&status_of_listener, "Programmed"), "False/Invalid");
        let route = status(&report, "HTTPRoute", "web", "r");
        assert_eq!(brief(&route["parents"][0], "Accepted"), "True/Accepted");
        assert_eq!(brief(&route["parents"][0], "ResolvedRefs"), "False/BackendNotFound");
        assert_eq!(brief(&route["parents"][0], "Programmed"), "False/Invalid");
    }

    #[test]
    fn a_host_name_that_cannot_be_read_does_not_open_the_route_to_all() {
        let mut resources = yaml(&format!("{GATEWAY}{}", route("web", "", "x.test")));
        let mut broken = (**resources.http_routes.get("web", "r").unwrap()).clone();
        broken.spec.hostnames = vec!["x_y..test".to_owned()];
        resources.http_routes = Default::default();
        resources.http_routes.insert(std::sync::Arc::new(broken)).unwrap();
        let (plan, report) = translate(&resources, &testing::facts());
        assert_eq!(places(&plan), Vec::<String>::new());
        let status = status(&report, "HTTPRoute", "web", "r");
        assert_eq!(brief(&status["parents"][0], "Accepted"), "False/UnsupportedValue");
    }
}
