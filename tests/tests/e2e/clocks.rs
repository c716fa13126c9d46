//! The wall clock judges certificates, and nothing else goes by it: it may jump, and nothing is lost but what has expired.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use gateway_tests::client::Ended;
use gateway_tests::pki::{DAY, When};
use gateway_tests::scene::Stage;
use gateway_tests::{Http, Identity, Scene, tools, wait};
use tempfile::TempDir;

/// A scene whose gateway has a clock of its own.
struct Clock {
    scene: Scene,
    alice: Identity,
    /// What it reads, and what it is off by.
    offset: PathBuf,
    _folder: TempDir,
}

/// `None`: skipped, aloud.
fn clock(test: &str) -> Option<Clock> {
    let faketime = tools::need("faketime", test)?;
    let library = tools::run(Command::new(faketime).args(["-f", "+0", "printenv", "LD_PRELOAD"]));
    let folder = TempDir::new().unwrap();
    let offset = folder.path().join("offset");
    fs::write(&offset, "+0").unwrap();
    let stage = Stage::new();
    // Nothing of it ends or begins within the hours that the clock jumps.
    let alice = stage.ca.leaf("alice").valid(When::Ago(DAY), When::In(300 * DAY)).issue();
    let list = stage.ca.crl().valid(When::Ago(DAY), When::In(700 * DAY)).pem();
    stage.site.bundle("ca.bundle", &stage.ca.pem(), Some(&list));
    let scene = stage.start_with(|start| {
        start
            .variable("LD_PRELOAD", library.trim())
            .variable("FAKETIME_TIMESTAMP_FILE", &offset.display().to_string())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("NO_FAKE_STAT", "1")
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    });
    Some(Clock { scene, alice, offset, _folder: folder })
}

impl Clock {
    fn set(&self, offset: &str) {
        let draft = self.offset.with_extension("draft");
        fs::write(&draft, offset).unwrap();
        fs::rename(draft, &self.offset).unwrap();
    }

    fn open(&self, alpn: &str) -> Http {
        let connection = self.scene.tls(&self.alice).alpn(&[alpn]).open(self.scene.node.https());
        assert_eq!(connection.get("/").status, 200);
        connection
    }

    fn ended(&self) -> Ended {
        self.scene.tls(&self.alice).try_get(self.scene.node.https())
    }
}

#[test]
fn an_hour_either_way_is_not_noticed() {
    let Some(clock) = clock("an_hour_either_way_is_not_noticed") else { return };
    let open = ["http/1.1", "h2"].map(|alpn| clock.open(alpn));
    for offset in ["+1h", "-1h", "+0", "-1h", "+1h"] {
        clock.set(offset);
        // Longer than any wait for a client that is silent, were it told by this clock.
        for connection in &open {
            assert_eq!(connection.get("/").status, 200, "{offset}");
        }
        assert_eq!(clock.ended(), Ended::Status(200), "{offset}");
    }
    assert_eq!(clock.scene.node.metrics().sum("yett_panics_total", &[]), 0.0);
}

#[test]
fn four_hundred_days_either_way_are_a_matter_of_certificates_alone() {
    let Some(mut clock) = clock("four_hundred_days_either_way_are_a_matter_of_certificates_alone") else {
        return;
    };
    for (offset, new, reason) in
        [("-400d", Ended::Alert(45), "not_yet_valid"), ("+400d", Ended::Alert(45), "expired")]
    {
        let open = ["http/1.1", "h2"].map(|alpn| clock.open(alpn));
        clock.set(offset);
        assert_eq!(clock.ended(), new, "{offset}");
        clock.scene.node.lines(1, |line| line["reason"] == reason);
        for connection in open {
            let answer = connection.get("/");
            // A certificate that was valid once is not "not yet valid" later on.
            let expected = if reason == "expired" { (400, "client_certificate_expired") } else { (200, "") };
            assert_eq!((answer.status.as_u16(), answer.reason()), expected, "{offset}");
        }
        clock.set("+0");
        wait::soon("the certificates to be valid again", || clock.ended() == Ended::Status(200));
    }
    assert_eq!(clock.scene.node.metrics().sum("yett_panics_total", &[]), 0.0);
    clock.set("-400d");
    clock.scene.node.signal("TERM");
    assert_eq!(clock.scene.node.ended(wait::SOON).code(), Some(0), "a drain goes by no clock that jumps");
}

#[test]
fn ticket_keys_that_change_cost_nobody_a_request() {
    let Some(clock) = clock("ticket_keys_that_change_cost_nobody_a_request") else { return };
    let tls = clock.scene.tls(&clock.alice).resuming();
    let ask = || {
        let link = tls.connect(clock.scene.node.https()).unwrap();
        let resumed = link.resumed();
        assert_eq!(link.get("/"), Ended::Status(200));
        resumed
    };
    assert!(!ask());
    assert!(ask(), "sessions resume");
    for (hours, resumes) in [("+6h", true), ("+12h", true), ("+36h", false), ("+36h", true), ("+0", false)] {
        clock.set(hours);
        assert_eq!(ask(), resumes, "{hours}");
    }
}
