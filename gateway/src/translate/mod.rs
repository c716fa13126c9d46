//! Resources to (Plan, Report): pure and total.
//!
//! In come the documents and what is known of the world; out come the plan that the data plane follows and the report
//! of what became of every object. The plan holds nothing that a status does not accept. Translation cannot fail:
//! what is wrong becomes a condition with a reason and words, and a finding with its place. Where trust is at stake it
//! fails closed; everything else stays in service as far as it can.

mod backends;
mod certificates;
mod class;
mod client_validation;
mod conditions;
mod findings;
mod gateway;
mod grants;
mod listeners;
mod plan;
mod policies;
mod proxy_protocol;
mod revocation;
mod routes;
mod rules;
mod trust;
mod x509;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

use crate::model::{Facts, ObjectStatus, Plan, Report};
use crate::resources::{Kind, Object, ObjectMeta, Resources};

pub use findings::Code;
pub use revocation::holds_list;

use backends::Backends;
use certificates::Certificates;
use findings::Findings;
use trust::Trust;

/// What every step reads.
#[derive(Clone, Copy, Debug)]
struct World<'a> {
    resources: &'a Resources,
    facts: &'a Facts,
}

/// Makes the plan of the documents, and the report on them. The same input gives the same output.
pub fn translate(resources: &Resources, facts: &Facts) -> (Plan, Report) {
    let world = World { resources, facts };
    let mut findings = Findings::default();
    let mut objects = class::statuses(world, &mut findings);

    let mut gateways = gateway::read(world, &mut findings);
    let mut certificates = Certificates::new(world);
    let mut trust = Trust::new(world);
    for gateway in &mut gateways {
        listeners::settle_conflicts(gateway, &mut findings);
        proxy_protocol::apply(gateway, &mut findings);
        listeners::read_certificates(gateway, &mut certificates, &mut findings);
        listeners::mark_overlaps(gateway);
        client_validation::apply_gateway(gateway, &mut trust, &mut findings);
    }
    objects.extend(policies::apply(world, &mut gateways, &mut trust, &mut findings));
    objects.extend(revocation::apply(world, &mut gateways, &mut findings));
    gateway::settle_ports(world, &mut gateways, &mut findings);

    let mut backends = Backends::new(world);
    let (rules, routes) = routes::attach(world, &mut gateways, &mut backends, &mut findings);
    objects.extend(routes);
    objects.extend(gateways.iter().map(|gateway| gateway.status(world, &mut findings)));
    let plan = plan::build(world, &gateways, rules, &backends);

    objects.sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
    (plan, Report { findings: findings.into_sorted(), objects })
}

/// An object's status in the API's own form.
fn status<T: Kind, S: Serialize>(object: &Object<T>, status: &S) -> ObjectStatus {
    let meta = &object.meta;
    ObjectStatus {
        api_version: T::API_VERSION.into(),
        kind: T::KIND.into(),
        namespace: T::NAMESPACED.then(|| meta.namespace.as_str().into()),
        name: meta.name.as_str().into(),
        generation: meta.generation,
        // The types are our own and hold nothing that JSON cannot.
        status: serde_json::to_value(status).unwrap_or(Value::Null),
    }
}

/// Sorts the older object first, then by namespace and name; one of unknown age counts as younger.
fn age(meta: &ObjectMeta) -> impl Ord + '_ {
    let created = meta.creation_timestamp;
    (created.is_none(), created, meta.namespace.as_str(), meta.name.as_str())
}
