//! `yett reload`, `yett drain` and `yett upgrade`: commands to a running gateway.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::Failure;
use super::admin::{ANSWER_TIMEOUT, UPGRADE_TIMEOUT, Where};
use crate::datapath::{self, Replaced};

/// The arguments of each.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Where,
}

/// Has the configuration read again; returns after the swap.
pub(super) fn reload(arguments: &Arguments) -> Result<ExitCode, Failure> {
    give(arguments, "/reload", ANSWER_TIMEOUT)
}

/// Has the gateway drain; returns once that has begun.
pub(super) fn drain(arguments: &Arguments) -> Result<ExitCode, Failure> {
    give(arguments, "/drain", ANSWER_TIMEOUT)
}

/// The arguments of `yett upgrade`.
#[derive(Debug, Args)]
pub(super) struct UpgradeArguments {
    #[command(flatten)]
    arguments: Arguments,
    /// Where the gateway's programs in the kernel have their names: they are replaced by this version's, which takes the
    /// privileges of loading them; `off` leaves them as they are
    #[arg(long, value_name = "PATH|off", env = "YETT_DATAPATH_PINS", default_value = "/sys/fs/bpf/yett")]
    pins: String,
}

/// Has the gateway hand over to a successor; returns once that serves.
pub(super) fn upgrade(arguments: &UpgradeArguments) -> Result<ExitCode, Failure> {
    if arguments.pins != "off" {
        match datapath::replace(Path::new(&arguments.pins)) {
            Ok(Replaced::Nothing | Replaced::Same) => {}
            Ok(Replaced::Links(count)) => {
                super::print(&format!("programs in the kernel replaced, {count} links\n"))?;
            }
            // What is there goes on, with the successor too.
            Err(error) => eprintln!("yett: the programs in the kernel stay as they are: {error}"),
        }
    }
    give(&arguments.arguments, "/upgrade", UPGRADE_TIMEOUT)
}

fn give(arguments: &Arguments, path: &str, limit: Duration) -> Result<ExitCode, Failure> {
    let (status, body) = arguments.admin.post(path, limit).map_err(Failure::operation)?;
    let words = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(Failure::operation(anyhow!("the gateway answers {status}: {}", words.trim_end())));
    }
    super::print(&words)
}
