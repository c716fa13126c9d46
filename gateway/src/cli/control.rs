//! `yett reload`, `yett drain` and `yett upgrade`: commands to a running gateway.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::Failure;
use super::admin::{ANSWER_TIMEOUT, UPGRADE_TIMEOUT, Where};

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

/// Has the gateway hand over to a successor; returns once that serves.
pub(super) fn upgrade(arguments: &Arguments) -> Result<ExitCode, Failure> {
    give(arguments, "/upgrade", UPGRADE_TIMEOUT)
}

fn give(arguments: &Arguments, path: &str, limit: Duration) -> Result<ExitCode, Failure> {
    let (status, body) = arguments.admin.post(path, limit).map_err(Failure::operation)?;
    let words = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(Failure::operation(anyhow!("the gateway answers {status}: {}", words.trim_end())));
    }
    super::print(&words)
}
