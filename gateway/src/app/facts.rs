//! What translation must know of this process in file mode.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::listener::bind;
use crate::model::Facts;
use crate::runtime::unix_now;
use crate::settings::Settings;

/// Controller names that are answered to in file mode.
const CONTROLLERS: [&str; 2] = ["gateway.yett.dev/controller", "alb.networking.azure.io/alb-controller"];

/// The facts at the start, with nothing bound.
pub(super) fn facts(settings: &Settings) -> Facts {
    let every_address = || {
        let mut all = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
        if bind::has_ipv6() {
            all.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        }
        all
    };
    let machine = || {
        bind::machine_addresses().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the machine's addresses; statuses will name loopback");
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]
        })
    };
    let named = &settings.address;
    let concrete = !named.is_empty() && named.iter().all(|address| !address.is_unspecified());
    Facts {
        controllers: CONTROLLERS.map(str::to_owned).into(),
        file_mode: true,
        bind_addresses: if named.is_empty() { every_address() } else { named.clone() },
        node_addresses: if concrete { named.clone() } else { machine() },
        port_map: settings.port_map.iter().map(|mapping| (mapping.listener, mapping.bind)).collect(),
        bound: BTreeMap::new(),
        unusable_certificates: BTreeMap::new(),
        revocation: BTreeMap::new(),
        now: unix_now(),
    }
}
