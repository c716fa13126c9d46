//! How much memory the process may have and has: by its control groups, v2 or v1, or by a limit of its own.
//!
//! What counts as used is without the pages of files, which the kernel takes back before it kills anything. The files
//! stay open: a look at them is a system call for each and no path to walk (measured on v1: 0.8 µs for the limit, 0.7 for
//! the use, 8.5 for what the use is made of; opening and closing would add 6.5 to each).

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// More than any of the files has to say up to the lines that are wanted.
const FILE_BYTES_MAX: usize = 8192;

/// A use and what it may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// What is in use.
    pub used: u64,
    /// What may be.
    pub limit: u64,
}

/// Where the figures are read.
#[derive(Debug)]
pub enum Memory {
    /// In the process's control group and those above it.
    Groups(Vec<Group>),
    /// The process's own size, held to a number of bytes.
    Process(File, u64),
}

/// The files of a control group.
#[derive(Debug)]
pub struct Group {
    hierarchy: Hierarchy,
    limit: File,
    usage: File,
    stat: File,
}

/// The two kinds of control groups (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// A hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

impl Memory {
    /// What holds for this process. `bytes_max`: a limit of its own; 0: the groups' limits. `None`: the system has
    /// neither.
    pub fn find(bytes_max: u64) -> Option<Self> {
        if bytes_max > 0 {
            return Some(Self::Process(File::open("/proc/self/statm").ok()?, bytes_max));
        }
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (hierarchy, path) = membership(&text)?;
        let there = |folder: &Path| folder.join(hierarchy.limit_file()).exists();
        let found = hierarchy.roots().iter().map(|root| folders(Path::new(root), path, there));
        let groups: Vec<_> = found.flatten().filter_map(|folder| Group::open(hierarchy, &folder)).collect();
        (!groups.is_empty()).then_some(Self::Groups(groups))
    }

    /// The use that is nearest to its limit; `None` where nothing is limited now.
    pub fn sample(&self) -> Option<Use> {
        match self {
            Self::Process(statm, limit) => {
                let text = Text::read(statm)?;
                let mut pages = text.as_str().split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok());
                let (resident, shared) = (pages.next()?, pages.next()?);
                let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
                Some(Use { used: resident.saturating_sub(shared) * page, limit: *limit })
            }
            // Compared as fractions, by cross multiplication.
            Self::Groups(groups) => groups.iter().filter_map(Group::sample).max_by(|a, b| {
                let product = |x: u64, y: u64| u128::from(x) * u128::from(y);
                product(a.used, b.limit).cmp(&product(b.used, a.limit))
            }),
        }
    }
}

#[cfg(test)]
impl Memory {
    /// As in a group of version 2 whose files lie in this folder.
    pub fn in_group(folder: &Path, used: u64, limit: u64) -> Self {
        let texts = [("memory.max", limit), ("memory.current", used), ("memory.stat", 0)];
        texts.iter().for_each(|(name, text)| fs::write(folder.join(name), text.to_string()).unwrap());
        Self::Groups(vec![Group::open(Hierarchy::V2, folder).unwrap()])
    }
}

impl Group {
    fn open(hierarchy: Hierarchy, folder: &Path) -> Option<Self> {
        let open = |name: &str| File::open(folder.join(name)).ok();
        Some(Self {
            hierarchy,
            limit: open(hierarchy.limit_file())?,
            usage: open(hierarchy.usage_file())?,
            stat: open("memory.stat")?,
        })
    }

    fn sample(&self) -> Option<Use> {
        let limit = limit(Text::read(&self.limit)?.as_str())?;
        let usage: u64 = Text::read(&self.usage)?.as_str().trim().parse().ok()?;
        // The one file that is not cheap, and with this much room left it changes nothing.
        if usage < limit / 2 {
            return Some(Use { used: usage, limit });
        }
        let stat = Text::read(&self.stat)?;
        let pages = |name: &str| field(stat.as_str(), name).unwrap_or(0);
        let files = match self.hierarchy {
            Hierarchy::V1 => pages("total_inactive_file") + pages("total_active_file"),
            Hierarchy::V2 => pages("inactive_file") + pages("active_file"),
        };
        Some(Use { used: usage.saturating_sub(files), limit })
    }
}

impl Hierarchy {
    /// Where it is mounted; beside v1, v2 has a place of its own.
    fn roots(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["/sys/fs/cgroup/memory"],
            Self::V2 => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
        }
    }

    fn limit_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    fn usage_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.usage_in_bytes",
            Self::V2 => "memory.current",
        }
    }
}

/// A file's beginning.
struct Text([u8; FILE_BYTES_MAX], usize);

impl Text {
    fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; FILE_BYTES_MAX];
        let length = file.read_at(&mut bytes, 0).ok()?;
        Some(Self(bytes, length))
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0[..self.1]).unwrap_or_default()
    }
}

/// Which group of which hierarchy accounts for the process's memory, by the text of `/proc/PID/cgroup`.
fn membership(text: &str) -> Option<(Hierarchy, &str)> {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let v1 = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let v2 = lines().find(|(controllers, _)| controllers.is_empty());
    v1.map(|(_, path)| (Hierarchy::V1, path)).or_else(|| v2.map(|(_, path)| (Hierarchy::V2, path)))
}

/// The folders of a group and of those above it, as far as they can be seen: in a container the path may be told from
/// a root that is not mounted there, and the group is then the one that is.
fn folders(root: &Path, path: &str, exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let group = root.join(path.trim_start_matches('/'));
    let group = if group.starts_with(root) && exists(&group) { group } else { root.to_owned() };
    let all = group.ancestors().take_while(|folder| folder.starts_with(root));
    all.filter(|folder| exists(folder)).map(Path::to_owned).collect()
}

/// A limit as a file has it; `None` for none. v1 writes none as the highest number of whole pages.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < u64::MAX / 4)
}

/// The number after a name that begins a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| rest.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships() {
        for (description, text, expected) in [
            ("v2", "0::/system.slice/yett.service\n", Some((Hierarchy::V2, "/system.slice/yett.service"))),
            ("v1", "5:devices:/\n4:memory:/docker/a\n0::/\n", Some((Hierarchy::V1, "/docker/a"))),
            ("v1, joint", "4:cpu,memory:/a:b\n", Some((Hierarchy::V1, "/a:b"))),
            ("v1 without memory, v2", "5:devices:/x\n0::/y\n", Some((Hierarchy::V2, "/y"))),
            ("none", "5:devices:/\n", None),
            ("empty", "", None),
            ("garbage", "what\n", None),
        ] {
            assert_eq!(membership(text), expected, "{description}");
        }
    }

    #[test]
    fn groups_are_those_that_are_there() {
        let root = Path::new("/r");
        for (description, path, there, expected) in [
            ("all the way up", "/a/b", &["/r", "/r/a", "/r/a/b"][..], &["/r/a/b", "/r/a", "/r"][..]),
            ("a root without the file, as v2 has it", "/a", &["/r/a"], &["/r/a"]),
            ("told from outside a container", "/docker/x", &["/r"], &["/r"]),
            ("out of its name space", "/../x", &["/r"], &["/r"]),
            ("nothing", "/", &[], &[]),
        ] {
            let found = folders(root, path, |folder| there.iter().any(|known| Path::new(known) == folder));
            let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, expected, "{description}");
        }
    }

    #[test]
    fn figures() {
        for (text, expected) in
            [("67108864\n", Some(67_108_864)), ("max\n", None), ("9223372036854771712\n", None), ("", None)]
        {
            assert_eq!(limit(text), expected, "{text}");
        }
        let stat = "total_inactive_file 1\ninactive_file_x 2\ninactive_file 3\n";
        assert_eq!(field(stat, "inactive_file"), Some(3));
    }

    #[test]
    fn groups_of_both_kinds_are_read() {
        for (description, hierarchy, files, expected) in [
            (
                "v1, much in use",
                Hierarchy::V1,
                ["1000\n", "900\n", "inactive_file 1\ntotal_inactive_file 200\ntotal_active_file 100\n"],
                Some(600),
            ),
            ("v2, much in use", Hierarchy::V2, ["1000\n", "900\n", "anon 7\ninactive_file 200\n"], Some(700)),
            ("little in use", Hierarchy::V2, ["1000\n", "400\n", "inactive_file 200\n"], Some(400)),
            ("no limit", Hierarchy::V2, ["max\n", "900\n", "inactive_file 200\n"], None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let names = [hierarchy.limit_file(), hierarchy.usage_file(), "memory.stat"];
            for (name, text) in names.into_iter().zip(files) {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let found = Group::open(hierarchy, folder.path()).unwrap().sample();
            assert_eq!(found, expected.map(|used| Use { used, limit: 1000 }), "{description}");
        }
    }

    #[test]
    fn a_process_has_a_size() {
        let found = Memory::find(1 << 40).unwrap().sample().unwrap();
        assert_eq!(found.limit, 1 << 40);
        assert!(found.used > 64 << 10 && found.used < 1 << 40, "{found:?}");
    }
}
