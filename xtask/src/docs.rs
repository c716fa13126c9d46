//! What the documents list is what the code has.

use gateway_common::Reason;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

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
