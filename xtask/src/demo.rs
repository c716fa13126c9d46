//! `cargo xtask demo`: builds `yett` and hands over to `yett demo`, where the walk-through lives.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::stage::{Stages, call};
use crate::{cargo, tools};

/// Builds, then becomes `yett demo`, so that Ctrl-C and the exit code are its own.
///
/// # Errors
/// When `yett` cannot be started.
pub(crate) fn run(once: bool, args: &[String]) -> Result<ExitCode> {
    let mut stages = Stages::default();
    stages.run("tools", || tools::ensure(tools::DEMO));
    if stages.failed() == 0 {
        stages.run("build", || call(&mut cargo::command(["build", "--workspace", "--bin=yett", "--locked"])));
    }
    if stages.failed() > 0 {
        return Ok(ExitCode::FAILURE);
    }
    let mut demo = Command::new(cargo::yett()?);
    demo.arg("demo").args(once.then_some("--once")).args(args);
    Err(demo.exec()).context("starting yett demo")
}
