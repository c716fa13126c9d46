//! Being told of changes by the operating system.
//!
//! Directories are watched rather than files: what replaces a file in one step (editors, volume swaps) leaves a watch on
//! the file looking at the old one.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::scan::Interest;
use crate::resources::{Code, Place, Problem, Severity};

/// Watches directories and remembers that something stirred.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Watched directories, by what they were when the watch began.
    watching: BTreeMap<PathBuf, (u64, u64)>,
    shared: Arc<Shared>,
    fault: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    interests: Mutex<BTreeMap<PathBuf, Interest>>,
    stirred: Notify,
}

impl Watch {
    pub(super) fn new() -> Watch {
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| told.matters(event)) {
                told.stirred.notify_one();
            }
        });
        let (watcher, fault) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Watch { watcher, watching: BTreeMap::new(), shared, fault }
    }

    /// A watch that is told of nothing.
    #[cfg(test)]
    pub(super) fn deaf() -> Watch {
        Watch {
            watcher: None,
            watching: BTreeMap::new(),
            shared: Arc::default(),
            fault: Some("deaf".to_owned()),
        }
    }

    /// Returns once something of interest has stirred since the last time.
    pub(super) async fn stirred(&self) {
        self.shared.stirred.notified().await;
    }

    /// Watches these directories and no others.
    pub(super) fn follow(&mut self, directories: &BTreeMap<PathBuf, Interest>) {
        self.shared.interests.lock().unwrap_or_else(PoisonError::into_inner).clone_from(directories);
        let Some(watcher) = &mut self.watcher else { return };
        self.fault = None;
        self.watching.retain(|path, identity| {
            // A directory made anew under its old name is another one, and its watch went with the old one.
            let stays = directories.contains_key(path) && self::identity(path) == Some(*identity);
            if !stays {
                let _ = watcher.unwatch(path);
            }
            stays
        });
        for path in directories.keys() {
            let Some(identity) = identity(path) else { continue };
            if self.watching.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watching.insert(path.clone(), identity);
                }
                Err(error) => self.fault = Some(format!("{}: {error}", path.display())),
            }
        }
    }

    /// What keeps changes from being told.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.fault.as_ref().map(|fault| Problem {
            code: Code::NotWatched,
            severity: Severity::Warning,
            file: None,
            place: Place::default(),
            object: String::new(),
            field: String::new(),
            message: format!("changes are noticed by the regular look only: {fault}"),
            help: Some(
                "the limits are fs.inotify.max_user_watches and fs.inotify.max_user_instances".to_owned(),
            ),
        })
    }
}

impl Shared {
    fn matters(&self, event: &notify::Event) -> bool {
        if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
            // Reading, ours included.
            return false;
        }
        if event.need_rescan() || event.paths.is_empty() {
            return true;
        }
        let interests = self.interests.lock().unwrap_or_else(PoisonError::into_inner);
        event.paths.iter().any(|path| {
            let within = path.parent().and_then(|parent| interests.get(parent));
            let entry = within.zip(path.file_name()).is_some_and(|(interest, name)| interest.covers(name));
            entry || interests.contains_key(path)
        })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
