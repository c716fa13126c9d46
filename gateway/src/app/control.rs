//! The change river: documents → plan and report → snapshot → one pointer swap → followers. All of it on the control
//! thread; the workers only ever load what is published.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admin::{AdminState, Readiness, Reloaded};
use crate::listener::reconcile::Sockets;
use crate::model::{Facts, Finding, Plan, Report, Severity};
use crate::resources::Resources;
use crate::runtime::{Published, unix_now};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::source::{FileSource, Loaded};
use crate::status::Status;
use crate::telemetry::event::{ConfigReloaded, ListenerBound, ListenerFailed, Occasion};
use crate::telemetry::{ReloadResult, Telemetry};
use crate::tls::certificates_in_use;
use crate::tls::revocation::Want;
use crate::translate::translate;

use super::build::{Builder, gathered, settle};
use super::facts::facts;
use super::service_manager::ServiceManager;

/// What the control thread holds.
pub(super) struct Control {
    telemetry: Arc<Telemetry>,
    builder: Builder,
    sockets: Sockets,
    snapshot: Arc<Published<Snapshot>>,
    admin: Arc<AdminState>,
    manager: Rc<ServiceManager>,
    status: Status,
    facts: Facts,
    resources: Resources,
    source_findings: Vec<Finding>,
    report: Report,
    readiness: Readiness,
}

impl Control {
    /// Starts with an empty snapshot and nothing bound. `sockets`: with a channel to each worker.
    pub(super) fn new(
        settings: &Settings,
        telemetry: Arc<Telemetry>,
        builder: Builder,
        sockets: Sockets,
        snapshot: Arc<Published<Snapshot>>,
        admin: Arc<AdminState>,
        manager: Rc<ServiceManager>,
    ) -> Self {
        Self {
            telemetry,
            builder,
            sockets,
            snapshot,
            admin,
            manager,
            status: Status::new(settings.status_dir.on().cloned()),
            facts: facts(settings),
            resources: Resources::default(),
            source_findings: Vec::new(),
            report: Report::default(),
            readiness: Readiness::default(),
        }
    }

    /// Reads the documents and puts what they say in service.
    pub(super) fn reload(&mut self, source: &mut FileSource) -> Reloaded {
        let started = Instant::now();
        self.manager.reloading();
        let loaded = source.read();
        self.take(loaded, started)
    }

    /// As [`Control::reload`], but passes over a stir that changed nothing: another file of the directory, say.
    pub(super) fn follow(&mut self, source: &mut FileSource) {
        let started = Instant::now();
        let loaded = source.read();
        if loaded.changed {
            self.manager.reloading();
            self.take(loaded, started);
        }
    }

    /// Whether something waits for a later look: sockets that could not be bound.
    pub(super) fn has_unfinished(&self) -> bool {
        self.facts.bound.values().any(Result::is_err)
    }

    /// Looks at the same documents again: what time or the system has changed comes to light.
    pub(super) fn refresh(&mut self) -> Reloaded {
        self.put_in_service(Instant::now(), Occasion::Refresh)
    }

    /// Tries the issuers that the gate has met.
    pub(super) fn learn(&mut self, wants: Vec<Want>) {
        self.builder.learn(wants, unix_now());
        self.admin.crls.store(Arc::new(self.builder.lists()));
    }

    /// From the first moment of a drain on.
    pub(super) fn unready(&mut self) {
        self.readiness.draining = true;
        self.admin.readiness.store(Arc::new(self.readiness.clone()));
    }

    /// Closes every listening socket, after what has queued is taken.
    pub(super) fn close(&mut self) {
        self.sockets.close();
    }

    fn take(&mut self, loaded: Loaded, started: Instant) -> Reloaded {
        self.resources = loaded.resources;
        self.source_findings = loaded.findings;
        self.put_in_service(started, Occasion::Reload)
    }

    fn put_in_service(&mut self, started: Instant, occasion: Occasion) -> Reloaded {
        self.facts.now = unix_now();
        let former = self.snapshot.load_full();
        let (plan, built) = settle(&self.resources, &mut self.facts, &mut self.builder, &former);
        let wanted = plan.sockets();
        let addresses: BTreeSet<SocketAddr> = wanted.keys().copied().collect();
        let held = self.sockets.bound().clone();
        // Bound before the swap, so that a failure is known; opened after it, so that whoever comes is served.
        let mut prepared = self.sockets.prepare(&addresses);
        let mut failed = std::mem::take(&mut prepared.failed);
        let generation = built.snapshot.generation;
        self.snapshot.store(built.snapshot);
        failed.extend(self.sockets.commit(prepared, &addresses));
        self.facts.bound.clear();
        for (address, frontend) in &wanted {
            let outcome = match failed.get(address) {
                None => Ok(()),
                Some(error) => {
                    ListenerFailed { frontend, address: *address, error }.emit(&self.telemetry);
                    Err(error.to_string())
                }
            };
            if outcome.is_ok() && !held.contains(address) {
                ListenerBound { frontend, address: *address, sockets: self.sockets.workers() }
                    .emit(&self.telemetry);
            }
            let known = self.facts.bound.entry(frontend.clone()).or_insert(Ok(()));
            if known.is_ok() {
                *known = outcome;
            }
        }
        self.publish(plan, built.findings, generation, occasion, started.elapsed())
    }

    fn publish(
        &mut self,
        plan: Plan,
        findings: Vec<Finding>,
        generation: u64,
        occasion: Occasion,
        elapsed: Duration,
    ) -> Reloaded {
        // Once more, now that it is known what is bound.
        let (_, mut report) = translate(&self.resources, &self.facts);
        let translated = std::mem::take(&mut report.findings);
        report.findings = gathered(&self.resources, [self.source_findings.clone(), translated, findings]);
        let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let result = match errors {
            0 => ReloadResult::Ok,
            _ if plan.frontends.is_empty() => ReloadResult::Rejected,
            _ => ReloadResult::Partial,
        };
        let (telemetry, now) = (&self.telemetry, self.facts.now);
        let former = Some(&self.report);
        ConfigReloaded { occasion, result, generation, report: &report, former, elapsed, now }
            .emit(telemetry);
        let certificates = certificates_in_use(&plan);
        telemetry.metrics.config.certificates(&certificates);
        self.admin.certificates.store(Arc::new(certificates));
        let (list, errors_of_folder) = self.status.update(&report, now);
        for error in errors_of_folder {
            tracing::error!(%error, "cannot write the status");
        }
        self.readiness = Readiness {
            // A start with nothing usable is not ready; a later fault is another matter, since the former set serves on.
            snapshot: (result != ReloadResult::Rejected).then_some(generation).or(self.readiness.snapshot),
            bound: self.facts.bound.values().filter(|outcome| outcome.is_ok()).count(),
            failed: self.facts.bound.values().filter_map(|outcome| outcome.clone().err()).collect(),
            pending: plan.frontends.keys().filter(|id| !self.facts.bound.contains_key(*id)).count(),
            draining: self.readiness.draining,
        };
        self.admin.status.store(Arc::new(list));
        self.admin.crls.store(Arc::new(self.builder.lists()));
        self.admin.plan.store(Arc::new(plan));
        self.admin.report.store(Arc::new(report.clone()));
        self.admin.readiness.store(Arc::new(self.readiness.clone()));
        self.report = report;
        self.manager.serving(self.readiness.is_ready(), &self.readiness.in_words(errors));
        Reloaded { result, generation, errors }
    }
}
