//! The addresses behind an endpoint's name, as one worker knows them.
//!
//! In come questions from whoever connects; out go addresses, from the system's resolver or from what it said last. There
//! are few lookups at a time for a name, so that a slow name server does not hold a thread for each request. What is known is
//! used while a lookup fails or takes its time: names seldom change, name servers fail more often.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::telemetry::BackendMetrics;

/// How long addresses are used without asking whether they are still the right ones: a name that moves takes new
/// connections along after this time. Resolvers do not tell how long an answer holds.
const FRESH: Duration = Duration::from_secs(5);
/// How long a lookup may take before whoever waits for it goes on with what was known before.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a lookup may take before another one is made beside it: the system's resolver may wait far longer for a name
/// server that is back by then.
const AGAIN: Duration = Duration::from_secs(1);
/// Lookups of a name at the same time; each holds a thread.
const LOOKUPS_MAX: usize = 8;
/// How long addresses count that could not be confirmed: other machines may have them by then.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// A name and what is known of it.
pub(super) struct Name {
    name: Arc<str>,
    port: u16,
    metrics: Arc<BackendMetrics>,
    known: RefCell<Option<Known>>,
    /// When the youngest lookup under way has begun.
    asked: Cell<Option<Instant>>,
    lookups: Cell<usize>,
    /// Told whenever a lookup has ended.
    learned: watch::Sender<()>,
    /// Why the last lookup failed, if it did.
    failure: RefCell<Option<Arc<str>>>,
    /// Which address is the next one's first.
    turn: Cell<usize>,
}

struct Known {
    /// At least one, in the resolver's order.
    addresses: Vec<SocketAddr>,
    /// When the lookup began that found them.
    asked: Instant,
    confirmed: Instant,
    /// Not to be used without asking again.
    doubted: bool,
}

impl Name {
    /// A name of which nothing is known yet.
    pub(super) fn new(name: Arc<str>, port: u16, metrics: Arc<BackendMetrics>) -> Rc<Self> {
        Rc::new(Self {
            name,
            port,
            metrics,
            known: RefCell::default(),
            asked: Cell::new(None),
            lookups: Cell::new(0),
            learned: watch::Sender::new(()),
            failure: RefCell::default(),
            turn: Cell::new(0),
        })
    }

    /// Its addresses, in the order in which they are to be tried. Waits for as long as nothing is known.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) async fn addresses(self: &Rc<Self>) -> Result<Vec<SocketAddr>, Arc<str>> {
        if !self.is_fresh() {
            let mut learned = self.learned.subscribe();
            let asked = self.look_up();
            if self.known.borrow().is_some() {
                // In time or not: something is known.
                let _ = timeout_at(asked + PATIENCE, learned.changed()).await;
            } else {
                let _ = learned.changed().await;
            }
        }
        match &*self.known.borrow() {
            Some(known) => {
                let turn = self.turn.replace(self.turn.get().wrapping_add(1));
                Ok(in_turn(known.addresses.clone(), turn))
            }
            None => Err(self.failure.borrow().clone().unwrap_or_else(|| "it has no address".into())),
        }
    }

    /// None of the addresses takes a connection: the next one who wants them asks again.
    pub(super) fn doubt(&self) {
        if let Some(known) = &mut *self.known.borrow_mut() {
            known.doubted = true;
        }
    }

    /// Asks again, where that is due, without waiting.
    pub(super) fn renew(self: &Rc<Self>) {
        if !self.is_fresh() {
            self.look_up();
        }
    }

    /// Whether connections to this address are still connections to the name.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let known = self.known.borrow();
        known.as_ref().is_none_or(|known| known.addresses.iter().any(|known| known.ip() == address))
    }

    fn is_fresh(&self) -> bool {
        let known = self.known.borrow();
        known.as_ref().is_some_and(|known| !known.doubted && known.confirmed.elapsed() < FRESH)
    }

    /// Begins a lookup where none is under way that may still be hoped for; gives when that one has begun. It goes on when
    /// nobody waits for it any more.
    fn look_up(self: &Rc<Self>) -> Instant {
        let (now, lookups) = (Instant::now(), self.lookups.get());
        if let Some(asked) = self.asked.get().filter(|asked| *asked + AGAIN > now || lookups >= LOOKUPS_MAX) {
            return asked;
        }
        self.asked.set(Some(now));
        self.lookups.set(lookups + 1);
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let found = lookup_host((&*this.name, this.port)).await;
            this.lookups.set(this.lookups.get() - 1);
            if this.asked.get() == Some(now) {
                this.asked.set(None);
            }
            this.learn(now, found.map(Iterator::collect).map_err(|error| error.to_string()));
            this.learned.send_replace(());
        });
        now
    }

    /// What a lookup has found that began at `asked`.
    fn learn(&self, asked: Instant, found: Result<Vec<SocketAddr>, String>) {
        let found = found.and_then(|addresses| {
            if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
        });
        self.metrics.looked_up(found.is_ok());
        let (name, mut known) = (&*self.name, self.known.borrow_mut());
        if known.as_ref().is_some_and(|known| known.asked > asked) {
            // Another one, begun later, was quicker.
            return;
        }
        let failed_before = self.failure.take().is_some();
        match found {
            Ok(addresses) => {
                if failed_before {
                    tracing::info!(name, ?addresses, "the name of a backend resolves again");
                }
                *known = Some(Known { addresses, asked, confirmed: Instant::now(), doubted: false });
            }
            Err(failure) => {
                if known.as_ref().is_some_and(|known| known.confirmed.elapsed() >= KEPT) {
                    *known = None;
                }
                if !failed_before {
                    let addresses = known.as_ref().map(|known| &known.addresses);
                    tracing::warn!(name, failure, last_known = ?addresses, "the name of a backend does not resolve");
                }
                *self.failure.borrow_mut() = Some(failure.into());
            }
        }
    }
}

/// The addresses with another one first each time. Those of the other family stay behind, where the resolver put them.
fn in_turn(mut addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let is_of_first = |address: &SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let equals = addresses.iter().take_while(|address| is_of_first(address)).count();
    if let Some(turn) = turn.checked_rem(equals) {
        addresses[..equals].rotate_left(turn);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split(' ').map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_of_the_first_family_has_its_turn() {
        let (one, two, other) = ("192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80");
        for (turn, given, expected) in [
            (0, format!("{one} {two}"), format!("{one} {two}")),
            (1, format!("{one} {two}"), format!("{two} {one}")),
            (2, format!("{one} {two}"), format!("{one} {two}")),
            (3, format!("{one} {two} {other}"), format!("{two} {one} {other}")),
            (1, format!("{other} {one} {two}"), format!("{other} {one} {two}")),
        ] {
            assert_eq!(in_turn(addresses(&given), turn), addresses(&expected), "{given} in turn {turn}");
        }
        assert_eq!(in_turn(Vec::new(), 1), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_counts_while_lookups_fail_and_not_for_ever() {
        let name = Name::new("app.test".into(), 80, Metrics::new().backend("ns/b:80"));
        let failed = || Err("no server".to_owned());
        let is_known = |name: &Name| name.known.borrow().is_some();
        name.learn(Instant::now(), failed());
        assert!(!is_known(&name) && name.has("192.0.2.9".parse().unwrap()), "nothing is known of it");
        name.learn(Instant::now(), Ok(addresses("192.0.2.1:80")));
        assert!(name.is_fresh() && name.failure.borrow().is_none());
        assert!(name.has("192.0.2.1".parse().unwrap()) && !name.has("192.0.2.9".parse().unwrap()));
        assert_eq!(name.addresses().await.unwrap(), addresses("192.0.2.1:80"), "without a lookup");
        name.doubt();
        assert!(!name.is_fresh());
        let earlier = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        name.learn(Instant::now(), Ok(addresses("192.0.2.2:80")));
        name.learn(earlier, Ok(addresses("192.0.2.1:80")));
        assert!(name.has("192.0.2.2".parse().unwrap()), "an answer that comes late changes nothing");
        tokio::time::advance(FRESH).await;
        assert!(!name.is_fresh());
        for _ in 0..2 {
            name.learn(Instant::now(), failed());
            assert!(is_known(&name) && !name.is_fresh());
        }
        name.learn(Instant::now(), Ok(Vec::new()));
        assert!(is_known(&name), "no address is a failure, too");
        tokio::time::advance(KEPT).await;
        name.learn(Instant::now(), failed());
        assert!(!is_known(&name));
    }
}
