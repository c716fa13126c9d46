//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that neither the compiler nor clippy can hold.
//!
//! The tree comes in, findings go out. Sources are read as tokens, so comments and strings never mislead a rule, and
//! test code is told from product code. A finding fails the command, but for long files, which are only pointed out.

mod layers;
mod lints;
mod source;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use self::source::Source;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// An import against the direction of the table in [`layers`].
    Imports,
    /// A pure module that reaches for I/O, a clock, a log or a metric.
    Purity,
    /// `unsafe` outside the named files.
    Unsafe,
    /// A lint exception without a reason.
    Exceptions,
    /// A panic on a product path.
    Panics,
    /// A crate or workspace whose lints are not in force.
    Lints,
    /// Text that belongs to one machine.
    Words,
    /// A source file that has grown too long.
    Size,
}

impl Rule {
    /// Whether a finding fails the check.
    fn fails(self) -> bool {
        self != Rule::Size
    }
}

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) rule: Rule,
    pub(crate) said: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = format!("{:?}", self.rule).to_lowercase();
        let weight = if self.rule.fails() { "" } else { " (notice)" };
        write!(f, "{}:{}: {rule}{weight}: {}", self.file.display(), self.line, self.said)
    }
}

/// The command.
///
/// # Errors
/// When the tree cannot be read.
pub(crate) fn run() -> Result<ExitCode> {
    Ok(match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// The check: prints every finding.
///
/// # Errors
/// When a finding fails it, or the tree cannot be read.
pub(crate) fn check() -> Result<()> {
    let findings = examine(&crate::cargo::root())?;
    for finding in &findings {
        println!("{finding}");
    }
    let failing = findings.iter().filter(|finding| finding.rule.fails()).count();
    anyhow::ensure!(failing == 0, "{failing} findings");
    println!("the tree is tidy");
    Ok(())
}

/// Every finding in a tree, sorted by place.
fn examine(root: &Path) -> Result<Vec<Finding>> {
    let files = tree::files(root)?;
    let test_places = test_places(&files);
    let mut findings = Vec::new();
    for file in &files {
        let mut add = |line, rule, said| findings.push(Finding { file: file.path.clone(), line, rule, said });
        tree::words(file, &mut add);
        if file.path.ends_with("Cargo.toml") {
            lints::manifest(file, &mut add);
        }
        if file.is_rust() {
            let test = test_places.iter().any(|place| file.path.starts_with(place));
            match Source::read(&file.path, &file.text, test) {
                Ok(source) => {
                    layers::imports(&source, &mut add);
                    layers::purity(&source, &mut add);
                    lints::source(&source, &mut add);
                }
                // rustc says it better, but a file that rustc does not compile must not slip through.
                Err(error) => add(error.line, Rule::Lints, format!("cannot be read as Rust: {}", error.said)),
            }
        }
    }
    findings.sort();
    Ok(findings)
}

/// Where the modules are that some file declares for tests only.
fn test_places(files: &[tree::File]) -> Vec<PathBuf> {
    let rust = files.iter().filter(|file| file.is_rust());
    let sources = rust.filter_map(|file| Source::read(&file.path, &file.text, false).ok());
    sources.flat_map(|source| source.test_places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(fixture: &str) -> Vec<Finding> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tidy").join(fixture);
        assert!(root.is_dir(), "no fixture {}", root.display());
        examine(&root).unwrap()
    }

    /// Every line that holds the mark `BAD` is found, by this rule, and no other line is found at all.
    #[test]
    fn each_rule_finds_what_its_bad_fixture_marks() {
        let table = [
            ("imports", Rule::Imports),
            ("purity", Rule::Purity),
            ("unsafe", Rule::Unsafe),
            ("exceptions", Rule::Exceptions),
            ("panics", Rule::Panics),
            ("lints", Rule::Lints),
            ("words", Rule::Words),
        ];
        for (fixture, rule) in table {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tidy").join(fixture);
            let mut marked = Vec::new();
            for file in tree::files(&root).unwrap() {
                let lines = file.text.lines().enumerate().filter(|(_, line)| line.contains("BAD"));
                marked.extend(lines.map(|(at, _)| (file.path.clone(), at + 1)));
            }
            marked.sort();
            assert!(!marked.is_empty(), "{fixture} marks nothing");
            let findings = examined(fixture);
            let mut found: Vec<_> =
                findings.iter().map(|finding| (finding.file.clone(), finding.line)).collect();
            found.dedup();
            assert_eq!(found, marked, "{fixture}: {findings:#?}");
            assert!(findings.iter().all(|finding| finding.rule == rule), "{fixture}: {findings:#?}");
        }
    }

    #[test]
    fn a_long_file_is_pointed_out_and_does_not_fail() {
        let findings = examined("size");
        assert_eq!(findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Rule::Size]);
        assert!(!Rule::Size.fails());
    }

    #[test]
    fn a_good_tree_has_no_findings() {
        assert_eq!(examined("good"), []);
    }
}
