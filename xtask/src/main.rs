//! Yett's developer commands, run as `cargo xtask …`: see the demo, run every test, keep the tree tidy, and do what
//! continuous integration does. Each command names or installs what it needs, shows progress, and prints how long each
//! stage took.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks on standard output")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")
)]

mod bench;
mod cargo;
mod ci;
mod demo;
#[cfg(test)]
mod docs;
mod ebpf;
mod fuzz;
mod kube;
mod libtest;
mod soak;
mod stage;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// `cargo xtask`: Yett's developer commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build yett and show the mTLS walk-through against real clients
    Demo {
        /// End after the checks, with exit code 0 or 1, instead of serving on
        #[arg(long)]
        once: bool,
        /// Passed on to `yett demo`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build everything and run every test
    Test {
        /// Passed on to `cargo test`, for example a part of a test's name
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run for long under load: `reload`, `connections`; `--help` after either says more
    #[command(disable_help_flag = true)]
    Soak {
        /// Passed on: which soak, and how
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// A Kubernetes cluster of the real programs: `up`, `down`, `kubectl`, `status`, `exec`; `--help` after it says more
    #[command(disable_help_flag = true)]
    Kube {
        /// Passed on: what to do with which cluster
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the Gateway API's conformance suite against the cluster of `kube up`; `--help` after it says more
    #[command(disable_help_flag = true)]
    Conformance {
        /// Passed on: where the report goes, and after `--` the suite's own flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check import directions, purity, unsafe, lint exceptions and the like
    Tidy,
    /// The kernel programs: build them, or check that the committed object is what the sources give
    Ebpf {
        #[command(subcommand)]
        command: ebpf::Command,
    },
    /// Run the fuzz targets one after another
    Fuzz {
        /// One of them alone
        target: Option<String>,
        /// How long each of them runs
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        minutes: u64,
        /// Only see whether they compile
        #[arg(long)]
        check: bool,
    },
    /// Measure
    Bench {
        #[command(subcommand)]
        command: bench::Command,
    },
    /// Everything continuous integration checks: fmt, tidy, cargo-deny, the kernel object, clippy, fuzz targets, tests
    Ci,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo { once, args } => demo::run(once, &args),
        Command::Test { args } => test::run(&args),
        Command::Soak { args } => soak::run(&args),
        Command::Kube { args } => kube::run(&args),
        Command::Conformance { args } => kube::run(&[&["conformance".to_owned()], args.as_slice()].concat()),
        Command::Tidy => tidy::run(),
        Command::Bench { command } => bench::run(&command),
        Command::Ebpf { command } => ebpf::run(&command),
        Command::Fuzz { check: true, .. } => fuzz::check().map(|()| ExitCode::SUCCESS),
        Command::Fuzz { target, minutes, .. } => fuzz::run(target.as_deref(), minutes),
        Command::Ci => ci::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
