//! Bodies are streamed both ways, whole or visibly broken, in bounded memory.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::scene::Stage;
use gateway_tests::{Curl, Http, Scene, wait};
use tempfile::TempDir;

const LARGE_BYTES: u64 = 100 * 1024 * 1024;
const GIGABYTE: u64 = 1 << 30;
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// Of one body's way, however long it is.
const STREAM_BYTES_MAX: u64 = 32 * 1024 * 1024;

fn scene() -> Scene {
    let stage = Stage::new();
    Scene::with_clear_listener(&stage);
    stage.start()
}

#[test]
fn a_hundred_megabytes_go_both_ways_in_bounded_memory() {
    let scene = scene();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("upload");
    File::create(&file).unwrap().set_len(LARGE_BYTES).unwrap();
    assert_eq!(scene.curl(&scene.alice).get("https://gw.test/").status, 200);
    let before = scene.node.resident_bytes();
    for http in ["--http1.1", "--http2"] {
        let answer = scene.curl(&scene.alice).arg(http).get(&format!("https://gw.test/bytes/{LARGE_BYTES}"));
        assert_eq!((answer.exit, answer.status), (0, 200), "{http}: {}", answer.trace);
        assert_eq!(answer.body.len() as u64, LARGE_BYTES, "{http}");
        let answer = scene.curl(&scene.alice).arg(http).upload(&file).get("https://gw.test/sink");
        assert_eq!((answer.exit, answer.status), (0, 200), "{http}: {}", answer.trace);
        assert_eq!(answer.text(), LARGE_BYTES.to_string(), "{http}");
        let growth = scene.node.resident_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{http}: memory grew by {growth} bytes");
    }
}

/// One way is enough: length makes no difference to what the other ways showed with a tenth of it.
#[test]
fn a_gigabyte_passes_in_constant_memory() {
    let scene = scene();
    // What is kept once is there before: buffers of the first request, of TLS, of the allocator.
    let warm = scene.curl(&scene.alice).http1().discard(&format!("https://gw.test/bytes/{LARGE_BYTES}"));
    assert_eq!(warm, (0, 200, LARGE_BYTES));
    let before = scene.node.resident_bytes();
    let began = Instant::now();
    let curl = scene.curl(&scene.alice).http1();
    let (mut most, done) = (before, AtomicBool::new(false));
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let answer = curl.discard(&format!("https://gw.test/bytes/{GIGABYTE}"));
            done.store(true, Ordering::Relaxed);
            answer
        });
        wait::until("a gigabyte", Duration::from_secs(300), || {
            most = most.max(scene.node.resident_bytes());
            done.load(Ordering::Relaxed).then_some(())
        });
        asked.join().unwrap()
    });
    assert_eq!(answer, (0, 200, GIGABYTE));
    let growth = most - before;
    eprintln!("1 GiB in {:?}; memory {before} bytes and at most {growth} more", began.elapsed());
    assert!(growth < STREAM_BYTES_MAX, "memory grew by {growth} bytes");
}

#[test]
fn a_body_comes_back_while_it_is_being_sent() {
    let scene = scene();
    for connection in [
        scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https()),
        scene.tls(&scene.alice).open(scene.node.https()),
    ] {
        let upload = connection.upload("/mirror", &[]);
        upload.piece("first,").unwrap();
        wait::soon("the first piece at the backend", || {
            scene.backend.requests().last().is_some_and(|seen| seen.target == "/mirror" && seen.body_len == 6)
        });
        upload.piece("second").unwrap();
        let answer = upload.finish().unwrap();
        assert_eq!(answer.body, b"first,second");
    }
}

#[test]
fn a_client_that_never_reads_does_not_fill_the_memory() {
    let scene = scene();
    assert_eq!(Curl::to(scene.node.http()).get("http://gw.test/").status, 200);
    let before = scene.node.resident_bytes();
    let clients: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(scene.node.http()).unwrap();
            stream.write_all(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: gw.test\r\n\r\n").unwrap();
            stream
        })
        .collect();
    scene.backend.wait_for(9);
    wait::throughout("bounded memory", Duration::from_secs(2), || {
        scene.node.resident_bytes().saturating_sub(before) < GROWTH_BYTES_MAX
    });
    drop(clients);
}

#[test]
fn trailers_go_both_ways() {
    let scene = scene();
    let h2 = scene.tls(&scene.alice).alpn(&["h2"]).open(scene.node.https());
    let answer = h2.get_with("/trailers", &[("te", "trailers")]);
    assert_eq!(answer.body, b"with trailers");
    assert_eq!(answer.trailers.expect("trailers")["x-checksum"], "42");
    let h1 = Http::clear(scene.node.http());
    let answer = h1.get_with("/trailers", &[("te", "trailers")]);
    assert_eq!(answer.trailers.expect("trailers")["x-checksum"], "42");
}

#[test]
fn a_body_that_the_backend_breaks_off_looks_broken() {
    let scene = scene();
    for http in ["--http1.1", "--http2"] {
        let answer = scene.curl(&scene.alice).arg(http).get("https://gw.test/cut");
        assert_ne!(answer.exit, 0, "{http}: a cut body ended cleanly: {answer:?}");
        assert_eq!(answer.status, 200, "{http}: {answer:?}");
    }
    let lines = scene.node.lines(2, |line| line["http"]["path"] == "/cut");
    assert!(lines.iter().all(|line| line["reason"] == "upstream_body_cut"), "{lines:?}");
}

#[test]
fn answers_without_bodies_stay_without() {
    let scene = scene();
    for http in ["--http1.1", "--http2"] {
        for status in [204, 304] {
            let answer = scene.curl(&scene.alice).arg(http).get(&format!("https://gw.test/status/{status}"));
            assert_eq!((answer.exit, answer.status, answer.body.len()), (0, status, 0), "{answer:?}");
        }
        let answer = scene.curl(&scene.alice).arg(http).arg("--head").get("https://gw.test/bytes/5");
        assert_eq!((answer.exit, answer.status), (0, 200), "{answer:?}");
        let answer = scene.curl(&scene.alice).arg(http).header("Expect: 100-continue").with("--data", "x");
        assert_eq!(answer.get("https://gw.test/sink").text(), "1");
    }
}
