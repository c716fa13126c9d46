//! The walk-through's PKI, made with its own openssl commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The commands a user of the walk-through types, as they are. OpenSSL 3.0 makes an X.509 v1 client certificate of them.
const COMMANDS: [&[&str]; 5] = [
    &["genrsa", "-out", "root.key", "2048"],
    &[
        "req",
        "-x509",
        "-new",
        "-nodes",
        "-key",
        "root.key",
        "-sha256",
        "-days",
        "1024",
        "-out",
        "root.crt",
        "-subj",
        "/C=US/ST=North Dakota/L=Fargo/O=Contoso/CN=contoso-root",
    ],
    &["genrsa", "-out", "client.key", "2048"],
    &[
        "req",
        "-new",
        "-key",
        "client.key",
        "-out",
        "client.csr",
        "-subj",
        "/C=US/ST=North Dakota/L=Fargo/O=Contoso/CN=contoso-client",
    ],
    &[
        "x509",
        "-req",
        "-in",
        "client.csr",
        "-CA",
        "root.crt",
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-out",
        "client.crt",
        "-days",
        "1024",
        "-sha256",
    ],
];

/// What a user has besides: a server certificate.
const SERVER: &[&str] = &[
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-sha256",
    "-days",
    "90",
    "-keyout",
    "server.key",
    "-out",
    "server.crt",
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=DNS:localhost,IP:127.0.0.1",
];

/// What `openssl ca` needs to keep a list of revoked certificates.
const CA_CONFIG: &str = "\
[ca]
default_ca = here
[here]
database = index.txt
crlnumber = crlnumber
default_md = sha256
";

const CA: [&str; 7] = ["ca", "-config", "ca.cnf", "-keyfile", "root.key", "-cert", "root.crt"];

/// A folder with keys, certificates and a revocation list.
#[derive(Debug)]
pub(super) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let pki = Self { folder: folder.to_owned() };
        for command in COMMANDS {
            pki.openssl(command)?;
        }
        pki.openssl(SERVER)?;
        for (name, text) in [("ca.cnf", CA_CONFIG), ("index.txt", ""), ("crlnumber", "01\n")] {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        pki.issue_crl()?;
        Ok(pki)
    }

    /// Revokes the client's certificate and issues a new list.
    pub(super) fn revoke_client(&self) -> anyhow::Result<()> {
        self.openssl(&[&CA[..], &["-revoke", "client.crt", "-crl_reason", "keyCompromise"]].concat())?;
        self.issue_crl()
    }

    fn issue_crl(&self) -> anyhow::Result<()> {
        self.openssl(&[&CA[..], &["-gencrl", "-crldays", "7", "-out", "root.crl"]].concat())
    }

    /// The folder, where curl finds the client's certificate and key.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of the folder.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        fs::read(self.folder.join(name)).with_context(|| format!("cannot read {name}"))
    }

    fn openssl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let ran = Command::new("openssl")
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .context("cannot run openssl")?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            bail!("openssl {} failed:\n{}", arguments.join(" "), said.trim_end());
        }
        Ok(())
    }
}
