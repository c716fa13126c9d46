//! What is generated from the command line itself: `yett completions`, `yett man`, `yett version`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Failure;
use crate::telemetry::metrics::build_labels;

/// Date of the manual pages. Not that of the build, which would make every build another one.
const MANUAL_DATE: &str = "2026-11-24";

/// The arguments of `yett completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// Whose completions
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints a completion script.
pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut command: Command,
) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "yett", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}

/// The arguments of `yett man`.
#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Directory for a page of each command [default: print the page of yett]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints the manual page, or writes those of all commands to a directory.
pub(super) fn man(arguments: &ManArguments, command: Command) -> Result<ExitCode, Failure> {
    // The commands of which each has a page: `help` has none.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let Some(directory) = &arguments.directory else {
        let (_, text) = page(&command).map_err(Failure::operation)?;
        return super::print(&String::from_utf8_lossy(&text));
    };
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))
        .map_err(Failure::operation)?;
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let (name, text) = page(command).map_err(Failure::operation)?;
        let path = directory.join(name);
        fs::write(&path, text)
            .with_context(|| format!("cannot write {}", path.display()))
            .map_err(Failure::operation)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// File name and text of a command's page.
fn page(command: &Command) -> std::io::Result<(String, Vec<u8>)> {
    let page =
        Man::new(command.clone()).date(MANUAL_DATE).source(concat!("yett ", env!("CARGO_PKG_VERSION")));
    let name = page.get_filename();
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((name, text))
}

/// The arguments of `yett version`.
#[derive(Debug, Args)]
pub(super) struct VersionArguments {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One line
    Text,
    /// An object
    Json,
}

/// Prints what this binary is and what it was built by.
pub(super) fn version(arguments: &VersionArguments) -> Result<ExitCode, Failure> {
    let facts = build_labels();
    let text = match arguments.output {
        Output::Text => {
            let words: Vec<String> =
                facts.iter().skip(1).map(|(name, value)| format!("{name} {value}")).collect();
            format!("yett {} ({})\n", env!("CARGO_PKG_VERSION"), words.join(", "))
        }
        Output::Json => {
            let members = facts.map(|(name, value)| (name.to_owned(), value.into()));
            format!("{:#}\n", serde_json::Value::Object(members.into_iter().collect()))
        }
    };
    super::print(&text)
}
