//! The walk-through's PKI, by its own openssl command lines, and the revocation list that follows.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

use super::Identity;
use crate::tools;

/// The lines a user of the walk-through types. With OpenSSL 3.0 they make an X.509 v1 client
/// certificate; a newer one makes v3.
const LINES: &str = r#"
openssl genrsa -out root.key 2048
openssl req -x509 -new -nodes -key root.key -sha256 -days 1024 -out root.crt -subj "/C=US/ST=North Dakota/L=Fargo/O=Contoso/CN=contoso-root"
openssl genrsa -out client.key 2048
openssl req -new -key client.key -out client.csr -subj "/C=US/ST=North Dakota/L=Fargo/O=Contoso/CN=contoso-client"
openssl x509 -req -in client.csr -CA root.crt -CAkey root.key -CAcreateserial -out client.crt -days 1024 -sha256
"#;

/// What `openssl ca` needs to keep a list of revoked certificates.
const CA_CONFIG: &str = "[ca]\ndefault_ca = contoso\n[contoso]\ndatabase = index.txt\ncrlnumber = crlnumber\n\
    default_md = sha256\ndefault_crl_days = 30\ncrl_extensions = extensions\n\
    [extensions]\nauthorityKeyIdentifier = keyid\n";

/// The folder in which the lines were run.
pub struct Walkthrough {
    folder: TempDir,
}

impl Walkthrough {
    /// Runs the lines, once a process: keys of this size take their time. Each walk-through gets files of its own.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn new() -> Self {
        static MADE: OnceLock<Vec<(OsString, Vec<u8>)>> = OnceLock::new();
        let this = Self { folder: TempDir::with_prefix("yett-walkthrough-").expect("a folder can be made") };
        let made = MADE.get_or_init(|| {
            this.shell(&format!("set -e\n{LINES}"));
            let files = fs::read_dir(this.path()).expect("the folder can be read").flatten();
            files.map(|file| (file.file_name(), fs::read(file.path()).expect("a file can be read"))).collect()
        });
        for (name, content) in made {
            fs::write(this.path().join(name), content).expect("a file can be written");
        }
        fs::write(this.path().join("ca.cnf"), CA_CONFIG).expect("the configuration can be written");
        fs::write(this.path().join("index.txt"), "").expect("the index can be written");
        fs::write(this.path().join("crlnumber"), "1000\n").expect("the number can be written");
        this
    }

    /// The folder with `root.crt`, `client.crt`, `client.key`.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The root's certificate in PEM.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn root_pem(&self) -> String {
        fs::read_to_string(self.path().join("root.crt")).expect("the root can be read")
    }

    /// The client's certificate and key.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn client(&self) -> Identity {
        let chain =
            CertificateDer::from_pem_file(self.path().join("client.crt")).expect("the certificate is PEM");
        let key = fs::read_to_string(self.path().join("client.key")).expect("the key can be read");
        Identity::new(vec![chain], &key, None)
    }

    /// The `Version:` line's number in openssl's print of the client certificate.
    pub fn client_version(&self) -> String {
        let text = self.shell("openssl x509 -in client.crt -noout -text");
        text.lines().find_map(|line| line.trim().strip_prefix("Version: ")).unwrap_or("?").to_owned()
    }

    /// The revocation list as it stands.
    pub fn crl_pem(&self) -> String {
        self.shell("openssl ca -config ca.cnf -gencrl -cert root.crt -keyfile root.key 2>/dev/null")
    }

    /// Revokes the client's certificate; the next list names it.
    pub fn revoke_client(&self) {
        self.shell(
            "openssl ca -config ca.cnf -cert root.crt -keyfile root.key -revoke client.crt -crl_reason keyCompromise",
        );
    }

    fn shell(&self, script: &str) -> String {
        tools::run(Command::new("sh").arg("-c").arg(script).current_dir(self.path()))
    }
}

impl Default for Walkthrough {
    fn default() -> Self {
        Self::new()
    }
}
