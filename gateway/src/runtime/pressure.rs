//! Whether memory runs short, so that work is turned away before the kernel ends the process.
//!
//! A thread of its own samples what the process's control groups (v1 or v2) allow and hold, or the process's own size
//! where a limit was set by hand. There are three levels: calm; high, where nothing new is begun and connections end
//! with what they are doing; critical, where connections that hold memory and get nowhere are cut off in waves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::allocator;
use super::memory::{Memory, Use};
use crate::telemetry::Telemetry;
use crate::telemetry::event::MemoryPressure;

/// How often memory is looked at while there is plenty, and while there is not: much can come in a moment.
const CALM_PERIOD: Duration = Duration::from_millis(250);
const TENSE_PERIOD: Duration = Duration::from_millis(10);
/// What is left at the threshold at least, unless that is half of all: what comes in a moment is no part of the limit.
const ROOM_BYTES_MIN: u64 = 20 << 20;
/// How far below its threshold the use must fall for the pressure to end: this part of the limit.
const RELEASE_PART: u64 = 10;

/// The pressure, shared by all threads.
#[derive(Debug, Default)]
pub struct Pressure {
    is_high: AtomicBool,
    risen: Notify,
    /// Waves of the current critical time.
    waves: AtomicU64,
    wave: Notify,
}

/// How short memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Calm,
    High,
    Critical,
}

impl Pressure {
    /// Whether nothing new may be begun.
    pub fn is_high(&self) -> bool {
        self.is_high.load(Ordering::Relaxed)
    }

    /// Waits until the pressure is high.
    pub async fn risen(&self) {
        let risen = self.risen.notified();
        if !self.is_high() {
            risen.await;
        }
    }

    /// Gives back what this thread has freed, for as long as memory is short and it is polled.
    pub async fn give_back(&self) {
        loop {
            self.risen().await;
            allocator::collect();
            sleep(CALM_PERIOD).await;
        }
    }

    /// Waits for the next wave of the cutting off; tells which it is of this critical time, from 1.
    pub async fn wave(&self) -> u64 {
        self.wave.notified().await;
        self.waves.load(Ordering::Relaxed)
    }

    /// Starts to watch: high at `percent_max` percent (0: never) of `bytes_max`, or of what the control groups allow if
    /// that is 0.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn watch(
        self: &Arc<Self>,
        percent_max: u64,
        bytes_max: u64,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<()> {
        if percent_max == 0 {
            return Ok(());
        }
        let Some(memory) = Memory::find(bytes_max) else { return Ok(()) };
        let (pressure, telemetry) = (Arc::clone(self), Arc::clone(telemetry));
        thread::Builder::new().name("yett-memory".into()).spawn(move || {
            let mut level = Level::Calm;
            loop {
                let Some(found) = memory.sample() else {
                    pause(CALM_PERIOD);
                    continue;
                };
                let next = level_of(found, percent_max, level);
                if (next > Level::Calm) != (level > Level::Calm) {
                    let is_high = next > Level::Calm;
                    MemoryPressure { is_high, used: found.used, limit: found.limit }.emit(&telemetry);
                }
                level = next;
                pressure.set(level);
                let is_tense = found.used >= threshold(found.limit, percent_max) / 2;
                pause(if is_tense { TENSE_PERIOD } else { CALM_PERIOD });
            }
        })?;
        Ok(())
    }

    fn set(&self, level: Level) {
        let is_high = level > Level::Calm;
        if is_high && !self.is_high.swap(is_high, Ordering::Relaxed) {
            self.risen.notify_waiters();
        }
        self.is_high.store(is_high, Ordering::Relaxed);
        if level == Level::Critical {
            self.waves.fetch_add(1, Ordering::Relaxed);
            self.wave.notify_waiters();
        } else {
            self.waves.store(0, Ordering::Relaxed);
        }
    }
}

/// Critical is half the way from the threshold to the limit. Once high, it stays so until there is room again.
fn level_of(found: Use, percent_max: u64, before: Level) -> Level {
    let high = threshold(found.limit, percent_max);
    let release = high.saturating_sub(found.limit / RELEASE_PART);
    if found.used >= high.midpoint(found.limit) {
        Level::Critical
    } else if found.used >= high || (before > Level::Calm && found.used > release) {
        Level::High
    } else {
        Level::Calm
    }
}

/// Where the pressure begins, in bytes.
fn threshold(limit: u64, percent_max: u64) -> u64 {
    let room = limit.saturating_sub(ROOM_BYTES_MIN).max(limit / 2);
    room.min(limit / 100 * percent_max)
}

#[allow(clippy::disallowed_methods, reason = "a thread of its own, which has nothing else to do")]
fn pause(span: Duration) {
    thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_ends_below_where_it_began() {
        let mut level = Level::Calm;
        for (used, expected) in [
            (50, Level::Calm),
            (89, Level::Calm),
            (90, Level::High),
            (85, Level::High),
            (95, Level::Critical),
            (94, Level::High),
            (81, Level::High),
            (80, Level::Calm),
            (89, Level::Calm),
        ] {
            level = level_of(Use { used: used << 30, limit: 100 << 30 }, 90, level);
            assert_eq!(level, expected, "at {used}");
        }
        assert_eq!(threshold(64 << 20, 90), 44 << 20, "little memory");
        assert_eq!(threshold(30 << 20, 90), 15 << 20, "very little");
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_it() {
        let pressure = Pressure::default();
        let waits = pressure.risen();
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::ZERO, &mut waits).await.is_err());
        pressure.set(Level::High);
        waits.await;
        pressure.risen().await;
        let wave = pressure.wave();
        tokio::pin!(wave);
        assert!(tokio::time::timeout(Duration::ZERO, &mut wave).await.is_err(), "it is only high");
        pressure.set(Level::Critical);
        assert_eq!(wave.await, 1);
        pressure.set(Level::Calm);
        assert!(!pressure.is_high());
    }
}
