//! The admin listener, the admin socket, and the commands that use them.

use gateway_tests::manifests::{condition, gateway, http, route, to};
use gateway_tests::scene::Stage;
use gateway_tests::{Backend, Curl, Node, Scene, Site, tools, wait};
use serde_json::Value;

#[test]
fn the_paths_answer() {
    let scene = Scene::start();
    for path in ["/", "/livez", "/readyz", "/readyz?verbose", "/healthz", "/metrics", "/report"] {
        let (status, body) = scene.node.admin(path);
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert_eq!(scene.node.admin("/no-such-path").0, 404);
    let report: Value = serde_json::from_str(&scene.node.admin("/report").1).unwrap();
    assert!(report.is_object() || report.is_array());
}

#[test]
fn writes_are_taken_on_the_socket_alone() {
    let scene = Scene::start();
    let reloads = || scene.node.metrics().sum("yett_config_reloads_total", &[]);
    let before = reloads();
    let url = format!("http://{}/reload", scene.node.admin_address());
    let answer = Curl::to(scene.node.admin_address()).with("--request", "POST").get(&url);
    assert!([403, 404, 405].contains(&answer.status), "{answer:?}");
    assert!((reloads() - before).abs() < f64::EPSILON);
    let socket = scene.node.admin_socket().display().to_string();
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--fail", "--unix-socket", &socket, "--request", "POST", "http://admin/reload"]);
    tools::run(&mut curl);
    wait::soon("the reload", || reloads() > before);
}

#[test]
fn a_gateway_without_a_snapshot_is_live_and_not_ready() {
    let site = Site::new();
    site.write("broken.yaml", "kind: [\n");
    let mut node = Node::on(&site).spawn();
    wait::soon("liveness", || node.try_admin("/livez").is_some_and(|(status, _)| status == 200));
    assert_eq!(node.admin("/readyz").0, 503);
    assert!(node.alive());
    let backend = Backend::start();
    let stage = Stage::new();
    for entry in std::fs::read_dir(stage.site.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), site.path().join(entry.file_name())).unwrap();
    }
    site.remove("broken.yaml");
    wait::soon("readiness", || node.admin("/readyz").0 == 200);
    drop(backend);
}

#[test]
fn yett_status_tells_what_the_status_folder_tells() {
    let scene = Scene::start();
    let list: Value = serde_json::from_str(&scene.node.yett(&["status", "-o", "json"])).unwrap();
    assert_eq!(list["kind"], "List");
    let items = list["items"].as_array().unwrap();
    for (kind, name) in [("Gateway", "gw"), ("HTTPRoute", "all"), ("FrontendTLSPolicy", "clients")] {
        let item = items.iter().find(|item| item["kind"] == kind && item["metadata"]["name"] == name);
        let item = item.unwrap_or_else(|| panic!("{kind} {name} is missing: {list}"));
        assert_eq!(*item, scene.node.status(kind, "default", name));
        assert!(item["apiVersion"].is_string() && item["status"].is_object(), "{item}");
    }
    let text = scene.node.yett(&["status"]);
    assert!(text.contains("gw") && text.contains("Programmed"), "{text}");
}

#[test]
fn yett_reload_and_yett_drain_work_over_the_socket() {
    let mut scene = Scene::start();
    let reloads = scene.node.metrics().sum("yett_config_reloads_total", &[]);
    scene.node.yett(&["reload"]);
    assert!(
        scene.node.metrics().sum("yett_config_reloads_total", &[]) > reloads,
        "it returns after the reload"
    );
    scene.node.yett(&["drain"]);
    assert_eq!(scene.node.ended(wait::SOON).code(), Some(0));
}

#[test]
fn a_listener_whose_port_is_taken_is_not_programmed_until_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let site = Site::new();
    site.service("echo", &[]);
    site.apply(gateway("gw", &[http("clear", port)]));
    site.apply(route("all", "gw", &to("echo")));
    let node = Node::on(&site).spawn();
    let programmed = || {
        let shown = node.try_status("Gateway", "default", "gw")?;
        condition(&shown["status"]["listeners"][0]["conditions"], "Programmed")
    };
    wait::soon("Programmed=False", || programmed().is_some_and(|shown| shown.0 == "False"));
    assert_eq!(node.admin("/readyz").0, 503, "a listener is not bound");
    drop(taken);
    wait::soon("Programmed=True", || programmed().is_some_and(|shown| shown.0 == "True"));
    wait::soon("readiness", || node.admin("/readyz").0 == 200);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(Curl::to(address).get("http://gw.test/").status, 503);
}

#[test]
fn the_status_folder_follows_the_objects() {
    let scene = Scene::start();
    scene.node.status("HTTPRoute", "default", "all");
    scene.node.settle(|| scene.site.remove("HTTPRoute.all.yaml"));
    wait::soon("the file to go", || scene.node.try_status("HTTPRoute", "default", "all").is_none());
    wait::soon("no routes", || {
        scene.node.status("Gateway", "default", "gw")["status"]["listeners"][0]["attachedRoutes"] == 0
    });
}

#[test]
fn yett_settings_tells_where_each_value_comes_from() {
    let mut command = gateway_tests::binary::command();
    command.args(["settings", "-o", "json"]).env("YETT_WORKERS", "3");
    let text = tools::run(&mut command);
    assert!(text.contains("YETT_WORKERS") && text.contains('3'), "{text}");
}
