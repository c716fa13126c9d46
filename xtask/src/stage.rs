//! Stages: named steps that say when they begin and how long they took.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The stages run so far, with their times and outcomes.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<(&'static str, Duration, bool)>,
}

impl Stages {
    /// Runs one stage; an error is printed and makes the stage a failed one.
    pub(crate) fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("== {name}");
        let begun = Instant::now();
        let outcome = work();
        let took = begun.elapsed();
        match &outcome {
            Ok(_) => println!("== {name}: done in {}", seconds(took)),
            Err(error) => println!("== {name}: FAILED after {}: {error:#}", seconds(took)),
        }
        self.done.push((name, took, outcome.is_ok()));
        outcome.ok()
    }

    /// How many stages failed.
    pub(crate) fn failed(&self) -> usize {
        self.done.iter().filter(|(_, _, passed)| !passed).count()
    }

    /// Prints a line for each stage and the whole time.
    pub(crate) fn summary(&self) {
        println!();
        for (name, took, passed) in &self.done {
            println!("{name:<12} {:>9}  {}", seconds(*took), if *passed { "ok" } else { "FAILED" });
        }
        println!("{:<12} {:>9}", "together", seconds(self.done.iter().map(|(_, took, _)| *took).sum()));
    }
}

/// Runs a command with our own standard streams.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub(crate) fn call(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("starting {program}"))?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
