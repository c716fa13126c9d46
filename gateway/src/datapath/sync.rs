//! The tables that the programs read, kept in step with what is served; and the counts that they write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use aya::maps::lpm_trie::Key;
use aya::maps::{
    Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, PerCpuValues, ReusePortSockArray, RingBuf,
    SkStorage,
};
use gateway_common::Reason;
use gateway_common::key::{FrontendKey, ip};
use gateway_common::object::{CPUS_MAX, FRONTENDS_MAX, LAYOUT, WORKERS_MAX, map};
use gateway_common::value::{
    Connection, Control, Counters, Event, EventKind, Frontend, Mode, Totals, Worker,
};
use ipnet::IpNet;

use super::frontends::{Frontends, key};
use super::load::Maps;
use super::notes::now_ns;
use super::stage::{StageError, in_words};
use super::{Config, Pick, sys};
use crate::model::deny::DenyMode;
use crate::policy::deny::DenyList;
use crate::telemetry::{FrontendMetrics, Metrics};

/// Events that are looked at in one go; those beyond wait for the next.
const EVENTS_AT_ONCE_MAX: usize = 1024;

/// Handles to the tables.
pub(super) struct Tables {
    pick: Pick,
    /// Sockets of each front end.
    stride: u32,
    workers: u32,
    frontends: Frontends,
    /// Addresses whose sockets the programs know, for this process.
    installed: BTreeSet<SocketAddr>,
    has_begun: bool,
    cpus: Vec<Option<usize>>,
    said: Control,
    denied: BTreeSet<IpNet>,
    allowed: BTreeSet<IpNet>,
    named: BTreeMap<SocketAddr, (u32, Arc<FrontendMetrics>)>,
    counted: BTreeMap<u32, Counters>,
    totals_counted: Totals,
    ports: Array<MapData, u32>,
    known: HashMap<MapData, FrontendKey, Frontend>,
    control: Array<MapData, Control>,
    cpu_workers: Array<MapData, u32>,
    states: Array<MapData, u32>,
    sockets: ReusePortSockArray<MapData>,
    templates: SkStorage<MapData, Connection>,
    counters: PerCpuArray<MapData, Counters>,
    totals: PerCpuArray<MapData, Totals>,
    ring: RingBuf<MapData>,
    deny: Lists,
    allow: Lists,
}

impl Tables {
    /// Over the maps, with what they know already.
    pub(super) fn open(maps: &Maps, config: &Config) -> Result<Self, StageError> {
        let sockets = super::load::Definition::entries(maps, map::SOCKETS)?;
        let stride = (sockets / FRONTENDS_MAX).max(1);
        let workers = u32::try_from(config.cpus.len()).unwrap_or(u32::MAX).min(stride).min(WORKERS_MAX);
        let mut tables = Self {
            pick: config.pick,
            stride,
            workers,
            frontends: Frontends::default(),
            installed: BTreeSet::new(),
            has_begun: false,
            cpus: config.cpus.clone(),
            said: Control { workers, ..Control::default() },
            denied: BTreeSet::new(),
            allowed: BTreeSet::new(),
            named: BTreeMap::new(),
            counted: BTreeMap::new(),
            totals_counted: Totals::default(),
            ports: maps.typed(map::PORTS)?,
            known: maps.typed(map::FRONTENDS)?,
            control: maps.typed(map::CONTROL)?,
            cpu_workers: maps.typed(map::CPUS)?,
            states: maps.typed(map::WORKERS)?,
            sockets: maps.typed(map::SOCKETS)?,
            templates: maps.typed(map::CONNECTIONS)?,
            counters: maps.typed(map::COUNTERS)?,
            totals: maps.typed(map::TOTALS)?,
            ring: maps.typed(map::EVENTS)?,
            deny: Lists::open(maps, map::DENY4, map::DENY6)?,
            allow: Lists::open(maps, map::ALLOW4, map::ALLOW6)?,
        };
        tables.catch_up();
        Ok(tables)
    }

    /// Takes the maps as they are now: a predecessor changes them until its last word.
    pub(super) fn catch_up(&mut self) {
        self.frontends = Frontends::new(self.stride, self.known.iter().filter_map(Result::ok));
        (self.denied, self.allowed) = (self.deny.networks(), self.allow.networks());
    }

    /// Makes the front ends those that listen. Gives what failed, in words: such connections are served as the kernel
    /// chooses, and less is known of them.
    pub(super) fn follow(
        &mut self,
        pick: BorrowedFd<'_>,
        sockets: &BTreeMap<SocketAddr, Vec<TcpListener>>,
    ) -> Vec<String> {
        let mut failures = self.know(sockets.keys());
        for (address, listeners) in sockets {
            if self.installed.insert(*address)
                && let Some(frontend) = self.frontends.at(*address)
            {
                failures.extend(self.install(pick, *address, frontend, listeners));
            }
        }
        failures
    }

    /// Makes addresses known, and the sockets that are about to listen on them: every connection is told of from the first
    /// one on.
    pub(super) fn expect<'a, S: AsRawFd + 'a>(
        &mut self,
        addresses: &BTreeSet<SocketAddr>,
        sockets: impl IntoIterator<Item = (SocketAddr, &'a [S])>,
    ) -> Vec<String> {
        let mut failures = self.know(addresses);
        for (address, sockets) in sockets {
            if let Some(frontend) = self.frontends.at(address)
                && let Err(error) = self.mark(frontend, sockets)
            {
                failures.push(format!("{address}: {}", of_map(&error)));
            }
        }
        failures
    }

    /// Makes the front ends those of the addresses.
    fn know<'a>(&mut self, addresses: impl IntoIterator<Item = &'a SocketAddr>) -> Vec<String> {
        let mut failures = Vec::new();
        let mut tried = |what: &dyn std::fmt::Display, outcome: Result<(), MapError>| {
            if let Err(error) = outcome {
                failures.push(format!("{what}: {}", of_map(&error)));
            }
        };
        if !std::mem::replace(&mut self.has_begun, true) {
            let by_cpu = self.pick == Pick::Cpu;
            for (worker, state) in (0..WORKERS_MAX).map(|worker| (worker, worker < self.workers)) {
                let state = if state { Worker::Serving } else { Worker::Absent };
                tried(&"the workers", self.states.set(worker, state as u32, 0));
            }
            let mut of_cpu = BTreeMap::new();
            for (worker, cpu) in (1..).zip(&self.cpus) {
                of_cpu.extend(cpu.filter(|_| by_cpu && worker <= self.workers).map(|cpu| (cpu, worker)));
            }
            for cpu in 0..CPUS_MAX {
                let worker = usize::try_from(cpu).ok().and_then(|cpu| of_cpu.get(&cpu)).copied();
                tried(&"the CPUs", self.cpu_workers.set(cpu, worker.unwrap_or(0), 0));
            }
            for (port, bits) in self.frontends.ports() {
                tried(&"the ports", self.ports.set(port.into(), bits, 0));
            }
        }
        let changes = self.frontends.follow(addresses);
        for key in &changes.removed {
            tried(&"a front end that went", self.known.remove(key));
        }
        let frontends = &self.frontends;
        self.installed.retain(|address| frontends.at(*address).is_some());
        self.counted.retain(|id, _| !changes.added.iter().any(|(_, added)| added.id == *id));
        for (address, frontend) in &changes.added {
            tried(&address, forget(&mut self.counters, frontend.id));
            tried(&address, self.known.insert(key(*address), frontend, 0));
        }
        for (port, bits) in &changes.ports {
            tried(&"the ports", self.ports.set((*port).into(), bits, 0));
        }
        failures.extend(changes.left_out.iter().map(|address| {
            format!("{address} is one of more than {FRONTENDS_MAX} front ends: served, and not counted")
        }));
        failures
    }

    /// Puts what connections begin with on their listening sockets.
    fn mark(&mut self, frontend: Frontend, sockets: &[impl AsRawFd]) -> Result<(), MapError> {
        let template = Connection { layout: LAYOUT, frontend: frontend.id, ..Connection::default() };
        for socket in sockets {
            // One that a predecessor has put there is the same, and its connections are being copied from it.
            if !self.templates.get(socket, 0).is_ok_and(|is| is == template) {
                self.templates.insert(socket, template, 0)?;
            }
        }
        Ok(())
    }

    /// Makes the sockets of an address known.
    fn install(
        &mut self,
        pick: BorrowedFd<'_>,
        address: SocketAddr,
        frontend: Frontend,
        listeners: &[TcpListener],
    ) -> Option<String> {
        if let Err(error) = self.mark(frontend, listeners) {
            return Some(format!("{address}: {}", of_map(&error)));
        }
        let program = match self.pick {
            Pick::Cpu | Pick::Hash => Some(pick),
            Pick::Kernel => None,
        };
        for listener in listeners.iter().take(1) {
            match sys::choose_by(listener, program) {
                Ok(()) => {}
                // Nothing chose before either.
                Err(_) if program.is_none() => {}
                Err(error) => {
                    return Some(format!("{address}: the group takes no program: {}", in_words(&error)));
                }
            }
        }
        for (worker, listener) in (0..self.stride).zip(listeners) {
            match self.sockets.set(frontend.first_socket + worker, listener, 0) {
                // It is there already: a predecessor has put it there.
                Err(error) if is_busy(&error) => {}
                Err(error) => return Some(format!("{address}: {}", of_map(&error))),
                Ok(()) => {}
            }
        }
        None
    }

    /// A sign of life, with everything that the programs are told at run time.
    pub(super) fn beat(&mut self) -> Result<(), String> {
        self.said.heartbeat_ns = now_ns();
        self.control.set(0, self.said, 0).map_err(|error| of_map(&error))
    }

    /// Makes the lists those of `list`.
    pub(super) fn deny(&mut self, list: &DenyList) -> Result<(), String> {
        let listed = list.listed();
        let denied: BTreeSet<IpNet> = listed.entries.iter().map(|entry| entry.network).collect();
        let allowed: BTreeSet<IpNet> = listed.allow.iter().copied().collect();
        // First who is never denied, then who is.
        let failed = |error: MapError| of_map(&error);
        self.allow.change(&self.allowed, &allowed, 1).map_err(failed)?;
        self.allowed = allowed;
        self.deny.change(&self.denied, &denied, Reason::SourceDenied as u32).map_err(failed)?;
        self.denied = denied;
        self.said.deny = match listed.mode {
            DenyMode::Off => Mode::Off,
            DenyMode::Observe => Mode::Observe,
            DenyMode::Enforce => Mode::Enforce,
        } as u8;
        self.beat()
    }

    /// What the front ends are called in metrics.
    pub(super) fn name(&mut self, names: &BTreeMap<SocketAddr, String>, metrics: &Metrics) {
        let named = names.iter().filter_map(|(address, name)| {
            Some((*address, (self.frontends.at(*address)?.id, metrics.frontend(name))))
        });
        self.named = named.collect();
    }

    /// Adds what was counted since the last time.
    pub(super) fn count(&mut self, metrics: &Metrics) {
        for (id, frontend) in self.named.values() {
            let Ok(now) = self.counters.get(id, 0) else { continue };
            let now = now.iter().fold(Counters::default(), |sum, one| sum.plus(one));
            let before = self.counted.insert(*id, now).unwrap_or_default();
            frontend.counted(&before, &now);
        }
        if let Ok(now) = self.totals.get(&0, 0) {
            let now = now.iter().fold(Totals::default(), |sum, one| sum.plus(one));
            metrics.datapath.counted(&self.totals_counted, &now);
            self.totals_counted = now;
        }
    }

    /// Takes the rare happenings out of the ring, for the log.
    pub(super) fn events(&mut self) {
        for _ in 0..EVENTS_AT_ONCE_MAX {
            let Some(item) = self.ring.next() else { return };
            if item.len() < size_of::<Event>() {
                continue;
            }
            // SAFETY: plain data of any bytes; the item holds as many as it takes, wherever they begin.
            #[allow(unsafe_code, reason = "the ring gives bytes, in no alignment that is promised")]
            let event = unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
            drop(item);
            tell(&event);
        }
    }
}

fn tell(event: &Event) {
    let Some(kind) = EventKind::of(event.kind) else { return };
    let source = SocketAddr::new(ip(event.source), event.source_port);
    let destination = SocketAddr::new(ip(event.destination), event.destination_port);
    match kind {
        EventKind::Dropped => tracing::debug!(%source, %destination, "a SYN was dropped (a sample)"),
        EventKind::Observed => {
            tracing::debug!(%source, %destination, "a SYN would have been dropped (a sample)");
        }
        EventKind::Unaccepted => {
            let open_ns = event.at_ns.saturating_sub(event.established_ns);
            let tries = event.syn_tries;
            tracing::debug!(%source, %destination, tries, open_ns, "a connection ended before it was accepted");
        }
    }
}

/// One list of networks in its two tries.
struct Lists {
    v4: LpmTrie<MapData, [u8; 4], u32>,
    v6: LpmTrie<MapData, [u8; 16], u32>,
}

impl Lists {
    fn open(maps: &Maps, v4: &str, v6: &str) -> Result<Self, StageError> {
        Ok(Self { v4: maps.typed(v4)?, v6: maps.typed(v6)? })
    }

    /// What is on it.
    fn networks(&self) -> BTreeSet<IpNet> {
        let bits = |key: u32| u8::try_from(key).unwrap_or(u8::MAX);
        let v4 = self
            .v4
            .keys()
            .flatten()
            .filter_map(|key| IpNet::new(key.data().into(), bits(key.prefix_len())).ok());
        let v6 = self
            .v6
            .keys()
            .flatten()
            .filter_map(|key| IpNet::new(key.data().into(), bits(key.prefix_len())).ok());
        v4.chain(v6).collect()
    }

    fn change(
        &mut self,
        before: &BTreeSet<IpNet>,
        now: &BTreeSet<IpNet>,
        value: u32,
    ) -> Result<(), MapError> {
        for network in before.difference(now) {
            match network {
                IpNet::V4(net) => self.v4.remove(&Key::new(net.prefix_len().into(), net.network().octets())),
                IpNet::V6(net) => self.v6.remove(&Key::new(net.prefix_len().into(), net.network().octets())),
            }?;
        }
        for network in now.difference(before) {
            match network {
                IpNet::V4(net) => {
                    self.v4.insert(&Key::new(net.prefix_len().into(), net.network().octets()), value, 0)
                }
                IpNet::V6(net) => {
                    self.v6.insert(&Key::new(net.prefix_len().into(), net.network().octets()), value, 0)
                }
            }?;
        }
        Ok(())
    }
}

fn forget(counters: &mut PerCpuArray<MapData, Counters>, id: u32) -> Result<(), MapError> {
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
    let zero = PerCpuValues::try_from(vec![Counters::default(); cpus]).map_err(MapError::IoError)?;
    counters.set(id, zero, 0)
}

fn is_busy(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EBUSY))
}

/// aya names the call; what the system said stands below.
fn of_map(error: &MapError) -> String {
    match error {
        MapError::SyscallError(error) => format!("{}: {}", error.call, in_words(&error.io_error)),
        error => error.to_string(),
    }
}
