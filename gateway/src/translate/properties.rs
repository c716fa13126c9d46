//! What holds for any documents, judged by rules written down here once more and apart from translation itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::testing::{self, brief, condition, pki, status};
use super::translate;
use crate::model::{Action, BackendKey, Facts, Frontend, Listener, ObjectName, Plan, Protocol, Report};
use crate::resources::{FrontendTlsPolicy, Gateway, Object, Resources};

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
const ALB_GROUP: &str = "alb.networking.azure.io";

fn namespace() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b"])
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["x", "y"])
}

fn hostname() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        2 => Just(None),
        4 => select(vec!["a.test", "b.test", "*.test", "*.a.test", "x.a.test"]).prop_map(Some)
    ]
}

/// A reference to one of `kinds`, into the own or another namespace.
fn reference(kinds: Vec<(&'static str, &'static str)>) -> impl Strategy<Value = Value> {
    (select(kinds), name(), prop::option::of(namespace())).prop_map(|((group, kind), name, namespace)| {
        let mut reference = json!({"group": group, "kind": kind, "name": name});
        if let Some(namespace) = namespace {
            reference["namespace"] = namespace.into();
        }
        reference
    })
}

fn ca_reference() -> impl Strategy<Value = Value> {
    let core = |kind| ("", kind);
    reference(vec![core("Secret"), core("Secret"), core("ConfigMap"), core("Service")])
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn listener() -> impl Strategy<Value = Value> {
    let protocols = select(vec!["HTTPS", "HTTPS", "HTTP", "TCP"]);
    let references = prop::collection::vec(reference(vec![("", "Secret")]), 1..3);
    let from = select(vec!["Same", "All"]);
    (select(vec![80, 443]), protocols, hostname(), references, from).prop_map(
        |(port, protocol, hostname, references, from)| {
            let mut listener = json!({
                "port": port,
                "protocol": protocol,
                "allowedRoutes": {"namespaces": {"from": from}},
            });
            if protocol == "HTTPS" {
                listener["tls"] = json!({"certificateRefs": references});
            }
            if let Some(hostname) = hostname {
                listener["hostname"] = hostname.into();
            }
            listener
        },
    )
}

fn frontend_tls() -> impl Strategy<Value = Value> {
    let validation =
        prop::option::weighted(0.8, prop::collection::vec(ca_reference(), 1..3)).prop_map(|references| {
            references
                .map_or(json!({}), |references| json!({"validation": {"caCertificateRefs": references}}))
        });
    let validation = validation.boxed();
    (validation.clone(), prop::option::of(validation)).prop_map(|(default, own)| match own {
        None => json!({"default": default}),
        Some(own) => json!({"default": default, "perPort": [{"port": 443, "tls": own}]}),
    })
}

fn gateway() -> impl Strategy<Value = Value> {
    let listeners = prop::collection::vec(listener(), 1..5);
    let class = select(vec!["c", "c", "c", "foreign"]);
    let addresses = prop::option::weighted(0.3, select(vec!["127.0.0.1", "203.0.113.9", "192.0.2.1"]));
    (namespace(), name(), class, listeners, prop::option::weighted(0.4, frontend_tls()), addresses).prop_map(
        |(namespace, name, class, mut listeners, frontend, address)| {
            for (index, listener) in listeners.iter_mut().enumerate() {
                listener["name"] = format!("l{index}").into();
            }
            // Equal listeners are refused before translation; a few that differ say more.
            let mut seen = Vec::new();
            listeners.retain(|listener| {
                let key =
                    (listener["port"].clone(), listener["protocol"].clone(), listener["hostname"].clone());
                let new = !seen.contains(&key);
                seen.push(key);
                new
            });
            let mut spec = json!({"gatewayClassName": class, "listeners": listeners});
            if let Some(frontend) = frontend {
                spec["tls"] = json!({"frontend": frontend});
            }
            if let Some(address) = address {
                spec["addresses"] = json!([{"value": address}]);
            }
            object("gateway.networking.k8s.io/v1", "Gateway", namespace, name, &spec)
        },
    )
}

fn route() -> impl Strategy<Value = Value> {
    let parents = prop::collection::vec(
        (name(), namespace(), prop::option::weighted(0.4, select(vec!["l0", "l1", "l9"]))),
        1..3,
    );
    let backend = reference(vec![("", "Service"), ("gateway.yett.dev", "Backend"), ("x.test", "Odd")]);
    let backends = prop::collection::vec((backend, 0u32..3), 0..3);
    let path = select(vec![
        ("PathPrefix", "/"),
        ("Exact", "/a"),
        ("PathPrefix", "/p/"),
        ("RegularExpression", "/.*"),
    ]);
    let header = select(vec!["x-a", "host"]);
    let rules = prop::collection::vec((backends, path, prop::option::weighted(0.3, header)), 1..3);
    let hostnames = prop::collection::vec(hostname(), 0..3);
    (namespace(), name(), parents, hostnames, rules).prop_map(|(namespace, name, parents, hostnames, rules)| {
        let parents: Vec<Value> = parents
            .into_iter()
            .map(|(name, namespace, section)| {
                let mut parent = json!({"name": name, "namespace": namespace});
                if let Some(section) = section {
                    parent["sectionName"] = section.into();
                }
                parent
            })
            .collect();
        let rules: Vec<Value> = rules
            .into_iter()
            .map(|(backends, (kind, path), header)| {
                let backends: Vec<Value> = backends
                    .into_iter()
                    .map(|(mut backend, weight)| {
                        backend["weight"] = weight.into();
                        backend["port"] = 80.into();
                        backend
                    })
                    .collect();
                let filters: Vec<Value> = header
                    .into_iter()
                    .map(|name| json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [name]}}))
                    .collect();
                json!({"matches": [{"path": {"type": kind, "value": path}}], "backendRefs": backends, "filters": filters})
            })
            .collect();
        let mut hostnames: Vec<&str> = hostnames.into_iter().flatten().collect();
        hostnames.sort_unstable();
        hostnames.dedup();
        let spec = json!({"parentRefs": parents, "hostnames": hostnames, "rules": rules});
        object("gateway.networking.k8s.io/v1", "HTTPRoute", namespace, name, &spec)
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let sections = prop::collection::vec(select(vec!["l0", "l1", "l9"]), 0..2);
    let verify = prop::option::weighted(0.8, ca_reference());
    let place = select(vec!["default", "default", "default", "override"]);
    let target = (name(), prop::option::of(namespace()));
    let policy_type = select(vec!["2023-06", "2023-06", "2023-06-S", "2099-01"]);
    (namespace(), name(), target, sections, verify, place, policy_type).prop_map(
        |(namespace, name, (gateway, target_namespace), sections, verify, place, policy_type)| {
            let mut target =
                json!({"group": GATEWAY_GROUP, "kind": "Gateway", "name": gateway, "sectionNames": sections});
            if let Some(namespace) = target_namespace {
                target["namespace"] = namespace.into();
            }
            let mut config = json!({"policyType": {"name": policy_type, "type": "predefined"}});
            if let Some(verify) = verify {
                config["verify"] = json!({"caCertificateRef": verify});
            }
            let spec = json!({"targetRef": target, place: config});
            object("alb.networking.azure.io/v1", "FrontendTLSPolicy", namespace, name, &spec)
        },
    )
}

fn grant() -> impl Strategy<Value = Value> {
    let from = select(vec![
        (GATEWAY_GROUP, "Gateway"),
        (GATEWAY_GROUP, "HTTPRoute"),
        (ALB_GROUP, "FrontendTLSPolicy"),
    ]);
    let to = select(vec![
        ("", "Secret"),
        ("", "ConfigMap"),
        ("", "Service"),
        ("gateway.yett.dev", "Backend"),
        (GATEWAY_GROUP, "Gateway"),
    ]);
    (namespace(), name(), from, namespace(), to, prop::option::of(name())).prop_map(
        |(namespace, name, (from_group, from_kind), from_namespace, (to_group, to_kind), to_name)| {
            let mut to = json!({"group": to_group, "kind": to_kind});
            if let Some(name) = to_name {
                to["name"] = name.into();
            }
            let from = json!({"group": from_group, "kind": from_kind, "namespace": from_namespace});
            let spec = json!({"from": [from], "to": [to]});
            object("gateway.networking.k8s.io/v1", "ReferenceGrant", namespace, name, &spec)
        },
    )
}

/// Secrets with everything a Secret can be good for, and ConfigMaps; some of them broken.
fn material() -> impl Strategy<Value = Value> {
    static PEM: OnceLock<(String, String, String)> = OnceLock::new();
    let (ca, certificate, key) = PEM.get_or_init(|| {
        let ca = pki::ca("root");
        let server = ca.server("leaf", &["a.test", "*.test"]);
        (ca.pem(), server.pem(), server.key_pem())
    });
    (namespace(), name(), any::<bool>(), prop::bool::weighted(0.8)).prop_map(move |(namespace, name, secret, good)| {
        let text = |pem: &str| if good { pem.to_owned() } else { "nothing".to_owned() };
        let metadata = json!({"name": name, "namespace": namespace});
        if secret {
            let data = json!({"ca.crt": text(ca), "ca.crl": "crl", "tls.crt": text(certificate), "tls.key": key});
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "stringData": data})
        } else {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": text(ca)}})
        }
    })
}

fn backend() -> impl Strategy<Value = Value> {
    (namespace(), name(), any::<bool>()).prop_map(|(namespace, name, service)| {
        if service {
            object("v1", "Service", namespace, name, &json!({"ports": [{"port": 80}]}))
        } else {
            let spec = json!({"endpoints": [{"address": "127.0.0.1", "port": 8080}]});
            object("gateway.yett.dev/v1alpha1", "Backend", namespace, name, &spec)
        }
    })
}

fn documents() -> impl Strategy<Value = Vec<Value>> {
    let document = prop_oneof![
        3 => gateway().boxed(),
        3 => route().boxed(),
        2 => policy().boxed(),
        3 => grant().boxed(),
        4 => material().boxed(),
        2 => backend().boxed(),
    ];
    let foreign = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "foreign"},
        "spec": {"controllerName": "example.com/other"},
    });
    prop::collection::vec(document, 1..24).prop_map(move |documents| {
        let mut unique: BTreeMap<String, Value> = BTreeMap::new();
        for document in documents.into_iter().chain([foreign.clone()]) {
            let key = format!("{} {}", document["kind"], document["metadata"]);
            unique.entry(key).or_insert(document);
        }
        unique.into_values().collect()
    })
}

fn read(documents: &[Value]) -> Resources {
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    Resources::from_text(&text.join("\n---\n")).0
}

/// A grant by the letter of the API.
fn granted(resources: &Resources, from: (&str, &str, &str), to: (&str, &str, &str, &str)) -> bool {
    from.2 == to.2
        || resources.reference_grants.iter().any(|grant| {
            grant.meta.namespace == to.2
                && grant.spec.from.iter().any(|f| (&*f.group, &*f.kind, &*f.namespace) == from)
                && grant.spec.to.iter().any(|t| {
                    (&*t.group, &*t.kind) == (to.0, to.1) && t.name.as_deref().is_none_or(|name| name == to.3)
                })
        })
}

/// `Kind namespace/name`
fn parse_source(source: &str) -> (&str, &str, &str) {
    let (kind, name) = source.split_once(' ').unwrap();
    let (namespace, name) = name.split_once('/').unwrap();
    (kind, namespace, name)
}

/// Policies that may speak about the listener and want clients verified.
fn verifying<'a>(
    resources: &'a Resources,
    gateway: &'a ObjectName,
    listener: &'a str,
) -> impl Iterator<Item = &'a Object<FrontendTlsPolicy>> {
    resources.frontend_tls_policies.iter().map(|policy| &**policy).filter(move |policy| {
        let target = &policy.spec.target_ref;
        let own = policy.meta.namespace.as_str();
        let namespace = target.namespace.as_deref().unwrap_or(own);
        let configs = [&policy.spec.default, &policy.spec.overriding];
        (namespace, target.name.as_str()) == (&*gateway.namespace, &*gateway.name)
            && granted(
                resources,
                (ALB_GROUP, "FrontendTLSPolicy", own),
                (GATEWAY_GROUP, "Gateway", namespace, &target.name),
            )
            && (target.section_names.is_empty() || target.section_names.iter().any(|name| name == listener))
            && configs.into_iter().flatten().any(|config| config.verify.is_some())
    })
}

fn assert_frontend(resources: &Resources, report: &Report, frontend: &Frontend) {
    let name = &frontend.id.gateway;
    let gateway = resources.gateways.get(&name.namespace, &name.name).unwrap();
    let status = status(report, "Gateway", &name.namespace, &name.name);
    assert_eq!(condition(&status, "Accepted")["status"], "True");
    assert!(!frontend.addresses.is_empty() && !frontend.listeners.is_empty());
    for listener in &frontend.listeners {
        let section = listener.name.rsplit('/').next().unwrap();
        let listeners = status["listeners"].as_array().unwrap();
        let of_status = listeners.iter().find(|status| status["name"] == section).unwrap();
        assert_eq!(brief(of_status, "Accepted"), "True/Accepted");
        assert_eq!(condition(of_status, "Conflicted"), Value::Null);
        assert_eq!(listener.tls.is_some(), frontend.protocol == Protocol::Https);
        let twins = frontend.listeners.iter().filter(|other| other.hostname == listener.hostname);
        assert_eq!(twins.count(), 1, "equal host names on {}", frontend.id);
        assert_trust(resources, gateway, frontend, section, listener);
        assert_rules(resources, report, &frontend.id.gateway, listener);
    }
}

fn assert_trust(
    resources: &Resources,
    gateway: &Object<Gateway>,
    frontend: &Frontend,
    section: &str,
    listener: &Listener,
) {
    let Some(tls) = &listener.tls else { return };
    let from_gateway = (GATEWAY_GROUP, "Gateway", gateway.meta.namespace.as_str());
    assert!(!tls.certificates.is_empty());
    for certificate in &tls.certificates {
        let (kind, namespace, name) = parse_source(&certificate.source);
        assert!(granted(resources, from_gateway, ("", kind, namespace, name)), "{}", certificate.source);
    }
    let own = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
    let policies: Vec<_> = verifying(resources, &frontend.id.gateway, section).collect();
    let demanded = match own {
        Some(own) => {
            let entry = own.per_port.iter().find(|entry| entry.port == frontend.id.port);
            entry.map_or(&own.default, |entry| &entry.tls).validation.is_some()
        }
        None => {
            let unreadable = resources.unreadable_policies.iter();
            let (namespace, name) = gateway.key();
            assert!(unreadable.filter(|policy| policy.may_cover(namespace, name, section)).count() == 0);
            !policies.is_empty()
        }
    };
    assert_eq!(tls.client.is_some(), demanded, "listener {} of {}", section, frontend.id);
    let Some(client) = &tls.client else { return };
    assert!(!client.trust.anchors.is_empty());
    for source in client.trust.source.split(", ") {
        let (kind, namespace, name) = parse_source(source);
        let to = ("", kind, namespace, name);
        let by_policy = |policy: &&Object<FrontendTlsPolicy>| {
            granted(resources, (ALB_GROUP, "FrontendTLSPolicy", &policy.meta.namespace), to)
        };
        let permitted = match own {
            Some(_) => granted(resources, from_gateway, to),
            None => policies.iter().any(by_policy),
        };
        assert!(permitted, "{source} for {}", frontend.id);
    }
}

fn assert_rules(resources: &Resources, report: &Report, gateway: &ObjectName, listener: &Listener) {
    for rule in &listener.rules {
        assert!(!rule.hosts.is_empty() && !rule.matches.is_empty());
        for host in &rule.hosts {
            let (Some(own), Some(matches)) = (&listener.hostname, &host.matches) else {
                assert!(listener.hostname.is_none() || host.matches.is_some());
                continue;
            };
            assert_eq!(own.intersection(matches).as_ref(), Some(matches), "{} {}", listener.name, matches);
        }
        if rule.name.as_deref() == Some("withheld") {
            continue;
        }
        let status = status(report, "HTTPRoute", &rule.route.namespace, &rule.route.name);
        let parents = status["parents"].as_array().unwrap();
        assert!(parents.iter().any(|parent| {
            brief(parent, "Accepted") == "True/Accepted"
                && parent["parentRef"]["name"] == *gateway.name
                && parent["parentRef"]["namespace"] == *gateway.namespace
        }));
        let Action::Forward(backends) = &rule.action else { continue };
        for key in backends.iter().filter_map(|backend| backend.target.as_ref().ok()) {
            let (group, kind, name) = match key {
                BackendKey::Service(name, _) => ("", "Service", name),
                BackendKey::Backend(name) => ("gateway.yett.dev", "Backend", name),
            };
            let from = (GATEWAY_GROUP, "HTTPRoute", &*rule.route.namespace);
            assert!(
                granted(resources, from, (group, kind, &name.namespace, &name.name)),
                "{key} for {}",
                rule.route
            );
        }
    }
}

fn assert_plan(resources: &Resources, plan: &Plan, report: &Report) {
    let mut bound: Vec<(IpAddr, u16)> = Vec::new();
    for frontend in plan.frontends.values() {
        assert_frontend(resources, report, frontend);
        for address in &frontend.addresses {
            let clash = bound.iter().find(|(other, port)| {
                *port == frontend.bind_port
                    && other.is_ipv4() == address.is_ipv4()
                    && (other == address || other.is_unspecified() || address.is_unspecified())
            });
            assert_eq!(clash, None, "{}", frontend.id);
        }
        bound.extend(frontend.addresses.iter().map(|address| (*address, frontend.bind_port)));
    }
    let listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    for rule in listeners.flat_map(|listener| &listener.rules) {
        let Action::Forward(backends) = &rule.action else { continue };
        for key in backends.iter().filter_map(|backend| backend.target.as_ref().ok()) {
            assert!(plan.backends.contains_key(key), "{key}");
        }
    }
}

/// Every condition has a reason and the generation, and every False one words and a finding about the object.
fn assert_report(report: &Report) {
    for object in &report.objects {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let name = format!("{} {namespace}/{}", object.kind, object.name);
        let mut stack = vec![&object.status];
        while let Some(value) = stack.pop() {
            match value {
                Value::Array(items) => stack.extend(items),
                Value::Object(members) if members.contains_key("observedGeneration") => {
                    assert_eq!(members["observedGeneration"], object.generation, "{name}: {members:?}");
                    assert_ne!(members["reason"], "", "{name}: {members:?}");
                    if members["status"] == "False" {
                        assert_ne!(members["message"], "", "{name}: {members:?}");
                    }
                    if members["status"] == "False" && members["type"] != "Programmed" {
                        let found = report.findings.iter().any(|finding| {
                            finding.object == name || finding.object.starts_with("FrontendTLSPolicy")
                        });
                        assert!(found, "no finding about {name}: {members:?}");
                    }
                }
                Value::Object(members) => stack.extend(members.values()),
                _ => {}
            }
        }
    }
}

fn facts(resources: &Resources, file_mode: bool) -> Facts {
    let facts = Facts { file_mode, ..testing::facts() };
    let (plan, _) = translate(resources, &facts);
    // Every second frontend is bound, every third could not be.
    let outcome = |(index, id)| match index % 3 {
        0 => None,
        1 => Some((id, Ok(()))),
        _ => Some((id, Err("no".to_owned()))),
    };
    let bound = plan.frontends.into_keys().enumerate().filter_map(outcome).collect();
    Facts { bound, ..facts }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_is_what_was_accepted_and_granted(documents in documents(), file_mode in prop::bool::weighted(0.9)) {
        let resources = read(&documents);
        let facts = facts(&resources, file_mode);
        let (plan, report) = translate(&resources, &facts);
        assert_plan(&resources, &plan, &report);
        assert_report(&report);
    }

    #[test]
    fn the_order_of_documents_means_nothing(mut documents in documents()) {
        let resources = read(&documents);
        let facts = facts(&resources, true);
        let outcome = translate(&resources, &facts);
        prop_assert_eq!(&outcome, &translate(&resources, &facts));
        documents.reverse();
        let (plan, report) = translate(&read(&documents), &facts);
        prop_assert_eq!(outcome.0, plan);
        prop_assert_eq!(outcome.1.objects, report.objects);
    }
}
