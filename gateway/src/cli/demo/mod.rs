//! `yett demo`: the mTLS walk-through, made, served and checked before one's eyes.
//!
//! It makes a PKI with openssl, writes the walk-through's three manifests and what they lean on, starts an echo backend
//! and `yett run` as a child, and acts as its clients with curl. What it proves is read from outside: from curl and from
//! the backend's own log.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::Failure;
use crate::settings::PortMapping;

mod checks;
mod client;
mod documents;
mod echo;
mod gateway;
mod pki;

use checks::Checks;
use client::Client;
use documents::Documents;
use echo::Echo;
use gateway::Gateway;
use pki::Pki;

/// The listener's port in the walk-through's Gateway.
const PORT: u16 = 443;
/// Taken where that one cannot be bound.
const PORT_INSTEAD: u16 = 8443;
/// The admin listener's usual port.
const ADMIN_PORT: u16 = 9911;
/// Marks a folder that the demo made and may empty.
const MARKER: &str = ".yett-demo";

/// The arguments of `yett demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// End after the checks: 0 where all hold, else 1
    #[arg(long)]
    once: bool,
    /// Folder for the PKI, manifests and logs, kept afterwards [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Bind another port than the manifests' 443 [default: 443=8443 where 443 cannot be bound]
    #[arg(long, value_name = "443=8443")]
    port_map: Option<PortMapping>,
}

/// Makes, serves and checks the walk-through.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    require_tools().map_err(Failure::operation)?;
    if let Some(map) = arguments.port_map.filter(|map| map.listener != PORT) {
        return Err(Failure::input(anyhow::anyhow!(
            "the walk-through listens on {PORT}, not on {}",
            map.listener
        )));
    }
    let folder = Folder::prepare(arguments.dir.as_deref()).map_err(Failure::input)?;
    let walked = walk(arguments, &folder);
    folder.leave(walked.as_ref().is_ok_and(|passed| *passed));
    let passed = walked.map_err(Failure::operation)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The story. Gives whether every check held.
fn walk(arguments: &Arguments, folder: &Folder) -> anyhow::Result<bool> {
    say(format_args!("Yett's mTLS walk-through, in {}", folder.path.display()));
    let port = arguments.port_map.map_or_else(free_port, |map| Ok(map.bind))?;
    say("  making the PKI with openssl");
    let pki = Pki::make(&folder.path.join("pki"))?;
    say("  starting the echo backend");
    let echo = Echo::start(&folder.path.join("logs"))?;
    say("  writing the manifests");
    let documents = Documents::write(&folder.path.join("config"), &pki, echo.address())?;
    say("  starting yett run");
    let mut gateway = Gateway::start(folder, port)?;
    gateway.wait_until_ready()?;
    let client = Client::new(&pki, port);
    say(format_args!("  serving {} (expected and actual, as curl and the backend tell)\n", client.url()));
    let mut checks = Checks::begin();
    checks.clients_before_revocation(&client, &echo);
    checks.revocation(&client, &pki, &documents)?;
    checks.clients_after_revocation(&client, &echo);
    let passed = checks.end();
    if !passed {
        say(format_args!("\nthe gateway's log:\n{}", gateway.log_tail()));
    }
    if !arguments.once {
        say(invitation(folder, &client, gateway.admin()));
        gateway.serve_until_interrupted()?;
    }
    gateway.stop();
    Ok(passed)
}

/// What to try while it serves on.
fn invitation(folder: &Folder, client: &Client, admin: SocketAddr) -> String {
    let pki = folder.path.join("pki");
    format!(
        "\nServing on until Ctrl-C.\n\
         \x20 cd {pki}\n\
         \x20 {no_certificate}\n\
         \x20 {with_certificate}\n\
         \x20 http://{admin}/ has the state, http://{admin}/metrics the metrics, http://{admin}/report the findings\n\
         \x20 yett status --admin {admin} prints what a cluster would show\n\
         \x20 {logs} has the access log, the operational log and what reached the backend",
        pki = pki.display(),
        no_certificate = client.line(false),
        with_certificate = client.line(true),
        logs = folder.path.join("logs").display(),
    )
}

/// Names what is missing, all at once.
fn require_tools() -> anyhow::Result<()> {
    let there = |program: &&str| {
        let mut command = Command::new(program);
        let argument = if *program == "openssl" { "version" } else { "--version" };
        command
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    let missing: Vec<&str> = ["openssl", "curl"].into_iter().filter(|program| !there(program)).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        bail!("the demo needs {missing} in PATH (Debian: apt-get install openssl curl)");
    }
    Ok(())
}

/// The port to bind for 443.
fn free_port() -> anyhow::Result<u16> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let Err(error) = bind(PORT) else { return Ok(PORT) };
    let port = match bind(PORT_INSTEAD) {
        Ok(_) => PORT_INSTEAD,
        Err(_) => bind(0).and_then(|socket| socket.local_addr()).context("cannot find a free port")?.port(),
    };
    say(format_args!(
        "  port {PORT} cannot be bound ({error}): using {port}, as --port-map {PORT}={port} would"
    ));
    Ok(port)
}

/// Where everything of the demo stands.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn prepare(asked: Option<&Path>) -> anyhow::Result<Self> {
        let (path, temporary) = match asked {
            Some(path) => (path.to_owned(), false),
            None => (std::env::temp_dir().join(format!("yett-demo-{}", std::process::id())), true),
        };
        if temporary {
            // Nobody else may have put something there: `create` fails where the name exists.
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("cannot make {}", path.display()))?;
        } else {
            take_over(&path)?;
        }
        for part in ["pki", "config", "logs"] {
            let part = path.join(part);
            DirBuilder::new()
                .mode(0o700)
                .create(&part)
                .with_context(|| format!("cannot make {}", part.display()))?;
        }
        let path = fs::canonicalize(path)?;
        Ok(Self { path, temporary })
    }

    /// A temporary folder goes, unless there is something to look at.
    fn leave(self, passed: bool) {
        if self.temporary && passed {
            let _ = fs::remove_dir_all(&self.path);
        } else {
            say(format_args!("Everything stands in {}", self.path.display()));
        }
    }
}

/// Makes the folder the user named, or empties what an earlier demo put there.
fn take_over(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let marker = path.join(MARKER);
    let empty =
        fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?.next().is_none();
    if !empty && !marker.exists() {
        bail!("{} is not empty and no demo made it: name another folder", path.display());
    }
    fs::write(&marker, "made by yett demo\n")
        .with_context(|| format!("cannot write {}", marker.display()))?;
    for part in ["pki", "config", "logs"] {
        match fs::remove_dir_all(path.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Prints a line. A reader that has gone must not keep the demo from stopping its child.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Rests between two looks at something outside.
fn pause(span: Duration) {
    #[allow(
        clippy::disallowed_methods,
        reason = "the demo's own thread serves nobody and looks again until a deadline"
    )]
    thread::sleep(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_of_its_own_is_emptied() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("demo");
        let folder = Folder::prepare(Some(&path)).unwrap();
        fs::write(folder.path.join("pki/old"), "old").unwrap();
        fs::write(folder.path.join("mine"), "mine").unwrap();
        let again = Folder::prepare(Some(&path)).unwrap();
        assert!(!again.path.join("pki/old").exists() && again.path.join("mine").exists());
        let foreign = parent.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("precious"), "x").unwrap();
        assert!(Folder::prepare(Some(&foreign)).is_err());
        assert!(foreign.join("precious").exists());
    }
}
