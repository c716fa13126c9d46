//! Issuers that the gate has met and whose lists nobody could verify before, since the key had not been seen: handed
//! from the workers to the control thread, which lets `Feed::learn` try them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::IssuerCertificate;
use crate::tls::trust::TrustDomain;

/// How many may wait to be tried. Further ones are met again with their clients' next connections.
pub const ISSUERS_WANTED_MAX: usize = 64;

/// The queue between all gates and the control thread of the process.
pub static WANTED: Wanted = Wanted::new();

/// A bounded queue of issuers without repetitions.
pub struct Wanted {
    waiting: Mutex<Wants>,
    news: Notify,
}

/// What has waited.
#[derive(Default)]
pub struct Wants {
    /// At most [`ISSUERS_WANTED_MAX`].
    pub issuers: Vec<Want>,
    /// How often another one was met and there was no place.
    pub left_out: u64,
}

/// An issuer on a path that a domain has verified.
pub struct Want {
    /// Where it was met.
    pub domain: Arc<TrustDomain>,
    /// The issuer.
    pub issuer: Arc<IssuerCertificate>,
}

impl Wanted {
    pub(super) const fn new() -> Self {
        Self { waiting: Mutex::new(Wants { issuers: Vec::new(), left_out: 0 }), news: Notify::const_new() }
    }

    /// Adds an issuer, unless it waits already or the queue is full.
    pub(super) fn note(&self, domain: &Arc<TrustDomain>, issuer: &Arc<IssuerCertificate>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |want: &Want| Arc::ptr_eq(&want.domain, domain) && want.issuer.id == issuer.id;
        if waiting.issuers.iter().any(waits) {
            return;
        }
        if waiting.issuers.len() >= ISSUERS_WANTED_MAX {
            waiting.left_out += 1;
            return;
        }
        waiting.issuers.push(Want { domain: Arc::clone(domain), issuer: Arc::clone(issuer) });
        self.news.notify_one();
    }

    pub(super) fn take(&self) -> Wants {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes all that wait; waits until there is one. For the control loop alone. May be cancelled at any time.
    pub async fn next(&self) -> Wants {
        loop {
            let taken = self.take();
            if !taken.issuers.is_empty() {
                return taken;
            }
            self.news.notified().await;
        }
    }
}
