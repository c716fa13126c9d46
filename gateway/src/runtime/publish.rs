//! A value that is replaced as a whole and read without locks.
//!
//! One writer stores, any number of readers load; a generation number tells a reader cheaply whether it has seen the
//! newest value, and a follower can wait for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// A published value with its generation.
#[derive(Debug)]
pub struct Published<T> {
    value: ArcSwap<T>,
    generation: AtomicU64,
    changed: watch::Sender<u64>,
}

impl<T> Published<T> {
    /// Publishes a first value as generation 1.
    pub fn new(value: Arc<T>) -> Self {
        Self { value: ArcSwap::new(value), generation: AtomicU64::new(1), changed: watch::Sender::new(1) }
    }

    /// Replaces the value. The value stands before the generation moves, so whoever sees the new generation finds a
    /// value at least as new.
    pub fn store(&self, value: Arc<T>) -> u64 {
        self.value.store(value);
        let generation = self.generation.fetch_add(1, Ordering::Release) + 1;
        self.changed.send_replace(generation);
        generation
    }

    /// How often the value has been stored, counting the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current value, borrowed for a moment: do not hold it across an await.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// The current value, to keep.
    pub fn load_full(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Tells a follower of each new generation.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_the_generation_after_the_value() {
        let published = Published::new(Arc::new(1));
        let follower = published.follow();
        assert_eq!((published.generation(), **published.load()), (1, 1));
        assert_eq!(published.store(Arc::new(2)), 2);
        assert!(follower.has_changed().unwrap());
        assert_eq!((published.generation(), *published.load_full()), (2, 2));
    }
}
