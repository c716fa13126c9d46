//! `cargo xtask kube`: builds `yett` and hands over to the program of the tests' crate that runs clusters.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo;
use crate::stage::call;

/// Builds, then becomes that program, so that Ctrl-C, the output and the exit code are its own.
///
/// # Errors
/// When it cannot be built or started.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut build = cargo::command(["build", "--workspace", "--bins", "--locked", "--quiet"]);
    call(&mut build)?;
    Err(program()?.args(args).exec()).context("starting the cluster's program")
}

/// Builds the programs of Kubernetes, unless they are there; what runs the tests has been built.
///
/// # Errors
/// When they cannot be built.
pub(crate) fn programs() -> Result<()> {
    call(program()?.arg("build"))
}

fn program() -> Result<Command> {
    let yett = cargo::yett()?;
    let mut kube = Command::new(yett.with_file_name("kube"));
    kube.env("TESTED_YETT", yett);
    Ok(kube)
}
