//! The client at the other end of a connection: what it showed in the handshake, and what the revocation gate last
//! decided about it.
//!
//! In: identity, chain and verified path, from the handshake. Out: nothing but the identity; whether a request may
//! pass is for `revocation::gate` to say. A credential belongs to its connection and so to one worker: it has cells
//! and no locks.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, Weak};

use rustls_pki_types::CertificateDer;

use super::trust::TrustDomain;
use crate::model::{Identity, Reason, Refusal, VerifiedPath};

/// What a client has shown in the handshake.
#[derive(Debug)]
pub enum Credential {
    /// No certificate.
    None,
    /// A certificate that does not lead to a trust anchor, or that nobody asked to verify. Its words are for the log
    /// alone.
    Unverified(Arc<Identity>),
    /// A certificate with a verified path. That does not mean that it is in force: ask the gate, on every request.
    Verified(Peer),
}

impl Credential {
    /// Who the client says it is, verified or not: for the access log.
    pub fn presented(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::None => None,
            Self::Unverified(identity) => Some(identity),
            Self::Verified(peer) => Some(peer.identity()),
        }
    }
}

/// A client whose chain was verified, with the gate's last decision.
pub struct Peer {
    identity: Arc<Identity>,
    pub(in crate::tls) chain: Arc<[CertificateDer<'static>]>,
    pub(in crate::tls) seal: Cell<Seal>,
    pub(in crate::tls) case: RefCell<Case>,
    evaluations: Cell<u32>,
}

/// For what the last decision stands. Nothing else is read on the fast path.
#[derive(Clone, Copy, Debug)]
pub(in crate::tls) struct Seal {
    /// The index that decided; 0: none has yet.
    pub(in crate::tls) generation: u64,
    /// The decision stands before this second, Unix.
    pub(in crate::tls) before: i64,
    pub(in crate::tls) standing: Standing,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum Standing {
    /// Goes on as itself.
    Verified,
    /// Goes on as itself although nothing vouches for its not being revoked, and this is why.
    Unchecked(Reason),
    /// Goes on as nobody: the listener lets clients fall back, and this one no longer verifies.
    Anonymous,
    /// Is refused; the case says why.
    Refused,
}

/// The grounds of the decision.
pub(in crate::tls) struct Case {
    /// Where `path` holds. A weak reference keeps the address from being given to another domain, so that comparing
    /// addresses is enough, and keeps nothing of the domain alive.
    pub(in crate::tls) domain: Weak<TrustDomain>,
    /// The path in that domain, or why there is none.
    pub(in crate::tls) path: Result<Arc<VerifiedPath>, Reason>,
    /// The latest time at which it was judged, Unix seconds: time does not run backwards for a connection.
    pub(in crate::tls) latest: i64,
    /// Why it is refused.
    pub(in crate::tls) refusal: Option<Refusal>,
}

impl Peer {
    /// A client whose chain (leaf first, as sent) the domain has just verified. Nothing is decided yet: the gate
    /// looks at revocation on the first request.
    pub fn new(
        identity: Arc<Identity>,
        chain: impl Into<Arc<[CertificateDer<'static>]>>,
        domain: &Arc<TrustDomain>,
        path: Arc<VerifiedPath>,
    ) -> Self {
        let case = Case { domain: Arc::downgrade(domain), path: Ok(path), latest: i64::MIN, refusal: None };
        Self {
            identity,
            chain: chain.into(),
            seal: Cell::new(Seal { generation: 0, before: i64::MIN, standing: Standing::Refused }),
            case: RefCell::new(case),
            evaluations: Cell::new(0),
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// How often the gate has judged it anew. Whoever counts checks compares before and after; the first is that of
    /// the handshake or resumption, later ones are of a live connection.
    pub fn evaluations(&self) -> u32 {
        self.evaluations.get()
    }

    pub(in crate::tls) fn decide(&self, seal: Seal) {
        self.seal.set(seal);
        self.evaluations.set(self.evaluations.get().saturating_add(1));
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("name", &self.identity.name)
            .field("seal", &self.seal.get())
            .finish_non_exhaustive()
    }
}
