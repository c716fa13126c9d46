//! The guard with hyper behind it: both see the same requests, and a refused one in its place.

use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::fuzzing::{self, Client, LIMITS, Seen, served};
use crate::http::frame::tests as framing;
use crate::telemetry::Metrics;

#[test]
fn a_refusal_keeps_its_place() {
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    let upload = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let bad = "GET /bad HTTP/1.1\r\n\r\n";
    let broken = "POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nx\r\n";
    let whole = |target: &str, body: &[u8]| Seen::Whole(target.into(), body.into(), 0);
    for (description, bytes, expected) in [
        ("alone", bad.to_owned(), vec![Seen::Refused(Fault::HostMissing)]),
        (
            "behind another",
            format!("{good}{bad}"),
            vec![whole("/good", b""), Seen::Refused(Fault::HostMissing)],
        ),
        (
            "behind a body, with more behind it",
            format!("{upload}{bad}{good}{good}"),
            vec![whole("/upload", b"abc"), Seen::Refused(Fault::HostMissing)],
        ),
        (
            "in a body",
            format!("{good}{broken}{good}"),
            vec![whole("/good", b""), Seen::Broken(Some(Fault::ChunkSize))],
        ),
    ] {
        let (seen, ended) = served(&[bytes.as_bytes()]);
        assert_eq!(seen, expected, "{description}");
        assert_eq!(ended, Some(Ok(())), "{description}");
        let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
        assert_eq!(served(&pieces).0, expected, "{description}: byte by byte");
    }
}

#[test]
fn a_request_that_looks_like_a_stand_in_is_none() {
    let (seen, _) = served(&[b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n- * HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert_eq!(seen, [Seen::Whole("*".into(), Vec::new(), 0), Seen::Refused(Fault::Target)]);
}

#[test]
fn a_head_that_has_had_its_time_is_refused() {
    let intake = Rc::new(Intake::new(Activity::new(crate::http::Limits::default(), Metrics::new())));
    assert!(!intake.time_out(), "nothing has come");
    let client = Client::new(&[b"GET /x HTTP/1.1\r\nHo"]);
    let mut guard = Guard::new(client, Framer::new(LIMITS, 443), Rc::clone(&intake));
    let mut storage = [0; 64];
    let mut buffer = ReadBuf::new(&mut storage);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buffer).is_pending());
    assert!(buffer.filled().is_empty(), "a part of a head was passed");
    assert!(intake.is_in_head() && intake.time_out() && !intake.is_in_head());
    assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buffer).is_ready());
    assert_eq!(buffer.filled(), b"GET /x HTTP/1.1\r\n\r\n");
    assert_eq!(intake.take(), Some(Fault::HeadTimeout));
    assert!(Pin::new(&mut guard).poll_read(&mut cx, &mut buffer).is_pending(), "nothing follows");
}

#[test]
fn heads_larger_than_the_readers_buffer_pass() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(400));
    let whole = format!("{head}{head}POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    for (piece, room) in [(1, 1), (7, 16), (100, 30), (1000, 3), (5, 1000)] {
        let intake = Rc::new(Intake::new(Activity::new(crate::http::Limits::default(), Metrics::new())));
        let client = Client::new(&whole.as_bytes().chunks(piece).collect::<Vec<_>>());
        let mut guard = Guard::new(client, Framer::new(LIMITS, 443), intake);
        let mut cx = Context::from_waker(Waker::noop());
        let mut passed = Vec::new();
        loop {
            let mut storage = vec![0; room];
            let mut buffer = ReadBuf::new(&mut storage);
            match Pin::new(&mut guard).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(read) => {
                    read.unwrap();
                    assert!(!buffer.filled().is_empty(), "an end that is none");
                    passed.extend_from_slice(buffer.filled());
                }
                Poll::Pending => break,
            }
        }
        assert_eq!(String::from_utf8(passed).unwrap(), whole, "pieces of {piece} to buffers of {room}");
        assert_eq!(guard.kept.capacity(), 0, "what was kept is let go");
    }
}

proptest! {
    #[test]
    fn whoever_reads_behind_the_guard_sees_the_requests_that_it_sees(bytes in framing::traffic(), seed in any::<u8>()) {
        fuzzing::requests(&[&[seed][..], &bytes].concat());
    }
}
