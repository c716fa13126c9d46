//! Many connections that do nothing: what each of them costs, and what they cost others.

use super::Report;
use super::load::{Kind, Load};
use crate::Http;
use crate::scene::Stage;

/// How much memory a connection may cost, in a release build; a development build says it only.
pub const BYTES_MAX: u64 = 14 << 10;
/// Every how many connections there is a line.
const PROGRESS: usize = 1000;

/// Opens `count` connections over mTLS, with one answered request each, and keeps them. `bytes_max`: how much each may
/// cost.
///
/// # Panics
/// When the gateway does not start.
pub fn run(count: usize, bytes_max: Option<u64>) -> Report {
    let scene = Stage::new().start_with(|start| start.settings("[limits]\nidle_timeout = \"1h\"\n"));
    let (tls, address) = (scene.tls(&scene.alice), scene.node.https());
    let (load, mut report) = (Load::default(), Report::default());
    // What the first ones have made grow is no part of the price of another.
    let warm: Vec<Http> = (0..100).map(|_| tls.open(address)).collect();
    assert!(
        warm.iter().all(|connection| connection.get("/status/204").status == 204),
        "the first are not served"
    );
    let before = scene.node.resident_bytes();
    let mut idle = Vec::new();
    load.during(&[Kind::Http2], address, &tls, || {
        for number in 1..=count {
            match tls.connect(address).map(crate::client::Link::http) {
                Ok(connection) if connection.get("/status/204").status == 204 => idle.push(connection),
                Ok(_) => report.failures.push(format!("connection {number} is not served")),
                Err(ended) => report.failures.push(format!("connection {number}: {ended:?}")),
            }
            if number % PROGRESS == 0 || number == count {
                let (held, grown) = (idle.len(), scene.node.resident_bytes().saturating_sub(before));
                println!("{held} connections, {} MiB", grown >> 20);
            }
        }
    });
    let each =
        scene.node.resident_bytes().saturating_sub(before) / u64::try_from(idle.len().max(1)).unwrap_or(1);
    report.failures.extend(load.failures());
    let closed = idle.iter().filter(|connection| connection.is_closed()).count();
    report.expect(closed == 0, || format!("{closed} were closed"));
    report.figure("idle connections", format!("{} with mTLS, HTTP/1.1", idle.len()));
    report.figure(
        "memory",
        format!("{:.1} KiB each", f64::from(u32::try_from(each).unwrap_or(u32::MAX)) / 1024.0),
    );
    report.figure("a bystander meanwhile", load.times());
    if let Some(bytes_max) = bytes_max {
        report.expect(each <= bytes_max, || format!("{each} bytes each are more than {bytes_max}"));
    }
    report
}
