//! Waiting for a condition with a deadline; the only place of the tests that sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition that should hold at once may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(10);

/// Lets other processes go on before the next look.
#[allow(
    clippy::disallowed_methods,
    reason = "waiting for another process means looking again, and this is the place"
)]
pub(crate) fn pause() {
    thread::sleep(PAUSE);
}

/// Lets time pass, where a server of a test is to be slow.
#[allow(clippy::disallowed_methods, reason = "slowness is what is asked for")]
pub(crate) fn pass(time: Duration) {
    thread::sleep(time);
}

/// Polls `probe` until it returns something.
///
/// # Panics
/// When `limit` has passed; `what` names the thing waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for: {what}");
        pause();
    }
}

/// Polls `probe` until it holds.
///
/// # Panics
/// When [`SOON`] has passed.
pub fn soon(what: &str, mut probe: impl FnMut() -> bool) {
    until(what, SOON, || probe().then_some(()));
}

/// Watches that `probe` holds all through `span`.
///
/// # Panics
/// As soon as it does not.
pub fn throughout(what: &str, span: Duration, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(probe(), "did not hold for {span:?}: {what}");
        pause();
    }
}
