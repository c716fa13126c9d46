//! The files of a tree, and the rules about their plain text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Rule;

/// A text file, by its path within the tree.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    /// Whether it is Rust, by its name.
    pub(super) fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }
}

/// What holds no text of ours: build results, version control, and the fixtures that break rules on purpose.
const SKIPPED: &[&str] = &["target", ".git", ".tools", "prebuilt", "xtask/fixtures/tidy"];

/// Larger files are data, not text of ours.
const FILE_BYTES_MAX: u64 = 300_000;

/// The text files below `root`.
///
/// # Errors
/// When a directory or file cannot be read.
pub(super) fn files(root: &Path) -> Result<Vec<File>> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry?.path();
            let within = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            if SKIPPED.iter().any(|skipped| within.ends_with(skipped)) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            if bytes.len() as u64 <= FILE_BYTES_MAX
                && within.extension().is_none_or(|extension| extension != "lock")
                && let Ok(text) = String::from_utf8(bytes)
            {
                found.push(File { path: within, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Paths of the machine that a change was made on, never of the project. Written in two halves, so that this file
/// passes its own rule.
const MACHINE_WORDS: &[(&str, &str)] =
    &[("/wor", "k/"), ("/roo", "t/"), ("bash_", "jobs"), (".libr", "ary/"), ("../sha", "red/")];

/// Text that belongs to one machine.
pub(super) fn words(file: &File, add: &mut impl FnMut(usize, Rule, String)) {
    let words: Vec<String> = MACHINE_WORDS.iter().map(|(head, tail)| format!("{head}{tail}")).collect();
    for (at, line) in file.text.lines().enumerate() {
        for word in &words {
            // `network/work/…` is not an absolute path; what stands before one is a blank, a quote or a bracket.
            let whole = |found: usize| {
                let before = line[..found].chars().next_back();
                !word.starts_with('/') || before.is_none_or(|c| !c.is_alphanumeric() && !"._-~}/".contains(c))
            };
            if line.match_indices(word.as_str()).any(|(found, _)| whole(found)) {
                add(at + 1, Rule::Words, format!("names a place of one machine: {word}"));
            }
        }
    }
}
