//! `cargo xtask bench`: figures, measured here and now.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::cargo;
use crate::stage::call;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What a packet costs in the kernel programs, in nanoseconds and multiples of the empty program (needs root)
    Datapath,
}

/// Runs in a round of the datapath's figures; of nine rounds the least counts.
const DATAPATH_REPEAT: &str = "1000000";

/// The command.
///
/// # Errors
/// When the measurement cannot be built, or a figure is over its limit.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Datapath => {
            let mut test =
                cargo::command(["test", "--quiet", "--workspace", "--locked", "--test", "datapath"]);
            test.args(["--", "--nocapture", "--test-threads=1", "cost::"]);
            call(test.env("YETT_BENCH_REPEAT", DATAPATH_REPEAT))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
