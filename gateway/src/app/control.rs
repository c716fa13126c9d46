//! The change river: documents → plan and report → snapshot → one pointer swap → followers. All of it on the control
//! thread; the workers only ever load what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Seek as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use crate::admin::{AdminState, Readiness, Reloaded};
use crate::datapath::{Datapath, object};
use crate::handover::{self, Item, Kind};
use crate::listener::reconcile::Sockets;
use crate::model::{Facts, Finding, Plan, Report, Severity};
use crate::policy::deny::DenyList;
use crate::resources::{self, Resources};
use crate::runtime::{Published, unix_now};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::source::{Loaded, Source};
use crate::status::Status;
use crate::telemetry::event::{ConfigReloaded, ListenerBound, ListenerFailed, Occasion};
use crate::telemetry::{ReloadResult, Telemetry};
use crate::tls::revocation::Wants;
use crate::tls::{self, certificates_in_use};
use crate::translate::translate;

use super::build::{Builder, gathered, settle};
use super::estate::TICKETS;
use super::facts::facts;
use super::kernel;
use super::service_manager::ServiceManager;
use super::upgrade::UpgradeError;

/// What the control thread holds.
pub(super) struct Control {
    telemetry: Arc<Telemetry>,
    builder: Builder,
    sockets: Sockets,
    snapshot: Arc<Published<Snapshot>>,
    admin: Arc<AdminState>,
    manager: Rc<ServiceManager>,
    datapath: Datapath,
    status: Status,
    facts: Facts,
    resources: Resources,
    source_findings: Vec<Finding>,
    report: Report,
    readiness: Readiness,
    /// What is to be bound, with the front end of each address.
    frontends: BTreeMap<SocketAddr, String>,
}

/// What it works by.
pub(super) struct Means {
    /// Makes snapshots.
    pub(super) builder: Builder,
    /// With a channel to each worker.
    pub(super) sockets: Sockets,
    /// Where snapshots are published.
    pub(super) snapshot: Arc<Published<Snapshot>>,
    /// Who is told how the process stands.
    pub(super) manager: Rc<ServiceManager>,
    /// The programs in the kernel.
    pub(super) datapath: Datapath,
}

impl Control {
    /// Starts with an empty snapshot and nothing bound.
    pub(super) fn new(
        settings: &Settings,
        telemetry: Arc<Telemetry>,
        admin: Arc<AdminState>,
        means: Means,
    ) -> Self {
        let Means { builder, sockets, snapshot, manager, datapath } = means;
        Self {
            telemetry,
            builder,
            sockets,
            snapshot,
            admin,
            manager,
            datapath,
            status: Status::new(settings.status_dir.on().cloned()),
            facts: facts(settings),
            resources: Resources::default(),
            source_findings: Vec::new(),
            report: Report::default(),
            readiness: Readiness::default(),
            frontends: BTreeMap::new(),
        }
    }

    /// Reads the documents and puts what they say in service.
    pub(super) fn reload(&mut self, source: &mut Source) -> Reloaded {
        let started = Instant::now();
        if !source.is_complete() {
            // Nothing is known yet: what is not served must not pass for served.
            let generation = self.snapshot.load().generation;
            return Reloaded { result: ReloadResult::Rejected, generation, errors: 0 };
        }
        self.manager.reloading();
        let loaded = source.read();
        self.take(loaded, started)
    }

    /// As [`Control::reload`], but passes over a stir that changed nothing: another file of the directory, say.
    pub(super) fn follow(&mut self, source: &mut Source) {
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
        self.datapath.look();
        self.put_in_service(Instant::now(), Occasion::Refresh)
    }

    /// Tries the issuers that the gate has met.
    pub(super) fn learn(&mut self, wants: Wants) {
        self.builder.learn(wants, unix_now());
        self.admin.crls.store(Arc::new(self.builder.lists()));
    }

    /// Leaves to a predecessor what only one process can do, until [`Control::take_over`].
    pub(super) fn hold_back(&mut self) {
        self.manager.hush();
        self.status.hold();
    }

    /// Speaks for the service from now on.
    pub(super) fn take_over(&mut self) {
        for error in self.status.release() {
            tracing::error!(%error, "cannot write the status");
        }
        self.manager.speak();
        self.datapath.speak();
        self.tell_datapath();
        for (address, sockets) in self.sockets.bound() {
            self.manager.keep(*address, sockets);
        }
        self.tell_manager();
    }

    /// The generation that is served, if traffic is taken; else why it is not.
    pub(super) fn ready(&self) -> Result<u64, String> {
        match self.readiness.snapshot {
            Some(generation) if self.readiness.is_ready() => Ok(generation),
            _ => Err(self.readiness.in_words(errors(&self.report))),
        }
    }

    /// Closes what a former process has left and the documents do not ask for. Says which addresses.
    pub(super) fn give_up(&mut self) -> Vec<String> {
        let addresses = self.sockets.give_up();
        // A service manager that has died sockets of them keeps them no longer.
        addresses.iter().for_each(|address| self.manager.forget(*address));
        addresses.iter().map(SocketAddr::to_string).collect()
    }

    /// What a successor is left.
    ///
    /// # Errors
    /// It would not serve what is served now, or the system has nothing to give.
    pub(super) fn legacy(&self) -> Result<(handover::Facts, Vec<Item>), UpgradeError> {
        // What stays though its document has gone bad: no other process has it.
        let kept = [
            resources::Code::KeptLastGood.as_str(),
            tls::Code::CrlKept.as_str(),
            tls::Code::CrlSuperseded.as_str(),
        ];
        if let Some(finding) = self.report.findings.iter().find(|finding| kept.contains(&finding.code)) {
            let Finding { code, object, message, .. } = finding;
            return Err(UpgradeError::Kept(format!("{object}: {message} [{code}]")));
        }
        let mut items = Vec::new();
        for (address, sockets) in self.sockets.bound() {
            for (number, socket) in sockets.iter().enumerate() {
                let fd = socket.as_fd().try_clone_to_owned()?;
                items.push(Item { kind: Kind::Listener, name: format!("{address}/{number}"), fd });
            }
        }
        let secret = rustix::fs::memfd_create(c"yett-tickets", MemfdFlags::CLOEXEC);
        let mut secret = File::from(secret.map_err(std::io::Error::from)?);
        self.builder.tickets().leave(&mut secret)?;
        secret.rewind()?;
        items.push(Item { kind: Kind::Tickets, name: TICKETS.to_owned(), fd: secret.into() });
        items.extend(kernel::items(&self.datapath)?);
        let upgrades = self.telemetry.metrics.upgrades();
        let object = self.datapath.is_on().then(object::sha256);
        Ok((handover::Facts { process: std::process::id(), upgrades, object }, items))
    }

    /// Leaves every listening socket to a successor but those that it has no use for.
    pub(super) fn leave(&mut self, unwanted: &[String]) {
        let unwanted = unwanted.iter().filter_map(|name| name.parse().ok()).collect();
        self.sockets.leave(&unwanted);
        self.datapath.leave();
    }

    /// A second has passed: the programs in the kernel are given a sign of life.
    pub(super) fn beat(&mut self) {
        self.datapath.beat(&self.telemetry.metrics);
    }

    /// The deny list is another one.
    pub(super) fn deny(&mut self, list: &DenyList) {
        self.datapath.deny(list);
    }

    /// The programs in the kernel, for whoever ends them after the last connection.
    pub(super) fn give_datapath(&mut self) -> Datapath {
        std::mem::replace(&mut self.datapath, Datapath::off())
    }

    /// Tells the programs what listens, and shows how they stand.
    fn tell_datapath(&mut self) {
        let metrics = &self.telemetry.metrics;
        self.datapath.follow(self.sockets.bound(), &self.frontends, metrics);
        let outcomes = self.datapath.outcomes().iter();
        metrics.datapath.stages(outcomes.map(|one| [one.stage.as_str(), one.result.as_str()]));
        let attached = self.datapath.attached().map(|link| [&*link.program, &*link.place, &*link.mode]);
        metrics.datapath.attached(attached);
    }

    /// From the first moment of a drain on.
    pub(super) fn unready(&mut self) {
        self.readiness.draining = true;
        self.admin.readiness.store(Arc::new(self.readiness.clone()));
    }

    /// Closes every listening socket, after what has queued is taken.
    pub(super) fn close(&mut self) {
        // First: a socket that somebody holds takes connections, whether or not anybody accepts them.
        self.sockets.bound().keys().for_each(|address| self.manager.forget(*address));
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
        let held: BTreeSet<SocketAddr> = self.sockets.bound().keys().copied().collect();
        // Bound before the swap, so that a failure is known; opened after it, so that whoever comes is served.
        let mut prepared = self.sockets.prepare(&addresses);
        let mut failed = std::mem::take(&mut prepared.failed);
        let inherited = prepared.inherited();
        let generation = built.snapshot.generation;
        self.snapshot.store(built.snapshot);
        held.difference(&addresses).for_each(|address| self.manager.forget(*address));
        let known = held.iter().filter(|address| addresses.contains(address)).copied();
        let known = known.chain(prepared.sockets().map(|(address, _)| address)).collect();
        self.datapath.expect(&known, prepared.sockets());
        failed.extend(self.sockets.commit(prepared, &addresses));
        self.frontends = wanted.iter().map(|(address, frontend)| (*address, frontend.to_string())).collect();
        self.tell_datapath();
        self.facts.bound.clear();
        for (address, frontend) in &wanted {
            let outcome = match failed.get(address) {
                None => Ok(()),
                Some(error) => {
                    ListenerFailed { frontend, address: *address, error }.emit(&self.telemetry);
                    Err(error.to_string())
                }
            };
            if let (false, Some(sockets)) = (held.contains(address), self.sockets.bound().get(address)) {
                let (count, inherited) = (sockets.len(), inherited.get(address).copied().unwrap_or(0));
                ListenerBound { frontend, address: *address, sockets: count, inherited }
                    .emit(&self.telemetry);
                self.manager.keep(*address, sockets);
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
        let errors = errors(&report);
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
        self.tell_manager();
        Reloaded { result, generation, errors }
    }

    /// A successor was started: the manager hears of it as of a reload, which the successor completes, or this process
    /// if nothing comes of it.
    pub(super) fn tell_of_upgrade(&self) {
        self.manager.reloading();
    }

    /// How it stands, for the service manager.
    pub(super) fn tell_manager(&self) {
        self.manager.serving(self.readiness.is_ready(), &self.readiness.in_words(errors(&self.report)));
    }
}

fn errors(report: &Report) -> usize {
    report.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}
