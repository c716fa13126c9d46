//! Free TCP ports on loopback for processes that want to be told theirs.
//!
//! They come from below the range from which the kernel takes the ports of outgoing connections, so
//! none is lost between the choice and the child's bind.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port that nothing listens on.
///
/// # Panics
/// When every port of the range is taken.
pub fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (process::id().wrapping_mul(97) + step) % COUNT;
        let port = u16::try_from(port).expect("the range lies below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
