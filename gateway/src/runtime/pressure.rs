//! Whether memory runs short, so that work is turned away before the kernel ends the process.
//!
//! There are three levels: calm; high, where nothing new is begun and connections end with what they are doing; critical,
//! where nothing more is read either, and connections that get nowhere are cut off in waves.
//!
//! The levels do not depend on how often a clock looks. Whoever takes something in, a connection, a request, what was
//! read, says how much, and the memory in use is looked at again whenever a small part of the room that was left has
//! been taken since. What a connection will need before its handshake is over is pledged, and counts as used until then.
//! A thread looks too, for what grows or falls by itself, and makes the waves.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::allocator;
use super::confine;
use super::memory::{Memory, Use};
use crate::telemetry::Telemetry;
use crate::telemetry::event::MemoryPressure;

/// What a connection may need until its handshake is over: buffers of the system and of TLS, a chain of certificates and
/// its verification.
pub const CONNECTION_BYTES: u64 = 64 << 10;
/// What a request may need beside what is read of it: its head taken apart, its way to the backend.
pub const REQUEST_BYTES: u64 = 16 << 10;

/// How often memory is looked at whatever happens: while there is plenty, and while there is not.
const CALM_PERIOD: Duration = Duration::from_millis(100);
const TENSE_PERIOD: Duration = Duration::from_millis(10);
/// From wave to wave: what was let go of shows in between.
const WAVE_PERIOD: Duration = Duration::from_millis(50);
/// How often what is free is given back to the system while memory is short.
const GIVE_BACK_PERIOD: Duration = Duration::from_millis(50);
/// What is left at the threshold at least, unless that is half of all: what is under way then goes on for a while.
const ROOM_BYTES_MIN: u64 = 20 << 20;
/// How far below its threshold the use must fall for the pressure to end: this part of the limit.
const RELEASE_PART: u64 = 10;
/// The part of the room up to the next level that may be taken before the next look: so small that what was taken may
/// well turn out to need many times what was said.
const LOOK_PART: u64 = 32;
/// The same in bytes, at least and at most.
const LOOK_BYTES_MIN: u64 = 64 << 10;
const LOOK_BYTES_MAX: u64 = 16 << 20;
/// What a thread takes before it says so to the others.
const SAID_BYTES: u64 = 16 << 10;

thread_local! {
    /// Taken by this thread, and not yet said.
    static UNSAID: Cell<u64> = const { Cell::new(0) };
}

/// The pressure, shared by all threads. The default is never any.
#[derive(Debug, Default)]
pub struct Pressure {
    watch: Option<Watch>,
    is_high: AtomicBool,
    is_critical: AtomicBool,
    /// Said to have been taken since memory was looked at.
    taken: AtomicU64,
    /// How much may be before it is looked at again.
    look_at: AtomicU64,
    pledged: AtomicU64,
    risen: Notify,
    /// Told when it is no longer critical.
    pub(super) eased: Arc<Notify>,
    /// Waves of the current critical time.
    waves: AtomicU64,
    wave: Notify,
}

/// What is watched.
#[derive(Debug)]
struct Watch {
    memory: Memory,
    percent_max: u64,
    telemetry: Arc<Telemetry>,
    /// Held by whoever looks.
    level: Mutex<Level>,
}

/// What a connection may come to need, as used until dropped.
#[derive(Debug)]
pub struct Pledge(Arc<Pressure>);

/// How short memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Calm,
    High,
    Critical,
}

impl Pressure {
    /// Watches: high at `percent_max` percent (0: never) of `bytes_max`, or of what the control groups allow if that is 0.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn watch(percent_max: u64, bytes_max: u64, telemetry: &Arc<Telemetry>) -> io::Result<Arc<Self>> {
        let memory = if percent_max == 0 { None } else { Memory::find(bytes_max) };
        let Some(memory) = memory else { return Ok(Arc::default()) };
        let (telemetry, level) = (Arc::clone(telemetry), Mutex::new(Level::Calm));
        let watch = Some(Watch { memory, percent_max, telemetry, level });
        let pressure = Arc::new(Self { watch, ..Self::default() });
        let watched = Arc::clone(&pressure);
        thread::Builder::new().name("yett-memory".into()).spawn(move || {
            confine::thread();
            watched.keep_looking();
        })?;
        Ok(pressure)
    }

    /// Whether nothing new may be begun.
    pub fn is_high(&self) -> bool {
        self.is_high.load(Ordering::Relaxed)
    }

    /// Whether nothing more may be read.
    pub fn is_critical(&self) -> bool {
        self.is_critical.load(Ordering::Relaxed)
    }

    /// Takes a connection in; `None`: there is no room for it.
    pub fn pledge(self: &Arc<Self>) -> Option<Pledge> {
        if self.is_high() {
            return None;
        }
        self.pledged.fetch_add(CONNECTION_BYTES, Ordering::Relaxed);
        let pledge = Pledge(Arc::clone(self));
        self.take(CONNECTION_BYTES);
        (!self.is_high()).then_some(pledge)
    }

    /// Says that so many bytes, about, have been taken in.
    pub fn take(&self, bytes: u64) {
        if self.watch.is_none() {
            return;
        }
        let unsaid = UNSAID.get() + bytes;
        UNSAID.set(if unsaid < SAID_BYTES { unsaid } else { 0 });
        if unsaid >= SAID_BYTES {
            let before = self.taken.fetch_add(unsaid, Ordering::Relaxed);
            if before + unsaid >= self.look_at.load(Ordering::Relaxed) {
                self.look();
            }
        }
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
            sleep(GIVE_BACK_PERIOD).await;
        }
    }

    /// Waits for the next wave of the cutting off; tells which it is of this critical time, from 1.
    pub async fn wave(&self) -> u64 {
        self.wave.notified().await;
        self.waves.load(Ordering::Relaxed)
    }

    /// Looks at the memory in use, unless somebody else is doing so.
    fn look(&self) {
        let Some(Watch { memory, percent_max, telemetry, level }) = &self.watch else { return };
        let Ok(mut level) = level.try_lock() else { return };
        // What is taken from here on counts for the next look.
        self.taken.store(0, Ordering::Relaxed);
        let Some(Use { used, limit }) = memory.sample() else {
            return self.look_at.store(u64::MAX, Ordering::Relaxed);
        };
        let found = Use { used: used + self.pledged.load(Ordering::Relaxed), limit };
        let next = level_of(found, *percent_max, *level);
        self.look_at.store(next_look(found, *percent_max), Ordering::Relaxed);
        if (next > Level::Calm) != (*level > Level::Calm) {
            MemoryPressure { is_high: next > Level::Calm, used: found.used, limit }.emit(telemetry);
        }
        *level = next;
        self.set(next);
    }

    fn keep_looking(&self) {
        let mut waved = Instant::now();
        loop {
            self.look();
            if self.is_critical() && waved.elapsed() >= WAVE_PERIOD {
                waved = Instant::now();
                self.waves.fetch_add(1, Ordering::Relaxed);
                self.wave.notify_waiters();
            }
            let is_tense = self.is_high() || self.look_at.load(Ordering::Relaxed) < LOOK_BYTES_MAX;
            pause(if is_tense { TENSE_PERIOD } else { CALM_PERIOD });
        }
    }

    pub(super) fn set(&self, level: Level) {
        let (is_high, is_critical) = (level > Level::Calm, level == Level::Critical);
        if is_high && !self.is_high.swap(true, Ordering::Relaxed) {
            self.risen.notify_waiters();
        }
        self.is_high.store(is_high, Ordering::Relaxed);
        if self.is_critical.swap(is_critical, Ordering::Relaxed) && !is_critical {
            self.waves.store(0, Ordering::Relaxed);
            self.eased.notify_waiters();
        }
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        self.0.pledged.fetch_sub(CONNECTION_BYTES, Ordering::Relaxed);
    }
}

/// Once high, it stays so until there is room again.
fn level_of(found: Use, percent_max: u64, before: Level) -> Level {
    let high = threshold(found.limit, percent_max);
    let release = high.saturating_sub(found.limit / RELEASE_PART);
    if found.used >= critical(found.limit, percent_max) {
        Level::Critical
    } else if found.used >= high || (before > Level::Calm && found.used > release) {
        Level::High
    } else {
        Level::Calm
    }
}

/// How much may be taken in before the next look.
fn next_look(found: Use, percent_max: u64) -> u64 {
    let edges = [threshold(found.limit, percent_max), critical(found.limit, percent_max)];
    let room = edges.into_iter().find(|edge| *edge > found.used).map_or(0, |edge| edge - found.used);
    (room / LOOK_PART).clamp(LOOK_BYTES_MIN, LOOK_BYTES_MAX)
}

/// Where the pressure begins, in bytes.
fn threshold(limit: u64, percent_max: u64) -> u64 {
    let room = limit.saturating_sub(ROOM_BYTES_MIN).max(limit / 2);
    room.min(limit / 100 * percent_max)
}

/// A third of the way from the threshold to the limit: the system gives memory in large pieces, to each thread its own.
fn critical(limit: u64, percent_max: u64) -> u64 {
    let high = threshold(limit, percent_max);
    high + limit.saturating_sub(high) / 3
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
            (93, Level::High),
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

    #[test]
    fn the_less_room_there_is_the_sooner_it_is_looked_at() {
        for (description, used, expected) in [
            ("plenty", 10 << 20, 16 << 20),
            ("some", 869 << 20, 1 << 20),
            ("next to none", 900 << 20, 64 << 10),
            ("high: up to the next level", 902 << 20, 40 << 20 >> 5),
            ("past the last", 1020 << 20, 64 << 10),
        ] {
            // High at 901 MiB, critical at 942.
            let found = next_look(Use { used, limit: 1024 << 20 }, 88);
            assert!(found.abs_diff(expected) <= expected / 3, "{description}: {found}");
        }
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
        assert!(!pressure.is_critical());
        pressure.set(Level::Critical);
        assert!(pressure.is_high() && pressure.is_critical());
        let eased = pressure.eased.notified();
        pressure.set(Level::High);
        eased.await;
        pressure.set(Level::Calm);
        assert!(!pressure.is_high());
    }

    /// No clock has a part in it: the thread that looks does not run here.
    #[test]
    fn a_burst_is_stopped_by_what_it_pledges_before_anybody_looks() {
        let folder = tempfile::tempdir().unwrap();
        let pressure = Arc::new(Pressure {
            watch: Some(Watch {
                memory: Memory::in_group(folder.path(), 30 << 20, 64 << 20),
                percent_max: 90,
                telemetry: Telemetry::in_memory().0,
                level: Mutex::new(Level::Calm),
            }),
            ..Pressure::default()
        });
        let mut pledges: Vec<_> = std::iter::from_fn(|| pressure.pledge()).take(10_000).collect();
        // 14 MiB of room up to the threshold; at most a thirty-second part more is taken before it is seen.
        assert!((200..240).contains(&pledges.len()), "{}", pledges.len());
        pledges.truncate(150);
        pressure.look();
        assert!(pressure.is_high(), "there is not much room yet");
        pledges.clear();
        pressure.look();
        assert!(pressure.pledge().is_some());
    }

    #[test]
    fn without_a_limit_nothing_is_ever_short() {
        let pressure = Arc::new(Pressure::default());
        let pledges: Vec<_> = std::iter::from_fn(|| pressure.pledge()).take(10_000).collect();
        assert_eq!(pledges.len(), 10_000);
        pressure.take(u64::MAX / 2);
        assert!(!pressure.is_high());
    }
}
