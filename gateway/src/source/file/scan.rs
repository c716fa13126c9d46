//! One look at the files: which there are, what they hold, and which directories tell of changes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::resources::revocationpolicy::CrlFile;
use crate::resources::{Code, Place, Problem, Severity};
use crate::telemetry::denied;

/// Manifests of one look.
const FILES_MAX: usize = 10_000;
/// One manifest, or one file that an annotation names: a CRL of a million entries has about 40 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// All manifests together.
const TOTAL_BYTES_MAX: u64 = 256 << 20;
/// One revocation list that a policy names.
const LIST_BYTES_MAX: u64 = 128 << 20;
/// Revocation lists of one directory that a policy names.
const LIST_FILES_MAX: usize = 1000;
/// What the names of revocation lists in a directory end in.
const LIST_EXTENSION: &str = "crl";
/// Directories within each other.
const DEPTH_MAX: usize = 32;
/// The link that a Kubernetes volume is swapped by.
const VOLUME_LINK: &str = "..data";

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Manifests, in order.
    pub(super) files: Vec<Manifest>,
    /// Files that annotations name, by path.
    annotated: BTreeMap<PathBuf, Result<Zeroizing<Vec<u8>>, String>>,
    /// Revocation lists in the files and directories that policies name, by path.
    lists: BTreeMap<PathBuf, Result<Vec<CrlFile>, String>>,
    /// Directories to watch, with what is of interest in them.
    pub(super) watched: BTreeMap<PathBuf, Interest>,
    /// What could not be looked at.
    pub(super) problems: Vec<Problem>,
    /// Whether there are more manifests than one look takes.
    pub(super) truncated: bool,
    manifests_print: u64,
    directories: HashSet<(u64, u64)>,
    bytes: u64,
}

/// A manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    /// As findings name it.
    pub(super) name: Arc<str>,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its text, unless it cannot be read. It may hold keys.
    pub(super) text: Result<Zeroizing<String>, Box<Problem>>,
}

/// Files beside the manifests that objects name.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// By annotations of Secrets.
    pub(super) annotated: BTreeSet<PathBuf>,
    /// As sources of revocation lists; also directories.
    pub(super) lists: BTreeSet<PathBuf>,
}

impl<'a> FromIterator<&'a Named> for Named {
    fn from_iter<I: IntoIterator<Item = &'a Named>>(parts: I) -> Named {
        let mut all = Named::default();
        for part in parts {
            all.annotated.extend(part.annotated.iter().cloned());
            all.lists.extend(part.lists.iter().cloned());
        }
        all
    }
}

/// What is of interest in a watched directory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Interest {
    /// Everything that is not hidden.
    pub(super) all: bool,
    /// These entries.
    pub(super) names: BTreeSet<OsString>,
}

impl Interest {
    /// Whether a change of this entry matters.
    pub(super) fn covers(&self, name: &OsStr) -> bool {
        name == VOLUME_LINK || self.names.contains(name) || (self.all && !is_hidden(name))
    }
}

/// Looks at everything under `paths`, and at the files that objects named the last time.
pub(super) fn scan(paths: &[PathBuf], named: &Named) -> Scan {
    let mut scan = Scan::default();
    for path in paths {
        scan.watch_entry(path);
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => scan.directory(path, 0),
            Ok(_) => scan.manifest(path),
            Err(error) => scan.unreadable(path, &error),
        }
    }
    for path in &named.annotated {
        scan.annotated_file(path);
    }
    for path in &named.lists {
        // Told when it is asked for.
        let _ = scan.lists(path);
    }
    scan.manifests_print = scan.print_manifests();
    scan
}

impl Scan {
    /// Stands for all that was found, also after the manifests were taken out; equal for equal content.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.manifests_print.hash(&mut hasher);
        for (path, content) in &self.annotated {
            (path, content.as_ref().map(|bytes| bytes.as_slice())).hash(&mut hasher);
        }
        self.lists.hash(&mut hasher);
        hasher.finish()
    }

    fn print_manifests(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in &self.files {
            file.path.hash(&mut hasher);
            match &file.text {
                Ok(text) => text.as_bytes().hash(&mut hasher),
                Err(problem) => problem.message.hash(&mut hasher),
            }
        }
        self.problems.iter().for_each(|problem| (&problem.file, &problem.message).hash(&mut hasher));
        hasher.finish()
    }

    /// Reads the file that an annotation names.
    pub(super) fn annotated_file(&mut self, path: &Path) -> &Result<Zeroizing<Vec<u8>>, String> {
        if !self.annotated.contains_key(path) {
            self.watch_entry(path);
            let content = content(path, FILE_BYTES_MAX).map_err(|error| denied::in_words(&error));
            self.annotated.insert(path.to_owned(), content);
        }
        &self.annotated[path]
    }

    /// The revocation lists at a path that a policy names: the file, or the files of the directory that end in `.crl`.
    pub(super) fn lists(&mut self, path: &Path) -> Result<Vec<CrlFile>, String> {
        if let Some(known) = self.lists.get(path) {
            return known.clone();
        }
        self.watch_entry(path);
        let read = if path.is_dir() { self.lists_in(path) } else { list(path).map(|list| vec![list]) };
        self.lists.insert(path.to_owned(), read.clone());
        read
    }

    fn lists_in(&mut self, directory: &Path) -> Result<Vec<CrlFile>, String> {
        self.interest(directory).all = true;
        let entries = std::fs::read_dir(directory).map_err(|error| denied::in_words(&error))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            let is_list =
                path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(LIST_EXTENSION));
            if is_list && !path.file_name().is_none_or(is_hidden) && !path.is_dir() {
                paths.push(path);
            }
        }
        if paths.len() > LIST_FILES_MAX {
            return Err(format!("it has more than {LIST_FILES_MAX} lists"));
        }
        paths.sort();
        paths.iter().for_each(|path| self.watch_target(path));
        paths.iter().map(|path| list(path)).collect()
    }

    /// Forgets files that no object names any more.
    pub(super) fn retain(&mut self, named: &Named) {
        self.annotated.retain(|path, _| named.annotated.contains(path));
        self.lists.retain(|path, _| named.lists.contains(path));
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        if depth > DEPTH_MAX {
            let message =
                format!("{} lies more than {DEPTH_MAX} directories deep and is left out", path.display());
            return self.problems.push(problem(Code::LimitReached, path, message));
        }
        let entries = path.metadata().and_then(|metadata| {
            let first_visit = self.directories.insert((metadata.dev(), metadata.ino()));
            let entries = if first_visit { Some(std::fs::read_dir(path)?) } else { None };
            entries
                .into_iter()
                .flatten()
                .map(|entry| Ok(entry?.file_name()))
                .collect::<std::io::Result<Vec<_>>>()
        });
        self.interest(path).all = true;
        let mut names = match entries {
            Ok(names) => names,
            Err(error) => return self.unreadable(path, &error),
        };
        names.retain(|name| !is_hidden(name));
        names.sort();
        for name in names {
            let path = path.join(&name);
            // Follows links: in a Kubernetes volume every entry is one.
            match path.metadata() {
                Ok(metadata) if metadata.is_dir() => self.directory(&path, depth + 1),
                Ok(metadata) if metadata.is_file() && is_manifest(&name) => {
                    self.watch_target(&path);
                    self.manifest(&path);
                }
                Err(error) if is_manifest(&name) => {
                    self.watch_target(&path);
                    self.unreadable(&path, &error);
                }
                _ => {}
            }
        }
    }

    fn manifest(&mut self, path: &Path) {
        if self.files.len() >= FILES_MAX {
            if !self.truncated {
                self.truncated = true;
                let message =
                    format!("more than {FILES_MAX} files: this one and those after it are left out");
                self.problems.push(problem(Code::LimitReached, path, message));
            }
            return;
        }
        let left = TOTAL_BYTES_MAX - self.bytes;
        let text = match content(path, FILE_BYTES_MAX.min(left)) {
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                text(path, bytes)
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                let limit = if left < FILE_BYTES_MAX { "all files together" } else { "one file" };
                let bytes_max = if left < FILE_BYTES_MAX { TOTAL_BYTES_MAX } else { FILE_BYTES_MAX };
                let message = format!("is left out: more than {} MiB in {limit}", bytes_max >> 20);
                Err(Box::new(problem(Code::LimitReached, path, message)))
            }
            // Gone since the directory was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => Err(Box::new(problem(Code::Unreadable, path, unreadable(&error)))),
        };
        self.files.push(Manifest { name: display(path), path: path.to_owned(), text });
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        if error.kind() == ErrorKind::NotFound {
            // Gone, so its objects go too; a link to nowhere and a path that is not there yet are worth a word.
            self.problems.push(problem(Code::Unreadable, path, format!("is not there: {error}")));
        } else {
            let problem = problem(Code::Unreadable, path, unreadable(error));
            self.files.push(Manifest::unreadable(path, problem));
        }
    }

    /// Watches for an entry of a directory to appear, change or go, and for what it links to.
    fn watch_entry(&mut self, path: &Path) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
            self.interest(parent).names.insert(name.to_owned());
        }
        self.watch_target(&path);
    }

    fn watch_target(&mut self, path: &Path) {
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if let (true, Ok(target)) = (is_link, path.canonicalize())
            && let (Some(parent), Some(name)) = (target.parent(), target.file_name())
        {
            self.interest(parent).names.insert(name.to_owned());
        }
    }

    /// The interest in a directory, or in the nearest one above that is there.
    fn interest(&mut self, directory: &Path) -> &mut Interest {
        // By its real path: the kernel watches the directory, however it is reached, and tells of one path only.
        let mut directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let mut missing = None;
        let real = loop {
            match (directory.canonicalize(), directory.parent(), directory.file_name()) {
                (Ok(real), _, _) => break real,
                (Err(_), Some(parent), name) => {
                    missing = name.map(OsStr::to_owned);
                    directory = parent.to_owned();
                }
                (Err(_), None, _) => break directory,
            }
        };
        let interest = self.watched.entry(real).or_default();
        interest.names.extend(missing);
        interest
    }
}

impl Manifest {
    fn unreadable(path: &Path, problem: Problem) -> Manifest {
        Manifest { name: display(path), path: path.to_owned(), text: Err(Box::new(problem)) }
    }
}

/// A revocation list.
fn list(path: &Path) -> Result<CrlFile, String> {
    let bytes = content(path, LIST_BYTES_MAX)
        .map_err(|error| format!("{}: {}", display(path), denied::in_words(&error)))?;
    Ok(CrlFile { name: path.display().to_string(), data: bytes.as_slice().into() })
}

/// The content of a file of at most `bytes_max`.
fn content(path: &Path, bytes_max: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let too_large = || {
        let message = format!("has more than {} MiB", bytes_max >> 20);
        std::io::Error::new(ErrorKind::FileTooLarge, message)
    };
    if metadata.len() > bytes_max {
        return Err(too_large());
    }
    // With room for all of it at once, so that no copy of a key is left behind by growing.
    let expected = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_large());
    }
    Ok(bytes)
}

fn text(path: &Path, mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, Box<Problem>> {
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = Zeroizing::new(error.into_bytes());
        let lines = bytes.iter().take(valid).filter(|byte| **byte == b'\n').count();
        let place = Place { line: u32::try_from(lines + 1).unwrap_or(u32::MAX), column: 0 };
        Box::new(Problem { place, ..problem(Code::Syntax, path, "is not UTF-8".to_owned()) })
    })
}

fn problem(code: Code, path: &Path, message: String) -> Problem {
    Problem {
        code,
        severity: Severity::Error,
        file: Some(display(path)),
        place: Place::default(),
        object: String::new(),
        field: String::new(),
        message,
        help: None,
    }
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {}", denied::in_words(error))
}

fn display(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn is_manifest(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}
