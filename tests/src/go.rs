//! The Go command, for what only the Go world has: definitions and programs, pinned by `go.mod` and `go.sum` in a folder
//! of `tests/`. It fetches each once and keeps it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tools;

/// The oldest Go that fetches the toolchain it is told to.
const VERSION_MIN: (u32, u32) = (1, 21);
/// Which Go it is told to be.
pub(crate) const TOOLCHAIN: &str = "go1.27.3";

/// A Go module of ours.
#[derive(Debug)]
pub struct Go {
    folder: PathBuf,
}

impl Go {
    /// The module in this folder of `tests/`. `None`, said aloud for `test`, where there is no Go.
    ///
    /// # Panics
    /// In continuous integration, where there is no Go.
    pub fn module(folder: &str, test: &str) -> Option<Self> {
        let go = Self { folder: self::folder(folder) };
        let said = go.command("local").args(["env", "GOVERSION"]).output().ok();
        let version = said.and_then(|output| version(&String::from_utf8_lossy(&output.stdout)));
        if version.is_some_and(|version| version >= VERSION_MIN) {
            return Some(go);
        }
        let (major, minor) = VERSION_MIN;
        tools::skip(test, &format!("the Go command is missing or older than {major}.{minor}"));
        None
    }

    /// What `go ARGUMENTS…` prints. `None`, said aloud for `test`, where it fails: mostly since there is no network.
    ///
    /// # Panics
    /// In continuous integration, where it fails.
    pub fn say(&self, arguments: &[&str], test: &str) -> Option<String> {
        let Output { status, stdout, stderr } =
            self.command(TOOLCHAIN).args(arguments).output().expect("the Go command starts");
        if status.success() {
            return Some(String::from_utf8_lossy(&stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&stderr).trim().replace('\n', "; ");
        tools::skip(test, &format!("go {}: {said}", arguments.join(" ")));
        None
    }

    fn command(&self, toolchain: &str) -> Command {
        command_in(&self.folder, toolchain)
    }
}

/// A folder of `tests/`.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The Go command in there, told which Go to be.
pub(crate) fn command(name: &str, toolchain: &str) -> Command {
    command_in(&folder(name), toolchain)
}

fn command_in(folder: &Path, toolchain: &str) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).env("GOTOOLCHAIN", toolchain).env("GOFLAGS", "").env("GOWORK", "off");
    go
}

/// `go1.26.8` as (1, 26).
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    let mut next = || {
        let digits: String = numbers.next()?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_of_go() {
        for (text, expected) in [
            ("go1.26.8\n", Some((1, 26))),
            ("go1.9", Some((1, 9))),
            ("go1.28rc1", Some((1, 28))),
            ("devel", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text:?}");
        }
    }
}
