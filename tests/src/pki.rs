//! Certificate authorities, certificates and revocation lists, good and bad on purpose.
//!
//! Made in the process for speed; [`walkthrough`] makes its own with openssl's command lines.

pub mod walkthrough;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// An hour.
pub const HOUR: Duration = Duration::from_secs(3600);
/// A day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A point in time, said from now.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So long before now.
    Ago(Duration),
    /// So long after now.
    In(Duration),
}

impl When {
    fn at(self) -> SystemTime {
        match self {
            Self::Ago(span) => SystemTime::now() - span,
            Self::In(span) => SystemTime::now() + span,
        }
    }
}

/// What kind of key is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    #[default]
    Ec,
    /// RSA with 2048 bits.
    Rsa,
}

impl Key {
    fn pair(self) -> KeyPair {
        match self {
            Self::Ec => KeyPair::generate(),
            Self::Rsa => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
        }
        .expect("a key can be made")
    }
}

/// A certificate authority that can sign.
pub struct Ca {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
    /// What a client must send along so that a root's holder finds the path: this CA's certificate
    /// and those above it, without the root.
    path: Vec<CertificateDer<'static>>,
}

impl Ca {
    /// A self-signed root with an EC key.
    pub fn root(name: &str) -> Self {
        Self::root_with(name, Key::Ec)
    }

    /// A self-signed root.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    pub fn root_with(name: &str, kind: Key) -> Self {
        let params = ca_params(name);
        let key = kind.pair();
        let der = params.self_signed(&key).expect("a root signs itself").der().clone();
        Self { params, key, der, path: Vec::new() }
    }

    /// A CA below this one.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    pub fn intermediate(&self, name: &str) -> Self {
        let params = ca_params(name);
        let key = Key::Ec.pair();
        let der = params.signed_by(&key, &self.issuer()).expect("a CA signs").der().clone();
        let path = std::iter::once(der.clone()).chain(self.path.iter().cloned()).collect();
        Self { params, key, der, path }
    }

    /// The CA's certificate in PEM, as `ca.crt` holds it.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The CA's certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The serial number of the CA's own certificate.
    ///
    /// # Panics
    /// Never: every certificate here is given one.
    pub fn serial(&self) -> SerialNumber {
        self.params.serial_number.clone().expect("every certificate is given a serial")
    }

    /// A client's certificate with nothing wrong.
    pub fn client(&self, name: &str) -> Identity {
        self.leaf(name).issue()
    }

    /// A server's certificate for these DNS names.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.leaf(names[0]).names(names).usage(ExtendedKeyUsagePurpose::ServerAuth).issue()
    }

    /// The start of a leaf: EC key, valid from an hour ago for a year, `clientAuth`.
    pub fn leaf(&self, name: &str) -> Leaf<'_> {
        Leaf {
            ca: self,
            name: name.to_owned(),
            names: Vec::new(),
            key: Key::Ec,
            from: When::Ago(HOUR),
            to: When::In(365 * DAY),
            usage: Some(ExtendedKeyUsagePurpose::ClientAuth),
        }
    }

    /// The start of a revocation list: number 1, an hour old, valid for a day, empty.
    pub fn crl(&self) -> Crl<'_> {
        Crl { ca: self, number: 1, from: When::Ago(HOUR), to: When::In(DAY), entries: Vec::new() }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name, &[], When::Ago(DAY), When::In(3650 * DAY));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, names: &[String], from: When, to: When) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("the names are DNS names");
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Contoso");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.serial_number = Some(next_serial());
    params.not_before = from.at().into();
    params.not_after = to.at().into();
    params.use_authority_key_identifier_extension = true;
    params
}

/// Serials are told apart at a glance in a log and never repeat within a process.
fn next_serial() -> SerialNumber {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    SerialNumber::from(0x1a00_0000_0000_0000 + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A leaf certificate in the making.
pub struct Leaf<'a> {
    ca: &'a Ca,
    name: String,
    names: Vec<String>,
    key: Key,
    from: When,
    to: When,
    usage: Option<ExtendedKeyUsagePurpose>,
}

impl Leaf<'_> {
    /// With these DNS names.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// With an RSA key.
    #[must_use]
    pub fn rsa(mut self) -> Self {
        self.key = Key::Rsa;
        self
    }

    /// Valid only between these two.
    #[must_use]
    pub fn valid(mut self, from: When, to: When) -> Self {
        self.from = from;
        self.to = to;
        self
    }

    /// For this usage alone.
    #[must_use]
    pub fn usage(mut self, usage: ExtendedKeyUsagePurpose) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Signs it.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    pub fn issue(self) -> Identity {
        let mut params = params(&self.name, &self.names, self.from, self.to);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.usage.into_iter().collect();
        let key = self.key.pair();
        let cert = params.signed_by(&key, &self.ca.issuer()).expect("a CA signs");
        let chain = std::iter::once(cert.der().clone()).chain(self.ca.path.iter().cloned()).collect();
        let serial = params.serial_number.expect("every certificate is given a serial");
        Identity::new(chain, &key.serialize_pem(), Some(serial))
    }
}

/// A certificate with its chain and key, in memory and as files that curl and openssl can name.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key_pem: String,
    serial: Option<SerialNumber>,
    folder: Arc<TempDir>,
}

impl Identity {
    /// Puts an identity together from its parts, whatever they are worth.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn new(chain: Vec<CertificateDer<'static>>, key_pem: &str, serial: Option<SerialNumber>) -> Self {
        let folder = Arc::new(TempDir::with_prefix("yett-identity-").expect("a folder can be made"));
        let identity = Self { chain, key_pem: key_pem.to_owned(), serial, folder };
        fs::write(identity.cert_file(), identity.cert_pem()).expect("the chain can be written");
        fs::write(identity.key_file(), key_pem).expect("the key can be written");
        identity
    }

    /// The same key and leaf with another chain behind it.
    #[must_use]
    pub fn with_chain(&self, rest: &[CertificateDer<'static>]) -> Self {
        let chain = std::iter::once(self.leaf().clone()).chain(rest.iter().cloned()).collect();
        Self::new(chain, &self.key_pem, self.serial.clone())
    }

    /// The leaf without anything sent along.
    #[must_use]
    pub fn alone(&self) -> Self {
        self.with_chain(&[])
    }

    /// The same certificate with a byte of the issuer's signature flipped.
    #[must_use]
    pub fn with_broken_signature(&self) -> Self {
        let mut der = self.leaf().to_vec();
        *der.last_mut().expect("a certificate has bytes") ^= 0x01;
        Self::new(vec![der.into()], &self.key_pem, self.serial.clone())
    }

    /// The same key with bytes that are no certificate.
    #[must_use]
    pub fn with_garbage(&self) -> Self {
        Self::new(vec![vec![0x30, 0x03, 0x02, 0x01, 0x05].into()], &self.key_pem, None)
    }

    /// This certificate with another's key, so that the proof of possession fails.
    #[must_use]
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self::new(self.chain.clone(), &other.key_pem, self.serial.clone())
    }

    /// The leaf.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The leaf and what is sent with it.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    ///
    /// # Panics
    /// When it is no PEM key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("the key is PEM")
    }

    /// The chain in PEM.
    pub fn cert_pem(&self) -> String {
        self.chain.iter().map(|cert| pem("CERTIFICATE", cert)).collect()
    }

    /// The key in PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The file with the chain.
    pub fn cert_file(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    /// The file with the key.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The serial number.
    ///
    /// # Panics
    /// When the identity was put together without one.
    pub fn serial(&self) -> SerialNumber {
        self.serial.clone().expect("the identity has a serial")
    }

    /// The serial as lower-case hexadecimal digits.
    pub fn serial_hex(&self) -> String {
        self.serial().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What `Client-Cert` must carry: a byte sequence (RFC 9440 section 2.1, RFC 8941 section 3.3.5).
    pub fn client_cert_header(&self) -> String {
        format!(":{}:", STANDARD.encode(self.leaf()))
    }
}

/// A revocation list in the making.
pub struct Crl<'a> {
    ca: &'a Ca,
    number: u64,
    from: When,
    to: When,
    entries: Vec<RevokedCertParams>,
}

impl Crl<'_> {
    /// With this `CRLNumber`.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.number = number;
        self
    }

    /// With these for thisUpdate and nextUpdate.
    #[must_use]
    pub fn valid(mut self, from: When, to: When) -> Self {
        self.from = from;
        self.to = to;
        self
    }

    /// Revokes a leaf for `keyCompromise`.
    #[must_use]
    pub fn revoke(self, identity: &Identity) -> Self {
        self.revoke_serial(identity.serial(), RevocationReason::KeyCompromise)
    }

    /// Revokes a serial for a reason.
    #[must_use]
    pub fn revoke_serial(mut self, serial: SerialNumber, reason: RevocationReason) -> Self {
        self.entries.push(RevokedCertParams {
            serial_number: serial,
            revocation_time: When::Ago(HOUR).at().into(),
            reason_code: Some(reason),
            invalidity_date: None,
        });
        self
    }

    /// Signs it and returns the DER.
    ///
    /// # Panics
    /// When the CA may not sign revocation lists.
    pub fn der(self) -> Vec<u8> {
        let params = CertificateRevocationListParams {
            this_update: self.from.at().into(),
            next_update: self.to.at().into(),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs: self.entries,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.ca.issuer()).expect("a CA signs its list").der().to_vec()
    }

    /// Signs it and returns the PEM.
    pub fn pem(self) -> String {
        pem("X509 CRL", &self.der())
    }

    /// Signs it, then breaks the signature.
    ///
    /// # Panics
    /// As [`Crl::der`].
    pub fn corrupt(self) -> String {
        let mut der = self.der();
        *der.last_mut().expect("a list has bytes") ^= 0x01;
        pem("X509 CRL", &der)
    }
}

/// One PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
