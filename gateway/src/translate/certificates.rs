//! Server certificates: from a listener's certificateRefs to chains with keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::World;
use super::conditions::Fault;
use super::findings::{Code, Findings};
use super::grants::{Holder, resolve};
use super::x509::{Dates, read_pem};
use crate::model::secret::PrivateKeyPem;
use crate::model::{CertificateChain, Hostname};
use crate::resources::refs::SecretObjectReference;
use crate::resources::{Gateway, Object, Secret};

const CHAIN_KEY: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

/// A chain with the names that its leaf stands for.
#[derive(Debug)]
pub(super) struct ServerCertificate {
    pub(super) chain: Arc<CertificateChain>,
    pub(super) names: Vec<Hostname>,
}

/// Every Secret that was asked for as a server certificate, read once.
#[derive(Debug)]
pub(super) struct Certificates<'a> {
    world: World<'a>,
    read: BTreeMap<(String, String), Result<Arc<ServerCertificate>, String>>,
}

impl<'a> Certificates<'a> {
    pub(super) fn new(world: World<'a>) -> Certificates<'a> {
        Certificates { world, read: BTreeMap::new() }
    }

    /// The certificate that `reference`, at `field` of the Gateway, names. A fault has reason `missing` unless it is
    /// one of permission.
    pub(super) fn resolve(
        &mut self,
        gateway: &Object<Gateway>,
        reference: &SecretObjectReference,
        field: &str,
        missing: &'static str,
        findings: &mut Findings,
    ) -> Result<Arc<ServerCertificate>, Fault> {
        if (reference.group.as_str(), reference.kind.as_str()) != ("", "Secret") {
            let words = format!(
                "a certificate is a Secret of the core group, not a {} of group `{}`",
                reference.kind, reference.group
            );
            findings.error(Code::CertificateUnusable, gateway, field, &words);
            return Err(Fault::at(missing, field, words));
        }
        let namespace = reference.namespace.as_deref();
        let found = resolve(
            self.world,
            Holder::of(gateway),
            &self.world.resources.secrets,
            namespace,
            &reference.name,
        );
        let secret = found.map_err(|unresolved| {
            findings.error(unresolved.code(Code::CertificateUnusable), gateway, field, unresolved.words());
            unresolved.fault(field, missing)
        })?;
        self.read(secret, findings).map_err(|words| {
            findings.error(Code::CertificateUnusable, gateway, field, &words);
            Fault::at(missing, field, words)
        })
    }

    fn read(
        &mut self,
        secret: &Object<Secret>,
        findings: &mut Findings,
    ) -> Result<Arc<ServerCertificate>, String> {
        let key = (secret.meta.namespace.clone(), secret.meta.name.clone());
        if let Some(known) = self.read.get(&key) {
            return known.clone();
        }
        let outcome = read(secret, self.world, findings).map(Arc::new);
        self.read.insert(key, outcome.clone());
        outcome
    }
}

fn read(
    secret: &Object<Secret>,
    world: World<'_>,
    findings: &mut Findings,
) -> Result<ServerCertificate, String> {
    let source = secret.to_string();
    if !matches!(secret.spec.kind.as_str(), "kubernetes.io/tls" | "Opaque") {
        return Err(format!("{source} is of type {}, not kubernetes.io/tls", secret.spec.kind));
    }
    let value = |key: &str| secret.spec.data.get(key).ok_or_else(|| format!("{source} has no key {key}"));
    let (chain, key) = (value(CHAIN_KEY)?, value(PRIVATE_KEY)?);
    let chain = read_pem(chain.expose()).into_iter().collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|words| format!("{source} {CHAIN_KEY}: {words}"))?;
    let Some(leaf) = chain.first() else {
        return Err(format!("{source} {CHAIN_KEY} holds no PEM certificate"));
    };
    if !holds_key(key.expose()) {
        return Err(format!("{source} {PRIVATE_KEY} holds no PEM private key"));
    }
    if let Some(words) = world.facts.unusable_certificates.get(&source) {
        return Err(format!("{source}: {words}"));
    }
    let field = format!("data[\"{CHAIN_KEY}\"]");
    match leaf.dates(world.facts.now) {
        Dates::Good => {}
        Dates::Soon(words) => findings.warning(Code::CertificateDates, secret, &field, words),
        Dates::Outside(words) => findings.error(Code::CertificateDates, secret, &field, words),
    }
    let names = leaf.names.clone();
    let chain = CertificateChain {
        source: source.into(),
        chain: chain.into_iter().map(|certificate| certificate.der).collect(),
        key: PrivateKeyPem::new(key.expose().to_vec()),
    };
    Ok(ServerCertificate { chain: Arc::new(chain), names })
}

/// Whether a PEM text has a private key in it. The key itself is opened by the TLS layer alone.
fn holds_key(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.starts_with(b"-----BEGIN ") && line.ends_with(b"PRIVATE KEY-----")
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, base64, condition, listener, pki, yaml};
    use crate::translate::translate;

    const GATEWAY: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g, namespace: web}
spec:
  gatewayClassName: c
  listeners:
  - name: l
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [REF]}
"#;

    fn secret(kind: &str, certificate: &str, key: &str) -> String {
        let (certificate, key) = (base64(certificate), base64(key));
        format!(
            "---\napiVersion: v1\nkind: Secret\ntype: {kind}\nmetadata: {{name: s, namespace: web}}\n\
             data: {{tls.crt: {certificate}, tls.key: {key}}}\n"
        )
    }

    #[test]
    fn certificate_references() {
        let server = pki::ca("root").server("leaf", &["a.test"]);
        let (pem, key) = (server.pem(), server.key_pem());
        let good = secret("kubernetes.io/tls", &pem, &key);
        let near = "{name: s}";
        let table = [
            ("good", near, good.clone(), "ResolvedRefs"),
            ("Opaque", near, secret("Opaque", &pem, &key), "ResolvedRefs"),
            (
                "an old form of key",
                near,
                secret("Opaque", &pem, "-----BEGIN RSA PRIVATE KEY-----\n"),
                "ResolvedRefs",
            ),
            ("another type", near, secret("example.com/x", &pem, &key), "InvalidCertificateRef"),
            ("missing", "{name: t}", good.clone(), "InvalidCertificateRef"),
            ("of another kind", "{kind: ConfigMap, name: s}", good.clone(), "InvalidCertificateRef"),
            (
                "of another group",
                "{group: wrong.group.company.io, name: s}",
                good.clone(),
                "InvalidCertificateRef",
            ),
            (
                "no PEM",
                near,
                secret("kubernetes.io/tls", "Hello world", "Hello world"),
                "InvalidCertificateRef",
            ),
            ("no key", near, secret("kubernetes.io/tls", &pem, "Hello world"), "InvalidCertificateRef"),
            (
                "a cut certificate",
                near,
                secret("kubernetes.io/tls", &pem[..200], &key),
                "InvalidCertificateRef",
            ),
            (
                "one bad certificate in the chain",
                near,
                secret(
                    "kubernetes.io/tls",
                    &format!("{pem}-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n"),
                    &key,
                ),
                "InvalidCertificateRef",
            ),
            ("elsewhere without grant", "{name: s, namespace: other}", good, "RefNotPermitted"),
        ];
        for (description, reference, secret, reason) in table {
            let resources = yaml(&format!("{}{secret}", GATEWAY.replace("REF", reference)));
            let (plan, report) = translate(&resources, &testing::facts());
            let status = listener(&report, "web", "g", "l");
            let resolved = condition(&status, "ResolvedRefs");
            assert_eq!(resolved["reason"], reason, "{description}: {resolved}");
            let served = reason == "ResolvedRefs";
            assert_eq!(plan.frontends.len(), usize::from(served), "{description}");
            assert_eq!(condition(&status, "Accepted")["status"], "True", "{description}");
            if !served {
                assert!(resolved["message"].as_str().unwrap().contains("certificateRefs[0]"), "{resolved}");
                assert_eq!(condition(&status, "Programmed")["status"], "False", "{description}");
                assert!(
                    report.findings.iter().any(|f| f.field.contains("certificateRefs[0]")),
                    "{description}"
                );
            }
        }
    }

    #[test]
    fn what_the_tls_library_refused_is_reported_and_not_served() {
        let server = pki::ca("root").server("leaf", &["a.test"]);
        let resources = yaml(&format!(
            "{}{}",
            GATEWAY.replace("REF", "{name: s}"),
            secret("kubernetes.io/tls", &server.pem(), &server.key_pem())
        ));
        let mut facts = testing::facts();
        facts.unusable_certificates.insert("Secret web/s".to_owned(), "the key does not fit".to_owned());
        let (plan, report) = translate(&resources, &facts);
        assert!(plan.frontends.is_empty());
        let status = listener(&report, "web", "g", "l");
        let resolved = condition(&status, "ResolvedRefs");
        assert_eq!(resolved["reason"], "InvalidCertificateRef");
        assert!(resolved["message"].as_str().unwrap().contains("the key does not fit"));
    }
}
