//! `yett reload` and `yett drain`: commands to a running gateway.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::Failure;
use super::admin::Where;

/// The arguments of both.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Where,
}

/// Has the configuration read again; returns after the swap.
pub(super) fn reload(arguments: &Arguments) -> Result<ExitCode, Failure> {
    give(arguments, "/reload")
}

/// Has the gateway drain; returns once that has begun.
pub(super) fn drain(arguments: &Arguments) -> Result<ExitCode, Failure> {
    give(arguments, "/drain")
}

fn give(arguments: &Arguments, path: &str) -> Result<ExitCode, Failure> {
    let (status, body) = arguments.admin.post(path).map_err(Failure::operation)?;
    let words = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(Failure::operation(anyhow!("the gateway answers {status}: {}", words.trim_end())));
    }
    super::print(&words)
}
