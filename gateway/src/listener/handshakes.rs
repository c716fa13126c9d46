//! Handshakes in flight: a bounded set, from which one that has waited long for its client makes way.
//!
//! Accepting never stops for silent clients: at the cap one is told to go, so a flood of them costs each only the time
//! until the next ones arrive. First go those whose client has not yet said hello, the most silent before the others: who
//! has said it and answers in time is not pushed out by any number of silent ones. Nor do those that say hello and no more
//! take every place: past [`GREETED_PERCENT_MAX`] it is the most silent of them that goes, so that there is always room for
//! a newcomer to speak.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::oneshot;

/// How much of the set those may hold who have said hello, while others wait to.
const GREETED_PERCENT_MAX: usize = 75;

/// The handshakes of one worker.
#[derive(Clone)]
pub struct Handshakes(Rc<RefCell<Set>>);

struct Set {
    most: usize,
    /// Rises with every arrival and every sign of life: the lowest has been silent longest.
    clock: u64,
    /// Those whose client has not said hello.
    silent: Line,
    /// Those whose client has.
    greeted: Line,
}

type Line = BTreeMap<u64, oneshot::Sender<()>>;

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
        let (silent, greeted) = (Line::new(), Line::new());
        Self(Rc::new(RefCell::new(Set { most: most.max(1), clock: 0, silent, greeted })))
    }

    /// Takes a place, from another one if the set is full.
    pub fn enter(&self) -> (Place, Shed) {
        let mut set = self.0.borrow_mut();
        if set.len() >= set.most {
            set.make_way();
        }
        let (sender, shed) = oneshot::channel();
        let at = set.tick();
        set.silent.insert(at, sender);
        (Place { set: self.clone(), at: Rc::new(Cell::new(at)) }, shed)
    }

    /// How many are in flight.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Set {
    fn len(&self) -> usize {
        self.silent.len() + self.greeted.len()
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn make_way(&mut self) {
        let greeted_first = self.greeted.len() * 100 > self.most * GREETED_PERCENT_MAX;
        let mut lines = [&mut self.silent, &mut self.greeted];
        if greeted_first {
            lines.reverse();
        }
        if let Some((_, sender)) = lines.into_iter().find_map(BTreeMap::pop_first) {
            // A receiver that is gone has just finished, and its place is free all the same.
            let _ = sender.send(());
        }
    }

    /// Moves a place to the end of its line, or of the line of those who have said hello.
    fn heard(&mut self, at: &Cell<u64>, says_hello: bool) {
        let silent = self.silent.remove(&at.get());
        let was_silent = silent.is_some();
        let Some(sender) = silent.or_else(|| self.greeted.remove(&at.get())) else { return };
        at.set(self.tick());
        let line = if was_silent && !says_hello { &mut self.silent } else { &mut self.greeted };
        line.insert(at.get(), sender);
    }
}

impl Place {
    /// To be called when the client is heard: the place moves to the end of the line.
    pub fn heard(&self) -> Rc<dyn Fn()> {
        let (set, at) = (self.set.clone(), self.at.clone());
        Rc::new(move || set.0.borrow_mut().heard(&at, false))
    }

    /// To be called when the client has said hello.
    pub fn greeted(&self) -> impl Fn() + use<> {
        let (set, at) = (self.set.clone(), self.at.clone());
        move || set.0.borrow_mut().heard(&at, true)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (mut set, at) = (self.set.0.borrow_mut(), self.at.get());
        if set.silent.remove(&at).is_none() {
            set.greeted.remove(&at);
        }
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
    fn who_has_said_hello_stays_while_there_are_silent_ones_and_not_all_places_are_held_so() {
        let handshakes = Handshakes::new(4);
        let mut entered: Vec<(Place, Shed)> = (0..4).map(|_| handshakes.enter()).collect();
        // Which of them goes when another one comes.
        let gone = |entered: &mut Vec<(Place, Shed)>| {
            entered.push(handshakes.enter());
            let gone = entered.iter_mut().position(|(_, shed)| shed.try_recv().is_ok());
            drop(entered.remove(gone.expect("one has to go")));
            gone
        };
        entered[0].0.greeted()();
        assert_eq!(gone(&mut entered), Some(1), "the oldest of the silent ones");
        for (place, _) in &entered[1..3] {
            place.greeted()();
        }
        entered[0].0.heard()();
        assert_eq!(gone(&mut entered), Some(3), "the others are as many as may be, and not more");
        entered[3].0.greeted()();
        assert_eq!(gone(&mut entered), Some(1), "now the one of them that has been silent longest");
        assert_eq!(handshakes.len(), 4);
        entered.clear();
        assert!(handshakes.is_empty());
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
