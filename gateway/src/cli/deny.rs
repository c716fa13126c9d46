//! `yett deny`: the list of networks whose connections are not wanted.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::Failure;
use super::admin::{ANSWER_TIMEOUT, Where};
use super::table::aligned;
use crate::model::deny::network;
use crate::settings::Span;

/// Networks in one command to the gateway; more are given in several.
const NETWORKS_PER_COMMAND: usize = 100;

/// The arguments of `yett deny`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the list
    List {
        #[command(flatten)]
        admin: Where,
        /// Form of the output
        #[arg(short, long, value_name = "FORM", default_value = "table")]
        output: Output,
    },
    /// Put networks on the list, or give those that are there another end
    Add {
        #[command(flatten)]
        admin: Where,
        /// Addresses or networks
        #[arg(required = true, value_name = "CIDR")]
        networks: Vec<String>,
        /// For how long, as in 10m or 24h; without it until they are removed or the gateway ends
        #[arg(long, value_name = "SPAN")]
        ttl: Option<String>,
    },
    /// Take networks off the list
    Remove {
        #[command(flatten)]
        admin: Where,
        /// Addresses or networks, as they are listed
        #[arg(required = true, value_name = "CIDR")]
        networks: Vec<String>,
    },
}

/// Form of the output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One line an entry
    Table,
    /// An object
    Json,
}

/// Shows or changes the list of the running gateway.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.action {
        Action::List { admin, output } => list(admin, *output),
        Action::Add { admin, networks, ttl } => {
            let ttl = ttl.as_deref().map(seconds).transpose()?;
            let ttl = ttl.map(|seconds| format!("&ttl_s={seconds}")).unwrap_or_default();
            change(admin, "add", networks, &ttl)
        }
        Action::Remove { admin, networks } => change(admin, "remove", networks, ""),
    }
}

fn list(admin: &Where, output: Output) -> Result<ExitCode, Failure> {
    let listed = admin.get("/deny").and_then(|body| answer(&body)).map_err(Failure::operation)?;
    let text = match output {
        Output::Table => table(&listed),
        Output::Json => format!("{listed:#}\n"),
    };
    eprintln!("yett: mode {}", text_of(&listed["mode"]));
    super::print(&text)
}

fn change(admin: &Where, action: &str, networks: &[String], more: &str) -> Result<ExitCode, Failure> {
    // All of them are read before the first is changed.
    let networks: Vec<String> = networks
        .iter()
        .map(|text| network(text).map(|network| network.to_string()))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::input(anyhow!(error)))?;
    let (mut changed, mut missing, mut last) = (0, Vec::new(), Value::Null);
    for networks in networks.chunks(NETWORKS_PER_COMMAND) {
        let networks: Vec<String> = networks.iter().map(|network| format!("network={network}")).collect();
        let path = format!("/deny/{action}?{}{more}", networks.join("&"));
        let outcome = command(admin, &path).map_err(Failure::operation)?;
        changed += outcome["changed"].as_u64().unwrap_or_default();
        missing.extend(outcome["missing"].as_array().into_iter().flatten().map(text_of));
        last = outcome;
    }
    let done = if action == "add" { "on the list" } else { "off the list" };
    let mut text =
        format!("{changed} {done}, {} entries; mode {}\n", last["entries"], text_of(&last["mode"]));
    if last["mode"] == "off" {
        text += "the list is not looked at: datapath.deny.mode is off\n";
    }
    super::print(&text)?;
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::operation(anyhow!("not on the list: {}", missing.join(", "))))
}

fn command(admin: &Where, path: &str) -> anyhow::Result<Value> {
    let (status, body) = admin.post(path, ANSWER_TIMEOUT)?;
    if status == http::StatusCode::INSUFFICIENT_STORAGE {
        let outcome = answer(&body)?;
        let left_out: Vec<String> =
            outcome["left_out"].as_array().into_iter().flatten().map(text_of).collect();
        bail!("the list is full at {} entries; left out: {}", outcome["entries"], left_out.join(", "));
    }
    if !status.is_success() {
        bail!("the gateway answers {status}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    answer(&body)
}

fn answer(body: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(body).context("the gateway's answer is no JSON")
}

fn seconds(text: &str) -> Result<u32, Failure> {
    let span: Span = text.parse().map_err(|error: String| Failure::input(anyhow!(error)))?;
    // Parts of a second count as a whole one.
    let seconds = span.0.as_secs() + u64::from(span.0.subsec_nanos() > 0);
    match u32::try_from(seconds) {
        Ok(seconds) if span.0 > Duration::ZERO => Ok(seconds),
        _ => Err(Failure::input(anyhow!("`{text}` is no span that an entry can last for"))),
    }
}

const HEAD: [&str; 3] = ["NETWORK", "SINCE", "EXPIRES"];

fn table(listed: &Value) -> String {
    let time = |value: &Value| {
        let at = value.as_i64().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        at.map_or_else(|| "never".to_owned(), |at| at.to_string())
    };
    let row = |entry: &Value| [text_of(&entry["network"]), time(&entry["since"]), time(&entry["expires"])];
    aligned(HEAD, listed["entries"].as_array().into_iter().flatten().map(row))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_entry() {
        let listed = json!({"mode": "observe", "entries": [
            {"network": "192.0.2.0/24", "since": 1_700_000_000, "expires": 1_700_000_600},
            {"network": "2001:db8::/32", "since": 1_700_000_000},
        ]});
        let expected = "\
NETWORK        SINCE                 EXPIRES
192.0.2.0/24   2023-11-14T22:13:20Z  2023-11-14T22:23:20Z
2001:db8::/32  2023-11-14T22:13:20Z  never
";
        assert_eq!(table(&listed), expected);
    }

    #[test]
    fn spans() {
        for (text, expected) in
            [("10m", Some(600)), ("1500ms", Some(2)), ("0s", None), ("soon", None), ("9999999h", None)]
        {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
