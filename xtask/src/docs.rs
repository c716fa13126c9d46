//! What the documents list is what the code has.

use std::collections::BTreeSet;
use std::fs;

use gateway_common::Reason;

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const RELIABILITY: &str = include_str!("../../docs/reliability.md");

#[test]
fn every_reason_stands_in_the_operations_guide_and_no_other() {
    for reason in Reason::ALL {
        let row = match reason.status() {
            0 => format!("| `{}` | {} |", reason.as_str(), reason.title()),
            status => format!("| `{}` | {status} | {} |", reason.as_str(), reason.title()),
        };
        assert!(OPERATIONS.lines().any(|line| line == row), "docs/operations.md lacks the row {row}");
    }
    let answers = OPERATIONS.split("## What Yett itself answers").nth(1).unwrap();
    let rows =
        answers.lines().filter(|line| line.starts_with("| `") && !line.contains("yett-reason")).count();
    assert_eq!(rows, Reason::ALL.len(), "docs/operations.md lists reasons that no longer exist");
}

#[test]
fn every_metric_stands_in_the_operations_guide_and_no_other() {
    let directory = crate::cargo::root().join("gateway/src/telemetry/metrics");
    let mut files = vec![directory.with_extension("rs")];
    files.extend(fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()));
    let registered: BTreeSet<String> = files
        .iter()
        .filter(|file| !file.ends_with("tests.rs"))
        .flat_map(|file| names(&fs::read_to_string(file).unwrap(), '"'))
        .collect();
    let table = OPERATIONS.lines().filter(|line| line.starts_with("| `yett_"));
    let documented: BTreeSet<String> = table.flat_map(|line| names(line, '`')).collect();
    assert_eq!(documented, registered, "docs/operations.md on the left, gateway/src/telemetry on the right");
}

/// A row that names no test, or one that is gone, would promise what nobody holds.
#[test]
fn every_fault_in_the_reliability_guide_names_tests_that_exist() {
    let sources = rust_sources();
    let rows = RELIABILITY.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault"));
    for row in rows {
        let shown_by = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap();
        let named: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        let tests = named.iter().filter(|name| !name.starts_with("cargo xtask "));
        assert!(tests.clone().count() > 0, "docs/reliability.md names no test: {row}");
        for name in tests {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "docs/reliability.md names {name}, which is gone"
            );
        }
    }
}

/// The texts of the sources in which tests stand.
fn rust_sources() -> String {
    let mut folders =
        vec![crate::cargo::root().join("gateway/src"), crate::cargo::root().join("tests/tests")];
    let mut texts = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                texts.push_str(&fs::read_to_string(entry).unwrap());
            }
        }
    }
    texts
}

/// The whole texts between two marks that are names of ours.
fn names(text: &str, mark: char) -> Vec<String> {
    let name = |text: &&str| text.len() > "yett_".len() && text.starts_with("yett_") && !text.contains('{');
    text.split(mark).filter(name).map(str::to_owned).collect()
}
