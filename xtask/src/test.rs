//! `cargo xtask test`: builds everything, runs every test against the `yett` just built, and closes with one plain line.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::libtest::{Count, Reading};
use crate::stage::{Stages, call};
use crate::{cargo, kube, tools};

/// Tests that continuous integration may skip: how the name begins, and why.
const SKIPS_ALLOWED: &[(&str, &str)] = &[];

/// How long one run of all tests may take in continuous integration, in minutes.
const TESTS_MINUTES_MAX: u32 = 35;

/// The command: its own stages, the summary and the closing line.
///
/// # Errors
/// None of its own: a failed stage becomes the exit code.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let mut stages = Stages::default();
    let count = stages_of_test(&mut stages, args, None);
    Ok(close(&stages, &count))
}

/// Runs the stages tools, build and test; used by `ci` too, which may have another kernel object to embed and test
/// than the committed one.
pub(crate) fn stages_of_test(stages: &mut Stages, args: &[String], object: Option<&Path>) -> Count {
    let ready = stages.run("tools", || tools::ensure(tools::TESTS)).is_some()
        // Binaries and tests in one build: the same features, and nothing left to compile once tests run.
        && stages
            .run("build", || {
                let mut build = cargo::command(["build", "--workspace", "--all-targets", "--locked"]);
                call(build.envs(object.map(|object| (OBJECT, object))))
            })
            .is_some();
    if !ready {
        return Count::default();
    }
    // Here rather than in a test, so that minutes of building do not count as a test's. Without them, where there is no
    // Go, the tests that need a cluster say that they are skipped.
    let programs = stages_kube(stages, args);
    if !programs && in_ci() {
        return Count::default();
    }
    let mut count = Count::default();
    stages.run("test", || {
        count = run_tests(args, object)?;
        verdict(&count, in_ci())
    });
    count
}

/// Builds what the tests with a Kubernetes cluster need, unless only others are asked for. False where it failed.
fn stages_kube(stages: &mut Stages, args: &[String]) -> bool {
    let is_narrowed = !args.is_empty() && !args.iter().any(|arg| arg.contains("kube"));
    is_narrowed || (!in_ci() && !tools::on_path("go")) || stages.run("kube", kube::programs).is_some()
}

/// Prints the summary and, last and alone on its line, the count.
pub(crate) fn close(stages: &Stages, count: &Count) -> ExitCode {
    stages.summary();
    for name in &count.failures {
        println!("failed: {name}");
    }
    for name in &count.skips {
        println!("SKIPPED: {name}");
    }
    // A stage that failed without a failed test (no build, an unformatted file) is one failure itself.
    let failed = if count.failed == 0 { stages.failed() } else { count.failed };
    println!("\n{} passed, {failed} failed, {} skipped", count.passed, count.skipped);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The variable by which the build and the tests learn of another kernel object.
const OBJECT: &str = "YETT_EBPF_OBJECT";

fn run_tests(args: &[String], object: Option<&Path>) -> Result<Count> {
    let tests = cargo::command(["test", "--workspace", "--locked", "--no-fail-fast"]);
    let mut command = if in_ci() { limited(&tests) } else { tests };
    // Shown output is where a skipped test says so; `libtest` keeps it to itself otherwise.
    command.args(args).args((!args.iter().any(|arg| arg == "--")).then_some("--")).arg("--show-output");
    command.env("TESTED_YETT", cargo::yett()?).env("CARGO_TERM_COLOR", "never");
    command.envs(object.map(|object| (OBJECT, object)));
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting cargo test")?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let reading = Mutex::new(Reading::default());
    std::thread::scope(|scope| {
        scope.spawn(|| follow(out, &reading));
        scope.spawn(|| follow(err, &reading));
    });
    let status = child.wait().context("waiting for cargo test")?;
    let mut count = reading.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
    if !status.success() && count.failed == 0 {
        count.failed = 1;
        count.failures.push(format!("cargo test ended with {status}"));
    }
    Ok(count)
}

/// The same command under coreutils' timeout, which ends the test binaries too.
fn limited(tests: &Command) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10s", &format!("{TESTS_MINUTES_MAX}m")]);
    command.arg(tests.get_program()).args(tests.get_args()).current_dir(cargo::root());
    command
}

/// Prints the lines of one stream as they come and reads the results out of them.
fn follow(stream: Option<impl Read>, reading: &Mutex<Reading>) {
    let Some(stream) = stream else { return };
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        if reading.lock().unwrap_or_else(PoisonError::into_inner).line(&line) {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// What the count means for the exit code.
fn verdict(count: &Count, in_ci: bool) -> Result<()> {
    anyhow::ensure!(count.failed == 0, "{} failed", count.failed);
    anyhow::ensure!(count.passed > 0, "no test ran");
    let allowed = |skip: &str| SKIPS_ALLOWED.iter().any(|(name, _)| skip.starts_with(name));
    let unexpected: Vec<_> = count.skips.iter().filter(|skip| !allowed(skip)).map(String::as_str).collect();
    anyhow::ensure!(
        !in_ci || unexpected.is_empty(),
        "skipped, which CI does not allow: {}",
        unexpected.join("; ")
    );
    Ok(())
}

/// Whether this is continuous integration, where nothing may be skipped.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_fails_in_ci_only() {
        let count =
            Count { passed: 3, skipped: 1, skips: vec!["scrape: no prometheus".into()], ..Count::default() };
        assert!(verdict(&count, false).is_ok());
        assert!(verdict(&count, true).is_err());
    }

    #[test]
    fn no_test_or_a_failed_one_is_a_failure_anywhere() {
        assert!(verdict(&Count::default(), false).is_err());
        assert!(verdict(&Count { passed: 3, failed: 1, ..Count::default() }, false).is_err());
    }
}
