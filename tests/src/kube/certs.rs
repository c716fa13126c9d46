//! Who is who in the cluster: its authority, a certificate for each of its parts, and the kubeconfigs that name them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// The authority, which writes what it issues into one folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes it; `ca.crt` and `ca.key` in the folder, beside `sa.key` and `sa.pub` for the tokens of service accounts.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).context("making the folder of certificates")?;
        let mut params = params("kubernetes", None, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        fs::write(folder.join("ca.crt"), &certificate)?;
        fs::write(folder.join("ca.key"), key.serialize_pem())?;
        let tokens = KeyPair::generate()?;
        fs::write(folder.join("sa.key"), tokens.serialize_pem())?;
        fs::write(folder.join("sa.pub"), tokens.public_key_pem())?;
        Ok(Self { folder: folder.to_path_buf(), issuer: Issuer::new(params, key), certificate })
    }

    /// `FILE.crt` and `FILE.key` of a server with these names and addresses.
    pub(crate) fn server(&self, file: &str, names: &[&str]) -> Result<()> {
        self.issue(file, params(file, None, names)?, ExtendedKeyUsagePurpose::ServerAuth).map(|_| ())
    }

    /// `FILE.crt` and `FILE.key` of a client, and the same as `FILE.kubeconfig`.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>, server: &str) -> Result<()> {
        let (certificate, key) =
            self.issue(file, params(user, group, &[])?, ExtendedKeyUsagePurpose::ClientAuth)?;
        // A kubeconfig is YAML, and so is JSON.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "yett",
            "clusters": [{"name": "yett", "cluster": {
                "server": server, "certificate-authority-data": STANDARD.encode(&self.certificate) }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key) }}],
            "contexts": [{"name": "yett", "context": {"cluster": "yett", "user": user}}],
        });
        let text = serde_json::to_string_pretty(&config)?;
        fs::write(self.folder.join(format!("{file}.kubeconfig")), text).context("writing a kubeconfig")
    }

    fn issue(
        &self,
        file: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String)> {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        fs::write(self.folder.join(format!("{file}.crt")), &certificate)?;
        fs::write(self.folder.join(format!("{file}.key")), &key)?;
        Ok((certificate, key))
    }
}

fn params(name: &str, group: Option<&str>, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).context("naming a certificate")?;
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 3600));
    params.not_before = (now - day).into();
    params.not_after = (now + 365 * day).into();
    Ok(params)
}
