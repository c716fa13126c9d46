//! Trust anchors: from CA references to bundles with the revocation material that stands beside them.
//!
//! What cannot be used is left out and reported; a bundle without a single anchor is none, and what asked for it is
//! not served.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::World;
use super::conditions::Fault;
use super::findings::{Code, Findings};
use super::grants::{Holder, resolve};
use super::x509::{Dates, read_pem};
use crate::model::{CrlMaterial, TrustBundle};
use crate::resources::{ConfigMap, Kind, Object, Secret};

const ANCHORS_KEY: &str = "ca.crt";
const CRL_KEY: &str = "ca.crl";

/// The API's words for what can be wrong with a CA reference; a Gateway's and a policy's differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reasons {
    /// The referent is missing or holds no anchor.
    pub(super) unusable: &'static str,
    /// The referent's kind is not supported.
    pub(super) kind: &'static str,
}

/// A reference to CA certificates, of whatever type it was.
#[derive(Clone, Debug)]
pub(super) struct CaReference<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    /// Where it stands in its holder.
    pub(super) field: String,
}

/// One object with anchors in it.
#[derive(Debug)]
struct Source {
    name: String,
    anchors: Vec<CertificateDer<'static>>,
    crl: Option<CrlMaterial>,
}

/// Every object that was asked for as a CA bundle, read once.
#[derive(Debug)]
pub(super) struct Trust<'a> {
    world: World<'a>,
    sources: BTreeMap<(&'static str, String, String), Result<Arc<Source>, String>>,
    bundles: BTreeMap<String, Arc<TrustBundle>>,
}

impl<'a> Trust<'a> {
    pub(super) fn new(world: World<'a>) -> Trust<'a> {
        Trust { world, sources: BTreeMap::new(), bundles: BTreeMap::new() }
    }

    /// The union of what the references name, and what is wrong with them. `None`: there is no anchor at all.
    pub(super) fn bundle<T: Kind>(
        &mut self,
        holder: &Object<T>,
        references: &[CaReference<'_>],
        reasons: Reasons,
        findings: &mut Findings,
    ) -> (Option<Arc<TrustBundle>>, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut sources: Vec<Arc<Source>> = Vec::new();
        for reference in references {
            match self.source(holder, reference, reasons, findings) {
                Ok(source) if sources.iter().any(|known| known.name == source.name) => {}
                Ok(source) => sources.push(source),
                Err(fault) => faults.push(fault),
            }
        }
        (self.union(&sources), faults)
    }

    fn union(&mut self, sources: &[Arc<Source>]) -> Option<Arc<TrustBundle>> {
        if sources.is_empty() {
            return None;
        }
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let name = names.join(", ");
        if let Some(known) = self.bundles.get(&name) {
            return Some(Arc::clone(known));
        }
        let mut anchors: Vec<CertificateDer<'static>> = Vec::new();
        for anchor in sources.iter().flat_map(|source| &source.anchors) {
            if !anchors.contains(anchor) {
                anchors.push(anchor.clone());
            }
        }
        let crls = sources.iter().filter_map(|source| source.crl.clone()).collect();
        let bundle = Arc::new(TrustBundle { source: name.as_str().into(), anchors, crls });
        self.bundles.insert(name, Arc::clone(&bundle));
        Some(bundle)
    }

    fn source<T: Kind>(
        &mut self,
        holder: &Object<T>,
        reference: &CaReference<'_>,
        reasons: Reasons,
        findings: &mut Findings,
    ) -> Result<Arc<Source>, Fault> {
        let CaReference { namespace, name, field, .. } = reference;
        let resources = self.world.resources;
        let from = Holder::of(holder);
        let outcome = match (reference.group, reference.kind) {
            ("", "Secret") => resolve(self.world, from, &resources.secrets, *namespace, name)
                .map(|secret| self.read(secret, findings)),
            ("", "ConfigMap") => resolve(self.world, from, &resources.config_maps, *namespace, name)
                .map(|map| self.read(map, findings)),
            (group, kind) => {
                let words = format!(
                    "CA certificates come from a ConfigMap or Secret of the core group, not a {kind} of group `{group}`"
                );
                findings.error(Code::TrustUnusable, holder, field, &words);
                return Err(Fault::at(reasons.kind, field, words));
            }
        };
        match outcome {
            Ok(Ok(source)) => Ok(source),
            Ok(Err(words)) => {
                findings.error(Code::TrustUnusable, holder, field, &words);
                Err(Fault::at(reasons.unusable, field, words))
            }
            Err(unresolved) => {
                findings.error(unresolved.code(Code::TrustUnusable), holder, field, unresolved.words());
                Err(unresolved.fault(field, reasons.unusable))
            }
        }
    }

    fn read<T: Kind + Values>(
        &mut self,
        object: &Object<T>,
        findings: &mut Findings,
    ) -> Result<Arc<Source>, String> {
        let key = (T::KIND, object.meta.namespace.clone(), object.meta.name.clone());
        if let Some(known) = self.sources.get(&key) {
            return known.clone();
        }
        let outcome = read(object, self.world.facts.now, findings).map(Arc::new);
        self.sources.insert(key, outcome.clone());
        outcome
    }
}

/// What a Secret and a ConfigMap have in common here.
pub(super) trait Values {
    /// The value of a key.
    fn value(&self, key: &str) -> Option<&[u8]>;
    /// All keys, in order.
    fn keys(&self) -> Vec<&str>;
}

impl Values for Secret {
    fn value(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|bytes| bytes.expose())
    }

    fn keys(&self) -> Vec<&str> {
        self.data.keys().map(String::as_str).collect()
    }
}

impl Values for ConfigMap {
    fn value(&self, key: &str) -> Option<&[u8]> {
        ConfigMap::value(self, key)
    }

    fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> =
            self.data.keys().chain(self.binary_data.keys()).map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }
}

fn read<T: Kind + Values>(object: &Object<T>, now: i64, findings: &mut Findings) -> Result<Source, String> {
    let name = object.to_string();
    let field = format!("data[\"{ANCHORS_KEY}\"]");
    let Some(pem) = object.spec.value(ANCHORS_KEY) else {
        return Err(format!("{name} has no key {ANCHORS_KEY}"));
    };
    let mut anchors = Vec::new();
    let mut bad = Vec::new();
    for block in read_pem(pem) {
        let certificate = match block {
            Ok(certificate) => certificate,
            Err(words) => {
                bad.push(words);
                continue;
            }
        };
        if webpki::anchor_from_trusted_cert(&certificate.der).is_err() {
            bad.push(format!("certificate {} cannot be a trust anchor", certificate.subject));
            continue;
        }
        if !certificate.is_ca {
            let words = format!("certificate {} is not one of a certificate authority", certificate.subject);
            findings.warning(Code::TrustPartlyUnusable, object, &field, words);
        }
        // An expired anchor still loads: what it issued is refused by the dates of the path.
        if let Dates::Soon(words) | Dates::Outside(words) = certificate.dates(now) {
            findings.warning(Code::TrustDates, object, &field, words);
        }
        anchors.push(certificate.der);
    }
    if anchors.is_empty() {
        let why = if bad.is_empty() { "no PEM certificate".to_owned() } else { bad.join("; ") };
        return Err(format!("{name} {ANCHORS_KEY} holds no usable CA certificate: {why}"));
    }
    for words in bad {
        findings.error(Code::TrustPartlyUnusable, object, &field, words);
    }
    let crl = object
        .spec
        .value(CRL_KEY)
        .map(|data| CrlMaterial { source: format!("{name} {CRL_KEY}").into(), data: data.into() });
    Ok(Source { name, anchors, crl })
}
