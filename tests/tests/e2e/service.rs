//! Yett as a service of the machine: what it tells its manager, what it may do, and its log files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gateway_tests::manifests::{gateway, http, https};
use gateway_tests::scene::Stage;
use gateway_tests::{Http, Node, Scene, Site, binary, tools, wait};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tempfile::TempDir;

/// The end of a notification socket that a service manager would read.
struct Manager {
    end: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::with_prefix("yett-notify-").unwrap();
        let path = folder.path().join("notify");
        let end = UnixDatagram::bind(&path).unwrap();
        end.set_read_timeout(Some(wait::SOON)).unwrap();
        Self { end, path, _folder: folder }
    }

    /// Reads until so many sockets have been given to be kept, and returns them with their names.
    fn kept(&self, count: usize) -> Vec<(String, OwnedFd)> {
        let mut kept = Vec::new();
        while kept.len() < count {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 4096];
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&self.end, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC);
            let length = received.unwrap_or_else(|error| panic!("no socket: {error}; {kept:?}")).bytes;
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(sockets) = message {
                    let name = text.strip_prefix("FDSTORE=1\nFDNAME=").unwrap_or_else(|| panic!("{text}"));
                    kept.extend(sockets.map(|socket| (name.to_owned(), socket)));
                }
            }
        }
        kept
    }

    /// Passes over what has come so far.
    fn skip(&self) {
        self.end.set_nonblocking(true).unwrap();
        while self.end.recv(&mut [0; 1]).is_ok() {}
        self.end.set_nonblocking(false).unwrap();
    }

    /// Reads until a message has this assignment, and returns the messages up to it.
    fn until(&self, assignment: &str) -> Vec<Vec<String>> {
        let mut messages = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let length = self.end.recv(&mut bytes);
            let length = length.unwrap_or_else(|error| panic!("no {assignment}: {error}; {messages:?}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            messages.push(text.lines().map(str::to_owned).collect::<Vec<_>>());
            if messages.last().unwrap().iter().any(|line| line == assignment) {
                return messages;
            }
        }
    }
}

fn has(messages: &[Vec<String>], assignment: &str) -> bool {
    messages.iter().flatten().any(|line| line == assignment)
}

#[test]
fn the_service_manager_hears_of_the_start_reloads_life_and_the_end() {
    let manager = Manager::new();
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let mut scene = stage.start_with(|start| {
        start.variable("NOTIFY_SOCKET", manager.path.to_str().unwrap()).variable("WATCHDOG_USEC", "400000")
    });
    let start = manager.until("READY=1");
    assert!(!has(&start, "RELOADING=1"), "{start:?}");
    let status = start.last().unwrap().iter().find(|line| line.starts_with("STATUS=")).unwrap();
    assert!(status.contains("serving: generation 1; listeners: 2 bound, 0 failed"), "{status}");

    scene.node.signal("HUP");
    let reloading = manager.until("RELOADING=1");
    let now = reloading.last().unwrap().iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    assert!(now.parse::<u64>().unwrap() > 0);
    manager.until("READY=1");

    scene.node.settle(|| drop(scene.site.apply(gateway("gw", &[https("mtls", 443, None, "server")]))));
    manager.until("RELOADING=1");
    manager.until("READY=1");

    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    scene.node.signal("TERM");
    let end = manager.until("STOPPING=1");
    // 30 s for the drain, and what comes after it.
    assert!(has(&end, "EXTEND_TIMEOUT_USEC=34000000"), "{end:?}");
    assert!(scene.node.ended(Duration::from_secs(10)).success());
}

#[test]
fn the_service_manager_hears_which_process_is_the_main_one_now() {
    let manager = Manager::new();
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let mut scene = stage.start_with(|start| {
        start.variable("NOTIFY_SOCKET", manager.path.to_str().unwrap()).variable("WATCHDOG_USEC", "400000")
    });
    manager.until("READY=1");
    scene.node.upgrade();
    let begun = manager.until("RELOADING=1");
    let main = format!("MAINPID={}", scene.node.id());
    let passed = manager.until(&main);
    assert!(
        !has(&begun, "READY=1") && !has(&passed, "READY=1"),
        "the new process waits for its turn: {passed:?}"
    );
    let after = manager.until("READY=1");
    assert!(!has(&after, "STOPPING=1"), "{after:?}");
    assert_eq!(scene.node.former_ended(Duration::from_secs(20)).code(), Some(0));
    manager.skip();
    let alive = manager.until("WATCHDOG=1");
    assert!(!has(&alive, "STOPPING=1"), "{alive:?}");
    scene.node.signal("TERM");
    let end = manager.until("STOPPING=1");
    assert!(!has(&end, "FDSTOREREMOVE=1"), "{end:?}");
    manager.until("FDSTOREREMOVE=1");
    assert_eq!(scene.node.ended(Duration::from_secs(20)).code(), Some(0));
}

#[test]
fn the_service_manager_keeps_the_sockets_of_a_process_that_dies() {
    let manager = Manager::new();
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let mut scene = stage.start_with(|start| {
        start.variable("NOTIFY_SOCKET", manager.path.to_str().unwrap()).arg("--workers").arg("1")
    });
    let kept = manager.kept(2);
    let name = |address: SocketAddr| format!("listener-{address}").replace(':', "_");
    let names: BTreeSet<_> = kept.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, BTreeSet::from([name(scene.node.http()), name(scene.node.https())]));
    scene.node.kill();
    let clients: Vec<_> = (0..4).map(|_| Http::clear(scene.node.http())).collect();
    let asked: Vec<_> = clients.iter().map(|http| http.begin("/")).collect();
    scene.node.start_again_with(kept.into_iter().map(|(_, socket)| socket).collect());
    for answer in asked {
        assert_eq!(answer.finish().unwrap().status, 200, "a connection that waited");
    }
    scene.node.wait_ready();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    assert!(scene.node.log().contains("\"inherited\":1"), "{}", scene.node.log());
    // What was passed by number is passed on by name, and not a second time by accident.
    scene.node.upgrade();
    assert_eq!(scene.node.former_ended(Duration::from_secs(20)).code(), Some(0));
    scene.node.signal("TERM");
    assert_eq!(scene.node.ended(Duration::from_secs(20)).code(), Some(0));
    // What it has not read keeps sockets, too.
    manager.skip();
    assert!(TcpStream::connect(scene.node.http()).is_err(), "nobody holds the socket any more");
}

#[test]
fn the_service_manager_is_not_told_of_a_start_before_anything_is_served() {
    let manager = Manager::new();
    let site = Site::new();
    site.write("broken.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: [");
    let node = Node::on(&site).variable("NOTIFY_SOCKET", manager.path.to_str().unwrap()).spawn();
    let end = &manager.end;
    let mut bytes = [0; 4096];
    let length = end.recv(&mut bytes).unwrap();
    let first = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert!(first.starts_with("STATUS=serving: no usable configuration yet"), "{first}");
    site.write("broken.yaml", "");
    site.apply(gateway("gw", &[http("clear", 80)]));
    let told = manager.until("READY=1");
    assert!(!has(&told, "RELOADING=1"), "{told:?}");
    drop(node);
}

#[test]
fn no_line_is_lost_while_the_access_log_is_rotated() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start();
    let (file, done) = (scene.node.access_log_file(), AtomicBool::new(false));
    let lines = |path: &Path| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        // Connections have a line each as well, at their end.
        text.lines().filter(|line| !line.contains("\"kind\":\"connection\"")).map(str::to_owned).collect()
    };
    let mut rotated = Vec::new();
    let sent: usize = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let connection = Http::clear(scene.node.http());
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(connection.get("/").status, 200);
                sent += 1;
            }
            sent
        });
        for turn in 1..=5 {
            wait::soon("lines in the file", || !lines(&file).is_empty());
            let kept = file.with_extension(turn.to_string());
            fs::rename(&file, &kept).unwrap();
            scene.node.signal("HUP");
            wait::soon("a new file", || file.exists());
            rotated.push(kept);
        }
        done.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    rotated.push(file);
    let all = || rotated.iter().flat_map(|path| lines(path)).collect::<Vec<_>>();
    wait::soon("the last line", || all().len() >= sent);
    let ids: BTreeSet<String> = all()
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].to_string())
        .collect();
    assert_eq!((all().len(), ids.len()), (sent, sent));
}

/// `yett run` as nobody, in a network of its own, with these capabilities and no others.
struct Confined {
    child: Child,
    folder: TempDir,
}

impl Confined {
    fn start(capabilities: &str) -> Self {
        let folder = TempDir::with_prefix("yett-confined-").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let manifest = gateway("gw", &[http("low", 80), http("high", 8080)]);
        let path = folder.path().join("gateway.json");
        fs::write(&path, manifest.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let sets = ["--inh-caps", "--ambient-caps", "--bounding-set"];
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
        command.args(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
        command.args(sets.map(|set| format!("{set}=-all{capabilities}")));
        command.env_remove("YETT_BIN").arg(binary::yett()).args([
            "run",
            "--admin-socket",
            "off",
            "--access-log",
            "off",
        ]);
        command.arg("--config").arg(&path);
        command.stdin(Stdio::null()).stderr(File::create(folder.path().join("stderr")).unwrap());
        Self { child: command.spawn().unwrap(), folder }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// The status that this port answers, or 0.
    fn answer(&self, port: u16) -> u16 {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.child.id().to_string(), "--net"]);
        command.args(["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        let output = command.arg(format!("http://127.0.0.1:{port}/")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0)
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn can_confine(test: &str) -> bool {
    let tools = ["unshare", "setpriv", "ip", "nsenter", "curl"];
    let there = tools.iter().all(|tool| tools::need(tool, test).is_some());
    // The owner of what one has just made is oneself.
    let root = TempDir::new().is_ok_and(|folder| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(folder.path()).is_ok_and(|metadata| metadata.uid() == 0)
    });
    if !root {
        eprintln!("SKIPPED: {test}: only root may make a network namespace and change its user");
    }
    there && root
}

#[test]
fn one_capability_is_all_that_a_port_below_1024_needs() {
    if !can_confine("one_capability_is_all_that_a_port_below_1024_needs") {
        return;
    }
    let yett = Confined::start(",+net_bind_service");
    wait::soon("port 80 to be served", || yett.answer(80) == 404);
    assert_eq!(yett.answer(8080), 404);
    let status = fs::read_to_string(format!("/proc/{}/status", yett.child.id())).unwrap();
    assert!(status.contains("Uid:\t65534\t65534"), "{status}");
    // Bit 10 is CAP_NET_BIND_SERVICE, and it is the only one.
    assert!(status.contains("CapEff:\t0000000000000400"), "{status}");
}

#[test]
fn without_the_capability_one_line_names_it_and_the_other_ports_are_served() {
    if !can_confine("without_the_capability_one_line_names_it_and_the_other_ports_are_served") {
        return;
    }
    let yett = Confined::start("");
    wait::soon("port 8080 to be served", || yett.answer(8080) == 404);
    assert_eq!(yett.answer(80), 0);
    let line = wait::until("the capability to be named", wait::SOON, || {
        yett.log().lines().find(|line| line.contains("CAP_NET_BIND_SERVICE")).map(str::to_owned)
    });
    assert!(line.contains("0.0.0.0:80"), "{line}");
}

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config/systemd/yett.service")
}

/// The unit with the tested binary in place of the installed one.
fn installed(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(unit()).unwrap();
    let text = text.replace("/usr/bin/yett", binary::yett().to_str().unwrap());
    let path = folder.join("yett.service");
    fs::write(&path, text).unwrap();
    path
}

/// `systemd-analyze` on the unit, quiet and content.
fn analyze(arguments: &[&str], test: &str) {
    let Some(program) = tools::need("systemd-analyze", test) else { return };
    let folder = TempDir::new().unwrap();
    // It looks for the manual page, too.
    let pages = folder.path().join("man");
    tools::run(Command::new(binary::yett()).arg("man").arg(pages.join("man1")));
    let mut command = Command::new(program);
    command.args(arguments).arg(installed(folder.path())).env("MANPATH", &pages);
    let output = command.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

#[test]
fn systemd_takes_the_unit() {
    analyze(&["verify"], "systemd_takes_the_unit");
}

#[test]
fn systemd_finds_the_unit_hardly_exposed() {
    // In tenths: 2.5 is the most.
    let arguments = ["security", "--no-pager", "--offline=true", "--threshold=25"];
    analyze(&arguments, "systemd_finds_the_unit_hardly_exposed");
}
