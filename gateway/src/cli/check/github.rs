//! A finding as a workflow command of GitHub Actions: `::error file=…,line=…,col=…,title=…::…`.

use crate::model::{Finding, Severity};

/// One line.
pub(super) fn command(finding: &Finding) -> String {
    let command = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut properties = Vec::new();
    if let Some(file) = &finding.file {
        properties.push(format!("file={}", property(file)));
        let numbers = [("line", finding.line), ("col", finding.column)];
        let known = numbers.iter().filter(|(_, number)| *number > 0);
        properties.extend(known.map(|(name, number)| format!("{name}={number}")));
    }
    properties.push(format!("title={}", finding.code));
    let parts = [finding.object.as_str(), finding.field.as_str(), finding.message.as_str()];
    let mut words = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    if let Some(help) = &finding.help {
        words = format!("{words} ({help})");
    }
    format!("::{command} {}::{}\n", properties.join(","), data(&words))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn commands() {
        let full = example(Severity::Error);
        let odd = Finding {
            file: Some("a,b:c%.yaml".into()),
            line: 2,
            column: 0,
            message: "100%\nsure".to_owned(),
            help: None,
            ..example(Severity::Warning)
        };
        let nowhere =
            Finding { file: None, object: String::new(), field: String::new(), help: None, ..full.clone() };
        for (description, finding, expected) in [
            (
                "all of it",
                full,
                "::error file=gateway.yaml,line=3,col=5,title=YT0104::\
                 Gateway default/web: spec.prot: unknown field `prot` (did you mean `port`?)\n",
            ),
            (
                "what has to be escaped",
                odd,
                "::warning file=a%2Cb%3Ac%25.yaml,line=2,title=YT0104::Gateway default/web: spec.prot: 100%25%0Asure\n",
            ),
            ("no file", nowhere, "::error title=YT0104::unknown field `prot`\n"),
        ] {
            assert_eq!(command(&finding), expected, "{description}");
        }
    }
}
