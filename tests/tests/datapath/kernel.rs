//! The object loaded into the kernel, with maps of its own, and its programs run on packets of the test's making.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, lpm_trie};
use aya::programs::{CgroupSkb, ProgramInfo, SchedClassifier, SkReuseport, SockOps, Xdp};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use gateway_common::key::{FrontendKey, address};
use gateway_common::object::{map, program, switch};
use gateway_common::value::{Control, Counters, Frontend, PORT_ANY, PORT_EXACT, Slot, Totals};
use gateway_tests::tools;

/// The bytes of the object under test: `YETT_EBPF_OBJECT` where it is set, else the committed one.
pub(crate) fn object() -> Vec<u8> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-ebpf/prebuilt/yett.bpf.o");
    let path = std::env::var_os("YETT_EBPF_OBJECT").map_or(committed, Into::into);
    std::fs::read(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

/// Whether programs can be loaded here; else the test is skipped aloud.
pub(crate) fn usable(test: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let root =
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    if !root {
        tools::skip(test, "loading kernel programs needs root");
    }
    root
}

/// The hooks that packets are run at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Xdp,
    Tc,
}

impl Hook {
    pub(crate) const ALL: [Hook; 2] = [Hook::Xdp, Hook::Tc];

    pub(crate) fn program(self) -> &'static str {
        match self {
            Hook::Xdp => program::INGRESS_XDP,
            Hook::Tc => program::INGRESS_TC,
        }
    }

    pub(crate) fn floor(self) -> &'static str {
        match self {
            Hook::Xdp => program::FLOOR_XDP,
            Hook::Tc => program::FLOOR_TC,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
}

/// The switches of one load; the rest have the object's own values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switches {
    pub(crate) on_off: Vec<(&'static str, u8)>,
    pub(crate) event_mask: Option<u32>,
    pub(crate) seed: Option<u64>,
}

impl Switches {
    /// The object's own values apart from these.
    pub(crate) fn set<const N: usize>(on_off: [(&'static str, u8); N]) -> Switches {
        Switches { on_off: on_off.to_vec(), ..Switches::default() }
    }
}

/// The object in the kernel.
pub(crate) struct Kernel {
    pub(crate) ebpf: Ebpf,
}

impl Kernel {
    /// Loads the object with every program in it.
    pub(crate) fn load(switches: &Switches) -> Kernel {
        Kernel::load_some(switches, &program::ALL)
    }

    /// Loads the object with some of its programs.
    pub(crate) fn load_some(switches: &Switches, programs: &[&str]) -> Kernel {
        let mut loader = EbpfLoader::new();
        for (name, value) in &switches.on_off {
            loader.override_global(name, value, true);
        }
        if let Some(mask) = &switches.event_mask {
            loader.override_global(switch::EVENT_MASK, mask, true);
        }
        if let Some(seed) = &switches.seed {
            loader.override_global(switch::SEED, seed, true);
        }
        let ebpf = loader.load(&object()).unwrap_or_else(|error| panic!("the object: {error:?}"));
        let mut kernel = Kernel { ebpf };
        for name in programs {
            kernel.load_program(name);
        }
        kernel
    }

    fn load_program(&mut self, name: &str) {
        let loaded = match name {
            program::INGRESS_XDP | program::FLOOR_XDP => self.program::<Xdp>(name).load(),
            program::INGRESS_TC | program::FLOOR_TC => self.program::<SchedClassifier>(name).load(),
            program::PICK => self.program::<SkReuseport>(name).load(),
            program::TRACK => self.program::<SockOps>(name).load(),
            program::WIRE => self.program::<CgroupSkb>(name).load(),
            other => panic!("no program {other}"),
        };
        loaded.unwrap_or_else(|error| panic!("{name}: {error:#?}"));
    }

    /// A program as its own type.
    pub(crate) fn program<'a, T>(&'a mut self, name: &str) -> &'a mut T
    where
        &'a mut T: TryFrom<&'a mut aya::programs::Program, Error: std::fmt::Debug>,
    {
        self.ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}")).try_into().unwrap()
    }

    /// What the kernel says of a loaded program.
    pub(crate) fn info(&self, name: &str) -> ProgramInfo {
        self.ebpf.program(name).unwrap().info().unwrap()
    }

    /// Runs a packet through the hook's program.
    pub(crate) fn run(&mut self, hook: Hook, packet: &[u8]) -> Verdict {
        let verdict = self.raw(hook, hook.program(), packet, 1).0;
        match (hook, verdict.cast_signed()) {
            (Hook::Xdp, 2) | (Hook::Tc, -1) => Verdict::Pass,
            (Hook::Xdp, 1) | (Hook::Tc, 2) => Verdict::Drop,
            (hook, other) => panic!("{hook:?} returned {other}"),
        }
    }

    /// Runs a packet through a program; its return value and the nanoseconds that a run took.
    pub(crate) fn raw(&mut self, hook: Hook, name: &str, packet: &[u8], repeat: u32) -> (u32, u32) {
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::default() };
        let result = match hook {
            Hook::Xdp => self.program::<Xdp>(name).test_run(options),
            Hook::Tc => self.program::<SchedClassifier>(name).test_run(options),
        };
        let result = result.unwrap_or_else(|error| panic!("{name} on {} bytes: {error:?}", packet.len()));
        (result.return_value, u32::try_from(result.duration.as_nanos()).unwrap())
    }

    /// A front end on one address, or on every address of its family.
    pub(crate) fn frontend(&mut self, on: IpAddr, port: u16, frontend: Frontend) {
        let bit = if on.is_unspecified() { PORT_ANY } else { PORT_EXACT };
        let mut ports: Array<_, u32> = self.map(map::PORTS);
        let bits = ports.get(&u32::from(port), 0).unwrap();
        ports.set(u32::from(port), bits | bit, 0).unwrap();
        let mut frontends: HashMap<_, FrontendKey, Frontend> = self.map(map::FRONTENDS);
        frontends.insert(FrontendKey::new(address(on), port), frontend, 0).unwrap();
    }

    /// What the daemon tells the programs.
    pub(crate) fn control(&mut self, control: Control) {
        self.map::<Array<_, Control>>(map::CONTROL).set(0, control, 0).unwrap();
    }

    /// The daemon gives a sign of life; the rest of what it says stays.
    pub(crate) fn alive(&mut self, change: impl FnOnce(&mut Control)) {
        let mut control = Control { heartbeat_ns: now_ns(), ..Control::default() };
        change(&mut control);
        self.control(control);
    }

    /// Puts a prefix into the deny or the allow list.
    pub(crate) fn list(&mut self, lists: (&str, &str), prefix: &str) {
        let (address, bits) = prefix.split_once('/').unwrap();
        let bits = bits.parse().unwrap();
        match address.parse().unwrap() {
            IpAddr::V4(v4) => {
                let mut list: LpmTrie<_, [u8; 4], u32> = self.map(lists.0);
                list.insert(&lpm_trie::Key::new(bits, v4.octets()), 1, 0).unwrap();
            }
            IpAddr::V6(v6) => {
                let mut list: LpmTrie<_, [u8; 16], u32> = self.map(lists.1);
                list.insert(&lpm_trie::Key::new(bits, v6.octets()), 1, 0).unwrap();
            }
        }
    }

    /// A map as its own type.
    pub(crate) fn map<'a, T>(&'a mut self, name: &str) -> T
    where
        T: TryFrom<&'a mut aya::maps::Map, Error: std::fmt::Debug>,
    {
        self.ebpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}")).try_into().unwrap()
    }

    /// The counts of a front end, over all CPUs.
    pub(crate) fn counters(&self, frontend: u32) -> Counters {
        let map = self.ebpf.map(map::COUNTERS).unwrap();
        let counters: PerCpuArray<&MapData, Counters> = map.try_into().unwrap();
        let each = counters.get(&frontend, 0).unwrap();
        each.iter().fold(Counters::default(), |sum, one| sum.plus(one))
    }

    /// The counts over all packets and CPUs.
    pub(crate) fn totals(&self) -> Totals {
        let map = self.ebpf.map(map::TOTALS).unwrap();
        let totals: PerCpuArray<&MapData, Totals> = map.try_into().unwrap();
        let each = totals.get(&0, 0).unwrap();
        each.iter().fold(Totals::default(), |sum, one| sum.plus(one))
    }

    /// The counts of every front end that has any.
    pub(crate) fn all_counters(&self) -> BTreeMap<u32, Counters> {
        (0..8)
            .map(|id| (id, self.counters(id)))
            .filter(|(_, counts)| *counts != Counters::default())
            .collect()
    }

    /// Forgets all counts and slots.
    pub(crate) fn forget(&mut self) {
        let cpus = aya::util::nr_cpus().unwrap();
        let zero = || PerCpuValues::try_from(vec![Counters::default(); cpus]).unwrap();
        let mut counters: PerCpuArray<_, Counters> = self.map(map::COUNTERS);
        for id in 0..8 {
            counters.set(id, zero(), 0).unwrap();
        }
        let mut totals: PerCpuArray<_, Totals> = self.map(map::TOTALS);
        totals.set(0, PerCpuValues::try_from(vec![Totals::default(); cpus]).unwrap(), 0).unwrap();
    }

    /// The SYN slots in use.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let slots: Array<&MapData, Slot> = self.ebpf.map(map::SLOTS).unwrap().try_into().unwrap();
        slots.iter().map(Result::unwrap).filter(|slot| slot.tag != 0).collect()
    }
}

/// The clock that the programs read.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
