//! `cargo xtask ci`: what continuous integration checks. The quick checks all run, so that one run tells everything
//! they find; the tests run only when those pass.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::libtest::Count;
use crate::stage::{Stages, call};
use crate::{cargo, ebpf, fuzz, test, tidy, tools};

/// Runs every stage and closes like `cargo xtask test`.
///
/// # Errors
/// None of its own: a failed stage becomes the exit code.
pub(crate) fn run() -> Result<ExitCode> {
    let mut stages = Stages::default();
    stages.run("fmt", || call(&mut cargo::command(["fmt", "--all", "--check"])));
    stages.run("tidy", tidy::check);
    stages.run("deny", deny);
    let checked = stages.run("ebpf", ebpf::check);
    stages.run("clippy", || {
        let flags = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        call(&mut cargo::command(flags))
    });
    stages.run("fuzz", fuzz::check);
    let object = match &checked {
        Some(ebpf::Checked::Fresh(object)) => Some(object.as_path()),
        _ => None,
    };
    let count =
        if stages.failed() == 0 { test::stages_of_test(&mut stages, &[], object) } else { Count::default() };
    Ok(test::close(&stages, &count))
}

/// Licences, banned crates, duplicates and sources; advisories need a database from the network and are left out.
fn deny() -> Result<()> {
    let program = tools::cargo_deny()?;
    call(
        Command::new(program)
            .current_dir(cargo::root())
            .args(["--workspace", "--all-features", "--locked", "check", "--hide-inclusion-graph"])
            .args(["licenses", "bans", "sources"]),
    )
}
