//! What the walk-through promises, beside what comes.

use std::time::{Duration, Instant};

use super::client::{Client, Seen, Tls};
use super::documents::Documents;
use super::echo::Echo;
use super::pki::Pki;
use super::{pause, say};

/// A revoked client must be refused within this time of the Secret being rewritten.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

const SUBJECT: &str = "CN=contoso-client";

/// The checks so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    failed: usize,
    passed: usize,
}

impl Checks {
    pub(super) fn begin() -> Self {
        row("", "client", "expected", "actual");
        Self::default()
    }

    /// Without a certificate, and with a valid one.
    pub(super) fn clients_before_revocation(&mut self, client: &Client, echo: &Echo) {
        for tls in Tls::BOTH {
            let seen = client.ask(tls, false);
            let alert = matches!(&seen, Seen::Failure(words) if says_certificate_required(words));
            let what = format!("{}, no certificate", tls.name());
            self.check(&what, "alert certificate required, no HTTP", alert, &words(&seen));
        }
        self.backend_saw(echo, 0);
        for tls in Tls::BOTH {
            let seen = client.ask(tls, true);
            let what = format!("{}, client.crt", tls.name());
            self.check(&what, &format!("200, echo saw {SUBJECT}"), is_served(&seen), &words(&seen));
        }
        self.backend_saw(echo, 2);
    }

    /// Revokes the client's certificate, and waits until that shows.
    pub(super) fn revocation(
        &mut self,
        client: &Client,
        pki: &Pki,
        documents: &Documents,
    ) -> anyhow::Result<()> {
        say("       openssl ca -revoke client.crt; openssl ca -gencrl; Secret ca.bundle rewritten");
        pki.revoke_client()?;
        documents.renew_bundle(pki)?;
        let rewritten = Instant::now();
        let refused = loop {
            if is_revoked(&client.ask(Tls::V1_3, true)) {
                break Some(rewritten.elapsed());
            }
            if rewritten.elapsed() > REFUSED_WITHIN {
                break None;
            }
            pause(LOOK_INTERVAL);
        };
        let actual =
            refused.map_or("served on".to_owned(), |after| format!("after {:.1} s", after.as_secs_f64()));
        let expected = format!("refused within {} s", REFUSED_WITHIN.as_secs());
        self.check("client.crt, revoked", &expected, refused.is_some(), &actual);
        Ok(())
    }

    /// The revoked certificate, and that the backend hears nothing of it.
    pub(super) fn clients_after_revocation(&mut self, client: &Client, echo: &Echo) {
        let before = echo.requests();
        for tls in Tls::BOTH {
            let seen = client.ask(tls, true);
            let what = format!("{}, client.crt, revoked", tls.name());
            self.check(&what, "400 certificate_revoked", is_revoked(&seen), &words(&seen));
        }
        let arrived = echo.requests() - before;
        let count = |number: usize| format!("{number} requests since the first refusal");
        self.check("what reached the backend", &count(0), arrived == 0, &count(arrived));
    }

    /// Says how it went; gives whether every check held.
    pub(super) fn end(self) -> bool {
        say(format_args!("\n{} checks passed, {} failed", self.passed, self.failed));
        self.failed == 0
    }

    fn backend_saw(&mut self, echo: &Echo, expected: usize) {
        let count = |number: usize| format!("{number} requests");
        let arrived = echo.requests();
        self.check("what reached the backend", &count(expected), arrived == expected, &count(arrived));
    }

    fn check(&mut self, what: &str, expected: &str, holds: bool, actual: &str) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        row(if holds { "ok" } else { "FAILED" }, what, expected, actual);
    }
}

fn row(mark: &str, what: &str, expected: &str, actual: &str) {
    say(format_args!("{mark:6} {what:30} {expected:38} {actual}"));
}

/// TLS libraries differ in their words for alert 116 (RFC 8446 §6.2).
fn says_certificate_required(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("certificate required")
        || words.contains("certificate_required")
        || words.contains("number 116")
}

fn is_served(seen: &Seen) -> bool {
    match seen {
        Seen::Answer { status, body, .. } => {
            let subject = body["tls"]["client"]["subject"].as_str().unwrap_or_default();
            *status == 200 && body["service"] == "echo" && subject.contains(SUBJECT)
        }
        Seen::Failure(_) => false,
    }
}

fn is_revoked(seen: &Seen) -> bool {
    match seen {
        Seen::Answer { status, reason, body } => {
            *status == 400
                && reason.as_deref() == Some("certificate_revoked")
                && body["reason"] == "certificate_revoked"
        }
        Seen::Failure(_) => false,
    }
}

fn words(seen: &Seen) -> String {
    match seen {
        Seen::Failure(words) => without_library_names(words),
        Seen::Answer { status, reason: Some(reason), .. } => format!("{status} {reason}"),
        Seen::Answer { status, body, .. } => match body["tls"]["client"]["subject"].as_str() {
            Some(subject) => {
                let name = subject.split(',').find(|part| part.starts_with("CN=")).unwrap_or(subject);
                let version = &body["tls"]["client"]["x509Version"];
                format!("{status}, echo saw {name} (X.509 v{version})")
            }
            None => format!("{status}"),
        },
    }
}

/// `curl: (56) OpenSSL SSL_read: …:SSL routines::tlsv13 alert certificate required, errno 0` is about the alert.
fn without_library_names(words: &str) -> String {
    match (words.split_once(") "), words.split_once(" alert ")) {
        (Some((curl, _)), Some((_, alert))) => {
            format!("{curl}) alert {}", alert.trim_end_matches(", errno 0"))
        }
        _ => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, reason: Option<&str>, body: serde_json::Value) -> Seen {
        Seen::Answer { status, reason: reason.map(str::to_owned), body }
    }

    #[test]
    fn what_counts_as_revoked() {
        let body = || json!({"reason": "certificate_revoked"});
        for (description, seen, expected) in [
            ("as promised", answer(400, Some("certificate_revoked"), body()), true),
            ("another status", answer(403, Some("certificate_revoked"), body()), false),
            ("another reason", answer(400, Some("crl_expired"), json!({"reason": "crl_expired"})), false),
            ("a 400 of the backend", answer(400, None, json!({})), false),
            ("no answer", Seen::Failure("alert certificate revoked".into()), false),
        ] {
            assert_eq!(is_revoked(&seen), expected, "{description}");
        }
    }

    #[test]
    fn what_counts_as_served() {
        let body = |subject: &str| json!({"service": "echo", "tls": {"client": {"subject": subject, "x509Version": 1}}});
        let seen = answer(200, None, body("CN=contoso-client,C=US"));
        assert!(is_served(&seen));
        assert_eq!(words(&seen), "200, echo saw CN=contoso-client (X.509 v1)");
        assert!(!is_served(&answer(200, None, body("CN=other"))));
        assert!(!is_served(&answer(200, None, json!({"service": "echo"}))));
    }

    #[test]
    fn failures_are_told_briefly() {
        for (said, told) in [
            (
                "curl: (56) OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
                "curl: (56) alert certificate required",
            ),
            ("curl: (7) Failed to connect", "curl: (7) Failed to connect"),
        ] {
            assert_eq!(words(&Seen::Failure(said.to_owned())), told);
        }
    }

    #[test]
    fn words_for_alert_116() {
        for (words, expected) in [
            (
                "curl: (56) OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
                true,
            ),
            ("curl: (35) error:0A000418:SSL routines::tlsv1 alert unknown ca", false),
            ("curl: (7) Failed to connect", false),
        ] {
            assert_eq!(says_certificate_required(words), expected, "{words}");
        }
    }
}
