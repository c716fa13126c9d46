//! `yett connections`: who is connected to a running gateway.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Failure;
use super::admin::Where;
use super::table::aligned;
use crate::model::deny::network;

/// The arguments of `yett connections`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Where,
    /// At most so many, those that have been open longest
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
    /// Of clients at this address or in this network
    #[arg(long, value_name = "CIDR")]
    client: Option<String>,
    /// Form of the output
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One line a connection
    Table,
    /// An object
    Json,
}

/// Asks the running gateway and prints what it says.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut path = format!("/connections?limit={}", arguments.limit);
    if let Some(client) = &arguments.client {
        let network = network(client).map_err(|error| Failure::input(anyhow::anyhow!(error)))?;
        path += &format!("&client={network}");
    }
    let body = arguments.admin.get(&path).map_err(Failure::operation)?;
    let listing: Value = serde_json::from_slice(&body)
        .context("the gateway's answer is no JSON")
        .map_err(Failure::operation)?;
    let text = match arguments.output {
        Output::Table => table(&listing),
        Output::Json => format!("{listing:#}\n"),
    };
    if let Some(note) = note(&listing) {
        eprintln!("yett: {note}");
    }
    super::print(&text)
}

const HEAD: [&str; 11] = [
    "AGE", "CLIENT", "IDENTITY", "SNI", "LISTENER", "PROTOCOL", "VERDICT", "REQUESTS", "IN", "OUT", "WORKER",
];

fn table(listing: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let row = |connection: &Value| {
        let (about, client) = (&connection["connection"], &connection["client"]);
        let identity = if client["identity"].is_null() { &client["subject"] } else { &client["identity"] };
        let verdict = match &connection["reason"] {
            Value::String(reason) => format!("{}: {reason}", text(&connection["verdict"])),
            _ => text(&connection["verdict"]),
        };
        [
            age(connection["t"]["total_ms"].as_f64().unwrap_or_default()),
            text(&client["addr"]),
            text(identity),
            text(&connection["sni"]),
            text(&connection["listener"]),
            text(&about["protocol"]),
            verdict,
            text(&about["requests"]),
            text(&connection["bytes_in"]),
            text(&connection["bytes_out"]),
            text(&about["worker"]),
        ]
    };
    aligned(HEAD, listing["connections"].as_array().into_iter().flatten().map(row))
}

/// `4.2s`, `3m07s`, `5h12m`.
fn age(millis: f64) -> String {
    let seconds = millis / 1000.0;
    // Ages are no more than years.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an age is a small positive number"
    )]
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// What the list does not show.
fn note(listing: &Value) -> Option<String> {
    let mut notes = Vec::new();
    if listing["cut"] == true {
        let listed = listing["connections"].as_array().map_or(0, Vec::len);
        notes.push(format!("{listed} of {} connections; more by --limit", listing["open"]));
    }
    let silent = listing["unanswered"].as_array().filter(|workers| !workers.is_empty());
    if let Some(workers) = silent {
        let workers: Vec<String> = workers.iter().map(Value::to_string).collect();
        notes.push(format!("no answer from worker {}", workers.join(", ")));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_connection() {
        let listing = json!({"open": 9, "cut": true, "unanswered": [1], "connections": [
            {"listener": "default/gw/mtls", "verdict": "allowed", "sni": "gw.test", "bytes_in": 10, "bytes_out": 2000,
             "connection": {"id": "1", "worker": 0, "protocol": "h2", "requests": 5},
             "client": {"addr": "192.0.2.1:5", "identity": "spiffe://a/\u{1b}[31m"}, "t": {"total_ms": 187_000.5}},
            {"listener": "default/gw:80", "verdict": "refused", "reason": "certificate_revoked",
             "connection": {"id": "2", "worker": 1, "requests": 0}, "client": {"addr": "192.0.2.2:5"},
             "t": {"total_ms": 420.0}},
        ]});
        let expected = "\
AGE    CLIENT       IDENTITY            SNI      LISTENER         PROTOCOL  VERDICT                       REQUESTS  IN  OUT   WORKER
3m07s  192.0.2.1:5  spiffe://a/ [31m  gw.test  default/gw/mtls  h2        allowed                       5         10  2000  0
0.4s   192.0.2.2:5  -                   -        default/gw:80    -         refused: certificate_revoked  0         -   -     1
";
        let squeeze = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeeze(&table(&listing)), squeeze(expected));
        assert_eq!(note(&listing).unwrap(), "2 of 9 connections; more by --limit; no answer from worker 1");
        assert_eq!(age(3_600_000.0 * 5.2), "5h12m");
    }
}
