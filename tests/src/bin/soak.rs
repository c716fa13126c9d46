//! Runs a soak: what `cargo xtask soak` builds and starts. Exit code 0, or 1 when something failed.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks on standard output")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gateway_tests::soak::{connections, reload};

/// `cargo xtask soak`: what only shows in the long run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
enum Soak {
    /// Reload under load; every reload changes something that has to show within a second
    Reload {
        /// How many reloads
        #[arg(long, default_value_t = 1000)]
        reloads: usize,
        /// Chooses what they change
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Hold idle connections with mTLS and tell what each costs
    Connections {
        /// How many
        #[arg(long, default_value_t = 9000)]
        count: usize,
        /// How much memory each may cost, in bytes
        #[arg(long)]
        bytes_max: Option<u64>,
    },
}

fn main() -> ExitCode {
    let report = match Soak::parse() {
        Soak::Reload { reloads, seed } => {
            reload::run(&reload::Plan { reloads, seed, shows_within: Duration::from_secs(1) })
        }
        Soak::Connections { count, bytes_max } => connections::run(count, bytes_max),
    };
    println!("\n{report}");
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
