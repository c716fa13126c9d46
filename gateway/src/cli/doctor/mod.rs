//! `yett doctor`: what the machine offers to the datapath, how packets come to its CPUs, and what could be better.

mod advice;
mod machine;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::Failure;
use super::table::aligned;
use crate::datapath::{self, Datapath, StageError, StageOutcome, StageResult, interfaces};
use crate::model::datapath::{Attach, DatapathMode};
use advice::{Advice, in_words};
use machine::Machine;

/// The arguments of `yett doctor`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// An interface that clients come in by; several times for several. Else those with an address that a client
    /// elsewhere can use
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// Load and attach the programs for a moment, and say how each stage came out
    #[arg(long)]
    load: bool,
    /// Take off what a gateway that is gone has left pinned, and its filters, and do nothing else
    #[arg(long, conflicts_with = "load")]
    clean: bool,
    /// Where in a BPF file system that gateway had its names
    #[arg(long, value_name = "PATH", env = "YETT_DATAPATH_PINS", default_value = "/sys/fs/bpf/yett")]
    pins: PathBuf,
    /// Form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// An object
    Json,
}

/// Looks and prints. Exit code 1 where something is lacking; how packets are spread does not count.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let wanted: BTreeSet<String> = if arguments.interface.is_empty() {
        interfaces::that_hold(&[]).map_err(Failure::operation)?
    } else {
        arguments.interface.iter().cloned().collect()
    };
    if arguments.clean {
        let wanted: Vec<String> = wanted.into_iter().collect();
        let gone = datapath::clean(Some(&arguments.pins), &wanted).map_err(Failure::operation)?;
        let text = if gone.is_empty() {
            "nothing was left\n".to_owned()
        } else {
            format!("taken off: {}\n", gone.join(", "))
        };
        return super::print(&text);
    }
    let machine = Machine::read(Path::new("/"), &wanted);
    if let Some(name) =
        wanted.iter().find(|name| !machine.interfaces.iter().any(|found| found.name == **name))
    {
        return Err(Failure::operation(anyhow::anyhow!("there is no interface {name}")));
    }
    let stages = if arguments.load { load(&wanted) } else { Vec::new() };
    let examined = Examined { stages, advice: advice::of(&machine), machine };
    super::print(&match arguments.output {
        Output::Text => examined.text(),
        Output::Json => examined.json(),
    })?;
    Ok(if examined.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads and attaches, as a gateway would that is not told otherwise, and takes everything off again.
fn load(interfaces: &BTreeSet<String>) -> Vec<StageOutcome> {
    let config = datapath::Config {
        mode: DatapathMode::Auto,
        attach: Attach::Auto,
        interfaces: interfaces.iter().cloned().collect(),
        addresses: Vec::new(),
        pins: None,
        keep: false,
        wire_metrics: true,
        pick: datapath::Pick::Cpu,
        cpus: vec![None],
    };
    match Datapath::start(&config) {
        Ok(datapath) => datapath.outcomes().to_vec(),
        // Nothing is required.
        Err(StageError { stage, words }) => vec![StageOutcome { stage, result: StageResult::Failed, words }],
    }
}

/// All that was found.
struct Examined {
    /// How the stages of loading came out, where they were tried.
    stages: Vec<StageOutcome>,
    machine: Machine,
    advice: Vec<Advice>,
}

impl Examined {
    fn is_well(&self) -> bool {
        self.stages.iter().all(|outcome| outcome.result != StageResult::Failed)
            && self.advice.iter().all(|advice| !advice.lacking)
    }

    fn text(&self) -> String {
        let Machine { kernel, btf, capabilities, cgroup2, bpffs, cpus, interfaces } = &self.machine;
        let mut text = String::new();
        if !self.stages.is_empty() {
            let row = |outcome: &StageOutcome| {
                [outcome.stage.to_string(), outcome.result.as_str().to_owned(), outcome.words.clone()]
            };
            text += &aligned(["STAGE", "RESULT", ""], self.stages.iter().map(row));
            text.push('\n');
        }
        let some = |words: String| if words.is_empty() { "-".to_owned() } else { words };
        text += &aligned(
            ["MACHINE", ""],
            [
                ["kernel".to_owned(), some(kernel.clone())],
                ["BTF".to_owned(), if *btf { "yes" } else { "no" }.to_owned()],
                ["capabilities".to_owned(), some(capabilities.join(" "))],
                ["cgroup2".to_owned(), some(cgroup2.clone().unwrap_or_default())],
                ["bpffs".to_owned(), some(bpffs.join(" "))],
                ["CPUs".to_owned(), in_words(cpus)],
            ],
        );
        if !interfaces.is_empty() {
            text.push('\n');
            text += &aligned(HEAD, interfaces.iter().flat_map(rows));
        }
        if !self.advice.is_empty() {
            text.push('\n');
        }
        for Advice { lacking, words } in &self.advice {
            text += &format!("{}: {words}\n", if *lacking { "lacking" } else { "layout" });
        }
        text
    }

    fn json(&self) -> String {
        let stage = |outcome: &StageOutcome| {
            let (stage, result) = (outcome.stage.as_str(), outcome.result.as_str());
            json!({"stage": stage, "result": result, "words": outcome.words})
        };
        let stages: Vec<_> = self.stages.iter().map(stage).collect();
        let (machine, advice) = (&self.machine, &self.advice);
        format!(
            "{:#}\n",
            json!({"stages": stages, "machine": machine, "advice": advice, "ok": self.is_well()})
        )
    }
}

const HEAD: [&str; 8] = ["INTERFACE", "DRIVER", "MBIT/S", "QUEUE", "INTERRUPT", "CPUS", "RPS", "XPS"];

/// A line for each queue that packets come in by.
fn rows(interface: &machine::Interface) -> impl Iterator<Item = [String; 8]> {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    interface.receive.iter().enumerate().map(move |(number, queue)| {
        [
            interface.name.clone(),
            or_none(interface.driver.clone()),
            or_none(interface.speed_mbits.map(|speed| speed.to_string())),
            number.to_string(),
            or_none(queue.interrupt.map(|number| number.to_string())),
            in_words(&queue.cpus),
            in_words(&queue.rps),
            interface.transmit.get(number).map_or_else(|| "-".to_owned(), in_words),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Stage;
    use machine::{Interface, Receive};

    fn examined() -> Examined {
        let receive = Receive { interrupt: Some(38), cpus: BTreeSet::from([1]), rps: BTreeSet::new() };
        let eth0 = Interface {
            name: "eth0".to_owned(),
            driver: Some("virtio_net".to_owned()),
            receive: vec![receive],
            transmit: vec![BTreeSet::from([0, 1])],
            ..Interface::default()
        };
        let machine = Machine {
            kernel: "6.18.44".to_owned(),
            cpus: BTreeSet::from([0, 1]),
            interfaces: vec![eth0],
            ..Machine::default()
        };
        let stage = |result| StageOutcome { stage: Stage::Attach, result, words: "eth0: tcx".to_owned() };
        Examined {
            stages: vec![stage(StageResult::Ok)],
            advice: vec![Advice { lacking: false, words: "a hint".to_owned() }],
            machine,
        }
    }

    #[test]
    fn for_people() {
        let text = examined().text();
        let squeezed: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "STAGE RESULT",
            "attach ok eth0: tcx",
            "",
            "MACHINE",
            "kernel 6.18.44",
            "BTF no",
            "capabilities -",
            "cgroup2 -",
            "bpffs -",
            "CPUs 0-1",
            "",
            "INTERFACE DRIVER MBIT/S QUEUE INTERRUPT CPUS RPS XPS",
            "eth0 virtio_net - 0 38 1 - 0-1",
            "",
            "layout: a hint",
        ];
        assert_eq!(squeezed, expected);
    }

    #[test]
    fn what_is_lacking_and_what_failed_is_not_well() {
        let mut examined = examined();
        assert!(examined.is_well(), "a hint is none");
        assert!(examined.json().contains("\"ok\": true"));
        examined.advice.push(Advice { lacking: true, words: String::new() });
        assert!(!examined.is_well());
        examined.advice.clear();
        examined.stages[0].result = StageResult::Failed;
        assert!(!examined.is_well());
    }
}
