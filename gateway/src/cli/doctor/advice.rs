//! What to make of a machine, in words. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::machine::{CAPABILITIES, Interface, Machine};

/// The oldest kernel that programs are loaded into, and the oldest with tcx.
const KERNEL_MIN: (u32, u32) = (5, 15);
const TCX_MIN: (u32, u32) = (6, 6);

/// One thing to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    /// Whether the datapath is less than it could be for this; else it is about speed alone.
    pub(super) lacking: bool,
    /// One line.
    pub(super) words: String,
}

/// Everything there is to say, what is lacking first.
pub(super) fn of(machine: &Machine) -> Vec<Advice> {
    let lacking = lacks(machine).into_iter().map(|words| Advice { lacking: true, words });
    let layout = machine.interfaces.iter().flat_map(|interface| layout(interface, &machine.cpus));
    lacking.chain(layout.map(|words| Advice { lacking: false, words })).collect()
}

fn lacks(machine: &Machine) -> Vec<String> {
    let mut lacking = Vec::new();
    match version(&machine.kernel) {
        Some(version) if version < KERNEL_MIN => {
            lacking.push(format!("kernel {} is older than 5.15: nothing is loaded into it", machine.kernel));
        }
        Some(version) if version < TCX_MIN => {
            lacking
                .push(format!("kernel {} has no tcx (6.6): programs are attached by clsact", machine.kernel));
        }
        _ => {}
    }
    let missing: Vec<&str> = CAPABILITIES
        .map(|(name, _)| name)
        .into_iter()
        .filter(|name| !machine.capabilities.contains(name))
        .collect();
    let (bind, load): (Vec<&str>, Vec<&str>) =
        missing.into_iter().partition(|name| *name == "CAP_NET_BIND_SERVICE");
    if !load.is_empty() {
        lacking.push(format!("without {}: nothing can be loaded into the kernel", load.join(", ")));
    }
    if !bind.is_empty() {
        lacking.push(format!("without {}: no ports below 1024", bind.join(", ")));
    }
    if machine.cgroup2.is_none() {
        lacking.push(
            "no control groups of version 2 are mounted: connections have no times of their SYNs".to_owned(),
        );
    }
    if machine.bpffs.is_empty() {
        lacking.push(
            "no BPF file system is mounted: after a crash counts begin anew (mount -t bpf bpf /sys/fs/bpf)"
                .to_owned(),
        );
    }
    lacking
}

fn layout(interface: &Interface, cpus: &BTreeSet<usize>) -> Vec<String> {
    let (name, queues) = (&interface.name, interface.receive.len());
    let mut advice = Vec::new();
    // Nobody chooses for a virtual interface; packets are handled where they are sent.
    if interface.driver.is_none() || cpus.len() < 2 {
        return advice;
    }
    let spread: BTreeSet<usize> = interface.receive.iter().flat_map(|queue| &queue.rps).copied().collect();
    let comes_to: BTreeSet<usize> = interface.receive.iter().flat_map(|queue| &queue.cpus).copied().collect();
    if queues == 1 && spread.is_empty() {
        let place = match in_words(&comes_to) {
            none if none == "-" => "one CPU at a time".to_owned(),
            known => format!("CPU {known}"),
        };
        advice.push(format!(
            "{name}: 1 queue: every SYN comes to {place}; RPS is off, so one worker of {} has every packet near it \
             (echo a mask of CPUs to /sys/class/net/{name}/queues/rx-0/rps_cpus)",
            cpus.len()
        ));
    } else if queues < cpus.len() && spread.is_empty() {
        advice.push(format!(
            "{name}: {queues} queues for {} CPUs: the other CPUs get packets by RPS alone, which is off",
            cpus.len()
        ));
    }
    let mut shared: BTreeMap<&BTreeSet<usize>, Vec<usize>> = BTreeMap::new();
    for (number, queue) in interface.receive.iter().enumerate().filter(|(_, queue)| queue.cpus.len() == 1) {
        shared.entry(&queue.cpus).or_default().push(number);
    }
    for (cpu, queues) in shared.iter().filter(|(_, queues)| queues.len() > 1) {
        let queues: Vec<String> = queues.iter().map(usize::to_string).collect();
        advice.push(format!(
            "{name}: the interrupts of queues {} all come to CPU {}",
            queues.join(", "),
            in_words(cpu)
        ));
    }
    let handled = if spread.is_empty() { &comes_to } else { &spread };
    let strange: BTreeSet<usize> = handled.difference(cpus).copied().collect();
    if !strange.is_empty() {
        advice.push(format!(
            "{name}: packets come to CPU {}, where no worker of this process may run",
            in_words(&strange)
        ));
    }
    advice
}

/// `0-2,5`; `-` of none.
pub(super) fn in_words(cpus: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let words = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::machine::Receive;
    use super::*;

    fn set(cpus: &[usize]) -> BTreeSet<usize> {
        cpus.iter().copied().collect()
    }

    fn whole() -> Machine {
        Machine {
            kernel: "6.18.44".to_owned(),
            btf: true,
            capabilities: CAPABILITIES.map(|(name, _)| name).to_vec(),
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            bpffs: vec!["/sys/fs/bpf".to_owned()],
            cpus: set(&[0, 1]),
            interfaces: Vec::new(),
        }
    }

    #[test]
    fn what_is_lacking() {
        type Change = fn(&mut Machine);
        for (description, change, expected) in [
            ("nothing", (|_| {}) as Change, &[][..]),
            ("an old kernel", |machine| machine.kernel = "5.10.0-30-amd64".to_owned(), &["older than 5.15"]),
            ("no tcx", |machine| machine.kernel = "6.1.0".to_owned(), &["has no tcx"]),
            ("an unknown kernel", |machine| machine.kernel = "odd".to_owned(), &[]),
            (
                "no rights",
                |machine| machine.capabilities.clear(),
                &["without CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON:", "below 1024"],
            ),
            ("no cgroup2", |machine| machine.cgroup2 = None, &["control groups"]),
            ("no bpffs", |machine| machine.bpffs.clear(), &["mount -t bpf"]),
        ] {
            let mut machine = whole();
            change(&mut machine);
            let advice = of(&machine);
            assert_eq!(advice.len(), expected.len(), "{description}: {advice:?}");
            for (advice, words) in advice.iter().zip(expected) {
                assert!(advice.lacking && advice.words.contains(words), "{description}: {advice:?}");
            }
        }
    }

    #[test]
    fn how_packets_come_in() {
        let queue =
            |cpus: &[usize], rps: &[usize]| Receive { interrupt: None, cpus: set(cpus), rps: set(rps) };
        let card = Some("ice".to_owned());
        for (description, driver, receive, cpus, expected) in [
            (
                "one queue",
                card.clone(),
                vec![queue(&[0], &[])],
                &[0, 1][..],
                &["1 queue: every SYN comes to CPU 0; RPS is off"][..],
            ),
            (
                "one queue of unknown place",
                card.clone(),
                vec![queue(&[], &[])],
                &[0, 1],
                &["comes to one CPU at a time"],
            ),
            ("one queue and RPS", card.clone(), vec![queue(&[0], &[0, 1])], &[0, 1], &[]),
            ("one CPU", card.clone(), vec![queue(&[0], &[])], &[0], &[]),
            ("a virtual interface", None, vec![queue(&[], &[])], &[0, 1], &[]),
            ("a queue for each CPU", card.clone(), vec![queue(&[0], &[]), queue(&[1], &[])], &[0, 1], &[]),
            (
                "too few",
                card.clone(),
                vec![queue(&[0], &[]), queue(&[1], &[])],
                &[0, 1, 2, 3],
                &["2 queues for 4 CPUs"],
            ),
            (
                "all to one",
                card.clone(),
                vec![queue(&[1], &[]), queue(&[1], &[])],
                &[0, 1],
                &["queues 0, 1 all come to CPU 1"],
            ),
            (
                "to others",
                card.clone(),
                vec![queue(&[2], &[]), queue(&[3], &[])],
                &[0, 1],
                &["come to CPU 2-3, where no worker"],
            ),
        ] {
            let interface = Interface { name: "eth0".to_owned(), driver, receive, ..Interface::default() };
            let advice = of(&Machine { interfaces: vec![interface], cpus: set(cpus), ..whole() });
            assert_eq!(advice.len(), expected.len(), "{description}: {advice:?}");
            for (advice, words) in advice.iter().zip(expected) {
                assert!(!advice.lacking && advice.words.contains(words), "{description}: {advice:?}");
            }
        }
        assert_eq!(in_words(&set(&[0, 1, 2, 5, 7, 8])), "0-2,5,7-8");
    }
}
