//! Status of objects as a cluster would hold it: kept with the times at which conditions turned, shown as a `List`,
//! and written to a folder. In comes a [`Report`]; what becomes of the documents is decided by `translate` alone.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::model::Report;

mod folder;
mod times;

pub use folder::{Folder, FolderError};
pub use times::Times;

/// Keeps the status of all objects.
#[derive(Debug, Default)]
pub struct Status {
    times: Times,
    folder: Option<Folder>,
}

impl Status {
    /// Nothing yet. With a folder every object's status is written there as well.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { times: Times::default(), folder: folder.map(Folder::new) }
    }

    /// Takes a report and gives the status of all its objects as a `List`. `now`: Unix seconds.
    ///
    /// What could not be written to the folder is told as errors; the list is complete all the same, and the next
    /// update tries again.
    pub fn update(&mut self, report: &Report, now: i64) -> (Value, Vec<FolderError>) {
        let items = self.times.stamp(&report.objects, now);
        let errors = self.folder.as_mut().map(|folder| folder.write(&items)).unwrap_or_default();
        (json!({"apiVersion": "v1", "kind": "List", "items": items}), errors)
    }
}

/// A value as a YAML document.
///
/// # Errors
/// The value holds a map key that is no text; JSON values never do.
pub fn yaml(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}
