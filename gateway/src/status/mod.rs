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
    /// What is to be written once the folder is ours.
    held: Option<Vec<Value>>,
}

impl Status {
    /// Nothing yet. With a folder every object's status is written there as well.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { times: Times::default(), folder: folder.map(Folder::new), held: None }
    }

    /// Leaves the folder alone until [`Status::release`]: another process writes there.
    pub fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    /// The folder is ours: writes what was held.
    pub fn release(&mut self) -> Vec<FolderError> {
        let (Some(items), Some(folder)) = (self.held.take(), self.folder.as_mut()) else { return Vec::new() };
        folder.write(&items)
    }

    /// Takes a report and gives the status of all its objects as a `List`. `now`: Unix seconds.
    ///
    /// What could not be written to the folder is told as errors; the list is complete all the same, and the next
    /// update tries again.
    pub fn update(&mut self, report: &Report, now: i64) -> (Value, Vec<FolderError>) {
        let items = self.times.stamp(&report.objects, now);
        let errors = match (&mut self.held, &mut self.folder) {
            (Some(held), Some(_)) => {
                held.clone_from(&items);
                Vec::new()
            }
            (None, Some(folder)) => folder.write(&items),
            (_, None) => Vec::new(),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectStatus;

    #[test]
    fn a_folder_that_is_another_process_s_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("status");
        let mut status = Status::new(Some(path.clone()));
        status.hold();
        let object = ObjectStatus {
            api_version: "v1".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "gw".into(),
            generation: 1,
            status: json!({}),
        };
        let report = Report { findings: Vec::new(), objects: vec![object] };
        let (list, errors) = status.update(&report, 0);
        assert!(errors.is_empty() && !path.exists(), "{list}");
        assert!(status.release().is_empty());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), list["items"].as_array().unwrap().len());
    }
}
