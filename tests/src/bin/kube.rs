//! Runs a Kubernetes cluster: what `cargo xtask kube` builds and starts, and what the cluster itself consists of beside
//! the programs of Kubernetes.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks on standard output")]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use gateway_tests::kube::nodelet::{self, Image};
use gateway_tests::kube::{Channel, Cluster, Options, Programs, serve};

/// `cargo xtask kube`: a Kubernetes cluster of the real programs, in namespaces of its own.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask kube", bin_name = "cargo xtask kube")]
struct Kube {
    /// Which cluster; several run side by side
    #[arg(long, global = true, default_value = "yett")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the programs of Kubernetes and the conformance suite; once, minutes
    Build,
    /// Begin a cluster, with the Gateway API's definitions
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Run kube-proxy too, so that Services have working addresses
        #[arg(long)]
        proxy: bool,
        /// Install the definitions of the experimental channel instead of the standard one
        #[arg(long)]
        experimental: bool,
    },
    /// End it; nothing is left but its logs
    Down,
    /// Say how it is and where its parts are
    Status,
    /// kubectl, where the cluster is, allowed everything
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Passed on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a program where clients of the cluster are, or in the network of one of its nodes
    Exec {
        /// `node-1`, or `control`
        #[arg(long)]
        on: Option<String>,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        args: Vec<String>,
    },
    /// Kill a part at once: `kube-apiserver`, `node-2`, …
    Kill {
        /// Which
        part: String,
    },
    /// Start a part that was killed
    Start {
        /// Which
        part: String,
    },
    /// Run the Gateway API's conformance suite, unchanged, against what serves in the cluster
    Conformance {
        /// Where the report is written; otherwise into the cluster's folder
        #[arg(long)]
        report: Option<PathBuf>,
        /// The class of the Gateways
        #[arg(long, default_value = "yett")]
        class: String,
        /// What is claimed: profiles, separated by commas
        #[arg(long, default_value = "GATEWAY-HTTP")]
        profiles: String,
        /// Passed on to the suite: `-supported-features=…`, `-run-test=…`, `-skip-tests=…`, and so on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    #[command(hide = true)]
    Serve { folder: PathBuf },
    #[command(hide = true)]
    Nodelet { file: PathBuf },
    #[command(hide = true)]
    Container { file: PathBuf },
}

fn main() -> ExitCode {
    let kube = Kube::parse();
    if let Command::Container { file } = &kube.command {
        return nodelet::contain(file);
    }
    match run(&kube) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(kube: &Kube) -> Result<()> {
    let folder = folder(&kube.name)?;
    let mut say = |text: &str| println!("{text}");
    match &kube.command {
        Command::Build => Programs::build(&mut say).map(|_| ()),
        Command::Up { nodes, proxy, experimental } => {
            let programs = Programs::build(&mut say)?;
            let channel = if *experimental { Channel::Experimental } else { Channel::Standard };
            let yett = std::env::var_os("TESTED_YETT").map(PathBuf::from);
            let yett = yett.or_else(|| Some(std::env::current_exe().ok()?.with_file_name("yett")));
            let mut images = vec![Image::echo(programs.path("echo-basic")), Image::tools()];
            images.extend(yett.filter(|yett| yett.exists()).map(Image::yett));
            let options = Options { nodes: *nodes, proxy: *proxy, channel, images };
            let cluster = Cluster::up(&folder, &options, &mut say)?;
            say(
                "\ncargo xtask kube kubectl get nodes\ncargo xtask kube exec -- curl http://ADDRESS\ncargo xtask kube down",
            );
            cluster.leave();
            Ok(())
        }
        Command::Down => Cluster::at(&folder)?.down(),
        Command::Status => status(&Cluster::at(&folder)?),
        Command::Kubectl { args } => {
            let error = Cluster::at(&folder)?.kubectl_command().args(args).exec();
            Err(error).context("starting kubectl")
        }
        Command::Exec { on, args } => {
            let cluster = Cluster::at(&folder)?;
            let mut command = match on {
                Some(node) => cluster.command_on(node, &args[0])?,
                None => cluster.command(&args[0]),
            };
            Err(command.args(&args[1..]).env("KUBECONFIG", cluster.kubeconfig()).exec())
                .context("starting a program")
        }
        Command::Conformance { report, class, profiles, args } => {
            let cluster = Cluster::at(&folder)?;
            let own = cluster.folder().join("report.yaml");
            let report = std::path::absolute(report.as_ref().unwrap_or(&own))?;
            let mut suite = cluster.command(cluster.programs().path("conformance"));
            suite.args(["-test.v", "-test.run=^TestConformance$"]);
            suite.arg(format!("-gateway-class={class}")).arg(format!("-conformance-profiles={profiles}"));
            suite.arg(format!("-report-output={}", report.display())).args(PROJECT);
            // Of a flag that is given twice the suite takes the second.
            Err(suite.args(args).env("KUBECONFIG", cluster.kubeconfig()).exec()).context("starting the suite")
        }
        Command::Kill { part } => Cluster::at(&folder)?.kill(part),
        Command::Start { part } => Cluster::at(&folder)?.start(part),
        Command::Serve { folder } => serve(folder),
        Command::Nodelet { file } => nodelet::run(file),
        Command::Container { .. } => Ok(()),
    }
}

/// Whose report it is; the suite writes none without.
const PROJECT: [&str; 5] = [
    "-organization=yett",
    "-project=yett",
    "-url=https://gateway.yett.dev",
    concat!("-version=v", env!("CARGO_PKG_VERSION")),
    "-contact=https://gateway.yett.dev",
];

fn status(cluster: &Cluster) -> Result<()> {
    let status = cluster.status()?;
    println!("{:?}, logs in {}", status.state, cluster.folder().join("log").display());
    println!("KUBECONFIG={} (within `cargo xtask kube exec`)\n", cluster.kubeconfig().display());
    println!("{}", cluster.kubectl(&["get", "nodes,pods", "--all-namespaces", "--output=wide"])?);
    Ok(())
}

/// Where clusters of this build are, beside the build.
fn folder(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding the own program")?;
    let target = program.ancestors().nth(2).unwrap_or(Path::new("."));
    Ok(target.join("kube").join(name))
}
