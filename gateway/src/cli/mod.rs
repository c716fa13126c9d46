//! The command line: raw arguments to checked ones, then one call.

mod admin;
mod check;
mod connections;
mod control;
mod demo;
mod deny;
mod doctor;
mod explain;
mod generate;
mod run;
mod settings;
mod status;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

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
    /// Say what is wrong with manifests, without serving them
    Check(check::Arguments),
    /// Tell what a finding's code means, its usual causes and its remedy
    Explain(explain::Arguments),
    /// Make, serve and check the mTLS walk-through
    Demo(demo::Arguments),
    /// Print the status of every object, as a running gateway has it
    Status(status::Arguments),
    /// List the connections that are open to a running gateway
    Connections(connections::Arguments),
    /// Show or change the list of networks whose connections are not wanted
    Deny(deny::Arguments),
    /// Say what this machine offers to the datapath, and how packets come to its CPUs
    ///
    /// Nothing is changed, and no running gateway is asked. It is best run as the gateway is: as the same user, with the same
    /// capabilities. Exits with 1 where something is lacking.
    Doctor(doctor::Arguments),
    /// Have a running gateway read its configuration; returns after the swap
    Reload(control::Arguments),
    /// Have a running gateway drain and end
    Drain(control::Arguments),
    /// Have a running gateway hand over to a new process of its program; returns when that serves
    ///
    /// The program is read anew from the path that the gateway was started by, so a newer version that lies there takes
    /// over. It gets the listening sockets; connections are neither refused nor reset. If it cannot serve, the old
    /// process serves on and this command fails. SIGUSR2 does the same.
    Upgrade(control::UpgradeArguments),
    /// Print the effective settings with the origin of each value
    Settings(settings::Arguments),
    /// Print a completion script for a shell
    Completions(generate::CompletionsArguments),
    /// Print the manual page, or write those of all commands
    Man(generate::ManArguments),
    /// Print version, revision and compiler
    Version(generate::VersionArguments),
}

/// Runs the command line of this process. Exit codes: 0 done, 1 an operation failed, 2 the input is at fault.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Connections(arguments) => connections::run(&arguments),
        Command::Deny(arguments) => deny::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Reload(arguments) => control::reload(&arguments),
        Command::Drain(arguments) => control::drain(&arguments),
        Command::Upgrade(arguments) => control::upgrade(&arguments),
        Command::Settings(arguments) => settings::print(&arguments),
        Command::Completions(arguments) => generate::completions(&arguments, Arguments::command()),
        Command::Man(arguments) => generate::man(&arguments, Arguments::command()),
        Command::Version(arguments) => generate::version(&arguments),
    };
    outcome.unwrap_or_else(|failure| {
        // Where nobody reads standard error either, the exit code has to say it.
        let _ = writeln!(io::stderr(), "yett: {:#}", failure.error);
        ExitCode::from(failure.code)
    })
}

/// Prints a text. A reader that has gone (`| head`) wants no more of it and no complaint.
fn print(text: &str) -> Result<ExitCode, Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::operation(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
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
