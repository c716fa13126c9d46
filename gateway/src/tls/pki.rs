//! Authorities and clients for the tests of this module.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::model::TrustBundle;

/// A certificate chain, leaf first, with the leaf's key.
pub(crate) struct Holder {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key_pem: String,
}

impl Holder {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }

    pub(crate) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }
}

/// An authority.
pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// What its clients send beside the leaf.
    above: Vec<CertificateDer<'static>>,
}

pub(crate) fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 1, 1);
    params
}

fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    /// A self-signed authority.
    pub(crate) fn root(common_name: &str) -> Self {
        Self::root_with(common_name, KeyPair::generate().unwrap(), |_| {})
    }

    pub(crate) fn root_with(
        common_name: &str,
        key: KeyPair,
        alter: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(common_name);
        alter(&mut params);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key), above: Vec::new() }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, common_name: &str, alter: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(common_name);
        alter(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let above = std::iter::once(der.clone()).chain(self.above.iter().cloned()).collect();
        Self { der, issuer: Issuer::new(params, key), above }
    }

    /// A client certificate with the extended key usage clientAuth.
    pub(crate) fn client(&self, common_name: &str, alter: impl FnOnce(&mut CertificateParams)) -> Holder {
        self.holder(common_name, &KeyPair::generate().unwrap(), |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            alter(params);
        })
    }

    /// A CRL in DER: number 1, 2026 to 2048, empty, unless altered.
    pub(crate) fn crl(&self, alter: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
        let mut params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2048, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        alter(&mut params);
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn holder(
        &self,
        common_name: &str,
        key: &KeyPair,
        alter: impl FnOnce(&mut CertificateParams),
    ) -> Holder {
        let mut params = params(common_name);
        alter(&mut params);
        let leaf = params.signed_by(key, &self.issuer).unwrap().der().clone();
        let chain = std::iter::once(leaf).chain(self.above.iter().cloned()).collect();
        Holder { chain, key_pem: key.serialize_pem() }
    }
}

/// A bundle of anchors without CRLs.
pub(crate) fn bundle(anchors: &[&CertificateDer<'static>]) -> Arc<TrustBundle> {
    let anchors = anchors.iter().map(|anchor| (*anchor).clone()).collect();
    Arc::new(TrustBundle { source: "Secret default/ca.bundle".into(), anchors, crls: Vec::new() })
}

/// What a user's own openssl commands make: a root, and an X.509 v1 client certificate of it.
pub(crate) fn openssl_v1(root: &str, client: &str) -> (CertificateDer<'static>, Holder) {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |line: &str| openssl(directory.path(), line);
    openssl("genrsa -out root.key 2048");
    openssl(&format!("req -x509 -new -nodes -key root.key -sha256 -days 1024 -out root.crt -subj {root}"));
    openssl("genrsa -out client.key 2048");
    openssl(&format!("req -new -key client.key -out client.csr -subj {client}"));
    openssl(
        "x509 -req -in client.csr -CA root.crt -CAkey root.key -CAcreateserial -out client.crt -days 1024 -sha256",
    );
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let holder = Holder {
        chain: vec![CertificateDer::from_pem_slice(&read("client.crt")).unwrap()],
        key_pem: String::from_utf8(read("client.key")).unwrap(),
    };
    (CertificateDer::from_pem_slice(&read("root.crt")).unwrap(), holder)
}

pub(crate) fn openssl(directory: &Path, line: &str) {
    let run = Command::new("openssl").args(line.split(' ')).current_dir(directory).output().unwrap();
    assert!(run.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&run.stderr));
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
