//! Status as files: one an object, `KIND.NAMESPACE.NAME.yaml`, replaced whole and only when it changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::telemetry::denied;

/// A folder with the status of objects.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What stands in the files that we wrote.
    written: HashMap<String, String>,
}

/// Something of the folder could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status file {}: {}", path.display(), denied::in_words(source))]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

impl Folder {
    /// The folder is made when the first status is written.
    pub fn new(path: PathBuf) -> Self {
        Self { path, written: HashMap::new() }
    }

    /// Writes what changed and removes the files of objects that are gone, as far as we wrote them.
    pub fn write(&mut self, items: &[Value]) -> Vec<FolderError> {
        let mut errors = Vec::new();
        let wanted: HashMap<String, &Value> = items.iter().map(|item| (file_name(item), item)).collect();
        let gone: Vec<String> =
            self.written.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            let path = self.path.join(&name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    errors.push(FolderError { path, source });
                }
                _ => drop(self.written.remove(&name)),
            }
        }
        for (name, item) in wanted {
            let path = self.path.join(&name);
            let text = match super::yaml(item) {
                Ok(text) => text,
                Err(error) => {
                    errors.push(FolderError { path, source: io::Error::other(error) });
                    continue;
                }
            };
            if self.written.get(&name) == Some(&text) && path.exists() {
                continue;
            }
            match replace(&self.path, &path, &text) {
                Ok(()) => drop(self.written.insert(name, text)),
                Err(source) => errors.push(FolderError { path, source }),
            }
        }
        errors
    }
}

/// Readers see the old file or the new one, never a part.
fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.join(format!(".{name}.new"));
    fs::write(&aside, text)?;
    fs::rename(&aside, path).inspect_err(|_| drop(fs::remove_file(&aside)))
}

/// `KIND.NAMESPACE.NAME.yaml`; `KIND.NAME.yaml` for kinds without namespaces. Names are checked long before, but a path
/// is made of them here, so nothing but letters, digits, `-` and `.` gets through.
fn file_name(item: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &item["metadata"];
    let parts =
        [text(&item["kind"]), text(&metadata["namespace"]), text(&metadata["name"]), "yaml".to_owned()];
    let joined = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
    joined.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '.', "_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(name: &str, status: &str) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": "ns", "generation": 1},
            "status": {"conditions": [
                {"type": "Accepted", "status": status, "message": "a: \"b\"\n- c # d", "observedGeneration": 1},
            ], "empty": [], "text": ["no", "1", "null", "~", " x", "0x1f", "2026-01-01T00:00:00Z", ""]},
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_come_change_and_go_with_their_objects() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("made/when/needed");
        let mut folder = Folder::new(path.clone());
        assert!(folder.write(&[item("a", "True"), item("b", "True")]).is_empty());
        fs::write(path.join("other.yaml"), "not ours").unwrap();
        assert_eq!(names(&path), ["Gateway.ns.a.yaml", "Gateway.ns.b.yaml", "other.yaml"]);
        let modified = |name: &str| fs::metadata(path.join(name)).unwrap().modified().unwrap();
        let before = modified("Gateway.ns.a.yaml");
        assert!(folder.write(&[item("a", "True")]).is_empty());
        assert_eq!(names(&path), ["Gateway.ns.a.yaml", "other.yaml"]);
        assert_eq!(modified("Gateway.ns.a.yaml"), before, "an unchanged file is left alone");
        assert!(folder.write(&[item("a", "False")]).is_empty());
        let text = fs::read_to_string(path.join("Gateway.ns.a.yaml")).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), item("a", "False"), "{text}");
        fs::remove_file(path.join("Gateway.ns.a.yaml")).unwrap();
        assert!(folder.write(&[item("a", "False")]).is_empty());
        assert_eq!(
            names(&path),
            ["Gateway.ns.a.yaml", "other.yaml"],
            "a file that somebody removed comes back"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_and_tried_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "in the way").unwrap();
        let mut folder = Folder::new(path.clone());
        let errors = folder.write(&[item("a", "True")]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains("Gateway.ns.a.yaml"), "{}", errors[0]);
        fs::remove_file(&path).unwrap();
        assert!(folder.write(&[item("a", "True")]).is_empty());
        assert_eq!(names(&path), ["Gateway.ns.a.yaml"]);
    }

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        for (name, file) in [("a", "Gateway.ns.a.yaml"), ("../../etc/x", "Gateway.ns..._.._etc_x.yaml")] {
            assert_eq!(file_name(&item(name, "True")), file);
        }
    }
}
