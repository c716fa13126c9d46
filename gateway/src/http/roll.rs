//! The open TLS connections of a worker, to be gone through when what their clients are judged by has changed.
//!
//! Requests meet the gate by themselves; this is for what is under way between a change and the next request, on
//! listeners whose policy breaks it off. Where no listener has such a policy nothing is gone through.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::task::yield_now;

use super::admission;
use super::connection::Connection;
use super::serve::Server;
use crate::model::RevocationAnswer;
use crate::snapshot::Snapshot;
use crate::tls::TrustDomain;

/// So many connections are looked at before others have their turn.
const CONNECTIONS_AT_ONCE_MAX: usize = 64;

/// The open TLS connections of a worker.
#[derive(Debug, Default)]
pub struct Roll(RefCell<HashMap<*const Connection, Weak<Connection>>>);

impl Roll {
    /// Puts a connection on the roll. It takes itself off when it is dropped.
    pub(super) fn enter(&self, connection: &Rc<Connection>) {
        self.0.borrow_mut().insert(Rc::as_ptr(connection), Rc::downgrade(connection));
    }

    /// Takes a connection off.
    pub(super) fn leave(&self, connection: *const Connection) {
        self.0.borrow_mut().remove(&connection);
    }

    /// Judges every client again whose listener breaks off what a refused one has under way.
    async fn call(&self, snapshot: &Snapshot) {
        let open: Vec<Weak<Connection>> = self.0.borrow().values().cloned().collect();
        for some in open.chunks(CONNECTIONS_AT_ONCE_MAX) {
            for connection in some.iter().filter_map(Weak::upgrade) {
                admission::look_again(&connection, snapshot);
            }
            yield_now().await;
        }
    }
}

/// Goes through a worker's connections after every change of what is served and of its revocation data. Does not end.
pub async fn follow(server: Rc<Server>) {
    let mut snapshots = server.snapshots.follow();
    loop {
        // Followed before they are looked at, so that a change in between is not lost.
        snapshots.mark_unchanged();
        let snapshot = server.snapshots.load_full();
        let mut indices: Vec<watch::Receiver<u64>> =
            strict(&snapshot).map(|domain| domain.revocation().follow()).collect();
        if !indices.is_empty() {
            server.roll.call(&snapshot).await;
        }
        drop(snapshot);
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = any_changed(&mut indices) => {}
        }
    }
}

/// The domains of the listeners that break off what a refused client has under way.
fn strict(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<TrustDomain>> {
    let listeners = snapshot.frontends().flat_map(|frontend| frontend.listeners());
    let domains = listeners.filter_map(|listener| listener.tls.as_ref()?.trust.as_ref());
    domains.filter(|domain| domain.answer() != RevocationAnswer::Http400)
}

async fn any_changed(receivers: &mut [watch::Receiver<u64>]) {
    let mut changes: Vec<_> = receivers.iter_mut().map(|receiver| Box::pin(receiver.changed())).collect();
    poll_fn(|cx| match changes.iter_mut().any(|change| pin!(change).poll(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}
