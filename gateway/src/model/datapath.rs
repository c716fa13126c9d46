//! What an operator decides about the programs in the kernel.

use serde::{Deserialize, Serialize};

/// Whether programs are loaded into the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatapathMode {
    /// As far as the machine allows; without what it does not, traffic is served all the same.
    #[default]
    Auto,
    /// What is asked for must be had, else the process does not start.
    Require,
    /// No.
    Off,
}

/// Where packets of an interface are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// XDP in the driver of a physical card that is known to do it well and where nobody else has it; else tcx.
    #[default]
    Auto,
    /// XDP in the driver; where that cannot be, tcx.
    XdpNative,
    /// XDP over an skb; where that cannot be, tcx.
    XdpSkb,
    /// The ingress of traffic control, as links (Linux 6.6); before that, `clsact`.
    Tcx,
    /// The ingress of traffic control, as a filter. It stays when the process ends.
    Clsact,
}
