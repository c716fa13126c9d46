//! Where the programs are attached: to the process's control group, and to each interface in the best way that it
//! allows. Who has a place already keeps it, and is named.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::programs::loaded_programs;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcAttachType, qdisc_add_clsact, qdisc_detach_program};
use aya::util::KernelVersion;
use gateway_common::object::program;

use super::interfaces::{Interface, XdpOwner};
use super::load::{Link, LinkName, Programs};
use super::pins::Pins;
use super::stage::{Stage, StageError, StageOutcome, StageResult, in_words};
use super::sys::{self, Target};
use crate::model::datapath::Attach;

/// A way to attach to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Native,
    Skb,
    Tcx,
    Clsact,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Skb => "skb",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Native | Self::Skb => program::INGRESS_XDP,
            Self::Tcx | Self::Clsact => program::INGRESS_TC,
        }
    }
}

/// Links, those of a former process and those that were made.
pub(super) struct Links<'a> {
    pins: Option<&'a Pins>,
    /// Left by a former process, and not yet asked for.
    former: Vec<Link>,
    /// In service.
    pub(super) held: Vec<Link>,
    /// Attached for good: filters of traffic control, which no descriptor holds.
    pub(super) stay: Vec<LinkName>,
}

impl<'a> Links<'a> {
    /// Begins with what a former process has left.
    pub(super) fn new(pins: Option<&'a Pins>) -> Self {
        let former = pins.map(Pins::links).unwrap_or_default();
        Self { pins, former, held: Vec::new(), stay: Vec::new() }
    }

    /// Attaches to the process's control group: what happens to its sockets, and if `wire`, what packets reach them.
    pub(super) fn cgroup(&mut self, programs: &Programs, wire: bool) -> Result<StageOutcome, StageError> {
        let (path, cgroup) = own_cgroup()?;
        let mut attach = |name, target| {
            self.make(programs, &LinkName::new(name, "cgroup", ""), target).map_err(|error| {
                StageError::system(Stage::Cgroup, format!("cannot attach {name} to {path}"), &error)
            })
        };
        attach(program::TRACK, Target::SockOps(cgroup.as_fd()))?;
        if wire {
            attach(program::WIRE, Target::CgroupIngress(cgroup.as_fd()))?;
        }
        Ok(StageOutcome {
            stage: Stage::Cgroup,
            result: StageResult::Ok,
            words: format!("attached to {path}"),
        })
    }

    /// Attaches to an interface. `strict`: in the way that is asked for or not at all.
    pub(super) fn interface(
        &mut self,
        programs: &mut Programs,
        name: &str,
        wanted: Attach,
        strict: bool,
    ) -> Result<StageOutcome, StageError> {
        let interface = Interface::named(name)
            .map_err(|error| StageError::system(Stage::Attach, format!("interface {name}"), &error))?;
        if !interface.is_ethernet {
            let words = format!("{name}: its packets have no Ethernet header: not looked at");
            return Err(StageError::new(Stage::Attach, words));
        }
        let is_ours =
            self.former.iter().any(|link| link.name.place == name && link.name.mode == Way::Native.as_str());
        let has_tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        let tc = if has_tcx { Way::Tcx } else { Way::Clsact };
        let first = match wanted {
            Attach::XdpNative => Way::Native,
            Attach::XdpSkb => Way::Skb,
            Attach::Clsact => Way::Clsact,
            Attach::Auto if interface.is_fit_for_native() && (interface.xdp.is_none() || is_ours) => {
                Way::Native
            }
            Attach::Auto | Attach::Tcx => tc,
        };
        // What a former process attached there in another way would be in the way, or count everything twice.
        self.former.retain(|link| {
            let stays = link.name.place != name || link.name.mode == first.as_str();
            if !stays && let Some(pins) = self.pins {
                pins.forget(&link.name);
            }
            stays
        });
        let refused = match self.one(programs, &interface, first) {
            Ok(()) => return Ok(attached(name, first, StageResult::Ok, "")),
            Err(error) => self.refused(name, first, &error),
        };
        if strict || matches!(first, Way::Tcx | Way::Clsact) {
            return Err(StageError::new(Stage::Attach, refused));
        }
        match self.one(programs, &interface, tc) {
            Ok(()) => Ok(attached(name, tc, StageResult::Fallback, &format!(" since {refused}"))),
            Err(error) => {
                let then = self.refused(name, tc, &error);
                Err(StageError::new(Stage::Attach, format!("{refused}; {then}")))
            }
        }
    }

    /// Takes off what a former process has left and nobody asked for.
    pub(super) fn finish(mut self) -> (Vec<Link>, Vec<LinkName>) {
        for link in self.former.drain(..) {
            if let Some(pins) = self.pins {
                pins.forget(&link.name);
            }
        }
        (self.held, self.stay)
    }

    fn one(&mut self, programs: &mut Programs, interface: &Interface, way: Way) -> io::Result<()> {
        let name = LinkName::new(way.program(), way.as_str(), &interface.name);
        match way {
            Way::Native => self.make(programs, &name, Target::XdpNative(interface.index)),
            Way::Skb => self.make(programs, &name, Target::XdpSkb(interface.index)),
            Way::Tcx => self.make(programs, &name, Target::TcxIngress(interface.index)),
            Way::Clsact => {
                filter(programs, &interface.name)?;
                self.stay.push(name);
                Ok(())
            }
        }
    }

    /// The former link with a new program in it, or a new link.
    fn make(&mut self, programs: &Programs, name: &LinkName, target: Target<'_>) -> io::Result<()> {
        let program = programs.fd(&name.program)?;
        let former = self.former.iter().position(|link| link.name == *name);
        if let Some(link) = former.map(|at| self.former.swap_remove(at)) {
            // Its interface or group may be gone, and another have the name.
            if is_alive(&link.fd) && sys::link_update(link.fd.as_fd(), program).is_ok() {
                self.held.push(link);
                return Ok(());
            }
            if let Some(pins) = self.pins {
                pins.forget(name);
            }
        }
        let link = Link { name: name.clone(), fd: sys::link_create(program, target)? };
        if let Some(pins) = self.pins {
            pins.keep(&link)?;
        }
        self.held.push(link);
        Ok(())
    }

    fn refused(&self, interface: &str, way: Way, error: &io::Error) -> String {
        let owner = match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => Interface::named(interface).ok().and_then(|is| is.xdp),
            _ => None,
        };
        match owner {
            Some(owner) => {
                format!("{interface}: {owner}{} has the place for XDP {}", name_of(owner), way.as_str())
            }
            None => format!("{interface}: cannot attach as {}: {}", way.as_str(), in_words(error)),
        }
    }
}

fn attached(interface: &str, way: Way, result: StageResult, why: &str) -> StageOutcome {
    let words = format!("{interface}: attached as {}{why}", way.as_str());
    StageOutcome { stage: Stage::Attach, result, words }
}

/// The name of a program, where this process may ask for it.
fn name_of(owner: XdpOwner) -> String {
    let found = loaded_programs().flatten().find(|program| program.id() == owner.id);
    found.and_then(|program| Some(format!(" \"{}\"", program.name_as_str()?))).unwrap_or_default()
}

/// Whether a link still attaches something: it does not once its interface or control group is gone.
fn is_alive(link: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd as _;
    let shown = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).unwrap_or_default();
    // An interface that has gone shows as index 0; groups show their id alone.
    !shown.lines().any(|line| line.split_whitespace().eq(["ifindex:", "0"]))
}

/// A filter of traffic control, in the place of one that a former process has left.
fn filter(programs: &mut Programs, interface: &str) -> io::Result<()> {
    // It is there already where anybody uses filters.
    let _ = qdisc_add_clsact(interface);
    // Nothing of that name is the usual case.
    let _ = qdisc_detach_program(interface, TcAttachType::Ingress, program::INGRESS_TC);
    let program = programs.classifier().ok_or_else(|| io::Error::other("no such program"))?;
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let link = program
        .attach_with_options(interface, TcAttachType::Ingress, options)
        .and_then(|link| program.take_link(link))
        .map_err(io::Error::other)?;
    // Dropping it would ask for a privilege that is given up by then.
    std::mem::forget(link);
    Ok(())
}

/// Takes off the filter of an interface that a process has left; whether there was one.
pub(super) fn remove_filter(interface: &str) -> bool {
    qdisc_detach_program(interface, TcAttachType::Ingress, program::INGRESS_TC).is_ok()
}

/// The process's own control group of the second version, wherever it is mounted.
fn own_cgroup() -> Result<(String, File), StageError> {
    let missing = || {
        StageError::new(
            Stage::Cgroup,
            "cgroup2 is mounted nowhere: no times of handshakes, nothing of packets by connection",
        )
    };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let mount = mount.and_then(|line| line.split(' ').nth(1)).ok_or_else(missing)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or_else(missing)?;
    let path = format!("{mount}{}", if own == "/" { "" } else { own });
    match File::open(&path) {
        Ok(cgroup) => Ok((path, cgroup)),
        Err(error) => Err(StageError::system(Stage::Cgroup, format!("cannot open {path}"), &error)),
    }
}
