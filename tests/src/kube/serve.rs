//! The first process of a cluster: it makes the networks, starts the control plane and the nodes, installs the Gateway
//! API's definitions, says that the cluster is ready, and then kills and starts parts of it as it is told. It is the
//! first of its namespace of processes, so nothing outlives it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::certs::Authority;
use super::cluster::{Channel, Options, State, Status, program};
use super::net::{self, API, CLIENT, CONTROL, NODES_MAX, Number, PATIENCE, Space};
use super::nodelet;
use super::programs::Programs;
use crate::wait;

const BRIDGE: &str = "lan";
/// The issuer of service accounts' tokens.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// What someone has to say on the control socket, at most.
const COMMAND_BYTES_MAX: u64 = 256;

/// Runs the cluster of this folder until it is killed.
///
/// # Errors
/// When it does not become ready; `status.json` says it too.
pub fn serve(folder: &Path) -> Result<()> {
    let options: Options = serde_json::from_slice(&fs::read(folder.join("options.json"))?)?;
    let mut site = Site {
        folder: folder.to_path_buf(),
        programs: Programs::built()?,
        options,
        spaces: BTreeMap::new(),
        running: BTreeMap::new(),
        begun: Instant::now(),
    };
    site.tell(State::Starting)?;
    let control = UnixListener::bind(folder.join("control")).context("listening to commands")?;
    if let Err(error) = site.rise() {
        site.tell(State::Failed(format!("{error:#}")))?;
        return Err(error);
    }
    site.tell(State::Ready)?;
    for stream in control.incoming() {
        let mut stream = stream.context("hearing a command")?;
        let mut command = String::new();
        (&stream).take(COMMAND_BYTES_MAX).read_to_string(&mut command).ok();
        let answer = match site.obey(command.trim()) {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        // Whoever has not waited for it does not want it.
        stream.write_all(answer.as_bytes()).ok();
    }
    Ok(())
}

/// The cluster while it comes up and runs.
struct Site {
    folder: PathBuf,
    programs: Programs,
    options: Options,
    spaces: BTreeMap<String, Space>,
    running: BTreeMap<String, Child>,
    begun: Instant,
}

impl Site {
    fn rise(&mut self) -> Result<()> {
        let options = &self.options;
        ensure!((1..=NODES_MAX).contains(&options.nodes), "a cluster has 1 to {NODES_MAX} nodes");
        self.connect()?;
        self.certify()?;
        fs::write(self.folder.join("audit.yaml"), AUDIT)?;
        for part in ["etcd", "kube-apiserver"] {
            self.start(part)?;
        }
        self.until("kube-apiserver", "ready", |site| site.kubectl(&["get", "--raw=/readyz"]).is_ok())?;
        self.say("the API server is ready");
        for part in ["kube-controller-manager", "kube-scheduler"] {
            self.start(part)?;
        }
        for number in self.numbers() {
            self.start(&number.name())?;
            if self.options.proxy {
                self.start(&format!("kube-proxy-{}", number.0))?;
            }
        }
        self.define()?;
        for number in self.numbers() {
            let name = number.name();
            self.until(&name, "ready", |site| site.is_node_ready(&name))?;
        }
        // Without it no pod is admitted.
        self.until("kube-controller-manager", "making service accounts", |site| {
            site.kubectl(&["get", "serviceaccount", "default"]).is_ok()
        })?;
        self.say(&format!("{} nodes are ready", self.options.nodes));
        Ok(())
    }

    /// The lan, and on it a namespace for the control plane and one for each node.
    fn connect(&mut self) -> Result<()> {
        net::ip(&format!(
            "link set lo up\nlink add {BRIDGE} type bridge\naddr add {CLIENT}/16 dev {BRIDGE}\nlink set {BRIDGE} up\n"
        ))?;
        net::forward()?;
        let nodes: Vec<_> = self.numbers().collect();
        let places = nodes.iter().map(|number| (number.name(), number.address()));
        for (name, address) in [("control".to_owned(), CONTROL)].into_iter().chain(places) {
            let space = Space::new()?;
            net::wire(&space, BRIDGE, &name)?;
            let mut lines = format!("addr add {address}/16 dev eth0\nlink set eth0 up\n");
            lines.push_str(&format!("route add default via {CLIENT}\n"));
            if address == CONTROL {
                // The Service of the API server is there without anyone who carries out Services.
                lines.push_str(&format!("addr add {API}/32 dev lo\n"));
            } else {
                lines.push_str(&format!("route add {API}/32 via {CONTROL}\n"));
            }
            for other in nodes.iter().filter(|other| other.address() != address) {
                lines.push_str(&format!("route add {} via {}\n", other.pods(), other.address()));
            }
            space.ip(&lines)?;
            self.spaces.insert(name, space);
        }
        let routes = nodes.iter().map(|node| format!("route add {} via {}\n", node.pods(), node.address()));
        net::ip(&format!("route add {API}/32 via {CONTROL}\n{}", routes.collect::<String>()))
    }

    fn certify(&self) -> Result<()> {
        let authority = Authority::new(&self.folder.join("pki"))?;
        let server = format!("https://{CONTROL}");
        let (api, control) = (API.to_string(), CONTROL.to_string());
        let names =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", &api, &control];
        authority.server("kube-apiserver", &names)?;
        let clients = [
            ("admin", "admin", Some("system:masters")),
            ("kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters")),
            ("kube-controller-manager", "system:kube-controller-manager", None),
            ("kube-scheduler", "system:kube-scheduler", None),
            ("kube-proxy", "system:kube-proxy", None),
        ];
        for (file, user, group) in clients {
            authority.client(file, user, group, &server)?;
        }
        for number in self.numbers() {
            let name = number.name();
            authority.client(&name, &format!("system:node:{name}"), Some("system:nodes"), &server)?;
            authority.server(&format!("{name}-kubelet"), &[&name, &number.address().to_string()])?;
        }
        Ok(())
    }

    /// Installs the Gateway API's definitions, and waits until they are served.
    fn define(&self) -> Result<()> {
        let channel = match self.options.channel {
            Channel::Standard => "standard",
            Channel::Experimental => "experimental",
            Channel::Absent => return Ok(()),
        };
        let files = self.programs.crds(channel)?;
        let mut arguments = vec!["apply".to_owned(), "--server-side".to_owned()];
        arguments.extend(files.iter().map(|file| format!("--filename={}", file.display())));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.kubectl(&arguments)?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"])?;
        self.say(&format!("the Gateway API's definitions are installed ({channel})"));
        Ok(())
    }

    /// `kill PART` or `start PART`.
    fn obey(&mut self, command: &str) -> Result<()> {
        match command.split_once(' ') {
            Some(("kill", part)) => self.kill(part),
            Some(("start", part)) => self.start(part),
            _ => bail!("no such command: {command}"),
        }
    }

    fn kill(&mut self, part: &str) -> Result<()> {
        let mut child = self.running.remove(part).with_context(|| format!("{part} does not run"))?;
        child.kill()?;
        // Its ports are held until its last thread is gone.
        child.wait()?;
        self.say(&format!("{part} was killed"));
        Ok(())
    }

    fn start(&mut self, part: &str) -> Result<()> {
        if let Some(child) = self.running.get_mut(part) {
            ensure!(child.try_wait()?.is_some(), "{part} runs already");
        }
        let mut command = self.part(part)?;
        let log = File::options().create(true).append(true).open(self.log(part))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {part}"))?;
        self.running.insert(part.to_owned(), child);
        Ok(())
    }

    /// The command that a part is.
    fn part(&self, part: &str) -> Result<Command> {
        let node =
            part.rsplit_once('-').and_then(|(kind, number)| Some((kind, Number(number.parse().ok()?))));
        let place = match node {
            Some((_, number)) => number.name(),
            None => "control".to_owned(),
        };
        let space = self.spaces.get(&place).with_context(|| format!("there is no part {part}"))?;
        let pki = |file: &str| self.folder.join("pki").join(file).display().to_string();
        let kubeconfig = |who: &str| format!("--kubeconfig={}", pki(&format!("{who}.kubeconfig")));
        let mut command = match node {
            Some(("node", number)) => {
                let spec = self.node(number)?;
                // A node's mounts and processes end with its first process, as its network does with ours.
                let mut command = space.command("unshare");
                command.args(["--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"]);
                command.arg(program()?).arg("nodelet").arg(spec);
                return Ok(command);
            }
            Some(("kube-proxy", number)) => {
                let mut command = space.command(self.programs.path("kube-proxy"));
                command.arg(format!("--hostname-override={}", number.name())).arg(kubeconfig("kube-proxy"));
                command.args(PROXY).arg(format!("--cluster-cidr={}", net::PODS));
                return Ok(command);
            }
            _ => space.command(self.programs.path(part)),
        };
        match part {
            "etcd" => {
                command.arg(format!("--data-dir={}", self.folder.join("etcd").display())).args(ETCD);
            }
            "kube-apiserver" => {
                command.args(API_SERVER).args([
                    format!("--advertise-address={CONTROL}"),
                    format!("--service-cluster-ip-range={}", net::SERVICES),
                    format!("--tls-cert-file={}", pki("kube-apiserver.crt")),
                    format!("--tls-private-key-file={}", pki("kube-apiserver.key")),
                    format!("--client-ca-file={}", pki("ca.crt")),
                    format!("--kubelet-certificate-authority={}", pki("ca.crt")),
                    format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
                    format!("--kubelet-client-key={}", pki("kubelet-client.key")),
                    format!("--service-account-issuer={ISSUER}"),
                    format!("--service-account-key-file={}", pki("sa.pub")),
                    format!("--service-account-signing-key-file={}", pki("sa.key")),
                    format!("--audit-policy-file={}", self.folder.join("audit.yaml").display()),
                    format!("--audit-log-path={}", self.log("audit").display()),
                ]);
            }
            "kube-controller-manager" => {
                command.args(CONTROLLERS).arg(kubeconfig(part)).args([
                    format!("--root-ca-file={}", pki("ca.crt")),
                    format!("--service-account-private-key-file={}", pki("sa.key")),
                    format!("--cluster-signing-cert-file={}", pki("ca.crt")),
                    format!("--cluster-signing-key-file={}", pki("ca.key")),
                ]);
            }
            "kube-scheduler" => {
                command.args(["--leader-elect=false", "--bind-address=127.0.0.1"]).arg(kubeconfig(part));
            }
            _ => bail!("there is no part {part}"),
        }
        Ok(command)
    }

    /// Writes what a node has to know into a file.
    fn node(&self, number: Number) -> Result<PathBuf> {
        let folder = self.folder.join("nodes").join(number.name());
        fs::create_dir_all(&folder)?;
        let spec = nodelet::Spec {
            number: number.0,
            folder: folder.clone(),
            pki: self.folder.join("pki"),
            images: self.options.images.clone(),
        };
        let file = folder.join("spec.json");
        fs::write(&file, serde_json::to_vec_pretty(&spec)?)?;
        Ok(file)
    }

    fn is_node_ready(&self, name: &str) -> bool {
        let Ok(node) = self.kubectl(&["get", "node", name, "--output=json"]) else { return false };
        let node: Value = serde_json::from_str(&node).unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        // The controller's taint has to be off too, or no pod comes.
        node["spec"]["taints"].is_null()
            && conditions.iter().any(|has| has["type"] == "Ready" && has["status"] == "True")
    }

    /// Waits for a part; its end is the end of the wait.
    fn until(&mut self, part: &str, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            let log = self.log(part);
            for (name, child) in &mut self.running {
                if let Some(status) = child.try_wait()? {
                    let log = self.folder.join("log").join(format!("{name}.log"));
                    bail!("{name} ended with {status}, see {}\n{}", log.display(), end_of(&log));
                }
            }
            ensure!(
                Instant::now() < deadline,
                "{part} is not {what} after {} s, see {}\n{}",
                PATIENCE.as_secs(),
                log.display(),
                end_of(&log)
            );
            wait::pause();
        }
        Ok(())
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(self.programs.path("kubectl"))
            .env("KUBECONFIG", self.folder.join("pki/admin.kubeconfig"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("starting kubectl")?;
        ensure!(output.status.success(), "kubectl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn numbers(&self) -> impl Iterator<Item = Number> + use<> {
        (1..=self.options.nodes).map(Number)
    }

    fn log(&self, part: &str) -> PathBuf {
        self.folder.join("log").join(format!("{part}.log"))
    }

    /// A line in the cluster's log, which is our standard output.
    fn say(&self, text: &str) {
        println!("{:>5.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    /// Writes the status, at once as a whole.
    fn tell(&self, state: State) -> Result<()> {
        let holders = self.spaces.iter().map(|(name, space)| (name.clone(), space.id())).collect();
        let (file, partial) = (self.folder.join("status.json"), self.folder.join("status.partial"));
        fs::write(&partial, serde_json::to_vec_pretty(&Status { state, holders })?)?;
        fs::rename(partial, file).context("writing the cluster's status")
    }
}

/// The last lines of a log.
fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Every request once, by whom and with what answer, without its bodies.
const AUDIT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// Nothing here outlives the cluster, so nothing has to reach the disk.
const ETCD: [&str; 5] = [
    "--unsafe-no-fsync",
    "--listen-client-urls=http://127.0.0.1:2379",
    "--advertise-client-urls=http://127.0.0.1:2379",
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--log-level=warn",
];

const API_SERVER: [&str; 7] = [
    "--etcd-servers=http://127.0.0.1:2379",
    "--secure-port=443",
    "--bind-address=0.0.0.0",
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--kubelet-preferred-address-types=InternalIP",
    "--allow-privileged=true",
];

const CONTROLLERS: [&str; 4] = [
    "--leader-elect=false",
    "--bind-address=127.0.0.1",
    "--use-service-account-credentials=true",
    "--allocate-node-cidrs=false",
];

/// In a namespace of the network the table of connections has no sizes to be set.
const PROXY: [&str; 4] = [
    "--proxy-mode=nftables",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0s",
    "--conntrack-tcp-timeout-close-wait=0s",
];
