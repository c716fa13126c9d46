//! What only shows in the long run: clients of every kind ask without pause while something goes on for long.
//!
//! A soak is told how long, prints how far it is, and gives back a [`Report`] with its figures and whatever failed. It
//! runs at length by `cargo xtask soak`, and briefly as a test.
#![allow(clippy::print_stdout, reason = "a soak speaks of its progress")]

use std::fmt;
use std::time::Duration;

pub mod connections;
pub mod load;
pub mod reload;

/// How a soak went.
#[derive(Debug, Default)]
pub struct Report {
    /// Lines of a table: what, and how much.
    pub figures: Vec<(String, String)>,
    /// What failed; a few words each.
    pub failures: Vec<String>,
}

impl Report {
    fn figure(&mut self, what: impl Into<String>, how_much: impl Into<String>) {
        self.figures.push((what.into(), how_much.into()));
    }

    fn expect(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(failure());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FAILURES_SHOWN: usize = 20;
        let width = self.figures.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        for (what, how_much) in &self.figures {
            writeln!(f, "{what:<width$}  {how_much}")?;
        }
        for failure in self.failures.iter().take(FAILURES_SHOWN) {
            writeln!(f, "FAILED: {failure}")?;
        }
        write!(f, "{} failures", self.failures.len())
    }
}

/// Times that something took.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this part of them (in hundredths) did not take longer than.
    pub fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort();
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).copied().unwrap_or_default()
    }

    /// `p50 …, p99 …, max …`
    pub fn summary(&mut self) -> String {
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.percentile(percent).as_secs_f64() * 1000.0);
        format!("p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms of {}", self.0.len())
    }
}

/// Numbers from a seed (splitmix64), so that a run can be repeated.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// By how much a series grows from each of its values to the next, by least squares.
#[allow(clippy::cast_precision_loss, reason = "a slope is no exact figure")]
fn slope(values: &[u64]) -> f64 {
    let count = values.len() as f64;
    let mean = |sum: f64| sum / count;
    let (x_mean, y_mean) = ((count - 1.0) / 2.0, mean(values.iter().map(|value| *value as f64).sum()));
    let (mut product, mut square) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let x = at as f64 - x_mean;
        product += x * (*value as f64 - y_mean);
        square += x * x;
    }
    if square > 0.0 { product / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_they_say() {
        let mut times = Times((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.summary(), "p50 100.0 ms, p99 198.0 ms, max 200.0 ms of 200");
        assert_eq!(Times::default().percentile(99), Duration::ZERO);
        assert!((slope(&[5, 7, 9, 11]) - 2.0).abs() < 1e-9);
        assert!(slope(&[3, 3, 3]).abs() < 1e-9 && slope(&[1]).abs() < 1e-9 && slope(&[]).abs() < 1e-9);
    }

    #[test]
    fn a_seed_gives_its_own_sequence_and_every_side_comes() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..30).map(move |_| dice.roll(3)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        assert!((0..3).all(|side| rolls(1).contains(&side)));
    }
}
