//! The user-space half of the datapath: what is loaded into the kernel and attached, kept in step with the configuration,
//! and read back; and what the kernel tells of a connection through its socket.
//!
//! In: what listens, the deny list, signs of life. Out: counts, and each connection's [`Notes`]. Without the programs
//! (`off`, or the machine does not allow them) everything is served all the same, and less is known.

mod attach;
mod frontends;
pub mod interfaces;
mod load;
mod notes;
pub mod object;
mod pins;
pub mod socket;
mod stage;
mod sync;
mod sys;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::util::KernelVersion;
use gateway_common::object::{map, program};

use attach::Links;
use load::{Link, LinkName, Maps, Shape, definitions, load};
use pins::Pins;
use sync::Tables;

pub use notes::{Handles, Notes, Seen};
pub use stage::{Stage, StageError, StageOutcome, StageResult};

use crate::model::datapath::{Attach, DatapathMode};
use crate::policy::deny::DenyList;
use crate::telemetry::Metrics;

/// What an operator decides, and what the machine has.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether programs are loaded.
    pub mode: DatapathMode,
    /// In which way they are attached to interfaces.
    pub attach: Attach,
    /// To which; empty: to those that hold an address that is listened on.
    pub interfaces: Vec<String>,
    /// Addresses that are listened on; empty: every one of the machine.
    pub addresses: Vec<IpAddr>,
    /// Where in a BPF file system maps and links have their names; None: nowhere.
    pub pins: Option<PathBuf>,
    /// Whether they keep them when the process ends in good order.
    pub keep: bool,
    /// Whether packets are counted by connection.
    pub wire_metrics: bool,
    /// Whether programs choose the worker of a connection, and if so by the CPU of its SYN.
    pub pick: Pick,
    /// The CPU of each worker, where they keep to one.
    pub cpus: Vec<Option<usize>>,
}

/// Who chooses the worker of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Our program: the worker of the CPU that its SYN came to.
    Cpu,
    /// Our program: by hash, among the workers that serve.
    Hash,
    /// The kernel by itself.
    Kernel,
}

/// What is left to a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A map.
    Map,
    /// A link.
    Link,
    /// A program.
    Program,
    /// The lock on the pins.
    Pins,
}

/// A descriptor that is left, with its name.
pub type Legacy = (Left, String, OwnedFd);

/// The name of the lock.
const LOCK: &str = "lock";

/// The programs in the kernel, as the control thread has them.
pub struct Datapath {
    on: Option<On>,
    /// Addresses whose interfaces are to be attached, where the configuration does not name interfaces.
    watched: Option<Vec<IpAddr>>,
    outcomes: Vec<StageOutcome>,
    /// Whether this process speaks to the programs: not before its predecessor's last word, nor after its own.
    speaks: Arc<AtomicBool>,
}

struct On {
    maps: Arc<Maps>,
    pick: OwnedFd,
    links: Vec<Link>,
    stay: Vec<LinkName>,
    pins: Option<Pins>,
    keep: bool,
    tables: Tables,
}

impl Datapath {
    /// None: no programs.
    pub fn off() -> Self {
        Self { on: None, watched: None, outcomes: Vec::new(), speaks: Arc::default() }
    }

    /// Loads and attaches what the configuration asks for, or takes over what a process that died has left in pins. Asks
    /// for CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; what it gives needs none of them.
    ///
    /// # Errors
    /// The programs are required, and something of what is asked for cannot be had.
    pub fn start(config: &Config) -> Result<Self, StageError> {
        let mut datapath = Self::off();
        if config.mode == DatapathMode::Off {
            return Ok(datapath);
        }
        match On::start(config, &mut datapath.outcomes) {
            Ok(on) => datapath.on = Some(on),
            Err(error) => datapath.failed(error, config)?,
        }
        datapath.speaks.store(true, Ordering::Relaxed);
        datapath.watched = config.interfaces.is_empty().then(|| config.addresses.clone());
        Ok(datapath)
    }

    /// Takes over what a predecessor has left. Its word counts until [`Datapath::speak`].
    ///
    /// # Errors
    /// The programs are required, and it has left none, or they are of another layout.
    pub fn inherit(config: &Config, left: Vec<Legacy>, its_object: Option<&str>) -> Result<Self, StageError> {
        let mut datapath = Self::off();
        if config.mode == DatapathMode::Off {
            return Ok(datapath);
        }
        match On::inherit(config, left) {
            Ok(on) => {
                // Somebody with the privileges may have put others in their place.
                let replaced = on.pins.as_ref().and_then(Pins::object);
                let its_object = replaced.as_deref().or(its_object);
                let own = object::sha256();
                let words = match its_object {
                    Some(its) if its != own => format!(
                        "taken over from the predecessor; its programs ({:.12}) are not those of this version ({own:.12}): \
                         `yett upgrade` with privileges replaces them",
                        its
                    ),
                    _ => "taken over from the predecessor".to_owned(),
                };
                datapath.told(StageOutcome { stage: Stage::Load, result: StageResult::Ok, words });
                datapath.on = Some(on);
            }
            Err(error) => datapath.failed(error, config)?,
        }
        datapath.watched = config.interfaces.is_empty().then(|| config.addresses.clone());
        Ok(datapath)
    }

    fn failed(&mut self, error: StageError, config: &Config) -> Result<(), StageError> {
        if config.mode == DatapathMode::Require {
            return Err(error);
        }
        let StageError { stage, words } = error;
        self.told(StageOutcome { stage, result: StageResult::Failed, words });
        Ok(())
    }

    fn told(&mut self, outcome: StageOutcome) {
        log(&outcome);
        self.outcomes.push(outcome);
    }

    /// How the stages came out.
    pub fn outcomes(&self) -> &[StageOutcome] {
        &self.outcomes
    }

    /// What is attached.
    pub fn attached(&self) -> impl Iterator<Item = &LinkName> {
        let on = self.on.iter();
        on.flat_map(|on| on.links.iter().map(|link| &link.name).chain(&on.stay))
    }

    /// Whether there are programs.
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// The way to the connections' notes, for workers.
    pub fn handles(&self) -> Handles {
        let maps = self.on.as_ref().map(|on| Arc::clone(&on.maps));
        Handles { maps, speaks: Arc::clone(&self.speaks) }
    }

    /// Speaks to the programs from now on; the predecessor no longer does.
    pub fn speak(&mut self) {
        if let Some(on) = &mut self.on {
            on.tables.catch_up();
        }
        self.speaks.store(true, Ordering::Relaxed);
    }

    /// The programs, while this process is the one that speaks to them.
    fn spoken_to(&mut self) -> Option<&mut On> {
        let speaks = self.speaks.load(Ordering::Relaxed);
        self.on.as_mut().filter(|_| speaks)
    }

    /// Makes addresses known, and the sockets that are about to listen on some of them, so that every connection is told of
    /// from the first one on.
    pub fn expect<'a, S: std::os::fd::AsRawFd + 'a>(
        &mut self,
        addresses: &BTreeSet<SocketAddr>,
        sockets: impl IntoIterator<Item = (SocketAddr, &'a [S])>,
    ) {
        let Some(on) = self.spoken_to() else { return };
        for failure in on.tables.expect(addresses, sockets) {
            tracing::debug!(failure, "not known to the programs before it listens");
        }
    }

    /// Makes the front ends of the kernel those that listen, each with the name that its counts have.
    pub fn follow(
        &mut self,
        sockets: &BTreeMap<SocketAddr, Vec<TcpListener>>,
        names: &BTreeMap<SocketAddr, String>,
        metrics: &Metrics,
    ) {
        let Some(on) = self.spoken_to() else { return };
        let mut failures = on.tables.follow(on.pick.as_fd(), sockets);
        on.tables.name(names, metrics);
        failures.extend(on.tables.beat().err());
        let result = if failures.is_empty() { StageResult::Ok } else { StageResult::Failed };
        let words = match failures.first() {
            None => format!("{} addresses are known to the programs", sockets.len()),
            Some(first) => format!("{first} ({} in all)", failures.len()),
        };
        let outcome = StageOutcome { stage: Stage::Sync, result, words };
        if !self.outcomes.contains(&outcome) {
            self.outcomes.retain(|told| told.stage != Stage::Sync);
            self.told(outcome);
        }
    }

    /// Makes the deny list of the kernel this one.
    pub fn deny(&mut self, list: &DenyList) {
        if let Some(on) = self.spoken_to()
            && let Err(error) = on.tables.deny(list)
        {
            // Who is denied is decided in user space too: nobody comes in who should not.
            tracing::error!(%error, "the kernel's deny list is not the one in service");
        }
    }

    /// Gives a sign of life, and reads the counts. To be called every second.
    pub fn beat(&mut self, metrics: &Metrics) {
        let Some(on) = self.spoken_to() else { return };
        if let Err(error) = on.tables.beat() {
            tracing::debug!(%error, "no sign of life");
        }
        on.tables.count(metrics);
        on.tables.events();
    }

    /// Says once of each interface that has come since the start that nothing looks at its packets: the privilege to attach
    /// is given up. To be called now and then.
    pub fn look(&mut self) {
        let Some(addresses) = self.watched.as_ref().filter(|_| self.on.is_some()) else { return };
        let Ok(interfaces) = interfaces::that_hold(addresses) else { return };
        for name in interfaces {
            let is_known = self.attached().any(|link| link.place == name)
                || self.outcomes.iter().any(|told| told.words.starts_with(&format!("{name}: ")));
            if !is_known {
                let words = format!("{name}: came after the start: looked at after the next one");
                self.told(StageOutcome { stage: Stage::Attach, result: StageResult::Failed, words });
            }
        }
    }

    /// What a successor is left: descriptors, and the SHA-256 of the object that the programs are of.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn legacy(&self) -> std::io::Result<Vec<Legacy>> {
        let Some(on) = &self.on else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for (name, fd) in &on.maps.0 {
            left.push((Left::Map, name.clone(), fd.try_clone()?));
        }
        for link in &on.links {
            left.push((Left::Link, link.name.to_string(), link.fd.try_clone()?));
        }
        left.push((Left::Program, program::PICK.to_owned(), on.pick.try_clone()?));
        if let Some(pins) = &on.pins {
            left.extend(
                pins.lock()
                    .map(|lock| lock.try_clone_to_owned())
                    .transpose()?
                    .map(|lock| (Left::Pins, LOCK.to_owned(), lock)),
            );
        }
        Ok(left)
    }

    /// Another process has it all: nothing is taken off when this one ends.
    pub fn leave(&mut self) {
        self.speaks.store(false, Ordering::Relaxed);
        self.on = None;
    }

    /// Takes off what is attached and pinned, unless it is to be kept.
    pub fn end(&mut self) {
        let Some(on) = self.on.take() else { return };
        if let Some(pins) = on.pins.as_ref().filter(|_| !on.keep)
            && let Err(error) = pins.clear()
        {
            tracing::error!(%error, "what is pinned stays");
        }
        for name in &on.stay {
            tracing::info!(
                interface = name.place,
                "the filter stays on the interface, and passes everything"
            );
        }
    }
}

/// Takes off what a process that is gone has left: pins, with what they attach, and filters. Says what there was.
///
/// # Errors
/// A process uses them, or the system does not let go of them.
pub fn clean(pins: Option<&std::path::Path>, interfaces: &[String]) -> Result<Vec<String>, StageError> {
    let mut gone = Vec::new();
    if let Some(place) = pins.filter(|place| place.exists()) {
        Pins::take(place)?.clear().map_err(|error| {
            StageError::system(Stage::Pins, format!("cannot remove {}", place.display()), &error)
        })?;
        gone.push(place.display().to_string());
    }
    let filters = interfaces.iter().filter(|name| attach::remove_filter(name));
    gone.extend(filters.map(|name| format!("the filter of {name}")));
    Ok(gone)
}

/// What became of the programs of a process that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// None have names there.
    Nothing,
    /// They are those of this binary already.
    Same,
    /// So many links have the programs of this binary now, and its successor takes the rest.
    Links(usize),
}

/// Puts this binary's programs in the place of those that another version has attached, each in one step; the maps stay.
/// To be followed by an upgrade, whose successor takes over from there. Asks for the privileges of [`Datapath::start`].
///
/// # Errors
/// They cannot be loaded, or the maps are not those that they use: then a restart is needed, and nothing has changed.
pub fn replace(pins: &std::path::Path) -> Result<Replaced, StageError> {
    let pins = Pins::of_another(pins);
    let own = object::sha256();
    match pins.object() {
        None => return Ok(Replaced::Nothing),
        Some(former) if former == own => return Ok(Replaced::Same),
        Some(_) => {}
    }
    let shape = Shape { stride: pins.stride()?, seed: seed()? };
    if let Some(why) = pins.unfit(&definitions(shape)?) {
        return Err(StageError::new(Stage::Pins, format!("{why}: a restart is needed")));
    }
    let (_, programs) = load(shape, Some(&pins))?;
    let mut count = 0;
    for link in pins.links() {
        let failed = |error| StageError::system(Stage::Attach, &link.name, &error);
        sys::link_update(link.fd.as_fd(), programs.fd(&link.name.program).map_err(failed)?)
            .map_err(failed)?;
        count += 1;
    }
    programs
        .fd(program::PICK)
        .and_then(|pick| pins.keep_program(program::PICK, pick, &own))
        .map_err(|error| StageError::system(Stage::Pins, program::PICK, &error))?;
    Ok(Replaced::Links(count))
}

impl On {
    fn start(config: &Config, outcomes: &mut Vec<StageOutcome>) -> Result<Self, StageError> {
        let strict = config.mode == DatapathMode::Require;
        let mut told = Told { outcomes, strict };
        is_new_enough()?;
        let shape = Shape { stride: stride(config), seed: seed()? };
        let mut pins = None;
        if let Some(place) = &config.pins {
            let taken = Pins::take(place).and_then(|taken| {
                let refused = taken.prepare(&definitions(shape)?)?;
                let words = match refused.first() {
                    None => format!("names are in {}", place.display()),
                    Some(first) => {
                        format!("names are in {}; what was there is taken off: {first}", place.display())
                    }
                };
                pins = Some(taken);
                Ok(StageOutcome { stage: Stage::Pins, result: StageResult::Ok, words })
            });
            // A file system for them is a matter of the machine, not of what the programs can do.
            match taken {
                Err(StageError { stage, words }) if !config.keep => {
                    told.tell(StageOutcome { stage, result: StageResult::Fallback, words });
                }
                taken => told.minor(taken)?,
            }
        }
        let (maps, mut programs) = load(shape, pins.as_ref())?;
        let mut links = Links::new(pins.as_ref());
        told.minor(links.cgroup(&programs, config.wire_metrics))?;
        let interfaces = match &config.interfaces[..] {
            [] => interfaces::that_hold(&config.addresses)
                .map_err(|error| StageError::system(Stage::Attach, "cannot list interfaces", &error))?,
            named => named.iter().cloned().collect::<BTreeSet<_>>(),
        };
        if interfaces.is_empty() {
            let words = "no interface holds an address that is listened on";
            told.minor(Err(StageError::new(Stage::Attach, words)))?;
        }
        for name in &interfaces {
            let exactly = strict && config.attach != Attach::Auto;
            told.minor(links.interface(&mut programs, name, config.attach, exactly))?;
        }
        let (links, stay) = links.finish();
        let pick = programs
            .fd(program::PICK)
            .and_then(|fd| fd.try_clone_to_owned())
            .map_err(|error| StageError::system(Stage::Load, program::PICK, &error))?;
        if let Some(pins) = &pins {
            pins.keep_program(program::PICK, pick.as_fd(), &object::sha256())
                .map_err(|error| StageError::system(Stage::Pins, program::PICK, &error))?;
        }
        let maps = Arc::new(maps);
        let tables = Tables::open(&maps, config)?;
        let words = "programs are in the kernel".to_owned();
        told.tell(StageOutcome { stage: Stage::Load, result: StageResult::Ok, words });
        Ok(Self { maps, pick, links, stay, pins, keep: config.keep, tables })
    }

    fn inherit(config: &Config, left: Vec<Legacy>) -> Result<Self, StageError> {
        let (mut maps, mut links, mut pick, mut pins) = (Maps::default(), Vec::new(), None, None);
        for (kind, name, fd) in left {
            match kind {
                Left::Map => drop(maps.0.insert(name, fd)),
                Left::Link => links.extend(LinkName::parse(&name).map(|name| Link { name, fd })),
                Left::Program if name == program::PICK => pick = Some(fd),
                Left::Program => {}
                Left::Pins => pins = config.pins.as_deref().map(|place| Pins::inherited(place, fd)),
            }
        }
        let missing = || StageError::new(Stage::Load, "the predecessor has left no programs");
        let newer = pins.as_ref().and_then(|pins| pins.program(program::PICK));
        let pick = newer.or(pick).ok_or_else(missing)?;
        if let Some(name) = map::ALL.iter().find(|name| !maps.0.contains_key(**name)) {
            return Err(StageError::new(Stage::Load, format!("the predecessor has left no map {name}")));
        }
        let maps = Arc::new(maps);
        let tables = Tables::open(&maps, config)?;
        Ok(Self { maps, pick, links, stay: Vec::new(), pins, keep: config.keep, tables })
    }
}

/// Collects how the stages came out.
struct Told<'a> {
    outcomes: &'a mut Vec<StageOutcome>,
    strict: bool,
}

impl Told<'_> {
    fn tell(&mut self, outcome: StageOutcome) {
        log(&outcome);
        self.outcomes.push(outcome);
    }

    /// What can be done without, where the programs are not required.
    fn minor(&mut self, result: Result<StageOutcome, StageError>) -> Result<(), StageError> {
        match result {
            Ok(outcome) => self.tell(outcome),
            Err(error) if self.strict => return Err(error),
            Err(StageError { stage, words }) => {
                self.tell(StageOutcome { stage, result: StageResult::Failed, words });
            }
        }
        Ok(())
    }
}

/// One line for each stage.
fn log(outcome: &StageOutcome) {
    let StageOutcome { stage, result, words } = outcome;
    match result {
        StageResult::Ok => tracing::info!(stage = stage.as_str(), "datapath: {words}"),
        StageResult::Fallback | StageResult::Failed => {
            tracing::warn!(stage = stage.as_str(), result = result.as_str(), "datapath: {words}");
        }
    }
}

/// Linux 5.15 has everything but tcx.
fn is_new_enough() -> Result<(), StageError> {
    let oldest = KernelVersion::new(5, 15, 0);
    match KernelVersion::current() {
        Ok(version) if version >= oldest => Ok(()),
        Ok(version) => Err(StageError::new(Stage::Kernel, format!("{version:?} is older than Linux 5.15"))),
        Err(error) => Err(StageError::new(Stage::Kernel, format!("which one is not told: {error}"))),
    }
}

/// Room for at least as many workers as there are CPUs, so that a successor with more of them finds it.
fn stride(config: &Config) -> u32 {
    let cpus = aya::util::nr_cpus().unwrap_or(1).max(config.cpus.len());
    u32::try_from(cpus).unwrap_or(u32::MAX).clamp(1, gateway_common::object::WORKERS_MAX)
}

fn seed() -> Result<u64, StageError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| StageError::new(Stage::Load, "the system gives no random numbers"))?;
    Ok(u64::from_ne_bytes(bytes))
}
