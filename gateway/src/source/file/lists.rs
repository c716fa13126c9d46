//! Revocation lists that a RevocationPolicy names by path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::annotation::Filled;
use super::scan::Scan;
use crate::resources::{AnyObject, Code, Problem, Severity};

/// Puts the content of the files that a RevocationPolicy names into it. `manifest` is the file the policy stands in,
/// which relative paths start from.
///
/// What cannot be read stays what it was in `former`, the version in service: a list must not be forgotten because a
/// volume is away for a moment. A file that has left a directory is gone.
pub(super) fn fill(
    object: &mut AnyObject,
    former: Option<&AnyObject>,
    manifest: &Path,
    scan: &mut Scan,
) -> Filled {
    let mut filled = Filled::default();
    let AnyObject::RevocationPolicy(policy) = object else { return filled };
    let former = match former {
        Some(AnyObject::RevocationPolicy(former)) => Some(&former.spec.files),
        _ => None,
    };
    let mut files = BTreeMap::new();
    for (index, source) in policy.spec.sources.iter().enumerate() {
        let Some(written) = source.crl.as_ref().and_then(|crl| crl.path.as_ref()) else { continue };
        let path = manifest.parent().unwrap_or(Path::new(".")).join(written);
        let outcome = scan.lists(&path).or_else(|error| {
            let kept = former.and_then(|files| files.get(written)?.as_ref().ok());
            let field = format!("spec.sources[{index}].crl.path");
            let after = if kept.is_some() { "; what was there before stays in service" } else { "" };
            filled.problems.push(Problem {
                code: Code::Unreadable,
                severity: Severity::Error,
                file: policy.origin.file.clone(),
                place: policy.origin.locate(&field),
                object: policy.to_string(),
                field,
                message: format!("`{}` cannot be used: {error}{after}", path.display()),
                help: None,
            });
            kept.cloned().ok_or(error)
        });
        files.insert(written.clone(), outcome);
        filled.lists.push(path);
    }
    Arc::make_mut(policy).spec.files = files;
    filled
}
