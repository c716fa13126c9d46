//! How much memory the process may have and has: by its control groups, v2 or v1, or by a limit of its own.
//!
//! What counts as used is without the pages of files, which the kernel takes back before it kills anything.

use std::fs;
use std::path::{Path, PathBuf};

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
    Groups(Hierarchy, Vec<PathBuf>),
    /// The process's own size, held to this many bytes.
    Process(u64),
}

/// The two kinds of control groups (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
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
            return Some(Self::Process(bytes_max));
        }
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (hierarchy, path) = membership(&text)?;
        let root = Path::new(hierarchy.root());
        let folders = folders(root, path, |folder| folder.join(hierarchy.limit_file()).exists());
        (!folders.is_empty()).then_some(Self::Groups(hierarchy, folders))
    }

    /// The use that is nearest to its limit; `None` where nothing is limited now.
    pub fn sample(&self) -> Option<Use> {
        match self {
            Self::Process(limit) => {
                let text = fs::read_to_string("/proc/self/status").ok()?;
                Some(Use { used: field(&text, "RssAnon:")? * 1024, limit: *limit })
            }
            Self::Groups(hierarchy, folders) => {
                let used = folders.iter().filter_map(|folder| hierarchy.sample(folder));
                // Compared as fractions, by cross multiplication.
                used.max_by(|a, b| {
                    let product = |x: u64, y: u64| u128::from(x) * u128::from(y);
                    product(a.used, b.limit).cmp(&product(b.used, a.limit))
                })
            }
        }
    }
}

impl Hierarchy {
    fn root(self) -> &'static str {
        match self {
            Self::V1 => "/sys/fs/cgroup/memory",
            Self::V2 => "/sys/fs/cgroup",
        }
    }

    fn limit_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    fn sample(self, folder: &Path) -> Option<Use> {
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let limit = limit(&read(self.limit_file())?)?;
        let (usage, prefix) = match self {
            Self::V1 => ("memory.usage_in_bytes", "total_"),
            Self::V2 => ("memory.current", ""),
        };
        let usage: u64 = read(usage)?.trim().parse().ok()?;
        let stat = read("memory.stat")?;
        let pages = |name: &str| field(&stat, &format!("{prefix}{name}")).unwrap_or(0);
        Some(Use { used: usage.saturating_sub(pages("inactive_file") + pages("active_file")), limit })
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
    lines.find_map(|rest| rest.strip_prefix(char::is_whitespace)?.split_whitespace().next()?.parse().ok())
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
        assert_eq!(field("VmRSS:\t 36 kB\nRssAnon:\t 12 kB\n", "RssAnon:"), Some(12));
    }
}
