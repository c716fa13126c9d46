//! The gateway itself: `yett run` as a child process, with its admin listener, status folder and logs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::metrics::Metrics;
use crate::netns::Netns;
use crate::process::Process;
use crate::{Site, binary, ports, tools, wait};

/// The ports that a test's listeners may name; each is bound elsewhere.
const LISTENER_PORTS: [u16; 4] = [80, 443, 8080, 8443];
const LOG_LINES_SHOWN: usize = 80;

/// How a gateway is to be started.
pub struct Start {
    config: PathBuf,
    arguments: Vec<String>,
    settings: Option<String>,
    variables: Vec<(String, String)>,
    /// What starts it, outermost first.
    wrapping: Vec<OsString>,
    program: Option<PathBuf>,
    address: IpAddr,
    user: Option<u32>,
}

/// A running gateway; it is killed when dropped.
pub struct Node {
    command: Command,
    process: Process,
    /// Those that it has taken over from.
    former: Vec<Process>,
    work: TempDir,
    binds: BTreeMap<u16, SocketAddr>,
    admin: SocketAddr,
}

impl Start {
    /// With this argument too.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With these process settings, the text of a `yett.toml`.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings = Some(toml.to_owned());
        self
    }

    /// With this environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In the control group whose processes this file names.
    #[must_use]
    pub fn within(self, processes: &Path) -> Self {
        // A process joins before it becomes the gateway, so that all of its memory counts.
        self.through(["sh", "-c", "echo $$ > \"$0\" && exec \"$@\""]).through([processes])
    }

    /// In this network namespace, on its address.
    #[must_use]
    pub fn inside(mut self, netns: &Netns) -> Self {
        self.address = netns.far_address();
        // Not by `ip netns exec`, which has other file systems below /sys.
        self.through(["nsenter".into(), format!("--net={}", netns.file().display())])
    }

    /// By a command that becomes the one in its last arguments, so that its number is the gateway's.
    #[must_use]
    pub fn through<T: Into<OsString>>(mut self, command: impl IntoIterator<Item = T>) -> Self {
        self.wrapping.extend(command.into_iter().map(Into::into));
        self
    }

    /// By this path instead of the binary's own.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// As another user, with these capabilities and no others, such as `+bpf,+perfmon`.
    #[must_use]
    pub fn user(mut self, user: u32, capabilities: &str) -> Self {
        self.user = Some(user);
        let command = ["setpriv".into(), format!("--reuid={user}"), format!("--regid={user}")];
        let few = format!("-all{}{capabilities}", if capabilities.is_empty() { "" } else { "," });
        let sets = [format!("--inh-caps={few}"), format!("--ambient-caps={few}")];
        self.through(command).through(["--clear-groups"]).through(sets)
    }

    /// With this file as its `/etc/resolv.conf`.
    #[must_use]
    pub fn resolving(self, resolv_conf: &Path) -> Self {
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        self.through(["unshare", "--mount", "sh", "-c", script]).through([resolv_conf])
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or does not become ready.
    pub fn ready(self) -> Node {
        let mut node = self.spawn();
        node.wait_ready();
        node
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(self) -> Node {
        let work = TempDir::with_prefix("yett-node-").expect("a folder can be made");
        if let Some(user) = self.user {
            for folder in [work.path(), &self.config] {
                tools::run(Command::new("chown").arg("-R").arg(user.to_string()).arg(folder));
            }
        }
        let admin = SocketAddr::from((self.address, ports::free()));
        let mut command = binary::command_by(self.program.as_deref());
        if let [first, rest @ ..] = &self.wrapping[..] {
            let mut outer = Command::new(first);
            outer.args(rest).arg(command.get_program()).env_remove("YETT_BIN");
            command = outer;
        }
        command.args(["run", "--address", &self.address.to_string(), "--config"]).arg(self.config);
        command.args(["--admin", &admin.to_string()]);
        command.arg("--admin-socket").arg(work.path().join("admin.sock"));
        command.arg("--access-log").arg(work.path().join("access.log"));
        command.arg("--status-dir").arg(work.path().join("status"));
        let mut binds = BTreeMap::new();
        for port in LISTENER_PORTS {
            let bound = ports::free();
            command.args(["--port-map", &format!("{port}={bound}")]);
            binds.insert(port, SocketAddr::from((self.address, bound)));
        }
        if let Some(settings) = self.settings {
            let file = work.path().join("yett.toml");
            fs::write(&file, settings).expect("the settings can be written");
            command.arg("--settings").arg(file);
        }
        // Nothing is loaded into the kernel unless a test asks for it: most share the machine's loopback with others.
        command.env("YETT_DATAPATH_MODE", "off");
        command.args(self.arguments).envs(self.variables);
        let log = File::create(work.path().join("stderr")).expect("the log can be made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Process::start(&mut command);
        Node { command, process, former: Vec::new(), work, binds, admin }
    }
}

impl Node {
    /// How a gateway is started on a folder of manifests.
    pub fn on(site: &Site) -> Start {
        Self::at(site.path())
    }

    /// How a gateway is started on a path.
    pub fn at(config: &Path) -> Start {
        Start {
            config: config.to_owned(),
            arguments: Vec::new(),
            settings: None,
            variables: Vec::new(),
            wrapping: Vec::new(),
            program: None,
            address: Ipv4Addr::LOCALHOST.into(),
            user: None,
        }
    }

    /// Where the listeners of this port are reached.
    pub fn address(&self, port: u16) -> SocketAddr {
        self.binds[&port]
    }

    /// Where the listeners of port 443 are reached.
    pub fn https(&self) -> SocketAddr {
        self.address(443)
    }

    /// Where the listeners of port 80 are reached.
    pub fn http(&self) -> SocketAddr {
        self.address(80)
    }

    /// Where the admin listener is reached.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The admin socket's path.
    pub fn admin_socket(&self) -> PathBuf {
        self.work.path().join("admin.sock")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What an admin path answers, as (status, body).
    ///
    /// # Panics
    /// When the admin listener does not answer.
    pub fn admin(&self, path: &str) -> (u16, String) {
        self.try_admin(path).unwrap_or_else(|| panic!("the admin listener does not answer {path}"))
    }

    /// What an admin path answers, if it answers.
    pub fn try_admin(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        Some((status, if chunked { dechunk(body) } else { body.to_owned() }))
    }

    /// A scrape.
    ///
    /// # Panics
    /// When there is none.
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.admin("/metrics");
        assert_eq!(status, 200, "{text}");
        Metrics::parse(&text)
    }

    /// Waits until a metric's sum is at least `least`.
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], least: f64) {
        wait::soon(&format!("{name}{labels:?} ≥ {least}"), || self.metrics().sum(name, labels) >= least);
    }

    /// Makes a change to the configuration and waits until it has been read and acted on; it has to be one, since what
    /// stays the same is not read anew.
    pub fn settle(&self, change: impl FnOnce()) {
        let reloads = || self.metrics().sum("yett_config_reloads_total", &[]);
        let before = reloads();
        change();
        wait::soon("the change to be read", || reloads() > before);
    }

    /// What the process wrote to standard error.
    pub fn log(&self) -> String {
        fs::read(self.work.path().join("stderr"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The access log's path.
    pub fn access_log_file(&self) -> PathBuf {
        self.work.path().join("access.log")
    }

    /// The access log's lines of requests and refused handshakes.
    ///
    /// # Panics
    /// When a line is no JSON object.
    pub fn access_log(&self) -> Vec<Value> {
        self.all_lines().into_iter().filter(|line| line["kind"] != "connection").collect()
    }

    /// The access log's records of connections.
    ///
    /// # Panics
    /// When a line is no JSON object.
    pub fn connections(&self) -> Vec<Value> {
        self.all_lines().into_iter().filter(|line| line["kind"] == "connection").collect()
    }

    /// Waits for the records of connections that `pick` picks, until there are `count`.
    pub fn records(&self, count: usize, pick: impl Fn(&Value) -> bool) -> Vec<Value> {
        wait::until(&format!("{count} records of connections"), wait::SOON, || {
            let lines: Vec<Value> = self.connections().into_iter().filter(|line| pick(line)).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// The access log, whole lines only.
    fn all_lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.access_log_file()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// Waits for the lines of the access log that `pick` picks, until there are `count`.
    pub fn lines(&self, count: usize, pick: impl Fn(&Value) -> bool) -> Vec<Value> {
        wait::until(&format!("{count} lines in the access log"), wait::SOON, || {
            let lines: Vec<Value> = self.access_log().into_iter().filter(|line| pick(line)).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// An object as the status folder shows it, once it does.
    pub fn status(&self, kind: &str, namespace: &str, name: &str) -> Value {
        wait::until(&format!("the status of {kind} {namespace}/{name}"), wait::SOON, || {
            self.try_status(kind, namespace, name)
        })
    }

    /// An object as the status folder shows it.
    pub fn try_status(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let file = self.work.path().join("status").join(format!("{kind}.{namespace}.{name}.yaml"));
        serde_saphyr::from_str(&fs::read_to_string(file).ok()?).ok()
    }

    /// Runs another `yett` command against this one's admin socket.
    ///
    /// # Panics
    /// When it cannot be started or fails.
    pub fn yett(&self, arguments: &[&str]) -> String {
        let mut command = binary::command();
        tools::run(command.args(arguments).arg("--admin-socket").arg(self.admin_socket()))
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own kill: a small machine has no other.
        tools::run(Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]));
    }

    /// Whether the process runs.
    pub fn alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits until the process has ended.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        wait::until("the gateway to end", limit, || self.process.ended())
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends or does not become ready.
    pub fn wait_ready(&mut self) {
        wait::soon("/readyz to answer 200", || {
            if let Some(status) = self.process.ended() {
                panic!("yett ended with {status}:\n{}", self.log());
            }
            self.try_admin("/readyz").is_some_and(|(status, _)| status == 200)
        });
    }

    /// Changes the text of its settings, which a successor or a restart reads.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn change_settings(&self, toml: &str) {
        fs::write(self.work.path().join("yett.toml"), toml).expect("the settings can be written");
    }
}

/// Other processes in its place.
impl Node {
    /// Has it upgraded, and follows the successor.
    ///
    /// # Panics
    /// When there is none.
    pub fn upgrade(&mut self) {
        let answer = self.yett(&["upgrade"]);
        let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
        assert_eq!(answer["result"], "ok", "{answer}");
        let process = answer["process"].as_u64().and_then(|id| u32::try_from(id).ok());
        self.follow(process.expect("the answer has the process"));
    }

    /// From now on it is this process that is meant.
    pub fn follow(&mut self, process: u32) {
        assert_ne!(process, self.id());
        let former = std::mem::replace(&mut self.process, Process::descendant(process));
        self.former.push(former);
    }

    /// The process id that the admin listener tells.
    pub fn told_id(&self) -> Option<u32> {
        let (_, text) = self.try_admin("/readyz?verbose")?;
        text.strip_prefix("[+] process: ")?.split(',').next()?.parse().ok()
    }

    /// Waits until the process that it has taken over from last has ended.
    pub fn former_ended(&mut self, limit: Duration) -> ExitStatus {
        let former = self.former.last_mut().expect("there was one");
        wait::until("the former process to end", limit, || former.ended())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again as it was started first.
    pub fn start_again(&mut self) {
        self.process = Process::start(&mut self.command);
    }

    /// Starts it again as a service manager would that has kept these sockets, of which there are two at most.
    ///
    /// # Panics
    /// When there are more.
    pub fn start_again_with(&mut self, sockets: Vec<OwnedFd>) {
        // Numbers are what counts, and a shell can set them.
        let script = r#"exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ exec "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("LISTEN_FDS", sockets.len().to_string());
        let mut sockets = sockets.into_iter();
        command.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
        command.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
        assert!(sockets.next().is_none(), "there are only two descriptors to spare");
        let log = File::options().append(true).open(self.work.path().join("stderr"));
        command.stderr(log.expect("the log is there"));
        self.process = Process::start(&mut command);
    }

    /// The processes that it has started and that have not ended.
    pub fn children(&self) -> Vec<u32> {
        self.process.children()
    }

    /// How much memory the process holds, in bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// How much memory the process has held at most, in bytes.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident_peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("its size is a number") * 1024
    }
}

/// What the kernel says of the process and allows it.
impl Node {
    /// How many files the process has open.
    ///
    /// # Panics
    /// When it has ended.
    pub fn open_files(&self) -> u64 {
        let files = fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the process runs");
        files.count() as u64
    }

    /// How much CPU time the process has taken.
    ///
    /// # Panics
    /// When it has ended.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the process runs");
        let (_, rest) = stat.rsplit_once(") ").expect("a stat has a name");
        let ticks = |at: usize| rest.split(' ').nth(at).and_then(|ticks| ticks.parse::<u64>().ok());
        // Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second on every Linux.
        let ticks = ticks(11).expect("user time") + ticks(12).expect("system time");
        Duration::from_millis(ticks * 10)
    }

    /// How many files the process may have open.
    ///
    /// # Panics
    /// When it has ended.
    pub fn open_files_limit(&self) -> u64 {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.id())).expect("the process runs");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
        line.split_whitespace().next().and_then(|limit| limit.parse().ok()).expect("a number")
    }

    /// Sets how many files the process may have open: now, and at most.
    pub fn limit_open_files(&self, soft: u64, hard: u64) {
        let limit = format!("--nofile={soft}:{hard}");
        tools::run(Command::new("prlimit").args([&format!("--pid={}", self.id()), &limit]));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Those that were started first, first: what they started falls to this process then.
        self.former.iter_mut().for_each(Process::kill);
        self.process.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("the gateway's log ends so:\n{tail}");
        }
    }
}

fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.push_str(tail.get(..size).unwrap_or(tail));
        rest = tail.get(size + 2..).unwrap_or_default();
    }
    body
}
