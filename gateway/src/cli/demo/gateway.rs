//! `yett run` as a child process.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::signal;

use super::super::admin::{ANSWER_TIMEOUT, Where};
use super::{ADMIN_PORT, Folder, PORT, pause, say};

/// How long the child may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to drain and end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the child.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of its log that are shown when something went wrong.
const LOG_LINES_SHOWN: usize = 30;

#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    admin: SocketAddr,
    socket: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// Starts the same binary with the demo's folder; it listens on loopback alone.
    pub(super) fn start(folder: &Folder, port: u16) -> anyhow::Result<Self> {
        let (logs, socket) = (folder.path.join("logs"), folder.path.join("admin.sock"));
        let admin = admin_address()?;
        let log = logs.join("yett.log");
        let mut command = Command::new(std::env::current_exe().context("cannot find this binary")?);
        command.arg("run").arg("--config").arg(folder.path.join("config"));
        command.args(["--address", "127.0.0.1", "--admin", &admin.to_string()]);
        command.arg("--admin-socket").arg(&socket);
        command.arg("--access-log").arg(logs.join("access.log"));
        if port != PORT {
            command.arg("--port-map").arg(format!("{PORT}={port}"));
        }
        // Settings of the shell that the demo runs in are not meant for it.
        let inherited = std::env::vars_os().map(|(name, _)| name);
        inherited.filter(|name| name.to_string_lossy().starts_with("YETT_")).for_each(|name| {
            command.env_remove(name);
        });
        let file = File::create(&log).context("cannot open the gateway's log")?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("cannot start yett run")?;
        Ok(Self { child, admin, socket, log })
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(super) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if is_ready(self.admin) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("yett run ended with {status}; its log:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "yett run is not ready after {} s; its log:\n{}",
                    READY_TIMEOUT.as_secs(),
                    self.log_tail()
                );
            }
            pause(LOOK_INTERVAL);
        }
    }

    /// The end of its operational log.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Returns on Ctrl-C or TERM; an error where the child ended by itself.
    pub(super) fn serve_until_interrupted(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminated = signal::unix::signal(signal::unix::SignalKind::terminate())?;
            loop {
                tokio::select! {
                    _ = signal::ctrl_c() => return Ok(()),
                    _ = terminated.recv() => return Ok(()),
                    () = tokio::time::sleep(LOOK_INTERVAL * 4) => {}
                }
                if let Some(status) = self.child.try_wait()? {
                    bail!("yett run ended with {status}; its log:\n{}", self.log_tail());
                }
            }
        })
    }

    /// Has it drain, and ends it if it does not.
    pub(super) fn stop(&mut self) {
        // Ctrl-C reached the child as well: it may be draining already, or gone.
        let _ = Where::socket(&self.socket).post("/drain", ANSWER_TIMEOUT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => pause(LOOK_INTERVAL),
                _ => return,
            }
        }
        say("  yett run did not drain in time and is stopped");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // On every way out; without effect on a child that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The usual admin address, or a free port where another process has it.
fn admin_address() -> anyhow::Result<SocketAddr> {
    let bind =
        |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|socket| socket.local_addr());
    bind(ADMIN_PORT).or_else(|_| bind(0)).context("cannot find a free port for the admin listener")
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&admin, LOOK_INTERVAL * 10)?;
        stream.set_read_timeout(Some(LOOK_INTERVAL * 20))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}
