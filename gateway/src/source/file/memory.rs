//! What was in service before, and what of it stays.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::scan::{Manifest, Named, Scan};
use super::{annotation, lists};
use crate::resources::{
    self, AnyObject, Code, Entry, Identity, ListenerName, PolicyKind, Problem, Resources, Severity,
    UnreadablePolicy,
};

/// The objects of the last look, and how often each has changed.
#[derive(Debug, Default)]
pub(super) struct Memory {
    objects: HashMap<Identity, Remembered>,
    named: Named,
    /// Listeners in service that no unreadable policy was there for when they came.
    settled: Arc<BTreeSet<ListenerName>>,
}

/// What a look comes to.
#[derive(Debug)]
pub(super) struct Taken {
    /// The new set; `None` where nothing usable was found but something was before.
    pub(super) resources: Option<Resources>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Clone, Debug)]
struct Remembered {
    object: AnyObject,
    /// The file it stands in.
    file: Arc<str>,
    spec_hash: u64,
    /// Counts specs, from 1; what `metadata.generation` is where the file gives none.
    generation: i64,
    named: Named,
}

/// A set in the making.
#[derive(Default)]
struct Gathered {
    resources: Resources,
    problems: Vec<Problem>,
    objects: HashMap<Identity, Remembered>,
    /// Files and directories of which a part could not be read, so that what is missing in them may be in that part.
    in_doubt: BTreeSet<Arc<str>>,
    /// Objects that were written but are not fit for service.
    faulty: BTreeMap<Identity, Option<UnreadablePolicy>>,
    /// Policies without a name that can be read.
    nameless: Vec<UnreadablePolicy>,
}

impl Memory {
    /// The files that objects named.
    pub(super) fn named(&self) -> &Named {
        &self.named
    }

    /// Makes the set of what was found, with what stays of the former one. The files of the look are used up, those
    /// that objects name are added to it.
    pub(super) fn take(&mut self, scan: &mut Scan) -> Taken {
        let mut gathered = Gathered::default();
        for manifest in std::mem::take(&mut scan.files) {
            match &manifest.text {
                Err(problem) => {
                    gathered.problems.push((**problem).clone());
                    gathered.in_doubt.insert(manifest.name);
                }
                Ok(text) => {
                    for entry in resources::read(text, Some(&manifest.name)) {
                        self.entry(entry, &manifest, scan, &mut gathered);
                    }
                }
            }
        }
        if scan.truncated {
            // Every path begins with nothing.
            gathered.in_doubt.insert("".into());
        }
        self.keep_last_good(&mut gathered, scan);
        if gathered.objects.is_empty() && !self.objects.is_empty() {
            return Taken { resources: None, problems: gathered.problems };
        }
        let unreadable = gathered.faulty.into_values().flatten().chain(gathered.nameless);
        let spared = |policy| UnreadablePolicy { spared: Arc::clone(&self.settled), ..policy };
        gathered.resources.unreadable_policies = unreadable.map(spared).collect();
        self.settled = Arc::new(gathered.resources.settled_listeners());
        self.named = gathered.objects.values().map(|known| &known.named).collect();
        self.objects = gathered.objects;
        Taken { resources: Some(gathered.resources), problems: gathered.problems }
    }

    fn entry(&self, entry: Entry, manifest: &Manifest, scan: &mut Scan, gathered: &mut Gathered) {
        let file = &manifest.name;
        gathered.problems.extend(entry.problems);
        let (mut object, identity) = match (entry.object, entry.identity) {
            (Some(object), Some(identity)) => (object, identity),
            (_, Some(identity)) => {
                gathered.faulty.entry(identity).or_insert(entry.unreadable_policy);
                return;
            }
            (_, None) => {
                gathered.in_doubt.insert(Arc::clone(file));
                gathered.nameless.extend(entry.unreadable_policy);
                return;
            }
        };
        let former = self.objects.get(&identity);
        let generation =
            former.map_or(1, |former| former.generation + i64::from(former.spec_hash != entry.spec_hash));
        if object.meta().generation == 0 {
            object.meta_mut().generation = generation;
        }
        if let Some(first) = gathered.objects.get(&identity) {
            gathered.problems.push(resources::duplicate(&object, first.object.origin()));
            return;
        }
        let lists = lists::fill(&mut object, former.map(|former| &former.object), &manifest.path, scan);
        gathered.problems.extend(lists.problems);
        let filled = annotation::fill(&mut object, &manifest.path, scan);
        let usable = filled.problems.is_empty();
        gathered.problems.extend(filled.problems);
        // A Secret whose file went missing stays what it was, whatever else changed in it.
        if let (false, Some(former)) = (usable, former) {
            gathered.problems.push(kept(&former.object, "of a file that cannot be used"));
            object = former.object.clone();
        }
        let _ = gathered.resources.insert(object.clone());
        let (file, spec_hash) = (Arc::clone(file), entry.spec_hash);
        let named =
            Named { annotated: filled.paths.into_iter().collect(), lists: lists.lists.into_iter().collect() };
        gathered.objects.insert(identity, Remembered { object, file, spec_hash, generation, named });
    }

    /// Puts back what was in service and is missing only because something could not be read.
    fn keep_last_good(&self, gathered: &mut Gathered, scan: &mut Scan) {
        gathered.faulty.retain(|identity, _| !gathered.objects.contains_key(identity));
        let mut former: Vec<_> = self.objects.iter().collect();
        former.sort_by_key(|(identity, _)| *identity);
        for (identity, former) in former {
            if gathered.objects.contains_key(identity) {
                continue;
            }
            let reason = if gathered.faulty.remove(identity).is_some() {
                "of the errors in its newer one"
            } else if gathered.doubts(&former.file) {
                "its file cannot be read in full"
            } else {
                continue;
            };
            gathered.problems.push(kept(&former.object, reason));
            if let Some(kind) = policy_kind(&former.object) {
                // What cannot be read of this file is taken for the newer version of what is missing in it.
                let is_newer = |policy: &UnreadablePolicy| {
                    policy.kind == kind && policy.origin.file.as_ref() == Some(&former.file)
                };
                gathered.nameless.retain(|policy| !is_newer(policy));
            }
            let mut kept = former.clone();
            // A fault in the manifest must not keep a newer list from being followed.
            let lists = lists::fill(&mut kept.object, Some(&former.object), Path::new(&*former.file), scan);
            gathered.problems.extend(lists.problems);
            let _ = gathered.resources.insert(kept.object.clone());
            gathered.objects.insert(identity.clone(), kept);
        }
    }
}

impl Gathered {
    fn doubts(&self, file: &str) -> bool {
        self.in_doubt.iter().any(|doubted| Path::new(file).starts_with(&**doubted))
    }
}

fn policy_kind(object: &AnyObject) -> Option<PolicyKind> {
    match object {
        AnyObject::FrontendTlsPolicy(_) => Some(PolicyKind::FrontendTls),
        AnyObject::RevocationPolicy(_) => Some(PolicyKind::Revocation),
        _ => None,
    }
}

fn kept(object: &AnyObject, reason: &str) -> Problem {
    let origin = object.origin();
    Problem {
        code: Code::KeptLastGood,
        severity: Severity::Warning,
        file: origin.file.clone(),
        place: origin.locate(""),
        message: format!(
            "the last good version (generation {}) stays in service because {reason}",
            object.meta().generation
        ),
        object: object.to_string(),
        field: String::new(),
        help: None,
    }
}
