//! The deny list in service: changed on the control thread alone, read by every worker. It is kept in memory: a new
//! process begins with an empty one.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::admin::AdminState;
use crate::model::deny::{DenyChange, DenyOutcome};
use crate::policy::deny::DenyList;
use crate::runtime::{Published, unix_now};
use crate::settings;
use crate::telemetry::event::DenyListChanged;
use crate::telemetry::{Limit, Telemetry};

/// The clock may be set: the next expiry is looked at again after this time.
const EXPIRY_LOOK: Duration = Duration::from_secs(60);

/// Whoever changes the list.
pub(super) struct Denials {
    list: Arc<Published<DenyList>>,
    /// When the next entry expires, Unix seconds.
    next_expiry: Cell<Option<i64>>,
    admin: Arc<AdminState>,
    telemetry: Arc<Telemetry>,
}

impl Denials {
    /// Begins with an empty list.
    pub(super) fn new(settings: &settings::Deny, admin: Arc<AdminState>, telemetry: Arc<Telemetry>) -> Self {
        let list = DenyList::new(settings.mode, &settings.allow);
        admin.deny.store(Arc::new(list.listed()));
        let list = Arc::new(Published::new(Arc::new(list)));
        Self { list, next_expiry: Cell::new(None), admin, telemetry }
    }

    /// The list, for those who look at it.
    pub(super) fn published(&self) -> Arc<Published<DenyList>> {
        Arc::clone(&self.list)
    }

    /// Makes a change; workers see it with the next connection.
    pub(super) fn change(&self, change: &DenyChange) -> DenyOutcome {
        let (list, outcome) = self.list.load_full().change(change, unix_now());
        self.publish(list);
        let left_out = u64::try_from(outcome.left_out.len()).unwrap_or(u64::MAX);
        self.telemetry.metrics.limit_hits(Limit::DenyEntriesMax, left_out);
        DenyListChanged { change, outcome: &outcome }.emit(&self.telemetry);
        outcome
    }

    /// Waits until it is time to look for expired entries; for ever where none will.
    pub(super) async fn expiry(&self) {
        let Some(next) = self.next_expiry.get() else { return pending().await };
        let left = u64::try_from(next.saturating_sub(unix_now())).unwrap_or_default();
        sleep(Duration::from_secs(left).min(EXPIRY_LOOK)).await;
    }

    /// Takes off what has expired.
    pub(super) fn expire(&self) {
        if let Some(list) = self.list.load_full().without_expired(unix_now()) {
            self.publish(list);
        }
    }

    fn publish(&self, list: DenyList) {
        self.telemetry.metrics.deny_entries(list.len());
        self.next_expiry.set(list.next_expiry());
        self.admin.deny.store(Arc::new(list.listed()));
        self.list.store(Arc::new(list));
    }
}
