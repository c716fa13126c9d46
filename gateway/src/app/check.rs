//! What `yett run` would say of some documents, without running: read, translated and built by the same steps, nothing
//! bound and nothing served.

use std::path::PathBuf;

use anyhow::anyhow;

use super::build::{Builder, gathered, settle};
use super::facts::facts;
use crate::model::Finding;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::source::read_once;
use crate::telemetry::{AccessLog, AccessTarget, Metrics, Telemetry};
use crate::tls::TicketKeys;
use crate::translate::translate;

/// What was checked.
#[derive(Debug)]
pub struct Checked {
    /// Everything that was found, in the order of the documents.
    pub findings: Vec<Finding>,
    /// How many objects could be read.
    pub objects: usize,
}

/// Checks the documents of files and directories as a process with these settings would read them.
///
/// # Errors
/// Something that the process cannot do without is not to be had.
pub fn check(paths: &[PathBuf], settings: &Settings) -> anyhow::Result<Checked> {
    let metrics = Metrics::new();
    let access = AccessLog::start(&AccessTarget::Off, 0, &metrics)?;
    let tickets = TicketKeys::generate().map_err(|_| anyhow!("the system gives no random numbers"))?;
    let mut builder =
        Builder::new(Telemetry::new(metrics, access), tickets, settings.tls.v1_client_certificates);
    let loaded = read_once(paths);
    let mut facts = facts(settings);
    // What a listener without a usable certificate trusts is built in the first turn alone.
    let (first, _) = translate(&loaded.resources, &facts);
    let former = Snapshot::default();
    // There is no past to remember lists from.
    let mut built = builder.build(&first, &former, |_| false, facts.now).findings;
    let (plan, last) = settle(&loaded.resources, &mut facts, &mut builder, &former);
    built.extend(last.findings);
    facts.bound = plan.frontends.keys().map(|id| (id.clone(), Ok(()))).collect();
    let (_, report) = translate(&loaded.resources, &facts);
    let findings = gathered(&loaded.resources, [loaded.findings, report.findings, built]);
    Ok(Checked { findings, objects: loaded.resources.len() })
}
