//! curl as the walk-through's client.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::pki::Pki;

/// curl with the walk-through's command line.
#[derive(Debug)]
pub(super) struct Client {
    folder: PathBuf,
    url: String,
}

/// A TLS version that curl is held to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tls {
    V1_2,
    V1_3,
}

impl Tls {
    pub(super) const BOTH: [Self; 2] = [Self::V1_3, Self::V1_2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1_2 => "TLS 1.2",
            Self::V1_3 => "TLS 1.3",
        }
    }

    fn arguments(self) -> [&'static str; 3] {
        match self {
            Self::V1_2 => ["--tlsv1.2", "--tls-max", "1.2"],
            Self::V1_3 => ["--tlsv1.3", "--tls-max", "1.3"],
        }
    }
}

/// What curl saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// An HTTP answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its `yett-reason`, if it has one.
        reason: Option<String>,
        /// Its body, if that is JSON.
        body: Value,
    },
    /// No HTTP answer: curl's words.
    Failure(String),
}

impl Client {
    pub(super) fn new(pki: &Pki, port: u16) -> Self {
        let url =
            if port == 443 { "https://localhost/".to_owned() } else { format!("https://localhost:{port}/") };
        Self { folder: pki.folder().to_owned(), url }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The line that a user would type in the PKI's folder.
    pub(super) fn line(&self, with_certificate: bool) -> String {
        let certificate = if with_certificate { " --cert client.crt --key client.key" } else { "" };
        format!("curl{certificate} --insecure {}", self.url)
    }

    /// Runs it, on a connection of its own.
    pub(super) fn ask(&self, tls: Tls, with_certificate: bool) -> Seen {
        let mut command = Command::new("curl");
        // ~/.curlrc and proxies of the environment are not part of the walk-through.
        command.args([
            "--disable",
            "--noproxy",
            "*",
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "10",
            "--ipv4",
        ]);
        command.args(tls.arguments());
        if with_certificate {
            command.args(["--cert", "client.crt", "--key", "client.key"]);
        }
        command.args(["--insecure", &self.url]);
        match command.current_dir(&self.folder).stdin(Stdio::null()).output() {
            Ok(ran) if ran.status.success() => read(&String::from_utf8_lossy(&ran.stdout)),
            Ok(ran) => Seen::Failure(String::from_utf8_lossy(&ran.stderr).trim().to_owned()),
            Err(error) => Seen::Failure(format!("cannot run curl: {error}")),
        }
    }
}

/// Reads a head and a body as `--include` prints them.
fn read(output: &str) -> Seen {
    let unreadable = || Seen::Failure(format!("no HTTP answer: {output:?}"));
    let Some((head, body)) = output.split_once("\r\n\r\n") else { return unreadable() };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let Some(status) = status else { return unreadable() };
    let reason = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("yett-reason"));
    let reason = reason.map(|(_, value)| value.trim().to_owned());
    Seen::Answer { status, reason, body: serde_json::from_str(body).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_curl_prints_them() {
        let seen = read(
            "HTTP/2 400 \r\ncontent-type: application/problem+json\r\nyett-reason: r\r\n\r\n{\"reason\":\"r\"}",
        );
        match seen {
            Seen::Answer { status: 400, reason: Some(reason), body } => {
                assert_eq!((&*reason, body["reason"].as_str()), ("r", Some("r")));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            read("HTTP/1.1 200 OK\r\n\r\nplain"),
            Seen::Answer { status: 200, reason: None, .. }
        ));
        assert!(matches!(read(""), Seen::Failure(_)));
    }
}
