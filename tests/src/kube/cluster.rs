//! The cluster as others see it: begun, asked, told, ended. What runs it is a process of its own, [`super::serve`].

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::net::{Number, PATIENCE, enter};
use super::nodelet::Image;
use super::programs::Programs;
use crate::wait;

/// Which of the Gateway API's definitions are installed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// What is stable.
    #[default]
    Standard,
    /// That and what is tried.
    Experimental,
    /// None.
    Absent,
}

/// How a cluster is to be.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Options {
    /// How many nodes, `node-1` and up.
    pub nodes: u8,
    /// Whether Services have working addresses.
    pub proxy: bool,
    /// The Gateway API's definitions.
    pub channel: Channel,
    /// What the images of pods stand for.
    pub images: Vec<Image>,
}

/// How far it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum State {
    /// Not all of it is there.
    Starting,
    /// All of it.
    Ready,
    /// It came to nothing, since…
    Failed(String),
}

/// What a running cluster says of itself, in the file `status.json` of its folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// How far it is.
    pub state: State,
    /// What holds the namespaces of the control plane and the nodes, by its number among the cluster's processes.
    pub holders: Vec<(String, u32)>,
}

/// A cluster that was begun and not ended.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    programs: Programs,
    /// The cluster's first process, by its number among ours.
    first: Pid,
    /// Ended with this value.
    is_ours: bool,
    /// Waits for the process that waits for the first: someone has to, or it stays in the table of processes.
    waiter: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Begins one in a new folder, waits until it is ready; `say` hears how far it is. It outlives this process, if
    /// [`Cluster::leave`] says so.
    ///
    /// # Errors
    /// When there is one in this folder already, or it does not become ready; the message has the file that says more.
    pub fn up(folder: &Path, options: &Options, say: &mut dyn FnMut(&str)) -> Result<Self> {
        let programs = Programs::built()?;
        ensure!(Self::at(folder).is_err(), "a cluster runs in {} already", folder.display());
        if folder.exists() {
            fs::remove_dir_all(folder).context("removing what an ended cluster has left")?;
        }
        fs::create_dir_all(folder.join("log")).context("making the cluster's folder")?;
        let folder = fs::canonicalize(folder).context("finding the cluster's folder")?;
        fs::write(folder.join("options.json"), serde_json::to_vec_pretty(options)?)?;
        let log = folder.join("log/cluster.log");
        let output = File::create(&log).context("making the cluster's log")?;
        // What it starts, mounts and connects lies in namespaces of its own, which end with it.
        let mut outer = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"])
            .arg(program()?)
            .arg("serve")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("starting unshare")?;
        let first = wait::until("the cluster's first process", wait::SOON, || child(outer.id()));
        fs::write(folder.join("pid"), identity(first)?)?;
        let mut cluster = Self { folder, programs, first, is_ours: true, waiter: None };
        let (mut told, deadline) = (0, Instant::now() + 2 * PATIENCE);
        loop {
            told = follow(&log, told, say);
            match cluster.status().map(|status| status.state) {
                Ok(State::Ready) => break,
                Ok(State::Failed(reason)) => bail!("{reason}"),
                Ok(State::Starting) | Err(_) => {}
            }
            if let Some(status) = outer.try_wait()? {
                bail!("the cluster ended with {status}, see {}", log.display());
            }
            ensure!(Instant::now() < deadline, "the cluster is not ready yet, see {}", log.display());
            wait::pause();
        }
        follow(&log, told, say);
        cluster.waiter = Some(thread::spawn(move || drop(outer.wait())));
        Ok(cluster)
    }

    /// The one that runs in this folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(folder: &Path) -> Result<Self> {
        let none = || format!("no cluster runs in {}: `cargo xtask kube up` begins one", folder.display());
        let text = fs::read_to_string(folder.join("pid")).with_context(none)?;
        let number = text.split_whitespace().next().and_then(|number| number.parse().ok());
        let first = number.and_then(Pid::from_raw).with_context(none)?;
        ensure!(identity(first).is_ok_and(|now| now == text), none());
        let folder = fs::canonicalize(folder)?;
        Ok(Self { folder, programs: Programs::built()?, first, is_ours: false, waiter: None })
    }

    /// Lets it run on when this value is gone.
    pub fn leave(mut self) {
        self.is_ours = false;
    }

    /// Ends it, and waits until nothing of it runs. Its logs stay.
    ///
    /// # Errors
    /// When a process cannot be ended.
    pub fn down(mut self) -> Result<()> {
        self.is_ours = false;
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        kill_process(self.first, Signal::KILL).context("ending the cluster's first process")?;
        let deadline = Instant::now() + wait::SOON;
        // The kernel ends everything in its namespace before it is gone itself.
        while test_kill_process(self.first).is_ok() && !is_zombie(self.first) {
            ensure!(Instant::now() < deadline, "process {} does not end", self.first.as_raw_nonzero());
            wait::pause();
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.join().ok();
        }
        fs::remove_file(self.folder.join("pid")).ok();
        Ok(())
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it has said nothing yet.
    pub fn status(&self) -> Result<Status> {
        let text = fs::read(self.folder.join("status.json")).context("reading the cluster's status")?;
        serde_json::from_slice(&text).context("understanding the cluster's status")
    }

    /// Its folder: `log/`, `pki/`, `nodes/`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it is made of.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A file that lets a client do everything, in the lan.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/admin.kubeconfig")
    }

    /// `kubectl` in the lan, who may do everything.
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = self.command(self.programs.path("kubectl"));
        kubectl.env("KUBECONFIG", self.kubeconfig());
        kubectl
    }

    /// What `kubectl ARGUMENTS…` prints.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        finish(self.kubectl_command().args(arguments).stdin(Stdio::null()), &arguments.join(" "))
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// When kubectl fails; with what it said.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command();
        kubectl.args(["apply", "--filename=-"]);
        let mut child = kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting kubectl")?;
        child.stdin.take().context("no standard input")?.write_all(manifests.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command in the lan, where clients are.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        enter(&self.namespace(None), program)
    }

    /// A command in the network of a node, or of the control plane (`control`).
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn command_on(&self, node: &str, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let status = self.status()?;
        let holder = status.holders.iter().find(|(name, _)| name == node);
        let (_, holder) = holder.with_context(|| format!("the cluster has no {node}"))?;
        Ok(enter(&self.namespace(Some(*holder)), program))
    }

    /// Runs `work` on a thread in the lan. Sockets made there stay there, wherever they are used afterwards.
    ///
    /// # Panics
    /// When the lan cannot be entered, or `work` panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.namespace(None)).expect("the lan has a file");
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the lan can be entered");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Kills a part of it (`kube-apiserver`, `node-2`, …) at once and with everything it runs.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn kill(&self, part: &str) -> Result<()> {
        self.tell("kill", part)
    }

    /// Starts a part that was killed.
    ///
    /// # Errors
    /// When there is no such part, or it runs.
    pub fn start(&self, part: &str) -> Result<()> {
        self.tell("start", part)
    }

    fn tell(&self, verb: &str, part: &str) -> Result<()> {
        let mut socket =
            UnixStream::connect(self.folder.join("control")).context("speaking to the cluster")?;
        socket.write_all(format!("{verb} {part}").as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        ensure!(answer == "ok", "{verb} {part}: {answer}");
        Ok(())
    }

    /// The network namespace of the lan, or of one that a process of the cluster's holds.
    fn namespace(&self, holder: Option<u32>) -> PathBuf {
        let first = self.first.as_raw_nonzero();
        match holder {
            None => format!("/proc/{first}/ns/net"),
            // The cluster's processes go by other numbers in here than outside.
            Some(holder) => format!("/proc/{first}/root/proc/{holder}/ns/net"),
        }
        .into()
    }

    /// The node of a number.
    pub fn node(number: u8) -> Number {
        Number(number)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_ours {
            self.end().ok();
        }
    }
}

/// Runs a command and returns what it prints.
fn finish(command: &mut Command, what: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {what}"))?;
    ensure!(
        output.status.success(),
        "{what}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program that runs a cluster, its nodes and their containers: beside the one that runs now, or beside its tests.
pub(crate) fn program() -> Result<PathBuf> {
    let here = std::env::current_exe().context("finding the own program")?;
    here.ancestors()
        .take(3)
        .map(|folder| folder.join("kube"))
        .find(|program| program.is_file())
        .or_else(|| here.ends_with("kube").then(|| here.clone()))
        .context("the program `kube` is not built: `cargo build --workspace` does it")
}

/// The one child of a process.
pub(crate) fn child(parent: u32) -> Option<Pid> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(listed.split_whitespace().next()?.parse().ok()?)
}

/// A process's number with the time it was started at: a later one of the same number is another.
fn identity(process: Pid) -> Result<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()))?;
    // What stands in brackets may hold anything.
    let started = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split_whitespace().nth(19));
    Ok(format!("{} {}", process.as_raw_nonzero(), started.context("a process has a time")?))
}

fn is_zombie(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Says the whole lines of a file from a place on; tells the place to go on from.
fn follow(file: &Path, from: u64, say: &mut dyn FnMut(&str)) -> u64 {
    let mut text = String::new();
    let read = File::open(file).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_string(&mut text)
    });
    let whole = read.ok().and_then(|_| text.rfind('\n')).map_or(0, |end| end + 1);
    text[..whole].lines().for_each(say);
    from + whole as u64
}
