//! HTTP/2 as the RFCs have it, tried by a program that knows nothing of us.

use std::process::Command;

use gateway_tests::go::Go;
use gateway_tests::{Bridge, Scene};

const TEST: &str = "h2spec::every_case_passes";

/// Every case that the program knows, those of the strict kind among them; none is skipped.
const PASSED: &str = "146 tests, 146 passed, 0 skipped, 0 failed";

/// What a case may take before it counts as failed; long, since the machine may be busy.
const CASE_SECONDS_MAX: &str = "20";

#[test]
fn every_case_passes() {
    let Some(program) = Go::module("h2spec", TEST).and_then(|go| go.say(&["tool", "-n", "h2spec"], TEST))
    else {
        return;
    };
    let scene = Scene::start();
    let bridge = Bridge::open(scene.tls(&scene.alice).alpn(&["h2"]), scene.node.https());
    let port = bridge.address().port().to_string();
    let mut command = Command::new(program);
    command.args(["--strict", "--timeout", CASE_SECONDS_MAX, "--host", "127.0.0.1", "--port", &port]);
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    // Cases that fail or are skipped are named in there.
    assert!(ran.status.success() && said.contains(PASSED), "{said}");
}
