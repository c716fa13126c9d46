//! The line of a document that a finding is about, fit to be shown: never a secret, never a control character, never
//! longer than a terminal is likely to be wide.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use crate::model::Finding;

/// Characters of a line that are shown.
const CHARS_MAX: usize = 100;
/// Of a longer line, those before the place.
const CHARS_BEFORE: usize = 40;

/// The files that findings are about, each read once.
#[derive(Debug, Default)]
pub(super) struct Documents(HashMap<Arc<str>, Option<String>>);

/// A line, and under which of its characters the mark belongs, from 0.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) mark: usize,
}

impl Documents {
    /// The line of a finding; `None` where it is not known, or is no longer in the file.
    pub(super) fn excerpt(&mut self, finding: &Finding) -> Option<Excerpt> {
        let file = finding.file.as_ref()?;
        let read = || fs::read(&**file).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let document = self.0.entry(Arc::clone(file)).or_insert_with(read).as_deref()?;
        excerpt(document, finding)
    }
}

fn excerpt(document: &str, finding: &Finding) -> Option<Excerpt> {
    let index = usize::try_from(finding.line.checked_sub(1)?).ok()?;
    let line = document.lines().nth(index)?;
    let column = usize::try_from(finding.column.saturating_sub(1)).ok()?;
    let may_be_secret = finding.object.is_empty() || finding.object.starts_with("Secret");
    // A line of JSON may hold several objects.
    let is_shared = line.len() > CHARS_MAX || document.trim_start().starts_with(['{', '[']);
    let shown = match line.split_once(':') {
        Some((key, _)) if document.contains("Secret") && (may_be_secret || is_shared) => format!("{key}: …"),
        // In the middle of a value of several lines.
        None if document.contains("Secret") && may_be_secret => return None,
        _ => line.to_owned(),
    };
    Some(window(&shown, column))
}

/// What is to be seen of a line around a column.
fn window(line: &str, column: usize) -> Excerpt {
    let plain = |c: char| if c == '\t' || c.is_control() { ' ' } else { c };
    let chars: Vec<char> = line.trim_end().chars().map(plain).collect();
    let column = column.min(chars.len());
    let start = if chars.len() > CHARS_MAX && column > CHARS_BEFORE { column - CHARS_BEFORE } else { 0 };
    let end = chars.len().min(start + CHARS_MAX);
    let mut text = String::new();
    text.extend((start > 0).then_some('…'));
    text.extend(&chars[start..end]);
    text.extend((end < chars.len()).then_some('…'));
    Excerpt { text, mark: column - start + usize::from(start > 0) }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::model::Severity;

    fn at(object: &str, line: u32, column: u32) -> Finding {
        Finding { object: object.to_owned(), line, column, ..example(Severity::Error) }
    }

    #[test]
    fn what_is_shown_of_a_line() {
        let long = format!("{}key: {}", " ".repeat(150), "x".repeat(200));
        let secret = "kind: Secret\ndata:\n  tls.key: aHVudGVyMg==\n  more: |\n    aHVudGVyMg==\n";
        let json = "{\"items\": [{\"kind\": \"Secret\", \"data\": {\"a\": \"aHVudGVyMg==\"}}, {\"kind\": \"Gateway\"}]}";
        let table = [
            ("a field", "a: 1\nb: 2\n", at("Gateway a/b", 2, 1), Some(("b: 2", 0))),
            ("a value", "a: 1\n", at("Gateway a/b", 1, 4), Some(("a: 1", 3))),
            ("past the end of the line", "a: 1\n", at("Gateway a/b", 1, 40), Some(("a: 1", 4))),
            ("no line", "a: 1\n", at("Gateway a/b", 0, 0), None),
            ("a line that is gone", "a: 1\n", at("Gateway a/b", 9, 1), None),
            ("tabs and bells", "\ta: \u{7}\u{1b}[31m1\n", at("Gateway a/b", 1, 2), Some((" a:   [31m1", 1))),
            ("a secret", secret, at("Secret a/b", 3, 3), Some(("  tls.key: …", 2))),
            ("a line of an object that cannot be told", secret, at("", 3, 3), Some(("  tls.key: …", 2))),
            ("within a value of several lines", secret, at("Secret a/b", 5, 5), None),
            ("JSON with a secret beside", json, at("Gateway a/b", 1, 70), Some(("{\"items\": …", 11))),
        ];
        for (description, document, finding, expected) in table {
            let expected = expected.map(|(text, mark)| Excerpt { text: text.to_owned(), mark });
            assert_eq!(excerpt(document, &finding), expected, "{description}");
        }
        let shown = excerpt(&long, &at("Gateway a/b", 1, 151)).unwrap();
        assert_eq!((shown.text.chars().nth(shown.mark), shown.mark), (Some('k'), 41));
        assert_eq!(shown.text.chars().count(), CHARS_MAX + 2);
    }
}
