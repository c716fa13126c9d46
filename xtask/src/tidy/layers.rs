//! Who may import whom, and which modules are pure. The table is the one of ARCHITECTURE.md; this is where it is held.

use super::Rule;
use super::source::{Fact, Source};

/// Whether a module may touch the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// No I/O, no clock (time is an argument), no dice, no log, no metric.
    Pure,
    /// May do all of that.
    Acting,
}

use Nature::{Acting, Pure};

/// A module, its nature, and what of ours it may import beside itself. The longest row that fits a file counts; a row
/// for a part of a module shuts that part off from the rest of the module.
type Row = (&'static str, Nature, &'static [&'static str]);

const TABLE: &[Row] = &[
    ("codes", Pure, &[]),
    ("model", Pure, &["gateway_common::Reason", "gateway_common::reason"]),
    ("resources", Pure, &[]),
    ("translate", Pure, &["model", "resources"]),
    ("route", Pure, &["model"]),
    ("policy", Pure, &["model"]),
    ("handover", Acting, &[]),
    ("settings", Acting, &["model"]),
    ("telemetry", Acting, &["model", "gateway_common::value"]),
    ("runtime", Acting, &["model", "telemetry"]),
    ("runtime::place", Pure, &["model"]),
    ("tls", Acting, &["model", "runtime::publish", "runtime::Published", "telemetry"]),
    ("tls::revocation::crl", Pure, &["model"]),
    ("tls::revocation::ocsp", Pure, &["model"]),
    ("tls::revocation::index", Pure, &["model"]),
    ("upstream", Acting, &["model", "tls", "runtime", "telemetry"]),
    ("upstream::pick", Pure, &["model"]),
    ("upstream::health", Pure, &["model"]),
    ("upstream::h1::frame", Pure, &[]),
    ("snapshot", Acting, &["model", "tls", "route", "policy", "upstream", "telemetry"]),
    ("http", Acting, TRAFFIC),
    ("http::authority", Pure, &[]),
    ("http::frame", Pure, &["model", "http::authority"]),
    ("http::traffic", Pure, &["telemetry::Limit"]),
    ("l4", Acting, TRAFFIC),
    (
        "listener",
        Acting,
        &["model", "snapshot", "policy", "tls", "http", "l4", "runtime", "telemetry", "datapath"],
    ),
    ("datapath", Acting, &["model", "gateway_common", "policy", "telemetry"]),
    ("source", Acting, &["resources", "model", "telemetry"]),
    ("status", Acting, &["model", "resources", "telemetry"]),
    ("address", Acting, &["model", "resources", "telemetry"]),
    ("admin", Acting, &["model", "runtime::publish", "runtime::Published", "telemetry"]),
    // The composition root and the commands know everything; nobody knows them.
    ("app", Acting, EVERYTHING),
    ("cli", Acting, EVERYTHING),
    // What must hold for any bytes, for tests alone.
    ("fuzzing", Acting, EVERYTHING),
];

const TRAFFIC: &[&str] = &[
    "model",
    "snapshot",
    "route",
    "policy",
    "upstream",
    "runtime",
    // What a finished handshake gives, and nothing of how it came about.
    "tls::Accepted",
    "tls::Alpn",
    "tls::Credential",
    "tls::Peer",
    "tls::TlsFacts",
    "tls::peer",
    // Whom the gate decides by.
    "tls::TrustDomain",
    "tls::revocation::gate",
    "telemetry",
];

const EVERYTHING: &[&str] = &["*"];

/// Imports against the table's direction, and modules that the table does not know.
pub(super) fn imports(source: &Source, add: &mut impl FnMut(usize, Rule, String)) {
    let Some(module) = source.module.as_deref() else { return };
    let Some(top) = module.first() else { return };
    let Some((name, _, allowed)) = row(module) else {
        add(1, Rule::Imports, format!("the module {top} has no row in xtask/src/tidy/layers.rs"));
        return;
    };
    for Fact { line, test, what } in &source.paths {
        let Some(target) = ours(what) else { continue };
        let own = begins(&target, name);
        if *test || own || allowed.iter().any(|prefix| *prefix == "*" || begins(&target, prefix)) {
            continue;
        }
        let named = target.join("::");
        add(*line, Rule::Imports, format!("{name} may not import {named}, only: {}", list(allowed)));
    }
}

/// Pure modules that reach for the world.
pub(super) fn purity(source: &Source, add: &mut impl FnMut(usize, Rule, String)) {
    let Some((name, Pure, _)) = source.module.as_deref().and_then(row) else { return };
    for Fact { line, test, what } in &source.paths {
        if !test && is_impure(what) {
            add(*line, Rule::Purity, format!("{name} is pure and may not name {}", what.join("::")));
        }
    }
}

/// The row that counts for a module.
fn row(module: &[String]) -> Option<Row> {
    let fitting = TABLE.iter().filter(|(name, _, _)| begins(module, name));
    fitting.max_by_key(|(name, _, _)| name.len()).copied()
}

/// What of ours a path leads to, without the leading `crate`.
fn ours(path: &[String]) -> Option<Vec<String>> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "gateway_common" => Some(path.to_vec()),
        _ => None,
    }
}

/// Whether a path lies at or below a place such as `tls::revocation`.
fn begins(path: &[String], place: &str) -> bool {
    let mut path = path.iter();
    place.split("::").all(|part| path.next().is_some_and(|have| have == part))
}

fn is_impure(path: &[String]) -> bool {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match words.as_slice() {
        [
            "tokio" | "tokio_util" | "tracing" | "prometheus" | "rand" | "hyper" | "hyper_util" | "socket2"
            | "notify" | "libc",
            ..,
        ]
        | ["println!" | "eprintln!" | "print!" | "eprint!"]
        | ["std", "fs" | "process" | "thread" | "os" | "env", ..]
        | [.., "now"] => true,
        ["std", "net", kind, ..] => kind.starts_with("Tcp") || kind.starts_with("Udp"),
        _ => false,
    }
}

fn list(allowed: &[&str]) -> String {
    if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") }
}
