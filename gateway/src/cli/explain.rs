//! `yett explain`: what a finding's code means, what usually causes it, what to do.
//!
//! The text is the page `docs/findings.md`, a section for each code; a test holds it to the codes that there are.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::Failure;
use super::check::Paint;
use crate::{resources, tls, translate};

const PAGE: &str = include_str!("../../../docs/findings.md");

/// The arguments of `yett explain`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Code of a finding, such as YT0104 [default: list all]
    code: Option<String>,
}

/// Prints the section of a code, or all codes with what they mean.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let paint = Paint::new(std::io::stdout().is_terminal());
    let Some(asked) = &arguments.code else {
        let lines = codes().map(|(code, meaning)| format!("{}  {meaning}\n", paint.bold(code)));
        return super::print(&lines.collect::<String>());
    };
    let known = codes().find(|(code, _)| code.eq_ignore_ascii_case(asked));
    let Some((code, _)) = known else {
        return Err(Failure::input(anyhow!("there is no code `{asked}`; `yett explain` lists all")));
    };
    let section = section(code).ok_or_else(|| Failure::operation(anyhow!("{code} has no text")))?;
    super::print(&shown(code, section, paint))
}

/// Every code that a finding can have, with its meaning.
fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let read = resources::Code::ALL.iter().map(|code| (code.as_str(), code.meaning()));
    let translated = translate::Code::ALL.iter().map(|code| (code.as_str(), code.meaning()));
    let built = tls::Code::ALL.iter().map(|code| (code.as_str(), code.meaning()));
    read.chain(translated).chain(built)
}

/// What stands under the heading of a code.
fn section(code: &str) -> Option<&'static str> {
    sections().find(|(heading, _)| *heading == code).map(|(_, text)| text)
}

fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'))
}

/// A section for a terminal: examples indented, no marks of Markdown.
fn shown(code: &str, section: &str, paint: Paint) -> String {
    let mut text = format!("{}: ", paint.bold(code));
    let mut in_example = false;
    for line in section.trim_end().lines() {
        if line.starts_with("```") {
            in_example = !in_example;
        } else if in_example {
            text += &format!("    {line}\n");
        } else if let Some((lead, rest)) = line.strip_prefix('*').and_then(|rest| rest.split_once('*')) {
            text += &format!("{}{rest}\n", paint.bold(lead));
        } else {
            text += &format!("{line}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_section_and_every_section_a_code() {
        for (code, meaning) in codes() {
            let section = section(code).unwrap_or_else(|| panic!("docs/findings.md has no section {code}"));
            let words: Vec<&str> = section.split("\n\n").next().unwrap().split_whitespace().collect();
            assert_eq!(words.join(" "), meaning, "the first words of {code} in docs/findings.md");
            for part in ["\n*Usual causes.* ", "\n*Remedy.* ", "\n```"] {
                assert!(section.contains(part), "docs/findings.md lacks {part:?} for {code}");
            }
        }
        let headings: Vec<&str> = sections().map(|(heading, _)| heading).collect();
        let expected: Vec<&str> = codes().map(|(code, _)| code).collect();
        assert_eq!(headings, expected, "sections of docs/findings.md on the left, codes on the right");
    }

    #[test]
    fn a_section_without_markdown() {
        let section = "Bad.\n\n*Usual causes.* Haste.\n\n```yaml\na: *b\n```\n";
        assert_eq!(
            shown("YT0001", section, Paint::new(false)),
            "YT0001: Bad.\n\nUsual causes. Haste.\n\n    a: *b\n"
        );
    }
}
