//! `cargo xtask soak`: builds `yett` and hands over to the soaks of the tests' crate.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo;
use crate::stage::{Stages, call};

/// Builds, then becomes the soak, so that Ctrl-C and the exit code are its own.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut stages = Stages::default();
    stages.run("build", || call(&mut cargo::command(["build", "--workspace", "--bins", "--locked"])));
    if stages.failed() > 0 {
        return Ok(ExitCode::FAILURE);
    }
    let yett = cargo::yett()?;
    let mut soak = Command::new(yett.with_file_name("soak"));
    soak.args(args).env("TESTED_YETT", yett);
    Err(soak.exec()).context("starting the soak")
}
