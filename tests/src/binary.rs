//! Which `yett` is tested: the one that `TESTED_YETT` names, else the one cargo builds now.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::tools;

/// The path of the binary, built when need be, once a process.
///
/// # Panics
/// When it does not build.
pub fn yett() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| env::var_os("TESTED_YETT").map_or_else(build, PathBuf::from))
}

/// A command of the binary's, without the tests' own variable: its name is that of a setting.
pub fn command() -> Command {
    command_by(None)
}

/// The same by another path, which leads to the binary or to something in its place.
pub fn command_by(path: Option<&Path>) -> Command {
    let mut command = Command::new(path.unwrap_or_else(|| yett()));
    command.env_remove("YETT_BIN");
    command
}

fn build() -> PathBuf {
    // The test stands at <target>/<profile>/deps/<name>; the binary belongs two levels up.
    let test = env::current_exe().expect("a process knows its program");
    let profile = test.ancestors().nth(2).expect("the test lies in a target folder");
    let target = profile.parent().expect("a profile folder lies in the target folder");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target);
    // The whole workspace is named so that features are resolved as the tests had them, and nothing is
    // built twice.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "yett"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    tools::run(&mut cargo);
    profile.join("yett")
}
