//! Where memory is scarce, work is turned away before the kernel ends the process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use gateway_tests::scene::Stage;
use gateway_tests::{Http, Scene, binary, wait};

const LIMIT_BYTES: u64 = 64 << 20;
/// Clients at once, and the large heads that each of them begins.
const FLOODS: usize = 4;
const FLOOD_ROUNDS: usize = 1000;

/// A control group of version 1 with a limit on memory; it is removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where this machine has none to give.
    fn new() -> Option<Self> {
        // Its pages count for whoever reads them first: not for a group that they would fill.
        fs::read(binary::yett()).unwrap();
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = membership.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path);
        path.and_then(|path| {
            let root = PathBuf::from("/sys/fs/cgroup/memory");
            let own = root.join(path.trim_start_matches('/'));
            let own = if own.is_dir() { own } else { root };
            let folder = own.join(format!("yett-test-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            fs::write(group.file("memory.limit_in_bytes"), LIMIT_BYTES.to_string()).ok()?;
            Some(group)
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn number(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.file(file)).unwrap();
        let rest = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        rest.trim().parse().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process is gone only a moment after it was waited for.
        wait::soon("the control group to be empty", || fs::remove_dir(&self.0).is_ok());
    }
}

/// Begins a request with a large head that never ends.
fn half_a_head(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(2))).ok()?;
    let head = format!("GET / HTTP/1.1\r\nHost: gw.test\r\nX-Large: {}", "x".repeat(60_000));
    stream.write_all(head.as_bytes()).ok()?;
    Some(stream)
}

/// Heads without end, and answers that nobody reads.
fn flood(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for round in 0..FLOOD_ROUNDS {
        held.extend(half_a_head(address));
        if round % 4 == 0
            && let Ok(mut reader) = TcpStream::connect(address)
        {
            reader.write_all(b"GET /bytes/10000000 HTTP/1.1\r\nHost: gw.test\r\n\r\n").ok();
            held.push(reader);
        }
    }
    held
}

/// The status that a new connection gets, if it gets one.
fn status(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n").ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

#[test]
fn under_a_limit_of_memory_work_is_shed_and_the_process_lives() {
    let group = Group::new();
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    // Without a group of its own the process is held to the same limit by itself.
    let own = if group.is_some() { 0 } else { LIMIT_BYTES };
    let settings = format!("[limits]\nrequest_head_timeout = \"60s\"\nmemory_bytes_max = {own}\n");
    let mut scene = stage.start_with(|start| {
        let start = start.settings(&settings);
        group.iter().fold(start, |start, group| start.within(&group.file("cgroup.procs")))
    });
    let clear = scene.node.http();
    let multiplexed = Http::clear_h2(clear);
    let idle = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    assert_eq!(multiplexed.get("/").status, 200);
    assert_eq!(idle.get("/").status, 200);

    // Uploads that the backend does not take, and the floods: more than there is room for.
    let uploads: Vec<_> = (0..64).map(|_| multiplexed.upload("/hang", &[])).collect();
    for upload in &uploads {
        upload.piece(vec![b'x'; 256 << 10]).ok();
    }
    let floods = [(); FLOODS].map(|()| thread::spawn(move || flood(clear)));
    let mut silent: Vec<_> = floods.into_iter().flat_map(|flood| flood.join().unwrap()).collect();
    assert!(scene.node.alive(), "killed");
    wait::soon("a client to be turned away", || {
        silent.extend((0..10).filter_map(|_| half_a_head(clear)));
        status(clear) == Some(503)
    });
    // GOAWAY to a connection that had nothing to do.
    idle.closed(Duration::from_secs(20));
    drop((uploads, silent, multiplexed));

    wait::soon("service as before", || status(clear) == Some(200));
    assert!(scene.node.alive());
    if let Some(group) = &group {
        assert_eq!(group.number("memory.oom_control", "oom_kill "), 0);
        eprintln!(
            "at most {} KiB of {}",
            group.number("memory.max_usage_in_bytes", "") >> 10,
            LIMIT_BYTES >> 10
        );
    }
    let limit = [("limit", "memory_percent_max")];
    assert!(scene.node.metrics().sum("yett_limit_hits_total", &limit) > 0.0);
    let log = scene.node.log();
    assert!(log.contains("memory is short") && log.contains("memory is no longer short"), "{log}");
    scene.node.wait_metric("yett_memory_pressure", &[], 0.0);
    assert_eq!(scene.node.metrics().sum("yett_memory_pressure", &[]), 0.0);
}
