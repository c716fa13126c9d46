//! `openssl s_client`, run once a connection.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Identity;

/// How long one run may take, as `timeout` reads it.
const LIMIT_SECONDS: &str = "15";

/// An `openssl s_client` command line in the making.
pub struct OpenSsl {
    arguments: Vec<String>,
    identity: Option<Identity>,
}

/// What openssl told.
#[derive(Debug)]
pub struct Session {
    /// Its print of the session, and what the server sent.
    pub output: String,
    /// Its errors.
    pub errors: String,
}

impl OpenSsl {
    /// A command line that connects to `address` and sends no server name.
    pub fn to(address: SocketAddr) -> Self {
        let connect = address.to_string();
        // -ign_eof: do not take the end of the input for the end of the session, nor its letters for commands.
        let arguments = ["s_client", "-connect", &connect, "-noservername", "-ign_eof"];
        Self { arguments: arguments.map(str::to_owned).to_vec(), identity: None }
    }

    /// With a client certificate and its chain.
    #[must_use]
    pub fn cert(mut self, identity: &Identity) -> Self {
        let (cert, key) = (identity.cert_file(), identity.key_file());
        let (cert, key) = (cert.display().to_string(), key.display().to_string());
        self.arguments.extend(["-cert", &cert, "-key", &key, "-cert_chain", &cert].map(str::to_owned));
        self.identity = Some(identity.clone());
        self
    }

    /// With this server name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.arguments.retain(|argument| argument != "-noservername");
        self.arg("-servername").arg(name)
    }

    /// Any other argument, such as `-tls1_2`.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Keeps the session in a file.
    #[must_use]
    pub fn save(self, file: &Path) -> Self {
        self.arg("-sess_out").arg(&file.display().to_string())
    }

    /// Resumes the session of a file.
    #[must_use]
    pub fn resume(self, file: &Path) -> Self {
        self.arg("-sess_in").arg(&file.display().to_string())
    }

    /// Connects, asks for `path` and reads until the server closes.
    pub fn get(self, path: &str) -> Session {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n"))
    }

    /// Connects, sends `text` and reads until the server closes.
    ///
    /// # Panics
    /// When openssl is not there.
    pub fn send(self, text: &str) -> Session {
        let mut command = Command::new("timeout");
        command.args([LIMIT_SECONDS, "openssl"]).args(&self.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("timeout and openssl are installed");
        // A refused handshake may end openssl before it has read a word.
        child.stdin.take().expect("its input is piped").write_all(text.as_bytes()).ok();
        let output = child.wait_with_output().expect("openssl ends");
        Session {
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Session {
    /// The number of the alert that ended the session.
    pub fn alert(&self) -> Option<u8> {
        let tail = self.errors.split("SSL alert number ").nth(1)?;
        tail.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    }

    /// Whether openssl says that the session was resumed.
    pub fn resumed(&self) -> bool {
        self.output.lines().any(|line| line.starts_with("Reused, "))
    }

    /// The protocol that was negotiated, such as `TLSv1.3`.
    pub fn protocol(&self) -> &str {
        let line = self.output.lines().find(|line| line.starts_with("New, ") || line.starts_with("Reused, "));
        line.and_then(|line| line.split(", ").nth(1)).unwrap_or_default()
    }

    /// The status of the HTTP answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.output.split("HTTP/1.1 ").nth(1)?.get(..3)?.parse().ok()
    }
}
