//! Changing the configuration of a running gateway loses no request.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use gateway_tests::manifests::{gateway, http, https, route, to};
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Ca, Curl, Http, Identity, Node, Scene, Site, Tls, wait};
use serde_json::json;

/// Runs `change` while clients ask without pause, on kept connections and on new ones.
fn under_traffic(scene: &Scene, change: impl FnOnce()) {
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let tls = scene.tls(&scene.alice).resuming();
    let kept = |alpn: &'static str| {
        let connection = tls.clone().alpn(&[alpn]).open(scene.node.https());
        while !stop.load(Ordering::Relaxed) {
            let answer = connection.get("/");
            assert_eq!(answer.status, 200, "{alpn}: {answer:?}");
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let fresh = || {
        while !stop.load(Ordering::Relaxed) {
            let answer = tls.clone().open(scene.node.https()).get("/");
            assert_eq!(answer.status, 200, "a new connection: {answer:?}");
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    /// Ends the traffic when the change fails, too.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let clients = [scope.spawn(|| kept("http/1.1")), scope.spawn(|| kept("h2")), scope.spawn(fresh)];
        let more = |count: usize| {
            let target = asked.load(Ordering::Relaxed) + count;
            wait::soon("the traffic to flow", || {
                asked.load(Ordering::Relaxed) >= target
                    || clients.iter().any(thread::ScopedJoinHandle::is_finished)
            });
        };
        {
            let _stop = Stop(&stop);
            more(20);
            change();
            more(20);
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// A manifest that is broken, and how the fault is to be named.
struct Broken {
    file: &'static str,
    text: &'static str,
    line: &'static str,
    object: &'static str,
    field: &'static str,
}

/// Broken in ways that YAML itself, the schema, or the references show.
const BROKEN: &[Broken] = &[
    Broken {
        file: "25-syntax.yaml",
        text: "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: broken\n  labels: [unclosed\nspec:\n",
        line: "",
        object: "",
        field: "",
    },
    Broken {
        file: "26-type.yaml",
        text: "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: broken-type\nspec:\n  parentRefs:\n  - name: gw\n  rules:\n  - backendRefs:\n    - name: echo\n      port: eighty\n",
        line: "11",
        object: "broken-type",
        field: "port",
    },
    Broken {
        file: "27-enum.yaml",
        text: "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: broken-enum\nspec:\n  parentRefs:\n  - name: gw\n  rules:\n  - matches:\n    - method: FETCH\n    backendRefs:\n    - name: echo\n      port: 80\n",
        line: "10",
        object: "broken-enum",
        field: "method",
    },
];

#[test]
fn a_broken_manifest_costs_no_request_and_is_named_by_file_line_object_and_field() {
    let scene = Scene::start();
    under_traffic(&scene, || {
        for broken in BROKEN {
            scene.node.settle(|| {
                scene.site.write(broken.file, broken.text);
            });
            let named = |text: &str| {
                let words = [broken.file, broken.object, broken.field];
                words.iter().all(|word| text.contains(word)) && text.contains(broken.line)
            };
            wait::soon(&format!("a line about {} in the log", broken.file), || {
                scene.node.log().lines().any(&named)
            });
            let metrics = scene.node.metrics();
            let found = metrics.select("yett_config_findings", &[("severity", "error")]).any(|sample| {
                let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
                label("file").ends_with(broken.file)
                    && (broken.line.is_empty() || label("line") == broken.line)
                    && label("object").contains(broken.object)
                    && label("field").contains(broken.field)
            });
            assert!(
                found,
                "no metric names the fault in {}: {:?}",
                broken.file,
                metrics.select("yett_config_findings", &[]).collect::<Vec<_>>()
            );
        }
    });
    assert!(scene.node.metrics().sum("yett_config_last_reload_successful", &[]) < 1.0);
    let (_, report) = scene.node.admin("/report");
    for broken in BROKEN {
        assert!(report.contains(broken.file), "{}: {report}", broken.file);
        scene.site.remove(broken.file);
    }
    wait::soon("the reload to succeed again", || {
        scene.node.metrics().sum("yett_config_last_reload_successful", &[]) > 0.0
    });
}

#[test]
fn a_manifest_that_breaks_leaves_what_it_said_before() {
    let scene = Scene::start();
    let good = fs::read_to_string(scene.site.path().join("HTTPRoute.all.yaml")).unwrap();
    under_traffic(&scene, || {
        for text in ["kind: HTTPRoute\n  name: [\n", &good.replace("port: 80", "port: eighty"), &good] {
            scene.node.settle(|| {
                scene.site.write("HTTPRoute.all.yaml", text);
            });
        }
    });
}

#[test]
fn good_changes_under_traffic_lose_nothing() {
    let scene = Scene::start();
    let servers = Ca::root("servers");
    under_traffic(&scene, || {
        for number in 2..8 {
            scene.publish(&scene.ca.crl().number(number).pem());
            scene.node.settle(|| scene.site.tls_secret("server", &servers.server(&["gw.test"])));
            scene.node.settle(|| {
                let rules = json!([{"backendRefs": [{"name": "echo", "port": 80, "weight": number}]}]);
                scene.site.apply(route("all", "gw", &rules));
            });
        }
    });
}

/// The inodes of the sockets that listen on a port; a socket bound anew has another.
fn listening(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = format!(":{port:04X}");
    let mut inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.len() > 9 && columns[1].ends_with(&wanted) && columns[3] == "0A")
        .map(|columns| columns[9].to_owned())
        .collect();
    inodes.sort();
    inodes
}

#[test]
fn a_listener_that_stays_is_never_closed_and_others_come_and_go() {
    let scene = Scene::start();
    let before = listening(scene.node.https().port());
    assert!(!before.is_empty());
    let connection = scene.tls(&scene.alice).open(scene.node.https());
    assert_eq!(connection.get("/").status, 200);
    let both = [https("mtls", 443, None, "server"), http("clear", 80)];
    scene.node.settle(|| {
        scene.site.apply(gateway("gw", &both));
    });
    wait::soon("the new listener", || Curl::to(scene.node.http()).get("http://gw.test/").status == 200);
    scene.node.settle(|| {
        scene.site.apply(gateway("gw", &both[..1]));
    });
    wait::soon("the listener to go", || std::net::TcpStream::connect(scene.node.http()).is_err());
    assert_eq!(listening(scene.node.https().port()), before, "the listener was bound anew");
    assert_eq!(connection.get("/").status, 200, "a connection of a listener that stayed");
}

#[test]
fn a_new_server_certificate_is_shown_to_the_next_connection() {
    let scene = Scene::start();
    let shown = || scene.tls(&scene.alice).connect(scene.node.https()).unwrap().server_certificate();
    let old = shown();
    let open = scene.tls(&scene.alice).open(scene.node.https());
    assert_eq!(open.get("/").status, 200);
    let fresh = Ca::root("servers").server(&["gw.test"]);
    scene.node.settle(|| scene.site.tls_secret("server", &fresh));
    assert_ne!(shown(), old);
    assert_eq!(shown().as_ref(), Some(fresh.leaf()));
    assert_eq!(open.get("/").status, 200);
}

/// A volume as the kubelet makes it: files are links through `..data`, which is swapped as a whole.
struct Volume {
    site: Site,
    generation: usize,
}

impl Volume {
    fn put(&mut self, files: &[(&str, String)]) {
        self.generation += 1;
        let (folder, name) = (self.site.path(), format!("..gen_{}", self.generation));
        fs::create_dir(folder.join(&name)).unwrap();
        for (file, text) in files {
            fs::write(folder.join(&name).join(file), text).unwrap();
            if !folder.join(file).exists() {
                symlink(Path::new("..data").join(file), folder.join(file)).unwrap();
            }
        }
        symlink(&name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if self.generation > 1 {
            fs::remove_dir_all(folder.join(format!("..gen_{}", self.generation - 1))).unwrap();
        }
    }
}

fn volume_text(service: &str) -> Vec<(&'static str, String)> {
    let yaml = |value| serde_saphyr::to_string(&value).unwrap();
    vec![
        ("gateway.yaml", yaml(gateway("gw", &[http("clear", 80)]))),
        ("route.yaml", yaml(route("all", "gw", &to(service)))),
    ]
}

#[test]
fn a_kubernetes_volume_is_followed_through_its_links() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let services = Site::new();
    services.service("one", &[one.address()]);
    services.service("two", &[two.address()]);
    let mut volume = Volume { site: Site::new(), generation: 0 };
    volume.put(&volume_text("one"));
    let config = services.path().display().to_string();
    let node = Node::on(&volume.site).arg("--config").arg(&config).ready();
    let served_by = || Curl::to(node.http()).get("http://gw.test/").header("x-backend").join("");
    assert_eq!(served_by(), "one");
    for service in ["two", "one", "two"] {
        volume.put(&volume_text(service));
        wait::soon(&format!("service {service}"), || served_by() == service);
    }
}

#[test]
fn sighup_reloads_and_reopens_the_access_log() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start_with(|start| start.settings("access_log_connections = false\n"));
    let ask = || assert_eq!(Curl::to(scene.node.http()).get("http://gw.test/").status, 200);
    ask();
    scene.node.lines(1, |_| true);
    let kept = scene.node.access_log_file().with_extension("1");
    fs::rename(scene.node.access_log_file(), &kept).unwrap();
    scene.node.settle(|| scene.node.signal("HUP"));
    wait::soon("a new access log", || scene.node.access_log_file().exists());
    ask();
    scene.node.lines(1, |_| true);
    assert_eq!(fs::read_to_string(kept).unwrap().lines().count(), 1);
}

#[test]
fn a_folder_without_anything_usable_leaves_the_last_good_state() {
    let scene = Scene::start();
    under_traffic(&scene, || {
        let away = tempfile::TempDir::new().unwrap();
        let files: Vec<_> = fs::read_dir(scene.site.path()).unwrap().map(|entry| entry.unwrap()).collect();
        for entry in &files {
            fs::rename(entry.path(), away.path().join(entry.file_name())).unwrap();
        }
        scene.node.settle(|| scene.node.signal("HUP"));
        for entry in &files {
            fs::rename(away.path().join(entry.file_name()), entry.path()).unwrap();
        }
        scene.node.settle(|| scene.node.signal("HUP"));
    });
}

#[test]
fn a_policy_whose_bundle_goes_closes_the_door_and_never_opens_it() {
    let scene = Scene::start();
    let stranger: Identity = Ca::root("strangers").client("mallory");
    scene.node.settle(|| scene.site.remove("Secret.ca.bundle.yaml"));
    for identity in [None, Some(&stranger)] {
        let tls = identity.into_iter().fold(Tls::v13().name("gw.test"), Tls::cert);
        let ended = tls.try_get(scene.node.https());
        assert_ne!(ended, gateway_tests::client::Ended::Status(200), "served without anchors");
    }
    assert_eq!(scene.backend.count(), 0);
    scene.node.settle(|| scene.site.bundle("ca.bundle", &scene.ca.pem(), Some(&scene.ca.crl().pem())));
    wait::soon("service again", || {
        scene.tls(&scene.alice).try_get(scene.node.https()) == gateway_tests::client::Ended::Status(200)
    });
}

#[test]
fn kept_connections_follow_a_changed_route() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let two = Backend::named("two");
    stage.site.service("two", &[two.address()]);
    let scene = stage.start();
    let (h1, h2) = (Http::clear(scene.node.http()), Http::clear_h2(scene.node.http()));
    assert_eq!(h1.get("/").header("x-backend"), "echo");
    assert_eq!(h2.get("/").header("x-backend"), "echo");
    scene.node.settle(|| {
        scene.site.apply(route("all", "gw", &to("two")));
    });
    assert_eq!(h1.get("/").header("x-backend"), "two");
    assert_eq!(h2.get("/").header("x-backend"), "two");
}
