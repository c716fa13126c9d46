//! The three beats of an ending: serve, drain, stop (in-flight requests finish in the second, nothing survives the
//! third). One sender in the life cycle, one receiver for whoever must act.

use tokio::sync::watch;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepting and serving.
    Serving,
    /// Finishing what is in flight; no new connection.
    Draining,
    /// Ending at once.
    Stopping,
}

/// Moves everybody on to the next phase; never back.
#[derive(Debug)]
pub struct Drain(watch::Sender<Phase>);

/// Follows the phase.
#[derive(Clone, Debug)]
pub struct Drained(watch::Receiver<Phase>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }
}

impl Drain {
    /// Announces a phase; an earlier one than the current is passed over.
    pub fn announce(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let moves = *current < phase;
            *current = phase.max(*current);
            moves
        });
    }

    /// A receiver that sees every phase from now on.
    pub fn follow(&self) -> Drained {
        Drained(self.0.subscribe())
    }
}

impl Drained {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` or a later one has come. A sender that is gone means that the process is ending.
    pub async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_move_on() {
        let drain = Drain::default();
        let mut drained = drain.follow();
        drain.announce(Phase::Stopping);
        drain.announce(Phase::Draining);
        drained.reached(Phase::Draining).await;
        assert_eq!(drained.phase(), Phase::Stopping);
    }
}
