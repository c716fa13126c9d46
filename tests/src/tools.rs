//! Programs that a test calls but a machine may lack.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// Where `name` stands on `PATH`, if it does.
pub fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The tool, or a loud line that the test was skipped for want of it.
///
/// # Panics
/// In continuous integration: there a skipped test is a failed one.
pub fn need(name: &str, test: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(test, &format!("{name} is not on PATH"));
    }
    found
}

/// A loud line that a test is skipped, and why.
///
/// # Panics
/// In continuous integration: there a skipped test is a failed one.
pub fn skip(test: &str, reason: &str) {
    let in_ci = env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    assert!(!in_ci, "{reason}");
    // Past libtest's capture, which hides the output of tests that pass.
    let line = format!("SKIPPED: {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
}

/// Runs a command that must succeed, and returns its standard output.
///
/// # Panics
/// When it cannot be started or fails; both its outputs are shown.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program that is killed when this is dropped.
#[derive(Debug)]
pub struct Killed(pub std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
