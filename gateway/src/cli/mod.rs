//! The command line: raw arguments to checked ones, then one call.

mod run;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The arguments of `yett`.
#[derive(Debug, Parser)]
#[command(
    name = "yett",
    version,
    about = "A sidecar-free mTLS gateway for the Kubernetes Gateway API",
    propagate_version = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what the manifests describe
    Run(run::Arguments),
    /// Print the effective settings with the origin of each value
    Settings(settings::Arguments),
}

/// Runs the command line of this process. Exit codes: 0 done, 1 an operation failed, 2 the input is at fault.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Settings(arguments) => settings::print(&arguments),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("yett: {:#}", failure.error);
        ExitCode::from(failure.code)
    })
}

/// Why a command ended early.
#[derive(Debug)]
struct Failure {
    error: anyhow::Error,
    code: u8,
}

impl Failure {
    /// What the user gave is at fault.
    fn input(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code: 2 }
    }

    /// What was attempted did not succeed.
    fn operation(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code: 1 }
    }
}
