//! Gateways: addresses, the ports they claim from each other, and their status.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::class;
use super::conditions::{Conditions, Fault};
use super::findings::{Code, Findings};
use super::listeners::{self, ListenerState, ListenerStatus};
use super::{World, age};
use crate::model::{FrontendId, ObjectName, ObjectStatus};
use crate::resources::{Gateway, Object};

const ALB_FRONTEND: &str = "alb.networking.azure.io/alb-frontend";

/// One of our Gateways on its way from document to plan.
#[derive(Debug)]
pub(super) struct GatewayState<'a> {
    pub(super) object: &'a Object<Gateway>,
    pub(super) name: ObjectName,
    pub(super) controller: &'a str,
    pub(super) addresses: Addresses,
    /// Why nothing of it is served.
    pub(super) refused: Option<Fault>,
    /// References of the Gateway as a whole that lead nowhere.
    pub(super) unresolved: Vec<Fault>,
    /// Whether clients without a valid certificate are let in somewhere.
    pub(super) insecure_fallback: bool,
    pub(super) listeners: Vec<ListenerState<'a>>,
}

/// What a Gateway binds and shows.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// To bind; may be unspecified.
    pub(super) bind: Vec<IpAddr>,
    /// For clients: never unspecified.
    shown: Vec<IpAddr>,
    /// Asked for but not to be had.
    unusable: Vec<Fault>,
}

/// Our Gateways, oldest first, with their listeners as far as these stand for themselves.
pub(super) fn read<'a>(world: World<'a>, findings: &mut Findings) -> Vec<GatewayState<'a>> {
    let mut gateways: Vec<(&'a Object<Gateway>, &'a str)> = Vec::new();
    for object in &world.resources.gateways {
        match class::controller(world, &object.spec.gateway_class_name) {
            Some(controller) => gateways.push((object, controller)),
            // In a cluster others' Gateways are nobody's business here; who lays a file before us means us.
            None if world.facts.file_mode => {
                let words = format!("class {} is another controller's", object.spec.gateway_class_name);
                findings.warning(Code::NotOurs, object, "spec.gatewayClassName", words);
            }
            None => {}
        }
    }
    gateways.sort_by_key(|(object, _)| age(&object.meta));
    gateways
        .into_iter()
        .map(|(object, controller)| {
            let (addresses, unsupported) = addresses(world, object, controller, findings);
            let refused = class::fault(world, &object.spec.gateway_class_name)
                .map(|fault| Fault::at("InvalidParameters", "spec.gatewayClassName", fault.message))
                .or_else(|| parameters(object))
                .or(unsupported);
            if let Some(fault) = &refused {
                findings.error(Code::GatewayRefused, object, &fault.field, &fault.words);
            }
            GatewayState {
                object,
                name: ObjectName::new(object.meta.namespace.as_str(), object.meta.name.as_str()),
                controller,
                addresses,
                refused,
                unresolved: Vec::new(),
                insecure_fallback: false,
                listeners: listeners::read(object, findings),
            }
        })
        .collect()
}

fn parameters(gateway: &Object<Gateway>) -> Option<Fault> {
    let reference = gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let words = format!("{} {} is not supported: no parameters are", reference.kind, reference.name);
    Some(Fault::at("InvalidParameters", "spec.infrastructure.parametersRef", words))
}

fn addresses(
    world: World<'_>,
    gateway: &Object<Gateway>,
    controller: &str,
    findings: &mut Findings,
) -> (Addresses, Option<Fault>) {
    let facts = world.facts;
    let mut asked: Vec<IpAddr> = Vec::new();
    let mut unusable = Vec::new();
    let mut unsupported = Vec::new();
    for (index, address) in gateway.spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}]");
        match (address.kind.as_str(), address.value.as_str()) {
            ("IPAddress", "") => asked.extend(&facts.bind_addresses),
            (ALB_FRONTEND, _) if controller == class::ALB_CONTROLLER => {
                let words = "the frontend's name means nothing here; the default addresses are used";
                findings.warning(Code::NotApplied, gateway, &field, words);
                asked.extend(&facts.bind_addresses);
            }
            ("IPAddress", text) => match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
                Ok(address) if is_here(world, address) => asked.push(address),
                Ok(address) => {
                    let words = format!("{address} is no address of this node");
                    findings.error(Code::GatewayRefused, gateway, &field, &words);
                    unusable.push(Fault::at("AddressNotUsable", &field, words));
                }
                Err(_) => {
                    let words = format!("`{text}` is not an IP address");
                    unsupported.push(Fault::at("UnsupportedAddress", &field, words));
                }
            },
            (kind, _) => {
                let words = format!("addresses of type {kind} are not supported; IPAddress is");
                unsupported.push(Fault::at("UnsupportedAddress", &field, words));
            }
        }
    }
    if gateway.spec.addresses.is_empty() {
        asked.extend(&facts.bind_addresses);
    }
    let shown = shown(&asked, &facts.node_addresses);
    (Addresses { bind: distinct(&asked), shown, unusable }, Fault::merged(&unsupported))
}

/// Whether the address can be bound here, as far as facts tell; where they do not, binding will.
fn is_here(world: World<'_>, address: IpAddr) -> bool {
    let facts = world.facts;
    facts.node_addresses.is_empty()
        || address.is_unspecified()
        || address.is_loopback()
        || facts.node_addresses.contains(&address)
        || facts.bind_addresses.contains(&address)
}

/// Without repetitions, and without addresses that an unspecified one of their family takes in.
fn distinct(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for address in addresses {
        let covered = !address.is_unspecified()
            && addresses.iter().any(|other| other.is_unspecified() && other.is_ipv4() == address.is_ipv4());
        if !covered && !kept.contains(address) {
            kept.push(*address);
        }
    }
    kept
}

/// What clients can use: an unspecified address stands for those of the node in its family.
fn shown(asked: &[IpAddr], node: &[IpAddr]) -> Vec<IpAddr> {
    let mut shown: Vec<IpAddr> = Vec::new();
    let mut show = |address: IpAddr| {
        if !address.is_unspecified() && !shown.contains(&address) {
            shown.push(address);
        }
    };
    for address in asked {
        if address.is_unspecified() {
            node.iter().filter(|other| other.is_ipv4() == address.is_ipv4()).copied().for_each(&mut show);
        } else {
            show(*address);
        }
    }
    shown
}

/// Hands out addresses and ports, the older Gateway first: a port that overlaps one already given is refused.
///
/// A listener claims its port even while it cannot be served (its certificate is missing, say): otherwise a fault in
/// one Gateway would hand its clients to another.
pub(super) fn settle_ports(world: World<'_>, gateways: &mut [GatewayState<'_>], findings: &mut Findings) {
    let mut claims: Vec<(IpAddr, u16, FrontendId)> = Vec::new();
    for gateway in gateways.iter_mut().filter(|gateway| gateway.refused.is_none()) {
        for port in gateway.ports() {
            let id = FrontendId { gateway: gateway.name.clone(), port };
            let bind_port = bind_port(world, port);
            let taken = claims.iter().find(|(address, claimed, _)| {
                *claimed == bind_port && gateway.addresses.bind.iter().any(|own| overlap(*own, *address))
            });
            if let Some((address, _, owner)) = taken {
                let words = taken_words(&id, bind_port, *address, owner);
                listeners::refuse_port(gateway, port, &words, findings);
                continue;
            }
            claims.extend(gateway.addresses.bind.iter().map(|address| (*address, bind_port, id.clone())));
        }
    }
}

fn taken_words(id: &FrontendId, bind_port: u16, address: IpAddr, owner: &FrontendId) -> String {
    let bound = if id.port == bind_port { String::new() } else { format!(" (bound as {bind_port})") };
    let owner_name = if owner.gateway == id.gateway {
        format!("port {} of this Gateway", owner.port)
    } else {
        format!("Gateway {}", owner.gateway)
    };
    format!("port {}{bound} on {address} is taken by {owner_name}, which came first", id.port)
}

fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

/// The port to bind for a listener's port.
pub(super) fn bind_port(world: World<'_>, port: u16) -> u16 {
    world.facts.port_map.get(&port).copied().unwrap_or(port)
}

impl GatewayState<'_> {
    /// Ports of the listeners that may claim one, ascending.
    fn ports(&self) -> Vec<u16> {
        let claims = self.listeners.iter().filter(|listener| listener.claims_port());
        let ports: std::collections::BTreeSet<u16> = claims.map(|listener| listener.spec.port).collect();
        ports.into_iter().collect()
    }

    /// Whether a listener is in the plan.
    pub(super) fn serves(&self, listener: &ListenerState<'_>) -> bool {
        self.refused.is_none() && !self.addresses.bind.is_empty() && listener.fault().is_none()
    }

    /// Why the data plane does not serve a listener (yet).
    pub(super) fn not_programmed(&self, world: World<'_>, listener: &ListenerState<'_>) -> Option<Fault> {
        if let Some(fault) = &self.refused {
            return Some(Fault::new("Invalid", format!("the Gateway is not accepted: {}", fault.message)));
        }
        if let Some(fault) = listener.fault() {
            return Some(Fault::new("Invalid", fault.message));
        }
        if self.addresses.bind.is_empty() {
            return Some(Fault::new("Pending", "the Gateway has no address to listen on"));
        }
        let id = FrontendId { gateway: self.name.clone(), port: listener.spec.port };
        match world.facts.bound.get(&id) {
            None => Some(Fault::new("Pending", format!("port {} is not bound yet", id.port))),
            Some(Ok(())) => None,
            Some(Err(words)) => Some(Fault::new("PortUnavailable", format!("port {}: {words}", id.port))),
        }
    }

    fn accepted(&self, conditions: &mut Conditions) {
        if let Some(fault) = &self.refused {
            return conditions.no("Accepted", fault);
        }
        let refused: Vec<Fault> = self.listeners.iter().filter_map(ListenerState::not_accepted).collect();
        let fault = Fault::merged(&refused).map(|all| Fault::new("ListenersNotValid", all.message));
        match fault {
            None => conditions.yes("Accepted", "Accepted", "Valid Gateway"),
            Some(fault) if refused.len() < self.listeners.len() => {
                conditions.yes("Accepted", fault.reason, fault.message);
            }
            Some(fault) => conditions.no("Accepted", &fault),
        }
    }

    fn programmed(&self, world: World<'_>, findings: &mut Findings) -> Option<Fault> {
        if let Some(fault) = &self.refused {
            return Some(Fault::new("Invalid", fault.message.clone()));
        }
        if let Some(fault) = Fault::merged(&self.addresses.unusable) {
            return Some(fault);
        }
        if self.addresses.bind.is_empty() {
            return Some(Fault::new(
                "AddressNotAssigned",
                "spec.addresses: there is no address to listen on",
            ));
        }
        let served: Vec<_> = self.listeners.iter().filter(|listener| self.serves(listener)).collect();
        if served.is_empty() {
            let faults: Vec<Fault> = self.listeners.iter().filter_map(ListenerState::fault).collect();
            let words =
                Fault::merged(&faults).map_or_else(String::new, |fault| format!(": {}", fault.message));
            return Some(Fault::new("Invalid", format!("no listener can be served{words}")));
        }
        let mut unbound = BTreeMap::new();
        for listener in served {
            if let Some(fault) = self.not_programmed(world, listener) {
                unbound.entry(listener.spec.port).or_insert(fault);
            }
        }
        let (pending, failed): (Vec<_>, Vec<_>) =
            unbound.into_values().partition(|fault| fault.reason == "Pending");
        for fault in &failed {
            findings.error(Code::NotBound, self.object, "spec.listeners", &fault.words);
        }
        Fault::merged(&failed)
            .map(|fault| Fault::new("NoResources", fault.message))
            .or_else(|| Fault::merged(&pending))
    }

    fn resolved(&self, conditions: &mut Conditions) {
        let of_listeners: Vec<Fault> =
            self.listeners.iter().flat_map(|listener| listener.unresolved.iter().cloned()).collect();
        let fault = Fault::merged(&self.unresolved).or_else(|| {
            Fault::merged(&of_listeners).map(|all| Fault::new("ListenersNotResolved", all.message))
        });
        // Said only by Gateways that have something to resolve beyond their listeners, or have a fault.
        if fault.is_some() || self.object.spec.tls.is_some() {
            conditions.unless("ResolvedRefs", fault.as_ref(), "");
        }
    }

    /// The Gateway's status, once everything is attached.
    pub(super) fn status(&self, world: World<'_>, findings: &mut Findings) -> ObjectStatus {
        let mut conditions = Conditions::new(self.object.meta.generation);
        self.accepted(&mut conditions);
        let programmed = self.programmed(world, findings);
        conditions.unless("Programmed", programmed.as_ref(), "The Gateway is served");
        self.resolved(&mut conditions);
        if self.insecure_fallback {
            let words = "clients without a valid certificate are let in (mode AllowInsecureFallback)";
            conditions.yes("InsecureFrontendValidationMode", "ConfigurationChanged", words);
        }
        let shown = if self.refused.is_none() { self.addresses.shown.as_slice() } else { &[] };
        let addresses = shown.iter().map(|address| Address { kind: "IPAddress", value: *address }).collect();
        let listeners = self.listeners.iter().map(|listener| listener.status(self, world)).collect();
        super::status(self.object, &Status { addresses, conditions, listeners })
    }
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    conditions: Conditions,
    listeners: Vec<ListenerStatus<'a>>,
}

#[derive(Serialize)]
struct Address {
    #[serde(rename = "type")]
    kind: &'static str,
    value: IpAddr,
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
