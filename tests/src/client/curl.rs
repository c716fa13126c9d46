//! curl, run once a request.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::Identity;

/// A curl command line in the making. It does not check the server's certificate.
pub struct Curl {
    arguments: Vec<String>,
    /// Kept alive until curl has run: it holds the client's files.
    identity: Option<Identity>,
}

/// What curl saw.
#[derive(Debug)]
pub struct CurlAnswer {
    /// curl's exit code.
    pub exit: i32,
    /// The last status, or 0 where none was read.
    pub status: u16,
    /// The HTTP version, such as `2` or `1.1`.
    pub version: String,
    /// The fields of the last answer.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// curl's verbose account.
    pub trace: String,
}

impl CurlAnswer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The values of a field, whatever its spelling.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// `yett-reason`, or nothing.
    pub fn reason(&self) -> &str {
        self.header("yett-reason").first().copied().unwrap_or_default()
    }
}

impl Curl {
    /// A command line that reaches `address` whatever host the URL names.
    pub fn to(address: SocketAddr) -> Self {
        let arguments =
            ["--silent", "--show-error", "--verbose", "--insecure", "--noproxy", "*", "--max-time", "60"];
        let mut this = Self { arguments: arguments.map(str::to_owned).to_vec(), identity: None };
        this.push("--connect-to", &format!("::{}:{}", address.ip(), address.port()));
        this
    }

    /// With a client certificate.
    #[must_use]
    pub fn cert(mut self, identity: &Identity) -> Self {
        self.push("--cert", &identity.cert_file().display().to_string());
        self.push("--key", &identity.key_file().display().to_string());
        self.identity = Some(identity.clone());
        self
    }

    /// Any other argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Any other argument with a value.
    #[must_use]
    pub fn with(mut self, argument: &str, value: &str) -> Self {
        self.push(argument, value);
        self
    }

    /// HTTP/1.1 alone.
    #[must_use]
    pub fn http1(self) -> Self {
        self.arg("--http1.1")
    }

    /// HTTP/2, by ALPN.
    #[must_use]
    pub fn http2(self) -> Self {
        self.arg("--http2")
    }

    /// A request field, `Name: value`.
    #[must_use]
    pub fn header(self, line: &str) -> Self {
        self.with("--header", line)
    }

    /// The file's bytes as the request's body, without waiting for a 100.
    #[must_use]
    pub fn upload(self, file: &Path) -> Self {
        self.header("Expect:").with("--data-binary", &format!("@{}", file.display()))
    }

    /// Runs it.
    ///
    /// # Panics
    /// When curl is not there.
    pub fn get(mut self, url: &str) -> CurlAnswer {
        let folder = TempDir::with_prefix("yett-curl-").expect("a folder can be made");
        let (head, body) = (folder.path().join("head"), folder.path().join("body"));
        self.push("--dump-header", &head.display().to_string());
        self.push("--output", &body.display().to_string());
        self.push("--write-out", "%{http_code} %{http_version}");
        self.arguments.push(url.to_owned());
        let output = Command::new("curl").args(&self.arguments).output().expect("curl is installed");
        let written = String::from_utf8_lossy(&output.stdout).into_owned();
        let (status, version) = written.split_once(' ').unwrap_or_default();
        CurlAnswer {
            exit: output.status.code().unwrap_or(-1),
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            headers: fields(&fs::read_to_string(head).unwrap_or_default()),
            body: fs::read(body).unwrap_or_default(),
            trace: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it without keeping the body: curl's exit code, the status, and how long the body was.
    ///
    /// # Panics
    /// When curl is not there.
    pub fn discard(mut self, url: &str) -> (i32, u16, u64) {
        self.push("--output", "/dev/null");
        self.push("--write-out", "%{http_code} %{size_download}");
        self.push("--max-time", "300");
        let output = Command::new("curl").args(&self.arguments).arg(url).output().expect("curl is installed");
        let written = String::from_utf8_lossy(&output.stdout).into_owned();
        let (status, length) = written.split_once(' ').unwrap_or_default();
        (output.status.code().unwrap_or(-1), status.parse().unwrap_or(0), length.parse().unwrap_or(0))
    }

    fn push(&mut self, argument: &str, value: &str) {
        self.arguments.extend([argument.to_owned(), value.to_owned()]);
    }
}

/// The fields of the last head in a dump, which holds interim answers too.
fn fields(dump: &str) -> Vec<(String, String)> {
    let last = dump.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let pairs = last.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
