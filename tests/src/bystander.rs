//! A client with nothing wrong, beside another one that a test is about: whatever that one does, this one loses nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Tls, wait};

/// What its requests are for.
pub const PATH: &str = "/bystander";

/// A client that asks again and again on one connection of its own, until it is dropped.
pub struct Bystander {
    told: Arc<Told>,
    thread: Option<JoinHandle<Result<Duration, String>>>,
}

#[derive(Default)]
struct Told {
    served: AtomicUsize,
    is_over: AtomicBool,
}

impl Bystander {
    /// Begins to ask.
    ///
    /// # Panics
    /// When there is no connection, or its first request is not answered.
    pub fn beside(tls: &Tls, address: SocketAddr) -> Self {
        let connection = tls.clone().alpn(&["h2"]).open(address);
        let told = Arc::new(Told::default());
        let theirs = Arc::clone(&told);
        let thread = thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !theirs.is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                match connection.try_get(PATH) {
                    Ok(answer) if answer.status == 200 && answer.broken.is_none() => {}
                    other => return Err(format!("{other:?}")),
                }
                slowest = slowest.max(asked.elapsed());
                theirs.served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(slowest)
        });
        let this = Self { told, thread: Some(thread) };
        this.goes_on();
        this
    }

    /// Waits until more of its requests have been answered.
    ///
    /// # Panics
    /// When they are not.
    pub fn goes_on(&self) {
        let before = self.told.served.load(Ordering::Relaxed);
        wait::soon("the bystander to be served", || self.told.served.load(Ordering::Relaxed) > before + 10);
    }

    /// Stops asking; tells how many requests were answered, and how long one took at most.
    ///
    /// # Panics
    /// When a request was lost.
    pub fn finish(mut self) -> (usize, Duration) {
        self.told.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().and_then(|thread| thread.join().ok()).expect("the bystander stops");
        let slowest = ended.unwrap_or_else(|lost| panic!("the bystander lost a request: {lost}"));
        (self.told.served.load(Ordering::Relaxed), slowest)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.told.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
