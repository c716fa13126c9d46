//! `yett check` as a program: what it finds in a folder, and what it says.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::binary;

/// A finding, as `-o json` has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// `YT0104`
    pub code: String,
    /// Whether it is an error and not a warning.
    pub error: bool,
    /// The file's name without its folder; empty where there is none.
    pub file: String,
    /// From 1; 0: unknown.
    pub line: u64,
    /// From 1; 0: unknown.
    pub column: u64,
    /// `Kind namespace/name`
    pub object: String,
    /// `spec.listeners[0].port`
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty where that is not said.
    pub help: String,
}

/// Runs the command on paths with further arguments.
///
/// # Panics
/// When it cannot be started.
pub fn command(paths: &[&Path], arguments: &[&str]) -> Output {
    let mut check = binary::command();
    check.arg("check").args(paths).args(arguments).env("NO_COLOR", "1");
    check.output().expect("yett can be started")
}

/// Everything that is found in a folder.
///
/// # Panics
/// When the answer is no array of findings.
pub fn findings(paths: &[&Path]) -> Vec<Found> {
    let output = command(paths, &["-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    list.as_array().expect("an array").iter().map(found).collect()
}

fn found(value: &Value) -> Found {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let file = text("file");
    Found {
        code: text("code"),
        error: text("severity") == "error",
        file: Path::new(&file).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        line: value["line"].as_u64().expect("a line"),
        column: value["column"].as_u64().expect("a column"),
        object: text("object"),
        field: text("field"),
        message: text("message"),
        help: text("help"),
    }
}
