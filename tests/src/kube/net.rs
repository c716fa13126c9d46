//! The cluster's networks. Its lan is one bridge in the namespace of the cluster's first process, where clients run too;
//! the control plane and every node stand on it with a namespace of their own, and every pod with its own behind its
//! node. The addresses are the same in every cluster, since none of them sees another.
//!
//! | place | addresses |
//! |---|---|
//! | the lan | `10.10.0.0/16`: clients `10.10.0.1`, control plane `10.10.0.2`, nodes `10.10.0.11` and up |
//! | for whoever gives addresses to Gateways | `10.10.200.0/24`, on the lan, where nobody else is |
//! | the pods of node N | `10.244.N.0/24`, routed by their node |
//! | Services | `10.96.0.0/16`; the API server has the first of them for itself |

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::wait;

/// Where clients of Gateways are.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The control plane.
pub const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
/// The Service `kubernetes`.
pub const API: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// All Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// All pods.
pub const PODS: &str = "10.244.0.0/16";
/// Free for the addresses of Gateways.
pub const POOL: &str = "10.10.200.0/24";
/// How many nodes there may be.
pub const NODES_MAX: u8 = 9;

/// A node, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u8);

impl Number {
    /// `node-1`
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// Its address on the lan.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 10, 0, 10 + self.0)
    }

    /// The address of one of its pods; that of the node itself among them is `.1`.
    pub fn pod(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.0, host)
    }

    /// Its pods' network.
    pub fn pods(self) -> String {
        format!("{}/24", self.pod(0))
    }
}

/// A network namespace: it is there as long as the process that holds it.
#[derive(Debug)]
pub(crate) struct Space {
    holder: Child,
}

impl Space {
    /// A new one, with its loopback up.
    pub(crate) fn new() -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("starting unshare")?;
        let space = Self { holder };
        let ours = fs::read_link("/proc/self/ns/net").context("reading the own namespace")?;
        // The process begins in our namespace.
        wait::until("a namespace to be made", wait::SOON, || {
            fs::read_link(space.file()).is_ok_and(|theirs| theirs != ours).then_some(())
        });
        space.ip("link set lo up\n")?;
        Ok(space)
    }

    /// The file that names it.
    pub(crate) fn file(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.id()).into()
    }

    /// Whom `ip` knows it by.
    pub(crate) fn id(&self) -> u32 {
        self.holder.id()
    }

    /// A command that runs in there.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        enter(&self.file(), program)
    }

    /// Lines for `ip -batch` in there.
    pub(crate) fn ip(&self, lines: &str) -> Result<()> {
        batch(self.command("ip"), lines)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// A command that runs in a network namespace and is ours otherwise.
pub(crate) fn enter(namespace: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg("--").arg(program);
    command
}

/// Lines for `ip -batch` in our own namespace.
pub(crate) fn ip(lines: &str) -> Result<()> {
    batch(Command::new("ip"), lines)
}

/// Puts a namespace on a bridge of ours, by a wire whose name at our end is given and at the other `eth0`.
pub(crate) fn wire(space: &Space, bridge: &str, near: &str) -> Result<()> {
    ip(&format!(
        "link add {near} type veth peer name eth0 netns {}\nlink set {near} master {bridge}\nlink set {near} up\n",
        space.id()
    ))
}

/// Lets packets pass through our namespace.
pub(crate) fn forward() -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("letting packets pass")
}

fn batch(mut command: Command, lines: &str) -> Result<()> {
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting ip")?;
    child.stdin.take().context("no standard input")?.write_all(lines.as_bytes()).context("telling ip")?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}\n{lines}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// How long the parts of a cluster may take to come up on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
