//! The deny list in service: changed on the control thread alone, read by every worker. It is kept in memory: a
//! successor is left it, in a file that exists there alone; a process that is started anew begins with an empty one.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::pending;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::time::sleep;

use super::estate::DENY;
use crate::admin::AdminState;
use crate::handover::{Item, Kind};
use crate::model::deny::{DENY_ENTRIES_MAX, DenyChange, DenyEntry, DenyOutcome};
use crate::policy::deny::DenyList;
use crate::runtime::{Published, unix_now};
use crate::settings;
use crate::telemetry::event::DenyListChanged;
use crate::telemetry::{Limit, Telemetry};

/// The clock may be set: the next expiry is looked at again after this time.
const EXPIRY_LOOK: Duration = Duration::from_secs(60);

/// What a predecessor leaves is read up to here: far more than a full list takes.
const LEFT_BYTES_MAX: u64 = 256 * DENY_ENTRIES_MAX as u64;

/// Whoever changes the list.
pub(super) struct Denials {
    list: Arc<Published<DenyList>>,
    /// When the next entry expires, Unix seconds.
    next_expiry: Cell<Option<i64>>,
    /// What a predecessor leaves; it may write to it until its last word.
    inherited: Option<File>,
    /// What a successor is left.
    left: RefCell<Option<File>>,
    admin: Arc<AdminState>,
    telemetry: Arc<Telemetry>,
}

impl Denials {
    /// Begins with what a predecessor leaves, or with an empty list.
    pub(super) fn new(
        settings: &settings::Deny,
        inherited: Option<File>,
        admin: Arc<AdminState>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let list = DenyList::new(settings.mode, &settings.allow);
        admin.deny.store(Arc::new(list.listed()));
        let (list, next_expiry) = (Arc::new(Published::new(Arc::new(list))), Cell::new(None));
        let denials = Self { list, next_expiry, inherited, left: RefCell::default(), admin, telemetry };
        denials.catch_up();
        denials
    }

    /// Takes over what the predecessor has on its list by now.
    pub(super) fn catch_up(&self) {
        let Some(inherited) = &self.inherited else { return };
        match read(inherited) {
            Ok(entries) => self.publish(self.list.load_full().inherit(entries, unix_now())),
            Err(error) => tracing::warn!(%error, "the predecessor's deny list cannot be read"),
        }
    }

    /// What a successor is left: the list, with the changes to come.
    ///
    /// # Errors
    /// The system has no memory to give.
    pub(super) fn leave(&self) -> io::Result<Item> {
        let file = File::from(memfd_create(c"yett-deny", MemfdFlags::CLOEXEC)?);
        write(&file, &self.list.load_full())?;
        let fd = file.try_clone()?.into();
        *self.left.borrow_mut() = Some(file);
        Ok(Item { kind: Kind::Deny, name: DENY.to_owned(), fd })
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
        if let Some(left) = &*self.left.borrow()
            && let Err(error) = write(left, &list)
        {
            tracing::warn!(%error, "a successor cannot be left this change of the deny list");
        }
        self.telemetry.metrics.deny_entries(list.len());
        self.next_expiry.set(list.next_expiry());
        self.admin.deny.store(Arc::new(list.listed()));
        self.list.store(Arc::new(list));
    }
}

/// Writes the list in place of what was there. Both processes have one position in the file, so that none is used.
fn write(file: &File, list: &DenyList) -> io::Result<()> {
    let entries: Vec<&DenyEntry> = list.entries().collect();
    let text = serde_json::to_vec(&entries)?;
    file.set_len(0)?;
    file.write_all_at(&text, 0)
}

fn read(file: &File) -> io::Result<Vec<DenyEntry>> {
    let length = file.metadata()?.len();
    if length > LEFT_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut text, 0)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denials(inherited: Option<File>) -> Denials {
        let (telemetry, _) = Telemetry::in_memory();
        let (admin, _commands) = AdminState::new(Arc::clone(&telemetry));
        Denials::new(&settings::Deny::default(), inherited, admin, telemetry)
    }

    fn add(denials: &Denials, network: &str, ttl_s: Option<u32>) {
        denials.change(&DenyChange::Add { networks: vec![network.parse().unwrap()], ttl_s });
    }

    fn entries(denials: &Denials) -> Vec<DenyEntry> {
        denials.published().load_full().entries().cloned().collect()
    }

    #[test]
    fn a_successor_has_the_list_and_what_is_changed_meanwhile() {
        let old = denials(None);
        add(&old, "192.0.2.0/24", Some(3600));
        add(&old, "2001:db8::/32", None);
        let item = old.leave().unwrap();
        assert_eq!((item.kind, item.name.as_str()), (Kind::Deny, "deny"));
        let new = denials(Some(item.fd.into()));
        assert_eq!(entries(&new), entries(&old));
        assert!(new.next_expiry.get().is_some());
        old.change(&DenyChange::Remove(vec!["2001:db8::/32".parse().unwrap()]));
        assert_eq!(entries(&new).len(), 2);
        new.catch_up();
        assert_eq!(entries(&new), entries(&old));
        assert_eq!(new.admin.deny.load().entries.len(), 1, "and it is shown");
    }

    #[test]
    fn what_cannot_be_read_leaves_the_list_as_it_is() {
        let file = tempfile::tempfile().unwrap();
        for text in [&b""[..], b"[", b"{}", b"[{\"network\":\"x\",\"since\":0}]"] {
            file.set_len(0).unwrap();
            file.write_all_at(text, 0).unwrap();
            assert!(entries(&denials(Some(file.try_clone().unwrap()))).is_empty(), "{text:?}");
        }
        file.set_len(LEFT_BYTES_MAX + 1).unwrap();
        assert!(read(&file).is_err());
    }

    #[test]
    fn a_full_list_can_be_left() {
        let list = DenyList::new(settings::Deny::default().mode, &[]);
        let entry = |number: usize| DenyEntry {
            network: format!("2001:db8:ffff:ffff:ffff:ffff:{:x}:{:x}/128", number >> 8, number & 255)
                .parse()
                .unwrap(),
            since: i64::MAX / 2,
            expires: Some(i64::MAX),
        };
        let list = list.inherit((0..DENY_ENTRIES_MAX + 1).map(entry).collect(), 0);
        assert_eq!(list.len(), DENY_ENTRIES_MAX);
        let file = tempfile::tempfile().unwrap();
        write(&file, &list).unwrap();
        assert_eq!(read(&file).unwrap().len(), DENY_ENTRIES_MAX);
    }
}
