//! Breaks off what a connection has under way, because its client is refused now.
//!
//! Whoever judges the client again makes the cut; requests that wait for a backend, and tunnels, wait for it beside
//! their own work, and answers under way look at it. It is made once and never undone: the connection ends with it.

use std::cell::OnceCell;

use tokio::sync::Notify;

use crate::model::Refusal;

/// Whether a connection's client has been parted with, and why.
#[derive(Debug, Default)]
pub(super) struct Cut {
    refusal: OnceCell<Refusal>,
    made: Notify,
}

impl Cut {
    /// Lets everything that waits for the cut go on. The first refusal stays.
    pub(super) fn make(&self, refusal: &Refusal) {
        if self.refusal.set(refusal.clone()).is_ok() {
            self.made.notify_waiters();
        }
    }

    /// Why it was made, if it was.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.get()
    }

    /// Waits for it. May be dropped at any time.
    pub(super) async fn made(&self) -> &Refusal {
        loop {
            // Connections belong to one thread: nothing happens between the look and the wait.
            match self.refusal.get() {
                Some(refusal) => return refusal,
                None => self.made.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    #[tokio::test]
    async fn all_who_wait_go_on_and_so_does_whoever_comes_later() {
        let cut = Cut::default();
        let refusal = Refusal::new(Reason::CertificateRevoked);
        let make = async {
            cut.make(&refusal);
            cut.make(&Refusal::new(Reason::CrlExpired));
        };
        let (one, other, ()) = tokio::join!(cut.made(), cut.made(), make);
        assert_eq!((one, other, cut.made().await), (&refusal, &refusal, &refusal));
        assert_eq!(cut.refusal(), Some(&refusal));
    }
}
