//! The wall clock, for dates that certificates and lists speak of. Spans of time are measured with `Instant`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix seconds; 0 where the clock stands before 1970.
pub fn unix_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
