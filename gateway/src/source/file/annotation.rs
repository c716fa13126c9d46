//! Secrets that name files for their values, so that private keys need no copy in a manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scan::Scan;
use crate::resources::secret::FILE_ANNOTATION_PREFIX;
use crate::resources::{AnyObject, Code, Problem, SecretBytes, Severity};

/// Files that an object names, with what could not be had of them.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Named by annotations.
    pub(super) paths: Vec<PathBuf>,
    /// Files and directories of revocation lists.
    pub(super) lists: Vec<PathBuf>,
    pub(super) problems: Vec<Problem>,
}

/// Puts the content of the files that a Secret names in its place. `manifest` is the file the Secret stands in, which
/// relative paths start from.
///
/// A file that cannot be read leaves an empty value rather than none: a CRL that is not there must not look as if no
/// CRL was asked for.
pub(super) fn fill(object: &mut AnyObject, manifest: &Path, scan: &mut Scan) -> Filled {
    let mut filled = Filled::default();
    let AnyObject::Secret(secret) = object else { return filled };
    let annotations = secret.meta.annotations.iter();
    let named: Vec<_> = annotations
        .filter_map(|(name, path)| {
            Some((name.clone(), name.strip_prefix(FILE_ANNOTATION_PREFIX)?.to_owned(), path.clone()))
        })
        .collect();
    for (annotation, key, written) in named {
        let path = manifest.parent().unwrap_or(Path::new(".")).join(&written);
        let bytes = match scan.annotated_file(&path) {
            Ok(bytes) => bytes.to_vec(),
            Err(error) => {
                let field = format!("metadata.annotations[\"{annotation}\"]");
                filled.problems.push(Problem {
                    code: Code::FileAnnotation,
                    severity: Severity::Error,
                    file: secret.origin.file.clone(),
                    place: secret.origin.locate(&field),
                    object: secret.to_string(),
                    field,
                    message: format!("`{}` cannot be used: {error}", path.display()),
                    help: None,
                });
                Vec::new()
            }
        };
        Arc::make_mut(secret).spec.data.insert(key, SecretBytes::new(bytes));
        filled.paths.push(path);
    }
    filled
}
