//! A panic costs the task it happens in: one connection, or one stream of it. Tasks end there by the runtime's hands;
//! here panics are told and counted, and the process ends where going on would hide a fault: after too many of them, or
//! when a task is lost that nothing works without.

use std::collections::VecDeque;
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::worker;
use crate::telemetry::{PanicPlace, Telemetry};

/// The exit code of a process that gave itself up, for its supervisor to start anew (EX_SOFTWARE of sysexits.h).
pub const GAVE_UP: i32 = 70;
/// The span that `panics_per_minute_max` speaks of.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts and logs every panic of the process from now on; ends it when more than `per_minute_max` of them come within
/// a minute. 0: never.
pub fn watch(telemetry: Arc<Telemetry>, per_minute_max: usize) {
    let recent = Mutex::new(Recent::default());
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let place = place(thread.name());
        telemetry.metrics.panicked(place);
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = message(panic);
        tracing::error!(place = place.as_str(), thread = thread.name(), location, message, "panic");
        let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
        if per_minute_max > 0 && recent.add(Instant::now()) > per_minute_max {
            tracing::error!(limit = "panics_per_minute_max", "too many panics; the process ends");
            give_up();
        }
    }));
}

/// Held by a task that nothing works without: if a panic takes it, the process ends for its supervisor.
#[derive(Debug)]
pub struct Vital(pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(task = self.0, "lost to a panic; the process ends");
            give_up();
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the fault may hold any lock, so nothing is waited for: buffered lines of the access log are lost"
)]
pub(super) fn give_up() -> ! {
    process::exit(GAVE_UP)
}

/// When the last panics came.
#[derive(Debug, Default)]
struct Recent(VecDeque<Instant>);

impl Recent {
    /// How many have come within the window, with this one.
    fn add(&mut self, now: Instant) -> usize {
        self.0.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.0.push_back(now);
        self.0.len()
    }
}

fn place(thread: Option<&str>) -> PanicPlace {
    match thread {
        Some(name) if name.starts_with(worker::THREAD) => PanicPlace::Worker,
        Some("main") => PanicPlace::Control,
        _ => PanicPlace::Other,
    }
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_the_last_minute_count() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for (description, seconds, expected) in
            [("first", 0, 1), ("second", 30, 2), ("the first is gone", 60, 2), ("both are gone", 120, 1)]
        {
            assert_eq!(recent.add(start + Duration::from_secs(seconds)), expected, "{description}");
        }
    }

    #[test]
    fn threads_have_their_places() {
        for (name, expected) in [
            (Some("yett-worker-11"), PanicPlace::Worker),
            (Some("main"), PanicPlace::Control),
            (Some("notify-rs inotify loop"), PanicPlace::Other),
            (None, PanicPlace::Other),
        ] {
            assert_eq!(place(name), expected, "{name:?}");
        }
    }
}
