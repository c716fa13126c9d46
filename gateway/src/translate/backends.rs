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
