//! The wall clock, for dates that certificates and lists speak of, and the CPU time of a step. Spans of time are measured
//! with `Instant`.

use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Now, Unix seconds; 0 where the clock stands before 1970.
pub fn unix_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// Runs a future to its end and tells how much CPU time this thread spent on it: two system calls each time it is polled.
/// For futures that stay on their thread.
pub async fn with_cpu_time<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut spent = Duration::ZERO;
    let output = poll_fn(|cx| {
        let before = cpu_time();
        let polled = future.as_mut().poll(cx);
        spent += cpu_time().saturating_sub(before);
        polled
    })
    .await;
    (output, spent)
}

/// What this thread has spent so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_takes_no_cpu_time_and_working_does() {
        let work = async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let begun = cpu_time();
            while cpu_time() - begun < Duration::from_millis(2) {
                std::hint::spin_loop();
            }
            7
        };
        let (output, spent) = with_cpu_time(work).await;
        assert_eq!(output, 7);
        assert!((Duration::from_millis(2)..Duration::from_secs(60)).contains(&spent), "{spent:?}");
    }
}
