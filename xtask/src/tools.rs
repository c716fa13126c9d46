//! The programs that the commands need beside cargo: found on the PATH, installed from Debian's packages where we may,
//! else named in one list.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::stage::call;

/// A program, the Debian package that brings it, and what we want it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
    required: bool,
}

/// What the walk-through uses.
pub(crate) const DEMO: &[Tool] = &[
    Tool { program: "openssl", package: "openssl", purpose: "makes the demo's certificates", required: true },
    Tool { program: "curl", package: "curl", purpose: "is the demo's client", required: true },
];

/// What the tests use. Without the optional ones their tests are skipped aloud.
pub(crate) const TESTS: &[Tool] = &[
    Tool {
        program: "openssl",
        package: "openssl",
        purpose: "makes certificates and handshakes",
        required: true,
    },
    Tool { program: "curl", package: "curl", purpose: "is the end-to-end tests' client", required: true },
    Tool { program: "promtool", package: "prometheus", purpose: "checks /metrics", required: false },
    Tool { program: "prometheus", package: "prometheus", purpose: "scrapes /metrics", required: false },
    Tool { program: "ip", package: "iproute2", purpose: "makes network namespaces", required: false },
    Tool { program: "faketime", package: "faketime", purpose: "sets a gateway's clock", required: false },
    Tool { program: "nft", package: "nftables", purpose: "loses packets on purpose", required: false },
];

/// cargo-deny in the version whose findings we know.
const CARGO_DENY_VERSION: &str = "0.20.2";
/// cargo-fuzz in the version whose flags we know.
const CARGO_FUZZ_VERSION: &str = "0.13.1";

/// Sees to it that the tools are there.
///
/// # Errors
/// When a required one is missing and cannot be installed; the message lists what to install.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    if missing(tools).is_empty() {
        return Ok(());
    }
    if can_install() {
        let packages = packages(&missing(tools));
        println!("installing Debian packages: {}", packages.join(" "));
        if let Err(error) = install(&packages) {
            println!("could not install them: {error:#}");
        }
    }
    let missing = missing(tools);
    for tool in &missing {
        let need = if tool.required { "needed" } else { "wanted, its tests are skipped" };
        println!("missing: {} ({need}), it {}", tool.program, tool.purpose);
    }
    if !missing.is_empty() {
        println!("on Debian: sudo apt-get install --no-install-recommends {}", packages(&missing).join(" "));
    }
    anyhow::ensure!(missing.iter().all(|tool| !tool.required), "programs are missing, see above");
    Ok(())
}

/// cargo-deny's path.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    built("cargo-deny", CARGO_DENY_VERSION, &["--no-default-features"])
}

/// cargo-fuzz's path.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    built("cargo-fuzz", CARGO_FUZZ_VERSION, &[])
}

/// The path of a program that cargo builds; once, into the user's cache, outside the repository.
fn built(name: &str, version: &str, flags: &[&str]) -> Result<PathBuf> {
    let home = cache()?.join("tools").join(format!("{name}-{version}"));
    let program = home.join("bin").join(name);
    if !program.exists() {
        println!("building {name} {version} into {} (once)", home.display());
        // The development profile: it runs for a second, while an optimised build takes minutes.
        let mut build = crate::cargo::command(["install", name, "--locked", "--debug"]);
        build.args(flags).args(["--version", version, "--root"]).arg(&home);
        // Its objects have no place in our own build cache.
        call(build.env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(program)
}

/// `~/.cache/yett`, or where XDG_CACHE_HOME says.
///
/// # Errors
/// When there is no home directory.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("yett"))
}

fn missing(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().filter(|tool| !on_path(tool.program)).copied().collect()
}

fn packages(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// System programs count too, although an ordinary user's PATH may leave their directory out.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|directory| directory.join(program).is_file())
}

/// Whether this is a Debian where we are root.
pub(crate) fn can_install() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    root && on_path("apt-get")
}

/// Installs Debian packages, without what they only recommend.
///
/// # Errors
/// When apt-get cannot.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let _no_services = NoServices::begin();
    let apt =
        |args: &[&str]| call(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(args));
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
    if apt(&install).is_err() {
        apt(&["update", "-qq"])?;
        apt(&install)?;
    }
    if packages.contains(&"prometheus") && on_path("systemctl") {
        // Debian enables the service it ships; the tests start their own and want none at the next boot.
        let _ = Command::new("systemctl").args(["disable", "--quiet", "prometheus.service"]).status();
    }
    Ok(())
}

/// While it lives, installing a package starts no service: Debian's policy-rc.d says so. One that stands already is
/// left alone.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> NoServices {
        let written = !Path::new(POLICY).exists() && fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_ok();
        if written {
            let _ = fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755));
        }
        NoServices { ours: written }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once_however_many_programs_it_brings() {
        assert_eq!(packages(TESTS), ["curl", "faketime", "iproute2", "nftables", "openssl", "prometheus"]);
    }

    #[test]
    fn programs_are_found_on_the_path_alone() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-anywhere"));
    }
}
