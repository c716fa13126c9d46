//! Which files the kernel object is made of, and one hash over them. The build script of `gateway` includes this file
//! as well, to say when the committed object is older than the sources.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What the object is made of, from the repository's root.
const PLACES: &[&str] = &[
    "gateway-ebpf/Cargo.toml",
    "gateway-ebpf/Cargo.lock",
    "gateway-ebpf/src",
    "gateway-common/Cargo.toml",
    "gateway-common/src",
];

/// What no byte of the object comes from, though it lies there: a new reason must not need a new object. The codes that
/// the programs use never change their meaning.
const APART: &[&str] =
    &["gateway-common/src/reason.rs", "gateway-common/src/pod.rs", "gateway-common/src/parse_tests.rs"];

/// The files, sorted.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = PLACES.iter().map(|place| root.join(place)).collect();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        } else if !APART.iter().any(|apart| path == root.join(apart)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The hash over all of them, names and contents.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn hash(root: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for file in files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        let contents = fs::read(&file)?;
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update((contents.len() as u64).to_be_bytes());
        hash.update(contents);
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
