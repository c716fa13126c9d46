//! From a plan to a snapshot: adds TLS configurations, trust domains with their revocation data, upstream and metric
//! handles, and keeps of the former ones whatever still fits, so that tickets, pools and live sessions survive.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::admin::CrlInUse;
use crate::model::{
    Backend, BackendKey, CertificateChain, ClientValidation, Facts, Finding, Frontend, FrontendId, Listener,
    Plan, RevocationFreshness, Severity,
};
use crate::resources::Resources;
use crate::snapshot::{ServedFrontend, ServedListener, Snapshot};
use crate::telemetry::event::{CrlLoaded, CrlRejected};
use crate::telemetry::labels::CrlResult;
use crate::telemetry::{Limit, Telemetry};
use crate::tls::revocation::feed::{Currency, TooManyIssuers, freshness};
use crate::tls::revocation::{CrlEvent, CrlOutcome, CrlSummary, Feed, Want, Wants};
use crate::tls::{Code, ServerTls, TicketKeys, TrustDomain, server_tls};
use crate::translate::{holds_list, translate};
use crate::upstream::Upstream;

/// Builds snapshots, each on the former one's parts.
pub(super) struct Builder {
    telemetry: Arc<Telemetry>,
    tickets: TicketKeys,
    accept_v1_leaf: bool,
    feed: Feed,
    domains: Vec<Arc<TrustDomain>>,
    tls: HashMap<(FrontendId, Arc<str>), KeptTls>,
    generation: u64,
}

/// A listener's TLS with the certificates that it was made of.
type KeptTls = (Vec<Arc<CertificateChain>>, ServerTls);

/// What a plan became.
pub(super) struct Built {
    /// To be published.
    pub(super) snapshot: Arc<Snapshot>,
    /// Server certificates that cannot be used, by source object: translation must hear of them, since their
    /// listeners are not in the snapshot.
    pub(super) unusable_certificates: BTreeMap<String, String>,
    /// Faults found on the way: of anchors and of CRLs.
    pub(super) findings: Vec<Finding>,
    /// How current the data of revocation policies is, by policy: translation shows it in their status.
    pub(super) revocation: BTreeMap<String, RevocationFreshness>,
}

/// Plan and snapshot of the documents. A certificate that the TLS library refuses is a fact that translation must
/// know, since the listener then has a condition to say so and other listeners may take its place. So is what became of
/// the data of revocation policies.
pub(super) fn settle(
    resources: &Resources,
    facts: &mut Facts,
    builder: &mut Builder,
    former: &Snapshot,
) -> (Plan, Built) {
    facts.unusable_certificates.clear();
    loop {
        let (plan, _) = translate(resources, facts);
        let built = builder.build(&plan, former, |source| holds_list(resources, source), facts.now);
        let known = facts.unusable_certificates.len();
        facts.unusable_certificates.extend(built.unusable_certificates.clone());
        // Every turn names a certificate that the former did not, so there are few.
        if facts.unusable_certificates.len() == known {
            facts.revocation.clone_from(&built.revocation);
            return (plan, built);
        }
    }
}

/// Everything that was found, by any stage, in the order of the documents. What was found after translation names an
/// object alone, and gets its place here.
pub(super) fn gathered(resources: &Resources, stages: [Vec<Finding>; 3]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = stages.into_iter().flatten().collect();
    for finding in findings.iter_mut().filter(|finding| finding.file.is_none()) {
        // A bundle of several objects is named by all of them.
        let object = finding.object.split(", ").next().unwrap_or_default();
        if let Some(origin) = resources.origin(object) {
            let place = origin.locate(&finding.field);
            (finding.file, finding.line, finding.column) = (origin.file.clone(), place.line, place.column);
        }
    }
    findings.sort_by(Finding::order);
    findings.dedup();
    findings
}

impl Builder {
    /// Starts without a past.
    pub(super) fn new(telemetry: Arc<Telemetry>, tickets: TicketKeys, accept_v1_leaf: bool) -> Self {
        Self {
            telemetry,
            tickets,
            accept_v1_leaf,
            feed: Feed::new(),
            domains: Vec::new(),
            tls: HashMap::new(),
            generation: 0,
        }
    }

    /// The keys of session tickets, for a successor.
    pub(super) fn tickets(&self) -> &TicketKeys {
        &self.tickets
    }

    /// Builds the snapshot of a plan. A listener whose certificate or trust cannot be used is left out: it is never
    /// served with less than the documents ask for. `holds_list`: whether the documents still hold a source of revocation
    /// data, in the plan or not; `now`: Unix seconds.
    pub(super) fn build(
        &mut self,
        plan: &Plan,
        former: &Snapshot,
        holds_list: impl Fn(&str) -> bool,
        now: i64,
    ) -> Built {
        let mut unusable_certificates = BTreeMap::new();
        let upstreams = self.upstreams(plan, former);
        let mut trust = TrustOutcome::default();
        let mut kept_tls = HashMap::new();
        let mut frontends = Vec::new();
        for frontend in plan.frontends.values() {
            let mut listeners = Vec::new();
            for listener in &frontend.listeners {
                let tls = match self.listener_tls(frontend, listener, &mut trust, now) {
                    Ok(tls) => tls,
                    Err(Unusable::Certificate { sources, message }) => {
                        for source in sources {
                            // Translation names the source itself.
                            let words = message.strip_prefix(&format!("{source}: ")).unwrap_or(&message);
                            unusable_certificates.insert(source, words.to_owned());
                        }
                        continue;
                    }
                    Err(Unusable::Trust) => continue,
                };
                if let (Some(tls), Some(termination)) = (&tls, &listener.tls) {
                    let key = (frontend.id.clone(), Arc::clone(&listener.name));
                    kept_tls.insert(key, (termination.certificates.clone(), tls.clone()));
                }
                let metrics = self.telemetry.metrics.listener(&listener.name);
                listeners.push(ServedListener::new(
                    listener,
                    tls,
                    metrics,
                    |route| self.telemetry.metrics.route(&listener.name, &route.to_string()),
                    |key| upstreams.get(key).cloned(),
                ));
            }
            let metrics = self.telemetry.metrics.listener(&frontend.id.to_string());
            let served = ServedFrontend::new(frontend.id.clone(), frontend.protocol, listeners, metrics);
            let served = served.proxy_protocol(frontend.proxy_protocol);
            frontends.push(served.succeeding(former.frontend(&frontend.id)));
        }
        self.generation += 1;
        let TrustOutcome { domains, findings, revocation } = trust;
        self.domains = domains;
        self.tls = kept_tls;
        self.feed.retain(|id| self.domains.iter().any(|domain| domain.id() == *id), holds_list);
        self.telemetry.metrics.crls(crl_sources(plan));
        self.show_crls();
        let upstreams = upstreams.into_values();
        let snapshot = Arc::new(Snapshot::new(self.generation, frontends, plan.sockets(), upstreams));
        Built { snapshot, unusable_certificates, findings, revocation }
    }

    /// Upstream handles, the former ones where nothing changed.
    fn upstreams(&self, plan: &Plan, former: &Snapshot) -> BTreeMap<BackendKey, Arc<Upstream>> {
        let handle = |backend: &Arc<Backend>| match former.upstream(&backend.key) {
            Some(upstream) if upstream.backend() == backend => Arc::clone(upstream),
            _ => {
                let metrics = self.telemetry.metrics.backend(&backend.key.to_string());
                Arc::new(Upstream::new(Arc::clone(backend), metrics))
            }
        };
        plan.backends.iter().map(|(key, backend)| (key.clone(), handle(backend))).collect()
    }

    fn listener_tls(
        &mut self,
        frontend: &Frontend,
        listener: &Listener,
        trust: &mut TrustOutcome,
        now: i64,
    ) -> Result<Option<ServerTls>, Unusable> {
        let Some(termination) = &listener.tls else { return Ok(None) };
        let trust = match &termination.client {
            Some(validation) => Some(self.trust(validation, trust, now)?),
            None => None,
        };
        let key = (frontend.id.clone(), Arc::clone(&listener.name));
        if let Some((certificates, tls)) = self.tls.get(&key)
            && *certificates == termination.certificates
            && tls.trust.as_ref().map(Arc::as_ptr) == trust.as_ref().map(Arc::as_ptr)
        {
            return Ok(Some(tls.clone()));
        }
        server_tls(&frontend.id, &listener.name, termination, trust, &self.tickets).map(Some).map_err(
            |error| Unusable::Certificate {
                sources: error.certificates(termination),
                message: error.to_string(),
            },
        )
    }

    /// The trust domain of a validation: the former one if anchors, mode, names and revocation rules are the same, in any
    /// case with the revocation data of now.
    fn trust(
        &mut self,
        validation: &ClientValidation,
        outcome: &mut TrustOutcome,
        now: i64,
    ) -> Result<Arc<TrustDomain>, Unusable> {
        let names = validation.subject_alt_names.clone();
        let fresh = TrustDomain::new(Arc::clone(&validation.trust), validation.mode, names)
            .map(|domain| {
                let rules = validation.revocation.as_ref().map(|revocation| revocation.rules.clone());
                domain.accept_v1_leaf(self.accept_v1_leaf).under(rules)
            })
            .map_err(|error| {
                outcome.findings.push(fault(&validation.trust.source, error.to_string()));
                Unusable::Trust
            })?;
        let id = fresh.id();
        let same = |domain: &&Arc<TrustDomain>| domain.id() == id;
        if let Some(loaded) = outcome.domains.iter().find(same) {
            return Ok(Arc::clone(loaded));
        }
        let domain = self.domains.iter().find(same).cloned().unwrap_or_else(|| Arc::new(fresh));
        let started = Instant::now();
        let is_complete = validation.revocation.as_ref().is_none_or(|revocation| revocation.is_complete);
        let events = self.feed.load_part(&domain, validation.crls(), is_complete, now);
        let mut told = BTreeSet::new();
        for event in &events {
            outcome.findings.extend(event.finding());
            if event.fresh {
                tell(event, &self.telemetry);
                told.insert(&event.source);
            }
        }
        for source in told {
            self.telemetry.metrics.crl(source).load_took(started.elapsed());
        }
        if let Some(rules) = domain.rules() {
            outcome.fresh(&rules.policy, freshness(&domain, &events, is_complete));
        }
        outcome.domains.push(Arc::clone(&domain));
        Ok(domain)
    }

    /// Tries issuers that the gate has met on the lists that wait for them.
    pub(super) fn learn(&mut self, wants: Wants, now: i64) {
        let metrics = &self.telemetry.metrics;
        metrics.limit_hits(Limit::IssuersWantedMax, wants.left_out);
        for Want { domain, issuer } in wants.issuers {
            match self.feed.learn(&domain, issuer, now) {
                Ok(events) => {
                    events.iter().filter(|event| event.fresh).for_each(|event| tell(event, &self.telemetry));
                }
                Err(TooManyIssuers) => metrics.limit_hit(Limit::LearntIssuersMax),
            }
        }
        self.show_crls();
    }

    /// What is in use of every source, for the admin pages.
    pub(super) fn lists(&self) -> Vec<CrlInUse> {
        let shown = |(source, list): (&Arc<str>, CrlSummary)| CrlInUse {
            source: source.to_string(),
            state: match list.currency {
                Currency::Current => "current",
                Currency::Late => "late",
                Currency::Stale => "stale",
            },
            number: list.number.as_deref().map(str::to_owned),
            entries: list.entries as u64,
            size_bytes: list.size_bytes as u64,
            this_update: list.this_update,
            next_update: list.next_update,
        };
        self.feed.in_use().map(shown).collect()
    }

    /// Shows the lists in use as metrics.
    fn show_crls(&self) {
        for (source, list) in self.feed.in_use() {
            let metrics = self.telemetry.metrics.crl(source);
            metrics.in_use(list.entries as u64, list.size_bytes as u64, list.this_update, list.next_update);
        }
    }
}

/// What the validations of a plan became.
#[derive(Default)]
struct TrustOutcome {
    domains: Vec<Arc<TrustDomain>>,
    findings: Vec<Finding>,
    revocation: BTreeMap<String, RevocationFreshness>,
}

impl TrustOutcome {
    /// Of several bundles that a policy's data is judged for, the one with a fault tells.
    fn fresh(&mut self, policy: &str, found: RevocationFreshness) {
        let known = self.revocation.entry(policy.to_owned()).or_insert_with(|| found.clone());
        if known.is_fresh {
            *known = found;
        }
    }
}

/// Logs and counts what became of a list.
fn tell(event: &CrlEvent, telemetry: &Telemetry) {
    let (source, issuer) = (&*event.source, event.issuer.as_deref());
    match &event.outcome {
        CrlOutcome::InUse(list) => {
            let &CrlSummary { entries, ref number, this_update, next_update, size_bytes, .. } = list;
            let number = number.as_deref();
            CrlLoaded { source, issuer, number, entries, size_bytes, this_update, next_update }
                .emit(telemetry);
        }
        CrlOutcome::Rejected { result, message, kept } => {
            if *result == CrlResult::TooBig {
                telemetry.metrics.limit_hit(Limit::CrlBytesMax);
            }
            CrlRejected { source, issuer, result: *result, detail: message, former_kept: *kept }
                .emit(telemetry);
        }
        // Nothing was loaded: the report tells.
        CrlOutcome::Kept(_) | CrlOutcome::Waiting => {}
    }
}

/// The names of all revocation material of a plan.
fn crl_sources(plan: &Plan) -> impl Iterator<Item = &str> {
    let listeners = plan.frontends.values().flat_map(|frontend| &frontend.listeners);
    let validations = listeners.filter_map(|listener| listener.tls.as_ref()?.client.as_ref());
    validations.flat_map(|validation| validation.crls()).map(|crl| &*crl.source)
}

/// Why a listener cannot be served.
enum Unusable {
    Certificate {
        sources: Vec<String>,
        message: String,
    },
    /// A finding tells of it.
    Trust,
}

fn fault(source: &str, message: String) -> Finding {
    Finding {
        code: Code::NoAnchor.as_str(),
        severity: Severity::Error,
        file: None,
        line: 0,
        column: 0,
        object: source.to_owned(),
        field: String::new(),
        message,
        help: None,
    }
}
