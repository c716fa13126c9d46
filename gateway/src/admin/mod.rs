//! The admin listener: what the gateway tells of itself over HTTP, and the two commands it takes.
//!
//! [`AdminState`] holds what the control loop publishes; the [`server`] answers from it, on TCP for reading only and on
//! a unix socket for commands as well. Commands reach the control loop through a channel. This module decides nothing.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::model::deny::{DenyChange, DenyListed, DenyOutcome};
use crate::model::{Plan, Report};
use crate::runtime::Published;
use crate::telemetry::certificates::Certificate;
use crate::telemetry::listing::Directory;
use crate::telemetry::{ReloadResult, Telemetry, UpgradeResult};

mod answer;
mod dump;
mod page;
pub mod server;

/// Commands that wait for the control loop.
const ADMIN_COMMANDS_MAX: usize = 8;

/// What the admin server answers from; the control loop stores, the server loads.
#[derive(Debug)]
pub struct AdminState {
    /// For `/metrics`.
    pub telemetry: Arc<Telemetry>,
    /// For `/report`.
    pub report: Published<Report>,
    /// For `/status`: the `List` that the status writer made of the report.
    pub status: Published<Value>,
    /// For `/config_dump`.
    pub plan: Published<Plan>,
    /// For `/certs`.
    pub certificates: Published<Vec<Certificate>>,
    /// For `/crls`.
    pub crls: Published<Vec<CrlInUse>>,
    /// For `/readyz`.
    pub readiness: Published<Readiness>,
    /// For `/connections`: whom to ask.
    pub connections: Published<Directory>,
    /// For `/deny`.
    pub deny: Published<DenyListed>,
    commands: mpsc::Sender<Command>,
}

impl AdminState {
    /// A state that tells of a process just started, and the other end of its commands.
    pub fn new(telemetry: Arc<Telemetry>) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(ADMIN_COMMANDS_MAX);
        let state = Self {
            telemetry,
            report: Published::new(Arc::default()),
            status: Published::new(Arc::new(json!({"apiVersion": "v1", "kind": "List", "items": []}))),
            plan: Published::new(Arc::default()),
            certificates: Published::new(Arc::default()),
            crls: Published::new(Arc::default()),
            readiness: Published::new(Arc::default()),
            connections: Published::new(Arc::default()),
            deny: Published::new(Arc::default()),
            commands,
        };
        (Arc::new(state), received)
    }
}

/// What the control loop is asked to do. It answers when it is done; a dropped sender reads as failure.
#[derive(Debug)]
pub enum Command {
    /// Read the configuration now; answer after the swap.
    Reload(oneshot::Sender<Reloaded>),
    /// Change the deny list; answer when workers see it.
    Deny(DenyChange, oneshot::Sender<DenyOutcome>),
    /// Begin to drain; answer once that has begun.
    Drain(oneshot::Sender<()>),
    /// Upgrade to a successor; answer once it has taken over, or why it has not.
    Upgrade(oneshot::Sender<Result<Upgraded, NotUpgraded>>),
}

/// A successor that has taken over.
#[derive(Clone, Copy, Debug)]
pub struct Upgraded {
    /// Its process id.
    pub process: u32,
    /// The generation that it serves.
    pub generation: u64,
}

/// Why none has.
#[derive(Clone, Debug)]
pub struct NotUpgraded {
    /// As the metric has it.
    pub result: UpgradeResult,
    /// For people.
    pub words: String,
}

/// What a reload came to.
#[derive(Clone, Copy, Debug)]
pub struct Reloaded {
    /// What became of it.
    pub result: ReloadResult,
    /// The generation that is served now.
    pub generation: u64,
    /// How many errors the report has.
    pub errors: usize,
}

/// Whether the process takes traffic. Ready: a first snapshot is served, its listeners were tried and not all failed,
/// and no drain has begun. Stale revocation data or a later fault never unreadies a whole fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The generation of the snapshot that is served.
    pub snapshot: Option<u64>,
    /// How many frontends are bound.
    pub bound: usize,
    /// Frontends that could not be bound, with the words.
    pub failed: Vec<String>,
    /// How many frontends have not been tried yet.
    pub pending: usize,
    /// Whether a drain has begun.
    pub draining: bool,
}

impl Readiness {
    /// Whether the process takes traffic.
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|(_, holds, _)| *holds)
    }

    /// In one line for people, with the number of `errors` that the configuration has.
    pub fn in_words(&self, errors: usize) -> String {
        let [(_, _, snapshot), (_, _, listeners), (_, _, serving)] = self.checks();
        let errors = match errors {
            0 => String::new(),
            1 => "; 1 error in the configuration".to_owned(),
            count => format!("; {count} errors in the configuration"),
        };
        format!("{serving}: {snapshot}; listeners: {listeners}{errors}")
    }

    /// Each check: its name, whether it holds, and the words for it.
    fn checks(&self) -> [(&'static str, bool, String); 3] {
        let snapshot = match self.snapshot {
            Some(generation) => format!("generation {generation}"),
            None => "no usable configuration yet".to_owned(),
        };
        let mut listeners =
            format!("{} bound, {} failed, {} pending", self.bound, self.failed.len(), self.pending);
        self.failed.iter().for_each(|words| listeners.extend(["; ", words]));
        let tried = self.pending == 0 && (self.bound > 0 || self.failed.is_empty());
        let serving = if self.draining { "draining" } else { "serving" };
        [
            ("snapshot", self.snapshot.is_some(), snapshot),
            ("listeners", tried, listeners),
            ("lifecycle", !self.draining, serving.to_owned()),
        ]
    }
}

/// A CRL in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CrlInUse {
    /// Its configured name.
    pub source: String,
    /// `current`, `late` (past nextUpdate, decides still) or `stale` (its issuer's clients are refused).
    pub state: &'static str,
    /// CRLNumber.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// How many certificates it lists.
    pub entries: u64,
    /// Its size, DER.
    pub size_bytes: u64,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_update: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness() {
        let ready = Readiness { snapshot: Some(1), bound: 2, ..Readiness::default() };
        let failed = || vec!["port 443: permission denied".to_owned()];
        for (description, readiness, expected) in [
            ("just started", Readiness::default(), false),
            ("serving", ready.clone(), true),
            ("nothing to listen on is a configuration too", Readiness { bound: 0, ..ready.clone() }, true),
            ("before the sockets were tried", Readiness { pending: 1, ..ready.clone() }, false),
            ("one of several listeners failed", Readiness { failed: failed(), ..ready.clone() }, true),
            ("every listener failed", Readiness { bound: 0, failed: failed(), ..ready.clone() }, false),
            ("draining", Readiness { draining: true, ..ready }, false),
        ] {
            assert_eq!(readiness.is_ready(), expected, "{description}");
        }
    }
}
