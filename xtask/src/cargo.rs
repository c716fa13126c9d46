//! Calls of cargo: always over the whole workspace, always with the committed lock file.
//!
//! Selecting one package would resolve other features for the shared dependencies and compile them a second time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The repository's root: of the clone that cargo runs us from, which need not be the one we were built in.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&here);
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs us, called at the repository's root.
pub(crate) fn command<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// The binary `yett` of the development profile, whether it is built already or not.
///
/// # Errors
/// When cargo cannot say where its target directory is.
pub(crate) fn yett() -> Result<PathBuf> {
    Ok(target()?.join("debug/yett"))
}

/// Cargo's target directory.
///
/// # Errors
/// When cargo cannot say where it is.
pub(crate) fn target() -> Result<PathBuf> {
    let told = command(["metadata", "--no-deps", "--format-version=1", "--locked"])
        .output()
        .context("asking cargo for its target directory")?;
    anyhow::ensure!(
        told.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&told.stderr).trim()
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&told.stdout).context("reading cargo metadata")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(target))
}
