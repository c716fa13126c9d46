//! A network namespace with one wire to it, on which packets can be lost.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Backend, tools};

/// The namespace and its wire; gone when dropped.
pub struct Netns {
    name: String,
    /// Ours of the wire's two ends.
    near: String,
    near_address: String,
    far: String,
    far_address: String,
    /// Where packets for it go while its wire is down: not the way of all others.
    dead_end: String,
}

impl Netns {
    /// A new one; `None`, with a loud line that `test` is skipped, where that cannot be.
    ///
    /// # Panics
    /// When it can be made and its wire cannot, and in continuous integration instead of skipping.
    pub fn new(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        tools::need("ip", test)?;
        tools::need("nft", test)?;
        let number = (process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed)) % 50_000;
        let name = format!("yett{number}");
        if !Command::new("ip").args(["netns", "add", &name]).status().is_ok_and(|status| status.success()) {
            tools::skip(test, "no network namespace can be made");
            return None;
        }
        // A /30 of the block for benchmarks (RFC 2544), by the number.
        let (third, fourth) = (number / 60 % 250, number % 60 * 4);
        let address = |end: u32| format!("198.18.{third}.{}", fourth + end);
        let dead_end = format!("unreachable {}/30 metric 9999", address(0));
        let netns = Self {
            near: format!("yn{number}"),
            near_address: address(1),
            far: format!("yf{number}"),
            far_address: address(2),
            dead_end,
            name,
        };
        run("ip", &format!("route add {}", netns.dead_end));
        let far = &netns.far;
        run("ip", &format!("link add {} type veth peer name {far} netns {}", netns.near, netns.name));
        run("ip", &format!("addr add {}/30 dev {}", netns.near_address, netns.near));
        run("ip", &format!("link set {} up", netns.near));
        netns.within(&format!("ip addr add {}/30 dev {far}", netns.far_address));
        netns.within(&format!("ip link set {far} up"));
        netns.within("ip link set lo up");
        netns.within("nft add table ip lossy");
        netns.within("nft add chain ip lossy entry { type filter hook input priority 0 ; }");
        Some(netns)
    }

    /// The file that stands for it.
    pub fn file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Our address of its wire.
    ///
    /// # Panics
    /// Never: it is one.
    pub fn near_address(&self) -> IpAddr {
        self.near_address.parse().expect("an address")
    }

    /// Its own address of the wire.
    ///
    /// # Panics
    /// Never: it is one.
    pub fn far_address(&self) -> IpAddr {
        self.far_address.parse().expect("an address")
    }

    /// Another address of ours, that it is told of now.
    ///
    /// # Panics
    /// Never: it is one.
    pub fn second_address(&self) -> IpAddr {
        // The other half of the block.
        let address = self.near_address.replacen("198.18", "198.19", 1);
        run("ip", &format!("addr add {address}/32 dev {}", self.near));
        self.within(&format!("ip route add {address}/32 dev {}", self.far));
        address.parse().expect("an address")
    }

    /// Has answers to a network that nobody is in sent over the wire, and thrown away at our end of it.
    ///
    /// # Panics
    /// When that cannot be.
    pub fn answer_nobody(&self, network: &str) {
        let forwarding = format!("/proc/sys/net/ipv4/conf/{}/forwarding", self.near);
        fs::write(forwarding, "0").expect("an interface need not forward");
        self.within(&format!("ip route add {network} via {}", self.near_address));
    }

    /// The name of its end of the wire.
    pub fn far_link(&self) -> &str {
        &self.far
    }

    /// A backend in there.
    ///
    /// # Panics
    /// When none can be started.
    pub fn backend(&self, name: &str) -> Backend {
        let address: SocketAddr = format!("{}:8080", self.far_address).parse().expect("an address");
        self.inside(|| Backend::at(name, address))
    }

    /// Does something in there; what it starts is in there too.
    ///
    /// # Panics
    /// When it panics.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.file()).expect("the namespace has a file");
        // A namespace is a thread's, and its children's.
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("it can be entered");
                act()
            });
            acting.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Loses so many percent of what goes in; 0: nothing.
    pub fn lose(&self, percent: u32) {
        self.within("nft flush chain ip lossy entry");
        let some = format!("numgen random mod 100 < {percent}");
        match percent {
            0 => {}
            1..100 => self.within(&format!("nft add rule ip lossy entry {some} drop")),
            _ => self.within("nft add rule ip lossy entry drop"),
        }
    }

    /// Takes the wire down, or up again.
    pub fn wire(&self, is_up: bool) {
        run("ip", &format!("link set {} {}", self.near, if is_up { "up" } else { "down" }));
    }

    fn within(&self, command: &str) {
        run("ip", &format!("netns exec {} {command}", self.name));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // The wire goes with it, once nothing in there uses it.
        Command::new("ip").args(["link", "del", &self.near]).status().ok();
        Command::new("ip").args(["route", "del"]).args(self.dead_end.split(' ')).status().ok();
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

fn run(program: &str, arguments: &str) {
    tools::run(Command::new(program).args(arguments.split(' ')));
}
