//! Handshakes in flight: a bounded set, from which the one that has waited longest for its client makes way.
//!
//! Accepting never stops for silent clients: at the cap the most silent one is told to go, so a flood of them costs
//! each only the time until the next ones arrive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::oneshot;

/// The handshakes of one worker.
#[derive(Clone)]
pub struct Handshakes(Rc<RefCell<Set>>);

struct Set {
    most: usize,
    /// Rises with every arrival and every sign of life: the lowest has been silent longest.
    clock: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One handshake's place in the set; dropping it gives the place back.
pub struct Place {
    set: Handshakes,
    at: Rc<Cell<u64>>,
}

/// Resolves when the handshake must make way.
pub type Shed = oneshot::Receiver<()>;

impl Handshakes {
    /// A set for at most `most` handshakes (at least one).
    pub fn new(most: usize) -> Self {
        Self(Rc::new(RefCell::new(Set { most: most.max(1), clock: 0, waiting: BTreeMap::new() })))
    }

    /// Takes a place, from the most silent one if the set is full.
    pub fn enter(&self) -> (Place, Shed) {
        let mut set = self.0.borrow_mut();
        if set.waiting.len() >= set.most
            && let Some((_, silent)) = set.waiting.pop_first()
        {
            // A receiver that is gone has just finished, and its place is free all the same.
            let _ = silent.send(());
        }
        let (sender, shed) = oneshot::channel();
        set.clock += 1;
        let at = set.clock;
        set.waiting.insert(at, sender);
        (Place { set: self.clone(), at: Rc::new(Cell::new(at)) }, shed)
    }

    /// How many are in flight.
    pub fn len(&self) -> usize {
        self.0.borrow().waiting.len()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Place {
    /// To be called when the client is heard: the place moves to the end of the line.
    pub fn heard(&self) -> Rc<dyn Fn()> {
        let (set, at) = (self.set.clone(), self.at.clone());
        Rc::new(move || {
            let mut set = set.0.borrow_mut();
            if let Some(sender) = set.waiting.remove(&at.get()) {
                set.clock += 1;
                at.set(set.clock);
                let clock = set.clock;
                set.waiting.insert(clock, sender);
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set.0.borrow_mut().waiting.remove(&self.at.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_cap_the_most_silent_one_goes() {
        let handshakes = Handshakes::new(2);
        let (first, mut first_shed) = handshakes.enter();
        let (_second, mut second_shed) = handshakes.enter();
        first.heard()();
        let (_third, mut third_shed) = handshakes.enter();
        assert!(first_shed.try_recv().is_err(), "it was heard last");
        assert!(second_shed.try_recv().is_ok(), "it has been silent longest");
        assert!(third_shed.try_recv().is_err());
        assert_eq!(handshakes.len(), 2);
    }

    #[test]
    fn a_place_is_given_back() {
        let handshakes = Handshakes::new(1);
        drop(handshakes.enter());
        assert!(handshakes.is_empty());
        let (_place, mut shed) = handshakes.enter();
        assert!(shed.try_recv().is_err());
    }
}
