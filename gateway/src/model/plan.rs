//! What translation reads besides the documents, and the plan it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::backend::{Backend, BackendKey};
use super::listener::{Frontend, FrontendId};
use super::revocation::RevocationFreshness;

/// What the data plane should do: the accepted part of the documents, nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to bind and serve, by id.
    pub frontends: BTreeMap<FrontendId, Frontend>,
    /// Every backend that a rule refers to, by key.
    pub backends: BTreeMap<BackendKey, Arc<Backend>>,
}

impl Plan {
    /// The addresses to bind, and whose they are.
    pub fn sockets(&self) -> BTreeMap<SocketAddr, FrontendId> {
        let addresses = self.frontends.values().flat_map(|frontend| {
            let address = |address: &IpAddr| SocketAddr::new(*address, frontend.bind_port);
            frontend.addresses.iter().map(move |ip| (address(ip), frontend.id.clone()))
        });
        addresses.collect()
    }
}

/// The world as far as translation must know it; handed in so that translation stays pure.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Controller names that we answer to.
    pub controllers: BTreeSet<String>,
    /// File mode: namespaces may be absent, any class without a GatewayClass object is ours.
    pub file_mode: bool,
    /// What to bind where a Gateway names no address; may be the unspecified addresses.
    pub bind_addresses: Vec<IpAddr>,
    /// Addresses of this node that a client can use, for `status.addresses`.
    pub node_addresses: Vec<IpAddr>,
    /// Listener port → port to bind instead.
    pub port_map: BTreeMap<u16, u16>,
    /// Frontends whose sockets are bound (`Ok`) or could not be (`Err` with the words for the condition).
    /// A frontend that is not here has not been tried: its listeners are `Programmed=False/Pending`.
    pub bound: BTreeMap<FrontendId, Result<(), String>>,
    /// Server certificates that the TLS library refused, by source object (`Secret ns/name`), with the words.
    pub unusable_certificates: BTreeMap<String, String>,
    /// How current the data of revocation policies is, by policy (`RevocationPolicy ns/name`). One that is not here is
    /// in force nowhere.
    pub revocation: BTreeMap<String, RevocationFreshness>,
    /// Now, Unix seconds (for expiry findings).
    pub now: i64,
}
