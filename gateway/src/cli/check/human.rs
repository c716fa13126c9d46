//! Findings for people: each with its place, the line it is about, a mark below it, and what to do.

use std::fmt::Write as _;

use super::excerpt::Documents;
use crate::app::Checked;
use crate::model::{Finding, Severity};

/// Colours, where there is somebody to see them.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Paint(bool);

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` is set.
    pub(in crate::cli) fn new(terminal: bool) -> Self {
        Self(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn on(self, style: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(in crate::cli) fn bold(self, text: &str) -> String {
        self.on("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.on("1;34", text)
    }

    fn grave(self, severity: Severity, text: &str) -> String {
        match severity {
            Severity::Error => self.on("1;31", text),
            Severity::Warning => self.on("1;33", text),
        }
    }
}

/// All findings, and a line that sums them up.
pub(super) fn page(checked: &Checked, paint: Paint) -> String {
    let mut documents = Documents::default();
    let mut page = String::new();
    for finding in &checked.findings {
        page += &block(finding, &mut documents, paint);
        page.push('\n');
    }
    page + &sum(checked, paint)
}

fn block(finding: &Finding, documents: &mut Documents, paint: Paint) -> String {
    let Finding { code, severity, file, line, column, object, field, message, help } = finding;
    let word = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let head = paint.grave(*severity, &format!("{word}[{code}]"));
    let mut block = format!("{head}{}\n", paint.bold(&format!(": {}", plain(message))));
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let (arrow, bar, equals) = (paint.dim("-->"), paint.dim("|"), paint.dim("="));
    // Writing to a text cannot fail.
    match (file, *line, *column) {
        (Some(file), 0, _) => _ = writeln!(block, "{margin}{arrow} {}", plain(file)),
        (Some(file), line, 0) => _ = writeln!(block, "{margin}{arrow} {}:{line}", plain(file)),
        (Some(file), line, column) => _ = writeln!(block, "{margin}{arrow} {}:{line}:{column}", plain(file)),
        (None, ..) => {}
    }
    let help = help.as_deref().map(plain);
    match (documents.excerpt(finding), &help) {
        (Some(excerpt), help) => {
            let mark =
                paint.grave(*severity, format!("^ {}", help.as_deref().unwrap_or_default()).trim_end());
            let space = " ".repeat(excerpt.mark);
            _ = writeln!(block, "{} {}", paint.dim(&format!("{number} |")), excerpt.text);
            _ = writeln!(block, "{margin} {bar} {space}{mark}");
        }
        (None, Some(help)) => _ = writeln!(block, "{margin} {equals} {help}"),
        (None, None) => {}
    }
    let whom: Vec<String> =
        [object, field].into_iter().filter(|part| !part.is_empty()).map(|part| plain(part)).collect();
    if !whom.is_empty() {
        _ = writeln!(block, "{margin} {equals} in {}", whom.join(", "));
    }
    _ = writeln!(block, "{margin} {equals} help: yett explain {code}");
    block
}

fn sum(checked: &Checked, paint: Paint) -> String {
    let many = |count: usize, word: &str| match count {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    let count = |severity| checked.findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let sum = format!("{}, {}", many(errors, "error"), many(warnings, "warning"));
    format!("{}: {}\n", many(checked.objects, "object"), paint.bold(&sum))
}

/// Text of documents, without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_finding_shows_its_line_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, "kind: Gateway\nspec:\n    prot: 70000\n").unwrap();
        let name = file.display().to_string();
        let whole = Finding { file: Some(name.as_str().into()), ..example(Severity::Error) };
        let nowhere =
            Finding { file: None, line: 0, column: 0, field: String::new(), ..example(Severity::Warning) };
        let checked = Checked { findings: vec![whole, nowhere], objects: 1 };
        assert_eq!(
            page(&checked, Paint(false)),
            format!(
                "error[YT0104]: unknown field `prot`
 --> {name}:3:5
3 |     prot: 70000
  |     ^ did you mean `port`?
  = in Gateway default/web, spec.prot
  = help: yett explain YT0104

warning[YT0104]: unknown field `prot`
  = did you mean `port`?
  = in Gateway default/web
  = help: yett explain YT0104

1 object: 1 error, 1 warning
"
            )
        );
        let painted = page(&checked, Paint(true));
        assert!(painted.starts_with("\u{1b}[1;31merror[YT0104]\u{1b}[0m"), "{painted}");
    }
}
