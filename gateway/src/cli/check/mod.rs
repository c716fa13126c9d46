//! `yett check`: everything that a gateway would find fault with, without serving.

mod excerpt;
mod github;
mod human;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

pub(super) use self::human::Paint;
use super::Failure;
use super::settings::Flags;
use crate::app;
use crate::model::{Finding, Severity};

/// The arguments of `yett check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 no errors, 1 warnings with --strict, 2 errors. `yett explain CODE` tells more of a finding."
)]
pub(super) struct Arguments {
    /// Files and directories with manifests [default: those of the settings]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
    /// Exit with 1 if there are warnings
    #[arg(long)]
    strict: bool,
    /// File with settings (TOML)
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Address to listen on where a Gateway names none; repeatable [default: every address of the machine]
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// Bind another port than the listener's; repeatable
    #[arg(long, value_name = "443=8443")]
    port_map: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// With an excerpt of the document
    Human,
    /// An array of findings
    Json,
    /// Workflow commands, which GitHub shows beside the lines of a change
    Github,
}

/// Checks the manifests and prints what was found.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let flags = Flags::of_documents(&arguments.settings, &arguments.address, &arguments.port_map);
    let settings = flags.layers()?.settings().map_err(Failure::input)?;
    let paths = if arguments.paths.is_empty() { &settings.config } else { &arguments.paths };
    if paths.is_empty() {
        return Err(Failure::input(anyhow::anyhow!("nothing to check: name files or directories")));
    }
    let checked = app::check(paths, &settings).map_err(Failure::operation)?;
    let text = match arguments.output {
        Output::Human => human::page(&checked, Paint::new(std::io::stdout().is_terminal())),
        Output::Json => serde_json::to_string_pretty(&checked.findings).map_err(Failure::operation)? + "\n",
        Output::Github => checked.findings.iter().map(github::command).collect(),
    };
    super::print(&text)?;
    Ok(ExitCode::from(code(&checked.findings, arguments.strict)))
}

fn code(findings: &[Finding], strict: bool) -> u8 {
    match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Error) => 2,
        Some(Severity::Warning) if strict => 1,
        Some(Severity::Warning) | None => 0,
    }
}

/// A finding for tests.
#[cfg(test)]
fn example(severity: Severity) -> Finding {
    Finding {
        code: "YT0104",
        severity,
        file: Some("gateway.yaml".into()),
        line: 3,
        column: 5,
        object: "Gateway default/web".to_owned(),
        field: "spec.prot".to_owned(),
        message: "unknown field `prot`".to_owned(),
        help: Some("did you mean `port`?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let (warning, error) = (example(Severity::Warning), example(Severity::Error));
        for (description, findings, expected) in [
            ("nothing", vec![], [0, 0]),
            ("a warning", vec![warning.clone()], [0, 1]),
            ("an error", vec![error.clone()], [2, 2]),
            ("both", vec![error, warning], [2, 2]),
        ] {
            assert_eq!([false, true].map(|strict| code(&findings, strict)), expected, "{description}");
        }
    }
}
