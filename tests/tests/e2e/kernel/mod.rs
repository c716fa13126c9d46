//! The datapath in the kernel: the binary in a network namespace of its own, with its programs on one end of a wire
//! whose other end the clients have.

mod attach;
mod confinement;
mod connections;
mod continuity;
mod deny;
mod flood;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::loaded_programs;
use aya::programs::tc::TcAttachType;
use gateway_tests::netns::Netns;
use gateway_tests::node::Start;
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Ca, Http, Node, Scene, tools, wait};
use rustix::process::geteuid;
use tempfile::TempDir;

/// What the gateway has around it: a wire, names in a BPF file system, a control group.
pub(crate) struct Place {
    pub(crate) netns: Netns,
    bpf: Mounted,
    group: Group,
}

/// A BPF file system; unmounted when dropped.
struct Mounted(TempDir);

/// A control group of version 2; removed when dropped.
struct Group(PathBuf);

/// A gateway in its place.
pub(crate) struct Wired {
    // The gateway ends before its place does.
    pub(crate) scene: Scene,
    pub(crate) place: Place,
}

impl Place {
    /// `None`, with a loud line that `test` is skipped, where programs cannot be loaded.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !geteuid().is_root() {
            tools::skip(test, "loading kernel programs needs root");
            return None;
        }
        tools::need("nsenter", test)?;
        Some(Self { netns: Netns::new(test)?, bpf: Mounted::new(), group: Group::new() })
    }

    /// Where a gateway has its names.
    pub(crate) fn pins(&self) -> PathBuf {
        self.bpf.0.path().join("yett")
    }

    /// What is in the BPF file system.
    pub(crate) fn pinned(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                // What the kernel itself puts into a file system that nobody has mounted before.
                if entry.file_name().to_string_lossy().ends_with(".debug") {
                    continue;
                }
                found.push(entry.path());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.bpf.0.path(), &mut found);
        found
    }

    /// A gateway here, attached in one of the ways.
    pub(crate) fn start(&self, start: Start, attach: &str) -> Start {
        let start = start.within(&self.group.0.join("cgroup.procs")).inside(&self.netns);
        let pins = self.pins();
        start
            .variable("YETT_DATAPATH_MODE", "require")
            .variable("YETT_DATAPATH_ATTACH", attach)
            .variable("YETT_DATAPATH_PINS", pins.to_str().unwrap())
    }

    /// The usual scene here, with a clear listener too.
    pub(crate) fn stage(&self) -> Stage {
        let ca = Ca::root("clients");
        let crl = ca.crl().pem();
        let backend = Backend::at("echo", SocketAddr::new(self.netns.near_address(), 0));
        let stage = Stage::before(backend, ca, Some(&crl));
        Scene::with_clear_listener(&stage);
        stage
    }

    /// The scene, attached in one of the ways.
    pub(crate) fn scene(self, attach: &str, with: impl FnOnce(Start) -> Start) -> Wired {
        let scene = self.stage().start_with(|start| with(self.start(start, attach)));
        Wired { scene, place: self }
    }

    /// The interface as `ip` shows it.
    pub(crate) fn link(&self) -> String {
        let link = self.netns.far_link().to_owned();
        self.netns.inside(|| tools::run(Command::new("ip").args(["-d", "link", "show", &link])))
    }

    /// The ids of the programs at the interface's tcx ingress.
    pub(crate) fn tcx(&self) -> Vec<u32> {
        let link = self.netns.far_link().to_owned();
        let ingress = TcAttachType::Ingress;
        let query = || aya::programs::SchedClassifier::query_tcx(&link, ingress).unwrap();
        let (_, programs) = self.netns.inside(query);
        programs.iter().map(aya::programs::ProgramInfo::id).collect()
    }

    /// Nothing is attached, pinned, or in the kernel of what a gateway had.
    pub(crate) fn assert_clean(&self, had: &Held, description: &str) {
        assert_eq!(self.pinned(), Vec::<PathBuf>::new(), "{description}: pinned");
        assert!(!self.link().contains("xdp"), "{description}: {}", self.link());
        assert_eq!(self.tcx(), Vec::<u32>::new(), "{description}: tcx");
        // The kernel lets go of a program a moment after its last user.
        wait::soon(&format!("{description}: its programs to be gone"), || !had.is_any_loaded());
    }
}

/// The object that the binary embeds.
pub(crate) fn object() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-ebpf/prebuilt/yett.bpf.o");
    fs::read(path).unwrap()
}

/// The programs that a process holds, by itself or through links.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Vec<u32>);

impl Held {
    pub(crate) fn by(node: &Node) -> Self {
        let files = fs::read_dir(format!("/proc/{}/fdinfo", node.id())).unwrap().flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let mut ids: Vec<u32> = texts
            .flat_map(|text| {
                let of = |line: &str| line.strip_prefix("prog_id:").and_then(|id| id.trim().parse().ok());
                text.lines().filter_map(of).collect::<Vec<u32>>()
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }

    pub(crate) fn is_any_loaded(&self) -> bool {
        loaded_programs().flatten().any(|program| self.0.contains(&program.id()))
    }
}

impl Wired {
    /// One scene more.
    pub(crate) fn new(test: &str, attach: &str) -> Option<Self> {
        Self::with(test, attach, |start| start)
    }

    /// The same with other arguments.
    pub(crate) fn with(test: &str, attach: &str, with: impl FnOnce(Start) -> Start) -> Option<Self> {
        Some(Place::new(test)?.scene(attach, with))
    }

    /// A sum of one of the programs' counts.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scene.node.metrics().sum(&format!("yett_bpf_{name}"), labels)
    }

    /// The ways in which programs are attached: (program, mode).
    pub(crate) fn attached(&self) -> Vec<(String, String)> {
        let metrics = self.scene.node.metrics();
        let labels = |sample: &gateway_tests::metrics::Sample| {
            assert_eq!(sample.value, 1.0);
            (sample.labels["program"].clone(), sample.labels["mode"].clone())
        };
        let mut attached: Vec<_> = metrics.select("yett_bpf_programs_attached", &[]).map(labels).collect();
        attached.sort();
        attached
    }

    /// Connections one after the other, each with one request.
    pub(crate) fn connect(&self, count: usize) {
        for _ in 0..count {
            assert_eq!(Http::clear(self.scene.node.http()).get("/").status, 200);
        }
    }

    /// Ends the gateway in good order.
    pub(crate) fn end(&mut self) {
        self.scene.node.signal("TERM");
        assert_eq!(self.scene.node.ended(wait::SOON).code(), Some(0));
    }
}

impl Mounted {
    fn new() -> Self {
        let folder = TempDir::with_prefix("yett-bpf-").unwrap();
        tools::run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(folder.path()));
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // With all that is named in it.
        Command::new("umount").arg(self.0.path()).status().ok();
    }
}

impl Group {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let mount = mount.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted nowhere");
        let name = format!("yett-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(mount).join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process is gone only a moment after it was waited for.
        wait::soon("the control group to be empty", || fs::remove_dir(&self.0).is_ok());
    }
}
