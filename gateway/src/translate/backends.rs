//! Backends: from backendRefs to endpoints, by Services with their EndpointSlices or by our own Backends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::World;
use super::conditions::Fault;
use super::findings::{Code, Findings};
use super::grants::{Holder, group, resolve};
use crate::model::backend::EndpointHost;
use crate::model::{self, BackendKey, BackendProtocol, Endpoint, Hostname, ObjectName};
use crate::resources::endpointslice::{AddressType, SERVICE_NAME_LABEL};
use crate::resources::refs::BackendObjectReference;
use crate::resources::service::{IntOrString, ServicePort};
use crate::resources::{Backend, EndpointSlice, HttpRoute, Kind, Object, Service};

/// Every backend that a route refers to, resolved once.
#[derive(Debug)]
pub(super) struct Backends<'a> {
    world: World<'a>,
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a Object<EndpointSlice>>>,
    known: BTreeMap<BackendKey, Arc<model::Backend>>,
}

impl<'a> Backends<'a> {
    pub(super) fn new(world: World<'a>) -> Backends<'a> {
        let mut slices: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for slice in &world.resources.endpoint_slices {
            if let Some(service) = slice.meta.labels.get(SERVICE_NAME_LABEL) {
                let service = (slice.meta.namespace.as_str(), service.as_str());
                slices.entry(service).or_default().push(&**slice);
            }
        }
        Backends { world, slices, known: BTreeMap::new() }
    }

    /// A backend that was resolved before.
    pub(super) fn get(&self, key: &BackendKey) -> Option<&Arc<model::Backend>> {
        self.known.get(key)
    }

    /// The backend that a reference at `field` of a route names.
    pub(super) fn resolve(
        &mut self,
        route: &Object<HttpRoute>,
        reference: &BackendObjectReference,
        field: &str,
        findings: &mut Findings,
    ) -> Result<BackendKey, Fault> {
        let resources = self.world.resources;
        let from = Holder::of(route);
        let namespace = reference.namespace.as_deref();
        let outcome = match (reference.group.as_str(), reference.kind.as_str()) {
            ("", Service::KIND) => resolve(self.world, from, &resources.services, namespace, &reference.name)
                .map(|service| self.service(service, reference.port, findings)),
            (named, Backend::KIND) if named == group::<Backend>() => {
                resolve(self.world, from, &resources.backends, namespace, &reference.name)
                    .map(|backend| self.backend(backend, findings))
            }
            (named, kind) => {
                let words = format!("backends of kind {kind}, group `{named}`, are not supported");
                findings.error(Code::BackendUnresolved, route, field, &words);
                return Err(Fault::at("InvalidKind", field, words));
            }
        };
        match outcome {
            Ok(Ok(key)) => Ok(key),
            Ok(Err(fault)) => {
                findings.error(Code::BackendUnresolved, route, field, &fault.words);
                Err(Fault::at(fault.reason, field, fault.message))
            }
            Err(unresolved) => {
                findings.error(unresolved.code(Code::BackendUnresolved), route, field, unresolved.words());
                Err(unresolved.fault(field, "BackendNotFound"))
            }
        }
    }

    fn service(
        &mut self,
        service: &Object<Service>,
        port: Option<u16>,
        findings: &mut Findings,
    ) -> Result<BackendKey, Fault> {
        // An ExternalName would let a route reach whatever the name resolves to, past every grant (CVE-2021-25740).
        if service.spec.kind == "ExternalName" {
            return Err(Fault::new("InvalidKind", format!("{service} is of type ExternalName")));
        }
        let Some(number) = port else {
            return Err(Fault::new("BackendNotFound", format!("a port of {service} must be named")));
        };
        let Some(port) = service.spec.ports.iter().find(|port| port.port == number) else {
            return Err(Fault::new("BackendNotFound", format!("{service} has no port {number}")));
        };
        if port.protocol != "TCP" {
            let words = format!("port {number} of {service} is of protocol {}", port.protocol);
            return Err(Fault::new("UnsupportedProtocol", words));
        }
        let protocol = protocol(port.app_protocol.as_deref()).map_err(|words| {
            Fault::new("UnsupportedProtocol", format!("port {number} of {service}: {words}"))
        })?;
        let name = ObjectName::new(service.meta.namespace.as_str(), service.meta.name.as_str());
        let key = BackendKey::Service(name, number);
        if !self.known.contains_key(&key) {
            let endpoints = self.endpoints(service, port);
            if endpoints.is_empty() {
                let words = format!("port {number} has no ready endpoint in any EndpointSlice");
                findings.warning(Code::NoEndpoints, service, "spec.ports", words);
            }
            self.known
                .insert(key.clone(), Arc::new(model::Backend { key: key.clone(), protocol, endpoints }));
        }
        Ok(key)
    }

    fn endpoints(&self, service: &Object<Service>, port: &ServicePort) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for slice in self.slices.get(&service.key()).into_iter().flatten() {
            if slice.spec.address_type == AddressType::Fqdn {
                continue;
            }
            let same = |slice_port: &&crate::resources::endpointslice::EndpointPort| {
                slice_port.name == port.name && slice_port.protocol == "TCP"
            };
            let Some(slice_port) = slice.spec.ports.iter().find(same) else { continue };
            // A slice port without number stands for all ports: the Service says which one it means.
            let number = slice_port.port.or(match &port.target_port {
                Some(IntOrString::Int(number)) => Some(*number),
                Some(IntOrString::String(_)) => None,
                None => Some(port.port),
            });
            let Some(number) = number.filter(|number| *number != 0) else { continue };
            for endpoint in slice.spec.endpoints.iter().filter(|endpoint| endpoint.conditions.is_ready()) {
                let address = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
                let Some(address) = address.map(|address| address.to_canonical()) else { continue };
                endpoints.push(Endpoint { host: EndpointHost::Address(address), port: number });
            }
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    }

    fn backend(&mut self, backend: &Object<Backend>, findings: &mut Findings) -> Result<BackendKey, Fault> {
        let written = backend.spec.app_protocol.as_str();
        let protocol = protocol(Some(written)).map_err(|words| {
            Fault::new("UnsupportedProtocol", format!("{backend} spec.appProtocol: {words}"))
        })?;
        let key =
            BackendKey::Backend(ObjectName::new(backend.meta.namespace.as_str(), backend.meta.name.as_str()));
        if !self.known.contains_key(&key) {
            let mut endpoints = Vec::new();
            for (index, endpoint) in backend.spec.endpoints.iter().enumerate() {
                match endpoint_host(endpoint.address.as_deref(), endpoint.hostname.as_deref()) {
                    Ok(host) if endpoint.port != 0 => endpoints.push(Endpoint { host, port: endpoint.port }),
                    Ok(_) => {}
                    Err(words) => {
                        let field = format!("spec.endpoints[{index}]");
                        findings.error(Code::NoEndpoints, backend, &field, words);
                    }
                }
            }
            endpoints.sort_unstable();
            endpoints.dedup();
            if endpoints.is_empty() {
                findings.warning(Code::NoEndpoints, backend, "spec.endpoints", "there is no usable endpoint");
            }
            self.known
                .insert(key.clone(), Arc::new(model::Backend { key: key.clone(), protocol, endpoints }));
        }
        Ok(key)
    }
}

fn endpoint_host(address: Option<&str>, hostname: Option<&str>) -> Result<EndpointHost, String> {
    match (address, hostname) {
        (Some(text), None) => match text.parse::<IpAddr>() {
            Ok(address) => Ok(EndpointHost::Address(address.to_canonical())),
            Err(_) => Err(format!("`{text}` is not an IP address")),
        },
        (None, Some(text)) => match Hostname::parse(text) {
            Some(Hostname::Exact(name)) => Ok(EndpointHost::Name(name)),
            _ => Err(format!("`{text}` is not a host name")),
        },
        _ => Err("an endpoint has either an address or a hostname".to_owned()),
    }
}

/// What a backend speaks by its appProtocol (GEP-1911); the words say why it cannot be spoken to.
fn protocol(app_protocol: Option<&str>) -> Result<BackendProtocol, String> {
    match app_protocol {
        None | Some("" | "http" | "kubernetes.io/ws") => Ok(BackendProtocol::Http1),
        Some("kubernetes.io/h2c") => Ok(BackendProtocol::H2c),
        // TLS without verification would only look safe.
        Some(secure @ ("https" | "kubernetes.io/wss")) => {
            Err(format!("appProtocol {secure} needs a BackendTLSPolicy, and there is none"))
        }
        Some(other) => Err(format!("appProtocol {other} is not supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, brief, condition, status, yaml};
    use crate::model::{Action, BackendProtocol, Plan, Reason};
    use crate::translate::translate;

    const SURROUNDINGS: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: web}
spec: {gatewayClassName: c, listeners: [{name: l, port: 80, protocol: HTTP}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: web}
spec:
  ports:
  - {name: http, port: 80, targetPort: 3000}
  - {name: h2, port: 81, appProtocol: kubernetes.io/h2c}
  - {name: ws, port: 82, appProtocol: kubernetes.io/ws}
  - {name: tls, port: 83, appProtocol: https}
  - {name: odd, port: 84, appProtocol: example.com/odd}
  - {name: udp, port: 85, protocol: UDP}
  - {name: bare, port: 86, targetPort: 4000}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: web}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: web}
spec: {type: ExternalName, externalName: x.test, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: far}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: granted, namespace: far}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: far}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: web}]
  to: [{group: "", kind: Service, name: granted}, {group: "", kind: Service, name: gone}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: web, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}}
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.3], conditions: {ready: false}}
ports: [{name: http, port: 3000}, {name: h2, port: 3001}, {name: ws, port: 3002}, {name: bare}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-2, namespace: web, labels: {kubernetes.io/service-name: s}}
addressType: IPv6
endpoints: [{addresses: ["2001:db8::5"]}]
ports: [{name: http, port: 3000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-3, namespace: web, labels: {kubernetes.io/service-name: s}}
addressType: FQDN
endpoints: [{addresses: [x.test]}]
ports: [{name: http, port: 3000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, namespace: far, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: [{addresses: [10.9.9.9]}]
ports: [{name: http, port: 3000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: h, namespace: web, labels: {kubernetes.io/service-name: headless}}
addressType: IPv4
endpoints: [{addresses: [10.0.1.1]}]
ports: [{port: 80}]
---
apiVersion: gateway.yett.dev/v1alpha1
kind: Backend
metadata: {name: b, namespace: web}
spec: {endpoints: [{hostname: app.internal, port: 8080}, {address: 127.0.0.1, port: 8081}], appProtocol: kubernetes.io/h2c}
---
apiVersion: gateway.yett.dev/v1alpha1
kind: Backend
metadata: {name: secure, namespace: web}
spec: {endpoints: [{address: 127.0.0.1, port: 8443}], appProtocol: https}
"#;

    fn route(references: &str) -> String {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: web}}\n\
             spec: {{parentRefs: [{{name: g}}], rules: [{{backendRefs: [{references}]}}]}}\n"
        )
    }

    fn action(plan: &Plan) -> &Action {
        &plan.frontends.values().next().unwrap().listeners[0].rules[0].action
    }

    #[test]
    fn references() {
        let own = "group: gateway.yett.dev, kind: Backend";
        let s = ["10.0.0.1:3000", "10.0.0.2:3000", "[2001:db8::5]:3000"];
        let h2 = ["10.0.0.1:3001", "10.0.0.2:3001"];
        let table: [(&str, String, &str, BackendProtocol, &[&str]); 17] = [
            ("a Service", "name: s, port: 80".to_owned(), "True/ResolvedRefs", BackendProtocol::Http1, &s),
            ("h2c", "name: s, port: 81".to_owned(), "True/ResolvedRefs", BackendProtocol::H2c, &h2),
            (
                "WebSocket",
                "name: s, port: 82".to_owned(),
                "True/ResolvedRefs",
                BackendProtocol::Http1,
                &["10.0.0.1:3002", "10.0.0.2:3002"],
            ),
            (
                "a slice for all ports",
                "name: s, port: 86".to_owned(),
                "True/ResolvedRefs",
                BackendProtocol::Http1,
                &["10.0.0.1:4000", "10.0.0.2:4000"],
            ),
            (
                "headless",
                "name: headless, port: 80".to_owned(),
                "True/ResolvedRefs",
                BackendProtocol::Http1,
                &["10.0.1.1:80"],
            ),
            (
                "our own kind",
                format!("{own}, name: b"),
                "True/ResolvedRefs",
                BackendProtocol::H2c,
                &["127.0.0.1:8081", "app.internal:8080"],
            ),
            (
                "granted, nothing ready",
                "name: granted, namespace: far, port: 80".to_owned(),
                "True/ResolvedRefs",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "TLS without policy",
                "name: s, port: 83".to_owned(),
                "False/UnsupportedProtocol",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "an odd protocol",
                "name: s, port: 84".to_owned(),
                "False/UnsupportedProtocol",
                BackendProtocol::Http1,
                &[],
            ),
            ("UDP", "name: s, port: 85".to_owned(), "False/UnsupportedProtocol", BackendProtocol::Http1, &[]),
            (
                "our own kind, TLS",
                format!("{own}, name: secure"),
                "False/UnsupportedProtocol",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "no such port",
                "name: s, port: 99".to_owned(),
                "False/BackendNotFound",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "no such Service",
                "name: gone, port: 80".to_owned(),
                "False/BackendNotFound",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "another kind",
                "kind: NonExistent, group: x.test, name: s".to_owned(),
                "False/InvalidKind",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "a name outside",
                "name: external, port: 80".to_owned(),
                "False/InvalidKind",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "exists, not granted",
                "name: s, namespace: far, port: 80".to_owned(),
                "False/RefNotPermitted",
                BackendProtocol::Http1,
                &[],
            ),
            (
                "granted, missing",
                "name: gone, namespace: far, port: 80".to_owned(),
                "False/BackendNotFound",
                BackendProtocol::Http1,
                &[],
            ),
        ];
        for (description, reference, resolved, protocol, endpoints) in table {
            let resources = yaml(&format!("{SURROUNDINGS}{}", route(&format!("{{{reference}}}"))));
            let (plan, report) = translate(&resources, &testing::bound(&resources));
            let status = status(&report, "HTTPRoute", "web", "r");
            let parent = &status["parents"][0];
            assert_eq!(brief(parent, "ResolvedRefs"), resolved, "{description}");
            assert_eq!(brief(parent, "Accepted"), "True/Accepted", "{description}");
            let Action::Forward(backends) = action(&plan) else {
                panic!("{description}: {:?}", action(&plan))
            };
            if resolved.starts_with("False") {
                assert_eq!(backends[0].target, Err(Reason::BackendInvalid), "{description}");
                assert!(plan.backends.is_empty(), "{description}");
                let message = condition(parent, "ResolvedRefs")["message"].to_string();
                assert!(message.contains("spec.rules[0].backendRefs[0]: "), "{description}: {message}");
                assert!(
                    report.findings.iter().any(|f| f.field == "spec.rules[0].backendRefs[0]"),
                    "{description}"
                );
                continue;
            }
            let backend = &plan.backends[backends[0].target.as_ref().unwrap()];
            let found: Vec<String> = backend.endpoints.iter().map(ToString::to_string).collect();
            assert_eq!(
                (found, backend.protocol),
                (endpoints.iter().map(|e| (*e).to_owned()).collect(), protocol),
                "{description}"
            );
            assert_eq!(
                report.findings.len(),
                usize::from(endpoints.is_empty()),
                "{description}: {:?}",
                report.findings
            );
        }
    }

    #[test]
    fn a_bad_reference_keeps_its_share() {
        let references = "{name: s, port: 80, weight: 3}, {name: gone, port: 80}, {name: s, namespace: far, port: 80, weight: 2}";
        let (plan, report) =
            translate(&yaml(&format!("{SURROUNDINGS}{}", route(references))), &testing::facts());
        let Action::Forward(backends) = action(&plan) else { panic!() };
        let shares: Vec<_> =
            backends.iter().map(|backend| (backend.weight, backend.target.is_ok())).collect();
        assert_eq!(shares, [(3, true), (1, false), (2, false)]);
        let status = status(&report, "HTTPRoute", "web", "r");
        let resolved = condition(&status["parents"][0], "ResolvedRefs");
        assert_eq!(resolved["reason"], "BackendNotFound");
        let message = resolved["message"].as_str().unwrap();
        assert!(message.contains("backendRefs[1]") && message.contains("backendRefs[2]"), "{message}");
    }

    #[test]
    fn nobody_to_take_a_share() {
        for references in ["", "{name: s, port: 80, weight: 0}"] {
            let (plan, report) =
                translate(&yaml(&format!("{SURROUNDINGS}{}", route(references))), &testing::facts());
            assert_eq!(*action(&plan), Action::Refuse(Reason::BackendInvalid), "{references}");
            assert!(plan.backends.is_empty());
            let status = status(&report, "HTTPRoute", "web", "r");
            assert_eq!(brief(&status["parents"][0], "Accepted"), "True/Accepted");
        }
    }
}
