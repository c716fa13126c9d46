//! The network of a node and of its pods: a bridge in the node's namespace, and on it a wire to each pod.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use super::Node;
use crate::kube::net::{self, Number, Space};

const BRIDGE: &str = "pods";

/// The node's own part.
pub(super) fn prepare(number: Number) -> Result<()> {
    let gateway = number.pod(1);
    net::ip(&format!(
        "link add {BRIDGE} type bridge\naddr add {gateway}/24 dev {BRIDGE}\nlink set {BRIDGE} up\n"
    ))?;
    net::forward()
}

/// A pod's.
pub(super) enum Network {
    /// That of its node.
    Host { address: Ipv4Addr },
    /// Its own, gone with the value.
    Own(Own),
}

/// The network namespace of a pod.
pub(super) struct Own {
    space: Space,
    node: Arc<Node>,
    host: u8,
}

impl Network {
    /// A new one with an address.
    pub(super) fn own(node: &Arc<Node>) -> Result<Self> {
        let host = node.address()?;
        let space = Space::new().inspect_err(|_| node.give_back(host))?;
        let own = Own { space, node: Arc::clone(node), host };
        net::wire(&own.space, BRIDGE, &format!("pod{host}"))?;
        let (address, gateway) = (node.number.pod(host), node.number.pod(1));
        own.space.ip(&format!(
            "addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"
        ))?;
        Ok(Self::Own(own))
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        match self {
            Self::Host { address } => *address,
            Self::Own(own) => own.node.number.pod(own.host),
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// A command in there.
    pub(super) fn command(&self, program: &str) -> Command {
        match self {
            Self::Host { .. } => Command::new(program),
            Self::Own(own) => own.space.command(program),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Explicitly, since the kernel takes its time with a namespace, and the name is wanted again.
        net::ip(&format!("link del pod{}\n", self.host)).ok();
        self.node.give_back(self.host);
    }
}
