//! The end of the process: three beats, and nothing lost.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_tests::scene::Stage;
use gateway_tests::{Scene, wait};

const MARGIN: Duration = Duration::from_secs(10);

fn refuses(scene: &Scene) -> bool {
    TcpStream::connect(scene.node.https()).is_err()
}

#[test]
fn what_is_under_way_finishes_and_the_process_ends_with_0() {
    let mut scene = Scene::start();
    let h1 = scene.tls(&scene.alice).open(scene.node.https());
    let h2 = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    let (first, second) = (h1.begin("/held"), h2.begin("/held"));
    scene.backend.wait_for(2);
    scene.node.signal("TERM");
    wait::soon("unreadiness", || scene.node.try_admin("/readyz").is_some_and(|(status, _)| status == 503));
    wait::soon("the listener to close", || refuses(&scene));
    assert_eq!(scene.node.admin("/livez").0, 200, "draining is no illness");
    // A client that has read GOAWAY begins nothing new on that connection.
    wait::soon("GOAWAY", || h2.try_get("/after").is_err());
    assert!(scene.node.alive(), "it ended with requests under way");
    scene.backend.release();
    let answer = first.finish().unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "close"), "{answer:?}");
    assert_eq!(second.finish().unwrap().status, 200);
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    let held = scene.node.access_log().into_iter().filter(|line| line["http"]["path"] == "/held").count();
    assert_eq!(held, 2, "the log is complete at the end");
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let mut scene = Scene::start();
    let idle = [
        scene.tls(&scene.alice).open(scene.node.https()),
        scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https()),
    ];
    idle.iter().for_each(|connection| assert_eq!(connection.get("/").status, 200));
    let start = Instant::now();
    scene.node.signal("TERM");
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "idle connections held it for {:?}", start.elapsed());
}

#[test]
fn during_the_delay_it_is_unready_and_accepts_on() {
    let stage = Stage::new();
    let mut scene = stage.start_with(|start| start.arg("--drain-delay").arg("3s"));
    let start = Instant::now();
    scene.node.signal("TERM");
    wait::soon("unreadiness", || scene.node.try_admin("/readyz").is_some_and(|(status, _)| status == 503));
    let answer = scene.curl(&scene.alice).get("https://gw.test/");
    assert!(start.elapsed() < Duration::from_secs(3), "the machine is too slow for this test");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(3), "it ended before the delay was over");
}

#[test]
fn the_drain_has_a_deadline() {
    let stage = Stage::new();
    let mut scene = stage.start_with(|start| start.arg("--drain-timeout").arg("1s"));
    let connection = scene.tls(&scene.alice).open(scene.node.https());
    let _hanging = connection.begin("/hang");
    scene.backend.wait_for(1);
    let start = Instant::now();
    scene.node.signal("TERM");
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
}

#[test]
fn a_second_term_stops_at_once() {
    let mut scene = Scene::start();
    let connection = scene.tls(&scene.alice).open(scene.node.https());
    let _hanging = connection.begin("/hang");
    scene.backend.wait_for(1);
    scene.node.signal("TERM");
    wait::soon("the listener to close", || refuses(&scene));
    assert!(scene.node.alive());
    let start = Instant::now();
    scene.node.signal("TERM");
    scene.node.ended(MARGIN);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn connections_that_wait_in_the_queue_are_served() {
    let mut scene = Scene::start();
    // Connected, with the handshake still to come, when the drain begins.
    let clients: Vec<_> = (0..4).map(|_| scene.tls(&scene.alice)).collect();
    let links: Vec<_> = clients.iter().map(|tls| tls.connect(scene.node.https()).unwrap()).collect();
    scene.node.signal("TERM");
    for link in links {
        let ended = link.get("/");
        assert_eq!(ended, gateway_tests::client::Ended::Status(200));
    }
    assert_eq!(scene.node.ended(MARGIN).code(), Some(0));
}
