//! Faults for tests to provoke. They are in debug builds alone, and there only in a process that was started with
//! the variable: nothing that is shipped can be asked for them.

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// The variable that makes the paths below mean something.
const VARIABLE: &str = "TEST_YETT_FAULTS";

static ARMED: LazyLock<bool> = LazyLock::new(|| std::env::var_os(VARIABLE).is_some());

/// Panics or hangs where the path of a request asks for it.
#[allow(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a fault is what is asked for; the module is in debug builds alone"
)]
pub fn provoke(path: &str) {
    match path {
        "/test-fault/panic" if *ARMED => panic!("a test asked for it"),
        "/test-fault/hang" if *ARMED => thread::sleep(Duration::from_secs(3600)),
        _ => {}
    }
}
