//! An upgrade to another process loses nothing, whatever becomes of either.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_tests::client::Ended;
use gateway_tests::load::Load;
use gateway_tests::manifests::{gateway, https};
use gateway_tests::scene::Stage;
use gateway_tests::{Http, Scene, binary, tools, wait};
use tempfile::TempDir;

const MARGIN: Duration = Duration::from_secs(20);
const UPGRADES: usize = 20;

/// A path that a gateway is started by and that can lead elsewhere later.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("yett-program-").unwrap();
        let place = Self { folder };
        symlink(binary::yett(), place.path()).unwrap();
        place
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("yett")
    }

    /// Puts a program in its place.
    fn replace(&self, program: &Path) {
        fs::remove_file(self.path()).unwrap();
        symlink(program, self.path()).unwrap();
    }

    /// Puts a shell script in its place; `$YETT` is the binary, `$GO` a file that is not there.
    fn script(&self, text: &str) {
        let (yett, go) = (binary::yett().display(), self.go());
        let go = go.display();
        let text = format!("#!/bin/sh\nYETT='{yett}'\nGO='{go}'\n{text}\n");
        // Made aside: a file that is open for writing cannot be run.
        let aside = self.folder.path().join("script");
        fs::write(&aside, text).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(aside, self.path()).unwrap();
    }

    fn go(&self) -> PathBuf {
        self.folder.path().join("go")
    }
}

/// Waits for the file, then is the binary.
const WAIT: &str = r#"while [ ! -e "$GO" ]; do sleep 0.02; done; exec "$YETT" "$@""#;

/// A clear and an mTLS listener, started by such a path.
fn scene(settings: &str) -> (Scene, Place) {
    let (stage, place) = (Stage::new(), Place::new());
    Scene::with_clear_listener(&stage);
    let scene = stage.start_with(|start| start.program(&place.path()).settings(settings));
    (scene, place)
}

/// Asks for an upgrade that does not come about; gives what the command says.
fn no_upgrade(scene: &Scene) -> String {
    let mut command = binary::command();
    let output =
        command.arg("upgrade").arg("--admin-socket").arg(scene.node.admin_socket()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The successor that is on its way.
fn successor(scene: &Scene) -> u32 {
    wait::until("a successor", wait::SOON, || scene.node.children().first().copied())
}

#[test]
fn twenty_upgrades_under_load_lose_nothing() {
    let (mut scene, _place) = scene("workers = 2\n");
    upgrades_lose_nothing(&mut scene);
}

/// Upgrades under load, one after the other.
pub(crate) fn upgrades_lose_nothing(scene: &mut Scene) {
    let load = Load::of_all_kinds(scene);
    let mut processes = BTreeSet::from([scene.node.id()]);
    let mut took = Vec::new();
    for turn in 0..UPGRADES {
        // Fewer and more workers than before: no socket may be forgotten, none may be missing.
        scene.node.change_settings(&format!("workers = {}\n", [1, 3, 2][turn % 3]));
        let answered = load.answered();
        wait::soon("every client to be answered", || {
            load.answered().iter().zip(&answered).all(|(now, before)| now > before)
        });
        let http = Http::clear(scene.node.http());
        let upload = http.upload("/sink", &[]);
        upload.piece("first ").unwrap();
        wait::soon("the upload to be under way", || {
            scene.backend.any(|request| request.target == "/sink" && !request.complete)
        });
        let start = Instant::now();
        scene.node.upgrade();
        took.push(start.elapsed());
        upload.piece("second").unwrap();
        let answer = upload.finish().unwrap();
        assert_eq!(answer.status, 200, "the upload in flight: {answer:?}");
        assert!(processes.insert(scene.node.id()), "another process");
        assert_eq!(scene.node.told_id(), Some(scene.node.id()), "and that one answers");
        assert_eq!(scene.node.former_ended(MARGIN).code(), Some(0));
    }
    let answered = load.answered();
    wait::soon("every client to be answered", || {
        load.answered().iter().zip(&answered).all(|(now, before)| now > before)
    });
    let (tally, each) = load.end();
    took.sort_unstable();
    eprintln!("{UPGRADES} upgrades, median {:?}; answered: {each:?}", took[UPGRADES / 2]);
    assert_eq!(tally.failed, 0, "of {}: {:?}", tally.answered, tally.errors);
    let metrics = scene.node.metrics();
    assert_eq!(metrics.sum("yett_upgrades_total", &[("result", "ok")]), 20.0, "the count is handed on");
    assert!(metrics.sum("yett_config_generation", &[]) >= 1.0);
    assert_eq!(
        scene.node.access_log().iter().filter(|line| line["http"]["path"] == "/sink").count(),
        UPGRADES
    );
}

#[test]
fn a_process_that_merely_ends_and_begins_again_loses_connections() {
    let (mut scene, _place) = scene("");
    let load = Load::new().connections(scene.node.http()).connections(scene.node.http());
    wait::soon("answers", || load.answered().iter().all(|count| *count > 0));
    scene.node.signal("TERM");
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    scene.node.start_again();
    scene.node.wait_ready();
    let (tally, _) = load.end();
    assert!(tally.failed > 0, "the load of the test above would not notice a loss");
}

#[test]
fn the_old_process_may_be_killed_while_the_new_one_starts() {
    let (mut scene, place) = scene("workers = 2\n");
    killed_while_the_new_one_starts(&mut scene, &place);
}

/// The old process is killed while the new one starts.
pub(crate) fn killed_while_the_new_one_starts(scene: &mut Scene, place: &Place) {
    place.script(WAIT);
    scene.node.signal("USR2");
    let successor = successor(scene);
    scene.node.kill();
    // Nobody accepts now; the sockets are on their way.
    let waiting: Vec<Http> = (0..8).map(|_| Http::clear(scene.node.http())).collect();
    let asked: Vec<_> = waiting.iter().map(|http| http.begin("/")).collect();
    let tls = scene.tls(&scene.alice);
    let https = scene.node.https();
    let shaking = std::thread::spawn(move || tls.try_get(https));
    fs::write(place.go(), "").unwrap();
    for answer in asked {
        assert_eq!(answer.finish().unwrap().status, 200);
    }
    assert_eq!(shaking.join().unwrap(), Ended::Status(200));
    scene.node.follow(successor);
    scene.node.wait_ready();
    wait::soon("the admin socket", || scene.node.yett(&["status"]).contains("gw"));
    assert_eq!(scene.node.told_id(), Some(successor));
    scene.node.upgrade();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
}

#[test]
fn who_is_denied_while_the_new_process_starts_stays_denied() {
    let (mut scene, place) = scene("");
    scene.node.yett(&["deny", "add", "192.0.2.0/24"]);
    place.script(WAIT);
    scene.node.signal("USR2");
    let successor = successor(&scene);
    scene.node.yett(&["deny", "add", "198.51.100.7", "--ttl", "1h"]);
    let listed = scene.node.yett(&["deny", "list", "-o", "json"]);
    fs::write(place.go(), "").unwrap();
    wait::soon("the successor to speak", || scene.node.told_id() == Some(successor));
    scene.node.follow(successor);
    wait::soon("its admin socket", || scene.node.yett(&["deny", "list", "-o", "json"]) == listed);
}

#[test]
fn the_old_process_may_be_killed_while_it_drains() {
    let (mut scene, _place) = scene("");
    killed_while_it_drains(&mut scene);
}

/// The old process is killed while it drains.
pub(crate) fn killed_while_it_drains(scene: &mut Scene) {
    let load =
        Load::new().connections(scene.node.http()).handshakes(scene.node.https(), scene.tls(&scene.alice));
    let http = Http::clear(scene.node.http());
    let held = http.begin("/held");
    wait::soon("the request to be under way", || scene.backend.any(|request| request.target == "/held"));
    let old = scene.node.id();
    scene.node.upgrade();
    assert!(Path::new(&format!("/proc/{old}")).exists(), "it waits for the request that is held");
    let addresses = [scene.node.http(), scene.node.https()];
    wait::soon("the old process to hold one connection alone", || connections_of(old, &addresses) == 1);
    tools::run(Command::new("sh").args(["-c", &format!("kill -KILL {old}")]));
    assert!(held.finish().is_err(), "what it held goes with it");
    let answered = load.answered();
    wait::soon("answers", || load.answered().iter().zip(&answered).all(|(now, before)| now > before));
    let (tally, _) = load.end();
    assert_eq!(tally.failed, 0, "{:?}", tally.errors);
}

/// How many connections to these addresses a process has accepted.
fn connections_of(process: u32, addresses: &[SocketAddr]) -> usize {
    let sockets = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let inodes: BTreeSet<String> = sockets
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let ports: Vec<_> = addresses.iter().map(|address| format!(":{:04X}", address.port())).collect();
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    let open = table.lines().skip(1).filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 01 is ESTABLISHED.
        ports.iter().any(|port| fields[1].ends_with(port)) && fields[3] == "01" && inodes.contains(fields[9])
    });
    open.count()
}

#[test]
fn the_new_process_may_be_killed_before_it_is_ready() {
    let (mut scene, place) = scene("");
    new_one_killed(&mut scene, &place);
}

/// The new process is killed before it is ready.
pub(crate) fn new_one_killed(scene: &mut Scene, place: &Place) {
    let load = Load::of_all_kinds(scene);
    place.script(WAIT);
    let old = scene.node.id();
    scene.node.signal("USR2");
    let successor = successor(scene);
    tools::run(Command::new("sh").args(["-c", &format!("kill -KILL {successor}")]));
    scene.node.wait_metric("yett_upgrades_total", &[("result", "failed")], 1.0);
    assert_eq!(scene.node.told_id(), Some(old));
    assert!(
        scene.node.log().contains("the successor ended before it was ready (signal: 9"),
        "{}",
        scene.node.log()
    );
    // And nothing of it is in the way of the next.
    place.replace(binary::yett());
    scene.node.upgrade();
    assert_eq!(scene.node.metrics().sum("yett_upgrades_total", &[("result", "failed")]), 1.0);
    let (tally, _) = load.end();
    assert_eq!(tally.failed, 0, "{:?}", tally.errors);
}

#[test]
fn the_old_process_serves_on_where_none_can_take_over() {
    let (scene, place) = scene("upgrade_timeout = \"1s\"\n");
    let load = Load::of_all_kinds(&scene);
    let old = scene.node.id();
    let nothing = place.folder.path().join("nothing");
    fs::write(&nothing, "no program").unwrap();
    let elsewhere = "exec \"$YETT\" run --config /nowhere --admin off --admin-socket off --access-log off";
    for (description, prepare, result, words) in [
        ("no program", &(|| place.replace(&nothing)) as &dyn Fn(), "not_started", "cannot start"),
        ("one that ends at once", &|| place.script("exit 3"), "failed", "exit status: 3"),
        ("one that hangs", &|| place.script("exec sleep 60"), "timeout", "not ready within 1s"),
        ("another configuration", &|| place.script(elsewhere), "failed", "the successor cannot serve: "),
        (
            "settings that have gone bad",
            &|| {
                place.replace(binary::yett());
                scene.node.change_settings("workers = \"many\"\n");
            },
            "failed",
            "exit status: 2",
        ),
        (
            "documents that have gone bad",
            &|| {
                scene.node.change_settings("");
                scene.node.settle(|| drop(scene.site.write("Gateway.gw.yaml", "kind: [")));
            },
            "refused",
            "stays in service",
        ),
    ] {
        prepare();
        let said = no_upgrade(&scene);
        assert!(said.contains(words) && said.contains(result), "{description}: {said}");
        let counted = scene.node.metrics().sum("yett_upgrades_total", &[("result", result)]);
        assert!(counted >= 1.0, "{description}");
        assert_eq!(scene.node.told_id(), Some(old), "{description}");
        wait::soon("no successor", || scene.node.children().is_empty());
    }
    assert!(scene.node.yett(&["status"]).contains("gw"), "the admin socket is there");
    let (tally, _) = load.end();
    assert_eq!(tally.failed, 0, "{:?}", tally.errors);
}

#[test]
fn an_end_that_is_asked_for_meanwhile_ends_both() {
    let (mut scene, place) = scene("");
    place.script(WAIT);
    scene.node.signal("USR2");
    let successor = successor(&scene);
    // A second one is not begun.
    assert!(no_upgrade(&scene).contains("an upgrade is under way"));
    assert_eq!(scene.node.children(), [successor]);
    scene.node.signal("TERM");
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    scene.node.follow(successor);
    assert!(!scene.node.ended(MARGIN).success());
    wait::soon("nobody to hold the socket", || std::net::TcpStream::connect(scene.node.http()).is_err());
}

#[test]
fn sessions_the_admin_socket_and_the_status_go_on() {
    let (mut scene, _place) = scene("");
    let tls = scene.tls(&scene.alice).resuming();
    assert_eq!(tls.try_get(scene.node.https()), Ended::Status(200));
    scene.node.upgrade();
    let link = tls.connect(scene.node.https()).unwrap();
    assert!(link.resumed(), "a session outlives the process that began it");
    assert_eq!(link.get("/"), Ended::Status(200));
    assert_eq!(scene.node.former_ended(MARGIN).code(), Some(0));
    assert!(scene.node.admin_socket().exists(), "the old process has left its path alone");
    scene.node.settle(|| drop(scene.site.apply(gateway("other", &[https("mtls", 443, None, "server")]))));
    assert_eq!(scene.node.status("Gateway", "default", "other")["kind"], "Gateway");
    // An end by TERM is an end.
    scene.node.signal("TERM");
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    assert!(!scene.node.admin_socket().exists());
}

#[test]
fn after_a_crash_it_serves_again_within_a_second() {
    let (mut scene, _place) = scene("");
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    scene.node.kill();
    let start = Instant::now();
    scene.node.start_again();
    let clear = scene.node.http();
    wait::soon("an answer", || Load::once(clear));
    let took = start.elapsed();
    eprintln!("served again {took:?} after the start");
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    // A second is what an idle machine may take; a busy one shares its processors.
    let busy = fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = busy.split(' ').next().unwrap().parse().unwrap();
    assert!(took < Duration::from_secs(1) || load > 2.0, "{took:?} at a load of {load}");
}
