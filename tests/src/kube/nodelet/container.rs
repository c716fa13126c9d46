//! One container: started, watched by its probes, started again, ended.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use rustix::fs::fchown;
use rustix::fs::{Gid, Uid};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::network::Network;
use super::state::{State, running, terminated, waiting};
use super::volumes::Volumes;
use super::{Launch, Node, env, launch, probe};
use crate::kube::cluster::{child, program};

/// The first pause before a container that ended is started again; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long it has to run for the pauses to begin anew.
const STEADY: Duration = Duration::from_secs(60);
/// How long a program may take to be started.
const START: Duration = Duration::from_secs(30);
/// What a line of a log holds; a longer one is cut into several.
const LINE_BYTES_MAX: usize = 16 * 1024;

const TERM: i32 = 15;
const KILL: i32 = 9;

/// What all containers of a pod share.
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    pub(super) pod: Pod,
    pub(super) folder: PathBuf,
    pub(super) state: State,
}

/// How long a pod has from the moment on that it is to end; `None`: it is to go on.
pub(super) type Stop = watch::Receiver<Option<Duration>>;

/// What ended one run of a container.
enum End {
    Exit(i32),
    /// It was ended since the pod is to end.
    Stopped,
}

/// Keeps a container running until the pod is to end, or it has done its work.
pub(super) async fn keep(
    shared: &Shared,
    network: &Network,
    volumes: &Volumes,
    container: &Container,
    mut stop: Stop,
    is_init: bool,
) -> bool {
    let policy = shared.pod.spec.as_ref().and_then(|spec| spec.restart_policy.clone());
    let policy = policy.as_deref().unwrap_or("Always");
    let (name, mut pause) = (container.name.as_str(), PAUSE);
    for count in 0.. {
        let begun = Instant::now();
        shared.state.container(name, |status| status.restart_count = count);
        let end = once(shared, network, volumes, container, &mut stop).await;
        let code = match end {
            Ok(End::Stopped) => return false,
            Ok(End::Exit(code)) => Some(code),
            Err(error) => {
                let words = format!("{error:#}");
                println!("{name}: {words}");
                shared
                    .state
                    .container(name, |status| status.state = Some(waiting("CreateContainerError", words)));
                None
            }
        };
        let is_done = (is_init && code == Some(0))
            || matches!((policy, code), ("Never", Some(_)) | ("OnFailure", Some(0)));
        if is_done {
            return code == Some(0);
        }
        if begun.elapsed() > STEADY {
            pause = PAUSE;
        }
        if count > 0 || code.is_none() {
            if code.is_some() {
                shared.state.container(name, |status| {
                    status.last_state = status.state.take();
                    let words = format!("back-off {} s restarting failed container", pause.as_secs());
                    status.state = Some(waiting("CrashLoopBackOff", words));
                });
            }
            let asked = timeout(pause, stop.wait_for(Option::is_some)).await.is_ok();
            pause = (2 * pause).min(PAUSE_MAX);
            if asked {
                return false;
            }
        }
    }
    false
}

/// One run.
async fn once(
    shared: &Shared,
    network: &Network,
    volumes: &Volumes,
    container: &Container,
    stop: &mut Stop,
) -> Result<End> {
    if stop.borrow().is_some() {
        return Ok(End::Stopped);
    }
    let (state, name) = (&shared.state, container.name.as_str());
    let started = Timestamp::now();
    let mut run = Run::start(shared, network, volumes, container).await?;
    state.container(name, |status| {
        let former = status.state.take();
        if former.as_ref().is_some_and(|state| state.terminated.is_some()) {
            status.last_state = former;
        }
        status.state = Some(running());
        status.started = Some(container.startup_probe.is_none());
        status.ready = container.startup_probe.is_none() && container.readiness_probe.is_none();
        status.container_id = Some(format!("nodelet://{}", run.number));
        status.image_id = container.image.clone().unwrap_or_default();
    });
    let grace = shared.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let grace = Duration::from_secs(u64::try_from(grace)?);
    let exec = run.exec.clone();
    let is_stopped = tokio::select! {
        code = run.wait() => {
            let code = code?;
            over(state, name, code, started, run.first_words(code));
            return Ok(End::Exit(code));
        }
        asked = stop.wait_for(Option::is_some) => asked.is_ok(),
        () = probe::watch(state, container, network.address(), &exec) => false,
    };
    let asked = (*stop.borrow()).unwrap_or(grace);
    let code = end(&mut run, container, network, asked).await?;
    over(state, name, code, started, None);
    Ok(if is_stopped { End::Stopped } else { End::Exit(code) })
}

fn over(state: &State, name: &str, code: i32, started: Timestamp, message: Option<String>) {
    state.container(name, |status| {
        status.state = Some(terminated(code, started, message));
        (status.ready, status.started) = (false, Some(false));
    });
}

/// Ends a run: the hook, a word to the program, patience, force.
async fn end(run: &mut Run, container: &Container, network: &Network, grace: Duration) -> Result<i32> {
    let deadline = tokio::time::Instant::now() + grace;
    let hook = container.lifecycle.as_ref().and_then(|cycle| cycle.pre_stop.clone());
    if let Some(hook) = hook {
        let exec = run.exec.clone();
        tokio::select! {
            code = run.wait() => return code,
            done = tokio::time::timeout_at(deadline, before_stop(&hook, &exec, network)) => match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => println!("{}: preStop: {error:#}", container.name),
                Err(_) => println!("{}: preStop took too long", container.name),
            },
        }
    }
    run.signal(TERM).await;
    if let Ok(code) = tokio::time::timeout_at(deadline, run.wait()).await {
        return code;
    }
    run.signal(KILL).await;
    run.wait().await
}

async fn before_stop(hook: &LifecycleHandler, exec: &Exec, network: &Network) -> Result<()> {
    if let Some(command) = &hook.exec {
        let status = exec.command(command.command.as_deref().unwrap_or_default()).status().await?;
        ensure!(status.success(), "ended with {status}");
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds)?)).await;
    }
    if let Some(get) = &hook.http_get {
        probe::get(get, network.address(), &[]).await?;
    }
    Ok(())
}

/// A program in its container.
pub(super) struct Run {
    child: Child,
    control: Option<ChildStdin>,
    code: Option<i32>,
    log: PathBuf,
    number: u32,
    exec: Exec,
}

/// How to run something else in there.
#[derive(Clone)]
pub(super) struct Exec {
    first: i32,
    launch: Arc<Launch>,
}

impl Run {
    async fn start(
        shared: &Shared,
        network: &Network,
        volumes: &Volumes,
        container: &Container,
    ) -> Result<Self> {
        let (node, pod, name) = (&shared.node, &shared.pod, &container.name);
        let (launch, user) = plan(shared, network, volumes, container).await?;
        let file = shared.folder.join(format!("{name}.json"));
        fs::write(&file, serde_json::to_vec_pretty(&launch)?)?;
        let log = log(node, pod, name);
        fs::create_dir_all(log.parent().context("a log is somewhere")?)?;
        // The run before stays readable.
        fs::rename(&log, previous(&log)).ok();
        let mut command = network.command("unshare");
        command
            .args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL", "--"])
            .arg(program()?)
            .arg("container")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().context("starting unshare")?;
        let file = File::options().create(true).append(true).open(&log)?;
        let (out, err) =
            (child.stdout.take().context("no output")?, child.stderr.take().context("no output")?);
        own(&out, &user)?;
        own(&err, &user)?;
        tokio::spawn(write_down(out, file.try_clone()?, "stdout"));
        tokio::spawn(write_down(err, file, "stderr"));
        let control = child.stdin.take();
        let number = child.id().context("it has just been started")?;
        let exec = Exec { first: 0, launch: Arc::new(launch) };
        let mut run = Self { child, control, code: None, log, number, exec };
        timeout(START, run.begun()).await.context("the program takes too long to start")??;
        Ok(run)
    }

    /// Waits until the program is there, or has ended.
    async fn begun(&mut self) -> Result<()> {
        while self.code.is_none() {
            if let Some(first) = child(self.number)
                && child(first.as_raw_nonzero().get().unsigned_abs()).is_some()
            {
                self.exec.first = first.as_raw_nonzero().get();
                return Ok(());
            }
            if let Ok(code) = timeout(Duration::from_millis(5), self.wait()).await {
                self.code = Some(code?);
            }
        }
        Ok(())
    }

    /// Its exit code.
    async fn wait(&mut self) -> Result<i32> {
        if let Some(code) = self.code {
            return Ok(code);
        }
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().await?;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(KILL));
        self.code = Some(code);
        Ok(code)
    }

    async fn signal(&mut self, signal: i32) {
        if let Some(control) = &mut self.control {
            control.write_all(format!("{signal}\n").as_bytes()).await.ok();
            control.flush().await.ok();
        }
    }

    /// Why it could not be started, if that is how it ended.
    fn first_words(&self, code: i32) -> Option<String> {
        let text = (code == 128).then(|| fs::read_to_string(&self.log).ok()).flatten()?;
        Some(text.lines().last()?.to_owned())
    }
}

impl Exec {
    /// A command in the container, as whoever runs there.
    pub(super) fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first));
        command.args([
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--net",
            "--root",
            "--wd",
            "--",
            "/usr/bin/setpriv",
        ]);
        command.args(&self.launch.privileges).arg("--").args(arguments);
        command.env_clear().envs(self.launch.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }
}

async fn plan(
    shared: &Shared,
    network: &Network,
    volumes: &Volumes,
    container: &Container,
) -> Result<(Launch, launch::User)> {
    let (node, pod) = (&shared.node, &shared.pod);
    let spec = pod.spec.as_ref().context("a pod has a spec")?;
    let image = node.image(container.image.as_deref().unwrap_or_default())?;
    let user = launch::user(spec, container, image)?;
    let environment = env::of(node, pod, container, &network.address().to_string()).await?;
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let mut from = volumes.folder(&wanted.name)?.to_path_buf();
        if let Some(path) = &wanted.sub_path {
            ensure!(!path.contains(".."), "subPath {path} does not stay inside");
            from = from.join(path);
        }
        let is_read_only = wanted.read_only.unwrap_or(false);
        mounts.push(launch::Mount { from, to: wanted.mount_path.clone(), is_read_only });
    }
    // What lies within something else is seen after it.
    mounts.sort_by_key(|mount| mount.to.matches('/').count());
    let context = container.security_context.clone().unwrap_or_default();
    let launch = Launch {
        root: shared.folder.join("root").join(&container.name),
        hostname: launch::hostname(pod),
        program: image.program.clone().map(|program| (program, image.at.clone())),
        mounts,
        arguments: launch::arguments(container, image, &environment)?,
        privileges: launch::privileges(spec, container, &user),
        environment,
        folder: container.working_dir.clone().unwrap_or_else(|| "/".to_owned()),
        is_read_only: context.read_only_root_filesystem.unwrap_or(false),
        has_low_ports: network.is_own(),
    };
    Ok((launch, user))
}

/// Lets a container's user open `/dev/stdout` by its name.
fn own(pipe: impl AsFd, user: &launch::User) -> Result<()> {
    fchown(pipe, Some(Uid::from_raw(user.id)), Some(Gid::from_raw(user.group))).context("giving a pipe away")
}

/// Where a container's log is.
pub(super) fn log(node: &Node, pod: &Pod, container: &str) -> PathBuf {
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    log_of(node, namespace.unwrap_or_default(), name.unwrap_or_default(), container)
}

pub(super) fn log_of(node: &Node, namespace: &str, pod: &str, container: &str) -> PathBuf {
    node.folder.join("logs").join(format!("{namespace}_{pod}")).join(format!("{container}.log"))
}

/// The log of the run before.
pub(super) fn previous(log: &Path) -> PathBuf {
    log.with_extension("previous")
}

/// Writes down what a program says, each line with its time, as container runtimes do.
async fn write_down(from: impl AsyncRead + Unpin, mut to: File, stream: &str) {
    let mut from = BufReader::with_capacity(LINE_BYTES_MAX, from);
    loop {
        let Ok(bytes) = from.fill_buf().await else { return };
        if bytes.is_empty() {
            return;
        }
        let mut text = Vec::new();
        let now = Timestamp::now();
        let mut taken = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = line.ends_with(b"\n");
            text.extend_from_slice(
                format!("{now:.9} {stream} {} ", if is_whole { 'F' } else { 'P' }).as_bytes(),
            );
            text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            text.push(b'\n');
            taken += line.len();
        }
        // In one piece, so that both streams' lines stay whole.
        to.write_all(&text).ok();
        from.consume(taken);
    }
}
