//! Names in a BPF file system, by which maps and links outlive the process: a crash loses no count, and what is attached
//! goes on until the next start takes it over.
//!
//! ```text
//! PINS/            mode 0700; locked by the process that uses it, and by its successor
//!   v1/            the layout's version; another version's is taken off
//!     maps/NAME
//!     links/PROGRAM:MODE:PLACE
//!     programs/NAME
//!     object-SHA256    of the object that the programs are of
//! ```
//!
//! What is pinned is believed only where it is exactly what this binary would make.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use gateway_common::object::{FRONTENDS_MAX, LAYOUT, map};
use rustix::fs::{FlockOperation, flock, statfs};

use super::load::{Definition, Link, LinkName};
use super::stage::{Stage, StageError};
use super::sys;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS: u32 = 0xcafe_4a11;

/// What the directory is called whose name says which object the programs are of.
const OBJECT_PREFIX: &str = "object-";

/// The names of one daemon.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    /// The directory, open and locked. Whoever holds it too (a successor) shares the lock.
    lock: Option<OwnedFd>,
}

impl Pins {
    /// Takes the place, if it is on a BPF file system and nobody else's.
    pub(super) fn take(root: &Path) -> Result<Self, StageError> {
        let failed = |what, error: &io::Error| {
            StageError::system(Stage::Pins, format!("{what} {}", root.display()), error)
        };
        if let Some(parent) = root.parent().filter(|_| !root.exists()) {
            let kind = statfs(parent).map_err(|error| failed("cannot make", &error.into()))?.f_type;
            if !is_bpf_fs(kind) {
                return Err(no_bpf_fs(parent));
            }
            make(root).map_err(|error| failed("cannot make", &error))?;
        }
        let lock = File::open(root).map_err(|error| failed("cannot open", &error))?;
        if !rustix::fs::fstatfs(&lock).is_ok_and(|found| is_bpf_fs(found.f_type)) {
            return Err(no_bpf_fs(root));
        }
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_owned(), lock: Some(lock.into()) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StageError::new(
                Stage::Pins,
                format!("{} is another process's; datapath.pins names another place", root.display()),
            )),
            Err(error) => Err(failed("cannot lock", &error.into())),
        }
    }

    /// Those of a predecessor, with the lock that it has left.
    pub(super) fn inherited(root: &Path, lock: OwnedFd) -> Self {
        Self { root: root.to_owned(), lock: Some(lock) }
    }

    /// Those of a process that runs, beside it.
    pub(super) fn of_another(root: &Path) -> Self {
        Self { root: root.to_owned(), lock: None }
    }

    /// The lock, to be left to a successor.
    pub(super) fn lock(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(OwnedFd::as_fd)
    }

    /// The SHA-256 of the object that the programs are of, in hexadecimal.
    pub(super) fn object(&self) -> Option<String> {
        let entries = fs::read_dir(self.layout()).ok()?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Some(name.strip_prefix(OBJECT_PREFIX)?.to_owned())).next()
    }

    /// The program that is not attached by a link but used by name, if there is one.
    pub(super) fn program(&self, name: &str) -> Option<OwnedFd> {
        sys::pinned(&self.layout().join("programs").join(name)).ok()
    }

    /// Gives the program a name, and says which object the programs are of now.
    pub(super) fn keep_program(&self, name: &str, program: BorrowedFd<'_>, object: &str) -> io::Result<()> {
        let path = self.layout().join("programs").join(name);
        // The former one's name; whoever uses it goes on with it.
        let _ = fs::remove_file(&path);
        sys::pin(program, &path)?;
        if let Some(former) = self.object() {
            remove(&self.layout().join(format!("{OBJECT_PREFIX}{former}")))?;
        }
        make(&self.layout().join(format!("{OBJECT_PREFIX}{object}")))
    }

    /// Where a map has its name.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.layout().join("maps").join(name)
    }

    /// Makes the place ready for maps and links. What is there and does not fit is taken off, with all that it attaches;
    /// says what.
    pub(super) fn prepare(&self, expected: &BTreeMap<String, Definition>) -> Result<Vec<String>, StageError> {
        let failed = |error: &io::Error| {
            StageError::system(Stage::Pins, format!("cannot use {}", self.root.display()), error)
        };
        let mut refused = Vec::new();
        let layout = self.layout();
        for entry in fs::read_dir(&self.root).map_err(|error| failed(&error))?.flatten() {
            let path = entry.path();
            let unfit =
                if path == layout { self.unfit(expected) } else { Some("of another layout".to_owned()) };
            if let Some(why) = unfit {
                remove(&path).map_err(|error| failed(&error))?;
                refused.push(format!("{}: {why}", path.display()));
            }
        }
        for directory in ["maps", "links", "programs"] {
            make(&layout.join(directory)).map_err(|error| failed(&error))?;
        }
        Ok(refused)
    }

    /// Sockets of each front end, as the map of sockets was made.
    pub(super) fn stride(&self) -> Result<u32, StageError> {
        let map = MapData::from_pin(self.map(map::SOCKETS)).and_then(|map| map.info());
        let map =
            map.map_err(|error| StageError::new(Stage::Pins, format!("the map {}: {error}", map::SOCKETS)))?;
        Ok((map.max_entries() / FRONTENDS_MAX).max(1))
    }

    /// What of the maps is not what this binary would make.
    pub(super) fn unfit(&self, expected: &BTreeMap<String, Definition>) -> Option<String> {
        let maps = self.layout().join("maps");
        let found: Vec<_> = fs::read_dir(&maps).ok()?.flatten().map(|entry| entry.path()).collect();
        if found.is_empty() {
            return None;
        }
        for (name, expected) in expected {
            let is = MapData::from_pin(maps.join(name))
                .and_then(|map| map.info())
                .map(|info| Definition::of(&info));
            match is {
                Ok(is) if is == *expected => {}
                Ok(is) => return Some(format!("the map {name} is {is}, not {expected}")),
                Err(_) => return Some(format!("the map {name} is missing")),
            }
        }
        None
    }

    /// The links that a former process has left.
    pub(super) fn links(&self) -> Vec<Link> {
        let Ok(entries) = fs::read_dir(self.layout().join("links")) else { return Vec::new() };
        let read = |entry: fs::DirEntry| {
            let name = LinkName::parse(&decoded(entry.file_name().to_str()?))?;
            Some(Link { name, fd: sys::pinned(&entry.path()).ok()? })
        };
        entries.flatten().filter_map(read).collect()
    }

    /// Gives a link its name.
    pub(super) fn keep(&self, link: &Link) -> io::Result<()> {
        sys::pin(link.fd.as_fd(), &self.link(&link.name))
    }

    /// Takes a link's name away.
    pub(super) fn forget(&self, name: &LinkName) {
        // It may have none.
        let _ = fs::remove_file(self.link(name));
    }

    /// Takes every name away: what no process holds is detached and gone.
    pub(super) fn clear(&self) -> io::Result<()> {
        remove(&self.root)
    }

    fn link(&self, name: &LinkName) -> PathBuf {
        self.layout().join("links").join(encoded(&name.to_string()))
    }

    fn layout(&self) -> PathBuf {
        self.root.join(format!("v{LAYOUT}"))
    }
}

fn no_bpf_fs(place: &Path) -> StageError {
    let words = format!(
        "{} is on no BPF file system (mount -t bpf bpf /sys/fs/bpf): what is attached ends with the process",
        place.display()
    );
    StageError::new(Stage::Pins, words)
}

fn is_bpf_fs(kind: rustix::fs::FsWord) -> bool {
    kind == rustix::fs::FsWord::from(BPF_FS)
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(directory)
}

/// Removes a directory of a BPF file system with what is in it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A BPF file system takes no dot in a name, which interfaces often have.
fn encoded(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

fn decoded(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_survive_the_file_system() {
        for name in ["ingress_tc:tcx:eth0", "ingress_tc:tcx:eth0.100", "ingress_xdp:native:a%2eb"] {
            assert!(!encoded(name).contains('.'), "{name}");
            assert_eq!(decoded(&encoded(name)), name);
        }
    }

    #[test]
    fn an_ordinary_directory_is_refused_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for place in [directory.path().to_owned(), directory.path().join("yett")] {
            let error = Pins::take(&place).unwrap_err().to_string();
            assert!(error.contains("on no BPF file system"), "{error}");
        }
        assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
    }
}
