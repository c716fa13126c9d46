//! `cargo xtask ebpf`: the kernel object, which is committed so that building `yett` needs no toolchain of the
//! kernel's. `build` makes it, `check` makes it again and compares, `doctor` says what is there.

mod sources;
mod strip;
mod toolchain;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cargo;
use crate::test::in_ci;
use toolchain::Toolchain;

/// What to do with the kernel object.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build the object and put it where it is committed
    Build,
    /// Build the object again and compare it with the committed one
    Check,
    /// Say what of the toolchain is there, and whether the object fits the sources
    Doctor,
}

/// What is known of the committed object; `prebuilt.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Prebuilt {
    /// SHA-256 of the object.
    object: String,
    /// SHA-256 over the sources.
    sources: String,
    /// Who built it.
    toolchain: Toolchain,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The committed object is what the sources give, byte for byte.
    Same,
    /// Another toolchain built from the same sources; the tests must run on its object, which lies here.
    Fresh(PathBuf),
    /// There is no toolchain to tell with; object and sources are those that belong together.
    Untold,
}

/// The command.
///
/// # Errors
/// When there is no toolchain, the build fails, or the object does not fit.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Build => build()?,
        Command::Check => {
            check()?;
        }
        Command::Doctor => return doctor(),
    }
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<()> {
    let toolchain = toolchain::ready()?;
    let linked = toolchain::build()?;
    let object = strip::strip(&linked)?;
    let prebuilt = Prebuilt { object: sha256(&object), sources: sources()?, toolchain };
    fs::create_dir_all(directory()).context("making the object's directory")?;
    fs::write(object_path(), &object).context("writing the object")?;
    let text = toml::to_string(&prebuilt).context("describing the object")?;
    fs::write(description_path(), format!("{HEAD}{text}")).context("writing prebuilt.toml")?;
    println!("{} bytes ({} with debug information), sha256 {}", object.len(), linked.len(), prebuilt.object);
    Ok(())
}

const HEAD: &str = "# What yett.bpf.o was built from and with; `cargo xtask ebpf build` writes both.\n";

/// Whether the committed object is what the sources give.
///
/// # Errors
/// When it is not, or, in continuous integration, when there is no toolchain to tell with.
pub(crate) fn check() -> Result<Checked> {
    let prebuilt = described()?;
    let committed = fs::read(object_path()).context("reading the committed object")?;
    anyhow::ensure!(
        sha256(&committed) == prebuilt.object,
        "{} is not the one that prebuilt.toml describes: {STALE}",
        object_path().display()
    );
    anyhow::ensure!(sources()? == prebuilt.sources, "the sources have changed: {STALE}");
    let toolchain = match toolchain::ready() {
        Ok(toolchain) => toolchain,
        Err(error) if !in_ci() => {
            println!("SKIPPED: building the kernel object: {error:#}");
            return Ok(Checked::Untold);
        }
        Err(error) => return Err(error),
    };
    let object = strip::strip(&toolchain::build()?)?;
    if toolchain == prebuilt.toolchain {
        anyhow::ensure!(object == committed, "the same toolchain gives other bytes: {STALE}");
        println!("the committed object is what the sources give, byte for byte");
        return Ok(Checked::Same);
    }
    let fresh = cargo::target()?.join("ebpf/fresh.bpf.o");
    fs::write(&fresh, &object).with_context(|| format!("writing {}", fresh.display()))?;
    println!("NOTICE: {} has moved on from {}", toolchain.rustc, prebuilt.toolchain.rustc);
    println!("NOTICE: bytes are not compared; the tests run on the object that it gives");
    Ok(Checked::Fresh(fresh))
}

const STALE: &str = "run `cargo xtask ebpf build` and commit gateway-ebpf/prebuilt";

fn doctor() -> Result<ExitCode> {
    let mut well = true;
    let mut say = |what: &str, state: Result<String>| {
        well &= state.is_ok();
        match state {
            Ok(state) => println!("ok       {what}: {state}"),
            Err(error) => println!("missing  {what}: {error:#}"),
        }
    };
    say("compiler", toolchain::compiler().map(|toolchain| toolchain.rustc));
    let linker = toolchain::linker_path()?;
    let built = linker.exists().then(|| linker.display().to_string());
    say("linker", built.context("not built yet; `cargo xtask ebpf build` does"));
    say("prebuilt.toml", described().map(|prebuilt| format!("built with {}", prebuilt.toolchain.rustc)));
    say("object", described().and_then(|prebuilt| fits(&prebuilt)));
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fits(prebuilt: &Prebuilt) -> Result<String> {
    let committed = fs::read(object_path()).context("reading the committed object")?;
    anyhow::ensure!(sha256(&committed) == prebuilt.object, "not the one that prebuilt.toml describes");
    anyhow::ensure!(sources()? == prebuilt.sources, "older than the sources: {STALE}");
    Ok(format!("{} bytes, of these sources", committed.len()))
}

fn described() -> Result<Prebuilt> {
    let text = fs::read_to_string(description_path()).context("reading prebuilt.toml")?;
    toml::from_str(&text).context("prebuilt.toml")
}

fn sources() -> Result<String> {
    sources::hash(&cargo::root()).context("reading the sources")
}

fn sha256(bytes: &[u8]) -> String {
    sources::hex(&Sha256::digest(bytes))
}

fn directory() -> PathBuf {
    cargo::root().join("gateway-ebpf/prebuilt")
}

fn object_path() -> PathBuf {
    directory().join("yett.bpf.o")
}

fn description_path() -> PathBuf {
    directory().join("prebuilt.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_the_one_described_and_of_these_sources() {
        let fit = fits(&described().unwrap());
        assert!(fit.is_ok(), "{fit:?}");
    }

    #[test]
    fn reasons_are_no_sources_and_the_programs_are() {
        let root = cargo::root();
        let files = sources::files(&root).unwrap();
        let has = |name: &str| files.contains(&root.join(name));
        assert!(has("gateway-ebpf/src/main.rs") && has("gateway-common/src/parse.rs"));
        assert!(!has("gateway-common/src/reason.rs"));
    }
}
