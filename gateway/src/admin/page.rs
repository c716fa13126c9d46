//! The page at `/`: the main state and where the rest is; plain HTML that needs neither style nor script.

use std::fmt::Write;

use super::AdminState;
use crate::model::Severity;

const LINKS: [(&str, &str); 10] = [
    ("/readyz?verbose", "readiness and why"),
    ("/livez", "liveness"),
    ("/metrics", "metrics for Prometheus"),
    ("/report", "findings and status of every object"),
    ("/status", "status as a cluster would hold it"),
    ("/config_dump", "what is served, keys left out"),
    ("/certs", "certificates in use"),
    ("/crls", "revocation lists in use"),
    ("/connections", "open connections"),
    ("/deny", "the deny list"),
];

/// At most so many findings stand on the page; `/report` has them all.
const FINDINGS_SHOWN_MAX: usize = 50;

pub(super) fn render(state: &AdminState) -> String {
    let mut page = String::with_capacity(4096);
    let readiness = state.readiness.load();
    let (plan, report) = (state.plan.load(), state.report.load());
    page += "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>Yett</title>\n<h1>Yett</h1>\n";
    let version = env!("CARGO_PKG_VERSION");
    let ready = if readiness.is_ready() { "ready" } else { "not ready" };
    let generation =
        readiness.snapshot.map_or_else(|| "none".to_owned(), |generation| generation.to_string());
    // Writing into memory cannot fail.
    let _ = writeln!(page, "<p>Version {version}, <strong>{ready}</strong>, configuration {generation}.</p>");
    page += "<h2>Listeners</h2>\n<ul>\n";
    for frontend in plan.frontends.values() {
        for listener in &frontend.listeners {
            let host = listener.hostname.as_ref().map_or_else(|| "any host".to_owned(), ToString::to_string);
            let rules = listener.rules.len();
            let _ = writeln!(
                page,
                "<li>{}: {}, port {}, {rules} rules</li>",
                escape(&listener.name),
                escape(&host),
                frontend.bind_port
            );
        }
    }
    page += "</ul>\n<h2>Findings</h2>\n<ul>\n";
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let _ = writeln!(page, "<li>{errors} errors, {} warnings</li>", report.findings.len() - errors);
    for finding in report.findings.iter().take(FINDINGS_SHOWN_MAX) {
        let _ = writeln!(page, "<li>{}</li>", escape(&finding.to_string()));
    }
    page += "</ul>\n<h2>More</h2>\n<ul>\n";
    for (path, words) in LINKS {
        let _ = writeln!(page, "<li><a href=\"{path}\">{path}</a>: {words}</li>");
    }
    page += "</ul>\n</html>\n";
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Finding, Report};
    use crate::telemetry::Telemetry;

    #[test]
    fn what_the_documents_say_is_shown_as_text() {
        let (state, _commands) = AdminState::new(Telemetry::in_memory().0);
        let finding = Finding {
            code: "YT0104",
            severity: Severity::Error,
            file: None,
            line: 0,
            column: 0,
            object: String::new(),
            field: String::new(),
            message: "<script>alert('1')</script> & more".to_owned(),
            help: None,
        };
        state.report.store(Report { findings: vec![finding], objects: Vec::new() }.into());
        let page = render(&state);
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; more"), "{page}");
        assert!(page.contains("1 errors, 0 warnings") && !page.contains("<script"), "{page}");
    }
}
