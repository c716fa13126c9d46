//! Trust domains: a set of anchors with the rules by which client chains are accepted.
//!
//! In: the anchors, mode and names of a listener's client validation. Out: verified paths, or why not. Whether a path's
//! certificates are revoked is asked elsewhere, on every request; the domain only holds the published index that
//! answers. A domain does not change: other anchors or rules make another one, with another identity.

mod domain_id;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};

use self::domain_id::domain_id;
use super::certificate::{AltName, Certificate, KeyUsageBit, chain_digest};
use super::chains::{ChainCache, VerifiedChain};
use super::identity::identity_of;
use super::path_error::PathError;
use super::provider::algorithms;
use super::revocation::index::RevocationIndex;
use crate::model::{
    IssuerCertificate, PathCertificate, Reason, RevocationAnswer, RevocationRules, Serial, TrustBundle,
    ValidationMode, VerifiedPath,
};
use crate::runtime::Published;

/// One per distinct set of anchors, mode, subjectAltNames and revocation rules. CRLs are not part of its identity.
pub struct TrustDomain {
    id: [u8; 32],
    bundle: Arc<TrustBundle>,
    mode: ValidationMode,
    subject_alt_names: Vec<Arc<str>>,
    accept_v1_leaf: bool,
    rules: Option<RevocationRules>,
    /// As webpki takes them; in the order of `facts`.
    anchors: Vec<TrustAnchor<'static>>,
    facts: Vec<Anchor>,
    issuers: Vec<Arc<IssuerCertificate>>,
    unusable: Vec<String>,
    chains: ChainCache,
    v1_leaves: AtomicU64,
    revocation: Published<RevocationIndex>,
}

/// What webpki's anchors do not tell.
struct Anchor {
    issuer: Arc<IssuerCertificate>,
    not_before: i64,
    not_after: i64,
    /// The anchor itself and what is above it in the bundle, up to a self-signed one, which is left out.
    above: Vec<PathCertificate>,
}

/// No trust domain can be made of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not one certificate of the bundle can be an anchor.
    #[error("{bundle} holds no usable trust anchor: {cause}")]
    NoUsableAnchor {
        /// The bundle's source.
        bundle: Arc<str>,
        /// What is wrong with its first certificate.
        cause: String,
    },
}

impl TrustDomain {
    /// A domain of the usable anchors of a bundle; X.509 v1 leaves are accepted (see [`Self::accept_v1_leaf`]).
    ///
    /// # Errors
    /// If no anchor is usable.
    pub fn new(
        bundle: Arc<TrustBundle>,
        mode: ValidationMode,
        subject_alt_names: Vec<Arc<str>>,
    ) -> Result<Self, TrustError> {
        let mut anchors = Vec::new();
        let mut certificates = Vec::new();
        let mut unusable = Vec::new();
        for (index, der) in bundle.anchors.iter().enumerate() {
            let usable = webpki::anchor_from_trusted_cert(der).map_err(|error| error.to_string());
            let read = Certificate::read(der).ok_or_else(|| String::from("not a certificate"));
            match usable.and_then(|anchor| Ok((anchor, read?))) {
                Ok((anchor, certificate)) => {
                    anchors.push(anchor.to_owned());
                    certificates.push(certificate);
                }
                Err(cause) => unusable.push(format!("certificate {}: {cause}", index + 1)),
            }
        }
        if anchors.is_empty() {
            let cause = unusable.into_iter().next().unwrap_or_else(|| "it is empty".into());
            return Err(TrustError::NoUsableAnchor { bundle: bundle.source.clone(), cause });
        }
        let issuers = distinct_issuers(&certificates);
        let facts = certificates.iter().map(|anchor| Anchor::new(anchor, &certificates, &issuers)).collect();
        let id = domain_id(&bundle, mode, &subject_alt_names, true, None);
        // Data that stands there and has not been judged yet lets nobody pass.
        let revocation =
            if bundle.crls.is_empty() { RevocationIndex::empty() } else { RevocationIndex::default() };
        Ok(Self {
            id,
            mode,
            subject_alt_names,
            accept_v1_leaf: true,
            rules: None,
            anchors,
            facts,
            issuers,
            unusable,
            chains: ChainCache::default(),
            v1_leaves: AtomicU64::new(0),
            revocation: Published::new(Arc::new(revocation)),
            bundle,
        })
    }

    /// Whether an X.509 v1 leaf that an anchor issued itself is accepted. v1 certificates carry no usage, no names and
    /// no constraints; they are what `openssl x509 -req` makes by default before OpenSSL 3.2.
    pub fn accept_v1_leaf(mut self, accept: bool) -> Self {
        self.accept_v1_leaf = accept;
        self.id = self.identity();
        self
    }

    /// Puts the domain under a policy on revoked certificates: until its data is judged, nobody's status is known.
    pub fn under(mut self, rules: Option<RevocationRules>) -> Self {
        if rules.is_some() {
            self.revocation = Published::new(Arc::new(RevocationIndex::default()));
        }
        self.rules = rules;
        self.id = self.identity();
        self
    }

    fn identity(&self) -> [u8; 32] {
        let Self { bundle, mode, subject_alt_names, accept_v1_leaf, rules, .. } = self;
        domain_id(bundle, *mode, subject_alt_names, *accept_v1_leaf, rules.as_ref())
    }

    /// The policy on revoked certificates; `None`: the lists beside the anchors decide on those whom they cover.
    pub fn rules(&self) -> Option<&RevocationRules> {
        self.rules.as_ref()
    }

    /// How a client is refused for its revocation status.
    pub fn answer(&self) -> RevocationAnswer {
        self.rules.as_ref().map_or(RevocationAnswer::Http400, |rules| rules.answer)
    }

    /// Tells domains apart: SHA-256 over anchors, mode, names, the v1 setting and revocation rules, whatever their order.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// The bundle it was made of.
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// What happens to a client without a valid certificate.
    pub fn mode(&self) -> ValidationMode {
        self.mode
    }

    /// The anchors as issuers, each key and name once: who may sign CRLs that count here.
    pub fn issuers(&self) -> &[Arc<IssuerCertificate>] {
        &self.issuers
    }

    /// The anchors as webpki takes them.
    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The bundle's certificates that cannot be anchors, in words for the log.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// How many verifications have ended with an X.509 v1 leaf accepted, returning chains included.
    pub fn v1_leaves(&self) -> u64 {
        self.v1_leaves.load(Ordering::Relaxed)
    }

    /// What is known of revoked certificates.
    pub fn revocation(&self) -> &Published<RevocationIndex> {
        &self.revocation
    }

    /// Finds and verifies the path from a chain's leaf to an anchor; `now` is in Unix seconds.
    ///
    /// # Errors
    /// The most telling of the reasons why no path is acceptable.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<Arc<VerifiedPath>, PathError> {
        self.verify_chain(chain, now).map(|verified| verified.path.clone())
    }

    /// As [`Self::verify`], with the identity and the chain that connections of one client share.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<Arc<VerifiedChain>, PathError> {
        let digest = chain_digest(chain);
        let verified = match self.chains.find(&digest) {
            Some(known) if known.holds_at(now) => known,
            _ => {
                let verified = Arc::new(self.build(chain, now)?);
                self.chains.insert(digest, verified.clone());
                verified
            }
        };
        self.v1_leaves.fetch_add(u64::from(verified.x509_v1), Ordering::Relaxed);
        Ok(verified)
    }

    /// For a chain that does not verify now because it has expired: the path as it was while it held.
    pub fn verify_expired(&self, chain: &[CertificateDer<'_>], now: i64) -> Option<Arc<VerifiedChain>> {
        if let Some(known) = self.chains.find(&chain_digest(chain)) {
            return (known.path.not_after < now).then_some(known);
        }
        let dates = chain.iter().map(|der| Some(Certificate::read(der)?.validity()?.1));
        let last_valid = dates.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let verified = self.build(chain, last_valid.min(now)).ok()?;
        (verified.path.not_after < now).then(|| Arc::new(verified))
    }

    fn build(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<VerifiedChain, PathError> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(PathError::new(Reason::NoCertificate, "the client sent no certificate"));
        };
        match EndEntityCert::try_from(leaf) {
            Ok(entity) => self.build_v3(chain, &entity, intermediates, now),
            Err(webpki::Error::UnsupportedCertVersion) => self.build_v1(chain, leaf, now),
            Err(error) => Err(error.into()),
        }
    }

    fn build_v3(
        &self,
        chain: &[CertificateDer<'_>],
        entity: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: i64,
    ) -> Result<VerifiedChain, PathError> {
        let acceptable = |path: &webpki::VerifiedPath<'_>| {
            for issuer in path.intermediate_certificates() {
                let der = issuer.der();
                let issuer = Certificate::read(&der).ok_or(webpki::Error::BadDer)?;
                if issuer.key_usage(KeyUsageBit::KeyCertSign) == Some(false) {
                    return Err(webpki::Error::EndEntityUsedAsCa);
                }
            }
            self.facts_of(path.anchor()).ok_or(webpki::Error::UnknownIssuer)?.check_dates(now)
        };
        let path = entity.verify_for_usage(
            algorithms().all,
            &self.anchors,
            intermediates,
            unix_time(now),
            KeyUsage::client_auth(),
            None,
            Some(&acceptable),
        )?;
        let anchor = self.facts_of(path.anchor()).ok_or(webpki::Error::UnknownIssuer)?;
        let mut ders = vec![path.end_entity().der()];
        ders.extend(path.intermediate_certificates().map(|certificate| certificate.der()));
        let certificates = ders.iter().map(|der| Certificate::read(der).ok_or(webpki::Error::BadDer));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;

        let leaf = &certificates[0];
        // Keys that may only decrypt have not been meant to sign handshakes (RFC 5280 §4.2.1.12 for clientAuth).
        if leaf.key_usage(KeyUsageBit::DigitalSignature) == Some(false)
            && leaf.key_usage(KeyUsageBit::KeyAgreement) == Some(false)
        {
            return Err(PathError::new(Reason::WrongUsage, "the key usage does not include signatures"));
        }
        self.check_names(leaf)?;
        self.assemble(chain, &certificates, anchor)
    }

    /// A v1 leaf that an anchor issued itself. webpki reads v3 certificates alone, so signature and dates are checked
    /// here; there is nothing else in a v1 certificate to check.
    fn build_v1(
        &self,
        chain: &[CertificateDer<'_>],
        leaf: &CertificateDer<'_>,
        now: i64,
    ) -> Result<VerifiedChain, PathError> {
        let leaf = Certificate::read(leaf).ok_or(webpki::Error::BadDer)?;
        if leaf.version != 1 || !self.accept_v1_leaf {
            return Err(webpki::Error::UnsupportedCertVersion.into());
        }
        if leaf.has_later_fields {
            return Err(webpki::Error::BadDer.into());
        }
        check_dates(leaf.validity().ok_or(webpki::Error::BadDerTime)?, now)?;
        let mut fault = webpki::Error::UnknownIssuer;
        for (anchor, facts) in self.anchors.iter().zip(&self.facts) {
            if *facts.issuer.name != *leaf.issuer {
                continue;
            }
            // Name constraints cannot be applied to a certificate that has no place for names: it is outside them.
            let verdict = match anchor.name_constraints {
                Some(_) => Err(webpki::Error::NameConstraintViolation),
                None => verify_signature(&leaf, &facts.issuer.spki).and_then(|()| facts.check_dates(now)),
            };
            match verdict {
                Ok(()) => {
                    self.check_names(&leaf)?;
                    return self.assemble(chain, &[leaf], facts);
                }
                // A signature that fits tells more than one that does not.
                Err(error)
                    if matches!(fault, webpki::Error::UnknownIssuer) || !is_signature_fault(&error) =>
                {
                    fault = error;
                }
                Err(_) => {}
            }
        }
        Err(fault.into())
    }

    fn assemble(
        &self,
        chain: &[CertificateDer<'_>],
        certificates: &[Certificate<'_>],
        anchor: &Anchor,
    ) -> Result<VerifiedChain, PathError> {
        let mut not_before = anchor.not_before;
        let mut not_after = anchor.not_after;
        let mut path = Vec::with_capacity(certificates.len() + anchor.above.len());
        for (index, certificate) in certificates.iter().enumerate() {
            let (from, until) = certificate.validity().ok_or(webpki::Error::BadDerTime)?;
            not_before = not_before.max(from);
            not_after = not_after.min(until);
            let issuer = match certificates.get(index + 1) {
                Some(issuer) => shared(issuer.as_issuer(), &self.issuers),
                None => anchor.issuer.clone(),
            };
            path.push(path_certificate(certificate, issuer, until));
        }
        path.extend(anchor.above.iter().cloned());
        let chain: Arc<[CertificateDer<'static>]> =
            chain.iter().map(|der| der.clone().into_owned()).collect();
        Ok(VerifiedChain {
            identity: Arc::new(identity_of(&chain[0])),
            chain,
            path: Arc::new(VerifiedPath { certificates: path, not_after }),
            x509_v1: certificates.iter().any(|certificate| certificate.version == 1),
            not_before,
        })
    }

    /// Compared octet by octet; DNS names without regard to case.
    fn check_names(&self, leaf: &Certificate<'_>) -> Result<(), PathError> {
        let allowed = |name: AltName<'_>| {
            self.subject_alt_names.iter().any(|allowed| match name {
                AltName::Dns(dns) => dns.eq_ignore_ascii_case(allowed),
                AltName::Uri(uri) => *uri == **allowed,
            })
        };
        if self.subject_alt_names.is_empty() || leaf.alt_names().any(allowed) {
            return Ok(());
        }
        Err(PathError::new(
            Reason::NameNotAllowed,
            "the certificate carries none of the names that the policy allows",
        ))
    }

    /// webpki hands out references into our own list, which are the only thing that tells apart anchors of equal name
    /// and key (a root and its renewal).
    fn facts_of(&self, anchor: &TrustAnchor<'_>) -> Option<&Anchor> {
        let position = self.anchors.iter().position(|ours| std::ptr::addr_eq(ours, anchor))?;
        self.facts.get(position)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustDomain")
            .field("bundle", &self.bundle.source)
            .field("mode", &self.mode)
            .field("anchors", &self.anchors.len())
            .finish_non_exhaustive()
    }
}

impl Anchor {
    fn new(
        certificate: &Certificate<'_>,
        bundle: &[Certificate<'_>],
        issuers: &[Arc<IssuerCertificate>],
    ) -> Self {
        // Dates that cannot be read do not bind: an anchor is trusted for its key (RFC 5280 §6.1.1 (d)).
        let (not_before, not_after) = certificate.validity().unwrap_or((i64::MIN, i64::MAX));
        let issuer = shared(certificate.as_issuer(), issuers);
        let mut above = Vec::new();
        let mut seen = vec![issuer.id];
        let mut at = certificate;
        while !(at.issuer == at.subject && verify_signature(at, at.spki).is_ok()) {
            let signer = |by: &&Certificate<'_>| {
                by.subject == at.issuer
                    && !seen.contains(&by.as_issuer().id)
                    && verify_signature(at, by.spki).is_ok()
            };
            let Some(parent) = bundle.iter().find(signer) else { break };
            let parent_issuer = shared(parent.as_issuer(), issuers);
            let not_after = at.validity().map_or(i64::MAX, |(_, not_after)| not_after);
            seen.push(parent_issuer.id);
            above.push(path_certificate(at, parent_issuer, not_after));
            at = parent;
        }
        Self { issuer, not_before, not_after, above }
    }

    fn check_dates(&self, now: i64) -> Result<(), webpki::Error> {
        check_dates((self.not_before, self.not_after), now)
    }
}

fn path_certificate(
    certificate: &Certificate<'_>,
    issuer: Arc<IssuerCertificate>,
    not_after: i64,
) -> PathCertificate {
    PathCertificate {
        issuer,
        serial: Serial::new(certificate.serial),
        not_after,
        distribution_points: certificate.distribution_points(),
    }
}

fn check_dates((not_before, not_after): (i64, i64), now: i64) -> Result<(), webpki::Error> {
    let time = unix_time(now);
    if not_before > not_after {
        return Err(webpki::Error::InvalidCertValidity);
    }
    if now < not_before {
        return Err(webpki::Error::CertNotValidYet { time, not_before: unix_time(not_before) });
    }
    if now > not_after {
        return Err(webpki::Error::CertExpired { time, not_after: unix_time(not_after) });
    }
    Ok(())
}

/// Verifies a certificate's signature with the key of a SubjectPublicKeyInfo.
fn verify_signature(certificate: &Certificate<'_>, spki: &[u8]) -> Result<(), webpki::Error> {
    let algorithm = certificate.signature_algorithm.ok_or(webpki::Error::SignatureAlgorithmMismatch)?;
    let spki = SubjectPublicKeyInfoDer::from(spki);
    let key = RawPublicKeyEntity::try_from(&spki)?;
    let mut fault =
        webpki::Error::UnsupportedSignatureAlgorithmContext(webpki::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: algorithm.to_vec(),
            supported_algorithms: Vec::new(),
        });
    for supported in algorithms().all.iter().filter(|known| known.signature_alg_id().as_ref() == algorithm) {
        match key.verify_signature(*supported, certificate.signed, certificate.signature) {
            Err(error @ webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => fault = error,
            result => return result,
        }
    }
    Err(fault)
}

fn is_signature_fault(error: &webpki::Error) -> bool {
    PathError::from(error.clone()).reason() == Reason::BadSignature
}

fn distinct_issuers(certificates: &[Certificate<'_>]) -> Vec<Arc<IssuerCertificate>> {
    let mut issuers: Vec<IssuerCertificate> = Vec::new();
    for issuer in certificates.iter().map(Certificate::as_issuer) {
        match issuers.iter_mut().find(|known| known.id == issuer.id) {
            // A key that one of its certificates lets sign CRLs may sign them.
            Some(known) if known.crl_sign == Some(false) => *known = issuer,
            Some(_) => {}
            None => issuers.push(issuer),
        }
    }
    issuers.into_iter().map(Arc::new).collect()
}

fn shared(issuer: IssuerCertificate, known: &[Arc<IssuerCertificate>]) -> Arc<IssuerCertificate> {
    let found = known.iter().find(|known| known.id == issuer.id).cloned();
    found.unwrap_or_else(|| Arc::new(issuer))
}

fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
