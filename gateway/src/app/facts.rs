//! What translation must know of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::listener::bind;
use crate::model::Facts;
use crate::runtime::unix_now;
use crate::settings::Settings;

/// Our own controller name.
const OWN: &str = "gateway.yett.dev/controller";
/// The one that is answered to in file mode too.
const ALB: &str = "alb.networking.azure.io/alb-controller";

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
    let mut controllers = BTreeSet::from([OWN.to_owned()]);
    if settings.kube {
        controllers.extend(settings.claim.iter().cloned());
    } else {
        controllers.insert(ALB.to_owned());
    }
    Facts {
        controllers,
        file_mode: !settings.kube,
        bind_addresses: if named.is_empty() { every_address() } else { named.clone() },
        node_addresses: if concrete { named.clone() } else { machine() },
        port_map: settings.port_map.iter().map(|mapping| (mapping.listener, mapping.bind)).collect(),
        bound: BTreeMap::new(),
        unusable_certificates: BTreeMap::new(),
        revocation: BTreeMap::new(),
        now: unix_now(),
    }
}
