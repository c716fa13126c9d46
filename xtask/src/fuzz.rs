//! `cargo xtask fuzz`: runs the targets of `fuzz/` one after another, each for as long as asked, and says what came of
//! it. The corpora grow below the target directory; what is found becomes a seed by hand, and so a test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::stage::{Stages, call};
use crate::{cargo, tools};

/// How often a running target says how far it is.
const PROGRESS_SECONDS: u64 = 10;
/// One input takes no longer than this, or counts as an endless loop.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MEGABYTES_MAX: u32 = 2048;

/// The command.
///
/// # Errors
/// When `only` is none of the targets.
pub(crate) fn run(only: Option<&str>, minutes: u64) -> Result<ExitCode> {
    let targets = targets()?;
    let chosen: Vec<&String> = targets.iter().filter(|name| only.is_none_or(|only| only == *name)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no such target; there are {}", targets.join(", "));
    let mut stages = Stages::default();
    let mut told = Vec::new();
    if let Some(program) = stages.run("cargo-fuzz", tools::cargo_fuzz) {
        let target_directory = cargo::target()?;
        let built = stages.run("build", || call(&mut fuzz(&program, &target_directory, "build")));
        for name in chosen.into_iter().filter(|_| built.is_some()) {
            told.extend(stages.run("fuzz", || drive(&program, &target_directory, name, minutes)));
        }
    }
    stages.summary();
    for line in told {
        println!("{line}");
    }
    Ok(if stages.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the targets still compile, without the C++ compiler and the flags that running them takes.
///
/// # Errors
/// When they do not, or their lock file is out of date.
pub(crate) fn check() -> Result<()> {
    let mut check = cargo::command(["check", "--manifest-path", "fuzz/Cargo.toml", "--no-default-features"]);
    call(check.arg("--locked").arg("--target-dir").arg(cargo::target()?))
}

fn targets() -> Result<Vec<String>> {
    let folder = cargo::root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// cargo-fuzz with the pinned compiler: nothing of ours is unsafe, so that no sanitizer is worth a nightly one.
fn fuzz(program: &Path, target_directory: &Path, verb: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(cargo::root()).args(["fuzz", verb, "--fuzz-dir", "fuzz", "--sanitizer", "none"]);
    command.arg("--target-dir").arg(target_directory.join("fuzz/build"));
    command
}

/// Drives one target; tells what came of it.
fn drive(program: &Path, target_directory: &Path, name: &str, minutes: u64) -> Result<String> {
    let place = |kind: &str| -> Result<PathBuf> {
        let place = target_directory.join("fuzz").join(kind).join(name);
        std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        Ok(place)
    };
    let (corpus, artifacts) = (place("corpus")?, place("artifacts")?);
    let mut command = fuzz(program, target_directory, "run");
    command.arg(name).arg(&corpus).arg(format!("fuzz/seeds/{name}")).args([
        "--".to_owned(),
        format!("-artifact_prefix={}/", artifacts.display()),
        format!("-dict=fuzz/dictionaries/{name}"),
        format!("-max_total_time={}", minutes * 60),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MEGABYTES_MAX}"),
        "-print_final_stats=1".to_owned(),
    ]);
    println!("{name}: {minutes} minutes");
    let mut child = command.stderr(Stdio::piped()).spawn().context("starting cargo fuzz")?;
    let mut progress = Progress::new();
    for line in BufReader::new(child.stderr.take().context("no standard error")?).split(b'\n') {
        let line = line.context("reading from cargo fuzz")?;
        progress.line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().context("waiting for cargo fuzz")?;
    anyhow::ensure!(status.success(), "{name} found something, see {}", artifacts.display());
    Ok(format!("{name}: {} runs, {} a second, coverage {}", progress.runs, progress.speed, progress.coverage))
}

/// Reads along: libFuzzer's status lines now and then, everything else as it comes.
#[derive(Debug)]
struct Progress {
    shown: Instant,
    runs: String,
    speed: String,
    coverage: String,
}

impl Progress {
    fn new() -> Self {
        let unknown = || "?".to_owned();
        Self { shown: Instant::now(), runs: unknown(), speed: unknown(), coverage: unknown() }
    }

    fn line(&mut self, line: &str) {
        let behind = |word: &str| line.split_whitespace().skip_while(|part| *part != word).nth(1);
        if let Some(coverage) = behind("cov:") {
            self.coverage = coverage.to_owned();
        }
        for (name, value) in [
            ("stat::number_of_executed_units:", &mut self.runs),
            ("stat::average_exec_per_sec:", &mut self.speed),
        ] {
            if let Some(count) = behind(name) {
                *value = count.to_owned();
            }
        }
        if line.starts_with('#') {
            if self.shown.elapsed() < Duration::from_secs(PROGRESS_SECONDS) {
                return;
            }
            self.shown = Instant::now();
        }
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_libfuzzer_prints() {
        let mut progress = Progress::new();
        for line in [
            "#1024\tNEW    cov: 1234 ft: 2345 corp: 12/345b lim: 11 exec/s: 512 rss: 40Mb L: 5/9 MS: 1 ChangeByte-",
            "stat::number_of_executed_units: 4096",
            "stat::average_exec_per_sec:     682",
        ] {
            progress.line(line);
        }
        assert_eq!((&*progress.runs, &*progress.speed, &*progress.coverage), ("4096", "682", "1234"));
    }
}
