//! What the machine offers to the datapath, and how packets come to its CPUs: read from /proc and /sys, below a root that
//! tests give another value. What is not there is absent; nothing here fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::datapath::interfaces;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    /// The kernel's release.
    pub(super) kernel: String,
    /// Whether the kernel describes its own types (`/sys/kernel/btf/vmlinux`).
    pub(super) btf: bool,
    /// Of the capabilities that matter, those that this command has; a daemon that is started in the same way has them.
    pub(super) capabilities: Vec<&'static str>,
    /// Where control groups of version 2 are mounted.
    pub(super) cgroup2: Option<String>,
    /// Where BPF file systems are mounted.
    pub(super) bpffs: Vec<String>,
    /// The CPUs that this command may run on.
    pub(super) cpus: BTreeSet<usize>,
    /// The interfaces.
    pub(super) interfaces: Vec<Interface>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Interface {
    /// Its name.
    pub(super) name: String,
    /// Of a physical card.
    pub(super) driver: Option<String>,
    /// Megabits a second.
    pub(super) speed_mbits: Option<u32>,
    /// Where packets come in.
    pub(super) receive: Vec<Receive>,
    /// Where packets go out: the CPUs that each queue is for (XPS).
    pub(super) transmit: Vec<BTreeSet<usize>>,
    /// Its interrupts, as far as they tell whose they are.
    pub(super) interrupts: Vec<Interrupt>,
}

/// A queue that packets come in by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Receive {
    /// Which interrupt tells of them, by its number.
    pub(super) interrupt: Option<u32>,
    /// The CPUs that it comes to.
    pub(super) cpus: BTreeSet<usize>,
    /// The CPUs that packets are spread over afterwards, in software (RPS); none: it is off.
    pub(super) rps: BTreeSet<usize>,
}

/// An interrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Interrupt {
    /// Its number.
    pub(super) number: u32,
    /// Its name.
    pub(super) name: String,
    /// The CPUs that it comes to.
    pub(super) cpus: BTreeSet<usize>,
}

/// Capabilities that matter, by their bits (linux/capability.h).
pub(super) const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_BPF", 39), ("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_NET_BIND_SERVICE", 10)];

impl Machine {
    /// Reads it, with these interfaces; those that are not there are left out.
    pub(super) fn read(root: &Path, interfaces: &BTreeSet<String>) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let status = text("proc/self/status");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let effective =
            field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
        let mounts = text("proc/self/mounts");
        let interrupts = text("proc/interrupts");
        let found = interfaces.iter().filter(|name| root.join("sys/class/net").join(name).exists());
        Self {
            kernel: text("proc/sys/kernel/osrelease").trim().to_owned(),
            btf: root.join("sys/kernel/btf/vmlinux").exists(),
            capabilities: CAPABILITIES
                .iter()
                .filter(|(_, bit)| effective >> bit & 1 == 1)
                .map(|(name, _)| *name)
                .collect(),
            cgroup2: mounted(&mounts, "cgroup2").next(),
            bpffs: mounted(&mounts, "bpf").collect(),
            cpus: field("Cpus_allowed_list:").map(listed).unwrap_or_default(),
            interfaces: found.map(|name| Interface::read(root, name, &interrupts)).collect(),
        }
    }
}

impl Interface {
    fn read(root: &Path, name: &str, interrupts: &str) -> Self {
        let folder = root.join("sys/class/net").join(name);
        let text = |path: &str| fs::read_to_string(folder.join(path)).unwrap_or_default();
        let interrupts = own_interrupts(root, &folder, name, interrupts);
        let queue = |number: usize| {
            let of = interrupts.iter().find(|interrupt| receives(&interrupt.name) == Some(number));
            Receive {
                interrupt: of.map(|interrupt| interrupt.number),
                cpus: of.map(|interrupt| interrupt.cpus.clone()).unwrap_or_default(),
                rps: masked(&text(&format!("queues/rx-{number}/rps_cpus"))),
            }
        };
        Self {
            name: name.to_owned(),
            driver: interfaces::driver(&folder),
            // -1 or an error where there is no such thing.
            speed_mbits: text("speed").trim().parse().ok(),
            receive: numbered(&folder, "rx-").map(queue).collect(),
            transmit: numbered(&folder, "tx-")
                .map(|number| masked(&text(&format!("queues/tx-{number}/xps_cpus"))))
                .collect(),
            interrupts,
        }
    }
}

/// The numbers of an interface's queues of one direction.
fn numbered(folder: &Path, prefix: &str) -> std::ops::Range<usize> {
    let entries = fs::read_dir(folder.join("queues")).into_iter().flatten().flatten();
    let count = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).count();
    0..count
}

/// The interrupts of an interface: those that its device or the one above it (virtio) lists, or else those that bear its
/// name.
fn own_interrupts(root: &Path, folder: &Path, name: &str, interrupts: &str) -> Vec<Interrupt> {
    let listed_in = |path: &str| -> BTreeSet<u32> {
        let entries = fs::read_dir(folder.join(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    };
    // The device is a link: its own parent is meant, not the folder that the link is in.
    let device = fs::canonicalize(folder.join("device")).unwrap_or_default();
    let above = device.parent().map(|parent| parent.join("msi_irqs"));
    let mut numbers = listed_in("device/msi_irqs");
    if numbers.is_empty() {
        numbers = above.and_then(|path| Some(listed_in(path.to_str()?))).unwrap_or_default();
    }
    let bears_name = |words: &str| {
        words.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').any(|word| word == name)
    };
    let of_line = |line: &str| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let (number, called) = (number.parse().ok()?, rest.split_whitespace().last()?);
        let is_own = if numbers.is_empty() { bears_name(called) } else { numbers.contains(&number) };
        is_own.then(|| Interrupt { number, name: called.to_owned(), cpus: comes_to(root, number) })
    };
    interrupts.lines().filter_map(of_line).collect()
}

/// The CPUs that an interrupt comes to now, or else those that it may come to.
fn comes_to(root: &Path, number: u32) -> BTreeSet<usize> {
    let read = |file: &str| {
        let path = root.join(format!("proc/irq/{number}/{file}"));
        listed(&fs::read_to_string(path).unwrap_or_default())
    };
    let effective = read("effective_affinity_list");
    if effective.is_empty() { read("smp_affinity_list") } else { effective }
}

/// The number of the queue whose packets an interrupt tells of, by the names that drivers give: `eth0-TxRx-3`,
/// `virtio2-input.0`, `mlx5_comp1@pci:0000:03:00.0`, `ena-mgmnt@pci…` (none).
fn receives(name: &str) -> Option<usize> {
    let own = name.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let is_receive = ["rx", "input", "comp"].iter().any(|word| own.contains(word));
    let head = own.trim_end_matches(|letter: char| letter.is_ascii_digit());
    is_receive.then(|| own[head.len()..].parse().ok()).flatten()
}

/// Where file systems of this kind are mounted.
fn mounted<'a>(mounts: &'a str, kind: &'a str) -> impl Iterator<Item = String> + 'a {
    mounts.lines().filter_map(move |line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == kind).then(|| place.to_owned())
    })
}

/// `0-2,5` as numbers; nothing of what cannot be read.
fn listed(text: &str) -> BTreeSet<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (last < CPUS_MAX).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// `00000001,0000000f`, thirty-two CPUs a word, as numbers.
fn masked(text: &str) -> BTreeSet<usize> {
    let words = text.trim().rsplit(',').enumerate().take(CPUS_MAX / 32);
    words
        .flat_map(|(at, word)| {
            let bits = u32::from_str_radix(word, 16).unwrap_or_default();
            (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| at * 32 + bit)
        })
        .collect()
}

/// CPUs that a kernel can have.
const CPUS_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn numbers_of_cpus() {
        for (text, expected) in [
            ("0-2,5\n", &[0, 1, 2, 5][..]),
            ("3\n", &[3]),
            ("", &[]),
            ("x,1", &[1]),
            ("0-99999999999", &[]),
            ("5-2", &[]),
        ] {
            assert_eq!(listed(text).into_iter().collect::<Vec<_>>(), expected, "{text:?}");
        }
        for (text, expected) in
            [("3\n", &[0, 1][..]), ("00000001,00000002\n", &[1, 32]), ("0", &[]), ("", &[]), ("zz", &[])]
        {
            assert_eq!(masked(text).into_iter().collect::<Vec<_>>(), expected, "{text:?}");
        }
    }

    #[test]
    fn names_of_interrupts() {
        for (name, expected) in [
            ("eth0-TxRx-3", Some(3)),
            ("i40e-ens1f0-TxRx-11", Some(11)),
            ("eth0-Tx-Rx-0", Some(0)),
            ("virtio2-input.0", Some(0)),
            ("virtio2-output.0", None),
            ("virtio2-config", None),
            ("mlx5_comp1@pci:0000:03:00.0", Some(1)),
            ("mlx5_async0@pci:0000:03:00.0", None),
            ("ena-mgmnt@pci:0000:00:05.0", None),
            ("eth0", None),
        ] {
            assert_eq!(receives(name), expected, "{name}");
        }
    }

    /// A machine in a folder.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_virtual_machine_with_one_queue() {
        let root = folder(&[
            ("proc/sys/kernel/osrelease", "6.18.44\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("proc/self/status", "Name:\tyett\nCapEff:\t000000c000001400\nCpus_allowed_list:\t0-1\n"),
            (
                "proc/self/mounts",
                "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n/dev/vda / ext4 rw 0 0\n",
            ),
            (
                "proc/interrupts",
                "     CPU0 CPU1\n 36: 0 9 PCI-MSIX-0000:00:02.0 1-edge virtio1-req.0\n 38: 0 5 PCI-MSIX-0000:00:03.0 1-edge virtio2-input.0\n 39: 7 0 PCI-MSIX-0000:00:03.0 2-edge virtio2-output.0\nNMI: 0 0 Non-maskable interrupts\n",
            ),
            ("proc/irq/38/effective_affinity_list", "1\n"),
            ("proc/irq/39/smp_affinity_list", "0-1\n"),
            ("sys/devices/pci/msi_irqs/38", ""),
            ("sys/devices/pci/msi_irqs/39", ""),
            ("sys/devices/pci/virtio2/vendor", ""),
            ("sys/class/net/eth0/speed", "-1\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "3\n"),
        ]);
        let sys = root.path().join("sys");
        symlink(sys.join("devices/pci/virtio2"), sys.join("class/net/eth0/device")).unwrap();
        symlink("/nowhere/virtio_net", sys.join("devices/pci/virtio2/driver")).unwrap();
        let wanted = BTreeSet::from(["eth0".to_owned(), "eth9".to_owned()]);
        let interrupt = |number, name: &str, cpus: &[usize]| Interrupt {
            number,
            name: name.to_owned(),
            cpus: cpus.iter().copied().collect(),
        };
        let expected = Machine {
            kernel: "6.18.44".to_owned(),
            btf: true,
            capabilities: vec!["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_NET_BIND_SERVICE"],
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            bpffs: vec!["/sys/fs/bpf".to_owned()],
            cpus: BTreeSet::from([0, 1]),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                driver: Some("virtio_net".to_owned()),
                speed_mbits: None,
                receive: vec![Receive {
                    interrupt: Some(38),
                    cpus: BTreeSet::from([1]),
                    rps: BTreeSet::new(),
                }],
                transmit: vec![BTreeSet::from([0, 1])],
                interrupts: vec![
                    interrupt(38, "virtio2-input.0", &[1]),
                    interrupt(39, "virtio2-output.0", &[0, 1]),
                ],
            }],
        };
        assert_eq!(Machine::read(root.path(), &wanted), expected);
    }

    #[test]
    fn a_card_whose_interrupts_bear_its_name() {
        let root = folder(&[
            (
                "proc/interrupts",
                " 50: 1 1 IR-PCI eth1-TxRx-0\n 51: 1 1 IR-PCI eth1-TxRx-1\n 52: 0 0 IR-PCI eth10-TxRx-0\n",
            ),
            ("proc/irq/50/smp_affinity_list", "0"),
            ("proc/irq/51/smp_affinity_list", "1"),
            ("sys/class/net/eth1/speed", "25000\n"),
            ("sys/class/net/eth1/queues/rx-0/rps_cpus", "00000000,00000003\n"),
            ("sys/class/net/eth1/queues/rx-1/rps_cpus", "0\n"),
        ]);
        let machine = Machine::read(root.path(), &BTreeSet::from(["eth1".to_owned()]));
        let eth1 = &machine.interfaces[0];
        assert_eq!(eth1.speed_mbits, Some(25_000));
        let queue = |interrupt, cpu, rps: &[usize]| Receive {
            interrupt: Some(interrupt),
            cpus: BTreeSet::from([cpu]),
            rps: rps.iter().copied().collect(),
        };
        assert_eq!(eth1.receive, [queue(50, 0, &[0, 1]), queue(51, 1, &[])]);
        assert!(machine.capabilities.is_empty() && machine.cgroup2.is_none() && machine.kernel.is_empty());
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read(Path::new("/"), &BTreeSet::from(["lo".to_owned()]));
        assert!(!machine.kernel.is_empty() && !machine.cpus.is_empty());
        assert_eq!(machine.interfaces[0].receive.len(), 1);
    }
}
