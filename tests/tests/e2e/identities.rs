//! Nobody is ever taken for somebody else.

use std::thread;

use gateway_tests::scene::Stage;
use gateway_tests::{Identity, Scene};

const CLIENTS: usize = 6;
const REQUESTS: usize = 40;

#[test]
fn clients_that_share_backend_connections_keep_their_own_identity() {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    let scene = stage.start_with(|start| start.arg("--workers").arg("2"));
    let clients: Vec<Identity> =
        (0..CLIENTS).map(|number| scene.ca.client(&format!("client-{number}"))).collect();
    thread::scope(|scope| {
        for (number, identity) in clients.iter().enumerate() {
            let scene = &scene;
            scope.spawn(move || {
                let alpn = ["h2", "http/1.1"][number % 2];
                let tls = scene.tls(identity).alpn(&[alpn]).resuming();
                for request in 0..REQUESTS {
                    // Every fourth on a new, resumed connection.
                    let connection = tls.open(scene.node.https());
                    for part in 0..4 {
                        assert_eq!(connection.get(&format!("/{number}/{request}/{part}")).status, 200);
                    }
                }
            });
        }
        // One without a certificate among them, over the same connections to the backend.
        scope.spawn(|| {
            let connection = gateway_tests::Http::clear(scene.node.http());
            for _ in 0..REQUESTS {
                assert_eq!(connection.get("/none").status, 200);
            }
        });
    });
    let seen = scene.backend.requests();
    assert_eq!(seen.len(), CLIENTS * REQUESTS * 4 + REQUESTS);
    for request in &seen {
        let expected = match request.target.split('/').nth(1).and_then(|number| number.parse::<usize>().ok())
        {
            Some(number) => vec![clients[number].client_cert_header()],
            None => Vec::new(),
        };
        assert_eq!(request.header("client-cert"), expected, "{}", request.target);
    }
    assert!(scene.backend.connections() < seen.len() as u64 / 4, "the connections are shared");
}

#[test]
fn a_refused_client_cannot_hide_a_second_request_behind_the_first() {
    let scene = Scene::start();
    let mallory = scene.ca.client("mallory");
    scene.publish(&scene.ca.crl().number(2).revoke(&mallory).pem());
    let mut link = scene.tls(&mallory).connect(scene.node.https()).unwrap();
    let one = "GET /one HTTP/1.1\r\nHost: gw.test\r\n\r\n";
    let two = "POST /two HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 3\r\n\r\nabc";
    let answers = link.exchange(format!("{two}{one}{one}").as_bytes()).unwrap();
    assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
    assert!(!answers.contains(" 200 "), "{answers}");
    assert_eq!(scene.backend.count(), 0);
}
