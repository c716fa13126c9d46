//! What passes on an HTTP/2 connection, seen by the heads of its frames: how much a client sends beside its requests,
//! which answers it does not take, and by which limit hyper's codec refuses a stream or ends the connection.
//!
//! In go the bytes of either direction with the age of the connection at that moment; field blocks and bodies are passed
//! over. Out come counts, and the frame that ends a connection in flood. Acting on them is left to the watch.

use std::collections::VecDeque;
use std::time::Duration;

mod frames;

use self::frames::{END_STREAM, ENHANCE_YOUR_CALM, FRAME_HEAD_BYTES, Frames, Kind};
use crate::telemetry::Limit;

/// RFC 9113 §3.4
const PREFACE_BYTES: usize = 24;

/// How many frames beside requests and bodies are paid for by each that brings a part of a body or of an answer. Some
/// clients update two windows for every KiB that they read of a frame of 16.
const PAID_BY_A_FRAME: u32 = 32;
/// After how long a client may send as many frames again.
const CONTROL_PERIOD: Duration = Duration::from_secs(1);

/// How many streams that the client has reset are remembered: parts of their answers may still be on their way out.
const RESETS_KEPT: usize = 128;

const END_HEADERS: u8 = 0x4;
const REFUSED_STREAM: u32 = 0x7;

/// A connection's frames.
#[derive(Debug)]
pub(super) struct Traffic {
    incoming: Frames,
    outgoing: Frames,
    control_frames_max: u32,
    /// Frames beside requests and bodies that nothing has paid for yet.
    control_frames: u32,
    /// Since when they are counted.
    counted_since: Duration,
    /// Whether a request's head has begun, or the connection itself, and not come to its end.
    is_in_head: bool,
    /// Whether the codec has ended the connection at a limit.
    is_sent_away: bool,
    /// The highest stream that the client has opened.
    opened: u32,
    answers: Vec<Answer>,
    /// Streams that the client has reset, the last of them.
    resets: VecDeque<u32>,
}

/// An answer that has begun and has not left to its end.
#[derive(Debug)]
struct Answer {
    stream: u32,
    /// When the last part of it left.
    moved: Duration,
}

impl Traffic {
    /// Of a connection that begins with the client's preface.
    pub(super) fn new(control_frames_max: u32) -> Self {
        Self {
            incoming: Frames::behind(PREFACE_BYTES),
            outgoing: Frames::default(),
            control_frames_max,
            control_frames: 0,
            counted_since: Duration::ZERO,
            is_in_head: true,
            is_sent_away: false,
            opened: 0,
            answers: Vec::new(),
            resets: VecDeque::new(),
        }
    }

    /// Bytes from the client. Gives how many of them come before the frame that is one too many, if there is one.
    pub(super) fn read(&mut self, bytes: &[u8], age: Duration) -> Option<usize> {
        if self.control_frames > self.control_frames_max {
            return Some(0);
        }
        if age.saturating_sub(self.counted_since) >= CONTROL_PERIOD {
            (self.counted_since, self.control_frames) = (age, 0);
        }
        let Self {
            incoming, control_frames, control_frames_max, is_in_head, opened, answers, resets, ..
        } = self;
        let mut flood = None;
        incoming.pass(bytes, |frame, begin| {
            *is_in_head = false;
            match frame.kind {
                Kind::Headers | Kind::Continuation => {
                    *is_in_head = frame.flags & END_HEADERS == 0;
                    *opened = frame.stream.max(*opened);
                    return;
                }
                Kind::Data if frame.length > 0 || frame.flags & END_STREAM != 0 => {
                    *control_frames = control_frames.saturating_sub(PAID_BY_A_FRAME);
                    return;
                }
                Kind::Reset => {
                    answers.retain(|answer| answer.stream != frame.stream);
                    if resets.len() == RESETS_KEPT {
                        resets.pop_front();
                    }
                    resets.push_back(frame.stream);
                }
                Kind::Data | Kind::GoAway | Kind::Other => {}
            }
            *control_frames = control_frames.saturating_add(1);
            if *control_frames > *control_frames_max && flood.is_none() {
                flood = Some(begin);
            }
        });
        flood
    }

    /// Bytes to the client; `hit` is told of each limit that they speak of.
    pub(super) fn written(&mut self, bytes: &[u8], age: Duration, mut hit: impl FnMut(Limit)) {
        let Self { outgoing, control_frames, answers, resets, is_sent_away, .. } = self;
        outgoing.pass(bytes, |frame, _| {
            let place = answers.iter().rposition(|answer| answer.stream == frame.stream);
            match frame.kind {
                Kind::Headers if frame.is_status_alone() => {
                    *control_frames = control_frames.saturating_add(1);
                    hit(Limit::RequestHeadBytesMax);
                }
                Kind::Headers | Kind::Data => {
                    *control_frames = control_frames.saturating_sub(PAID_BY_A_FRAME);
                    match place {
                        Some(place) if frame.flags & END_STREAM != 0 => drop(answers.swap_remove(place)),
                        Some(place) => answers[place].moved = age,
                        None if frame.begins_answer() && !resets.contains(&frame.stream) => {
                            answers.push(Answer { stream: frame.stream, moved: age });
                        }
                        None => {}
                    }
                }
                Kind::Reset => {
                    *control_frames = control_frames.saturating_add(1);
                    if let Some(place) = place {
                        answers.swap_remove(place);
                    }
                    if frame.word(0) == Some(REFUSED_STREAM) {
                        hit(Limit::Http2StreamsMax);
                    }
                }
                Kind::GoAway => {
                    if let Some(limit) = frame.limit_of_go_away() {
                        *is_sent_away = true;
                        hit(limit);
                    }
                }
                Kind::Continuation | Kind::Other => {}
            }
        });
    }

    /// Whether the codec has ended the connection at a limit.
    pub(super) fn is_sent_away(&self) -> bool {
        self.is_sent_away
    }

    /// Whether the client is in the middle of its preface or of a request's head.
    pub(super) fn is_in_head(&self) -> bool {
        self.is_in_head || self.incoming.is_in(Kind::Headers) || self.incoming.is_in(Kind::Continuation)
    }

    /// The frame that ends a connection in flood (RFC 9113 §6.8). `None` in the middle of another one.
    pub(super) fn go_away(&self) -> Option<[u8; FRAME_HEAD_BYTES + 8]> {
        if !self.outgoing.is_between() {
            return None;
        }
        let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame[9..13].copy_from_slice(&self.opened.to_be_bytes());
        frame[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        Some(frame)
    }

    /// How many answers nothing has left of since then.
    pub(super) fn answers_still_since(&self, then: Duration) -> usize {
        self.answers.iter().filter(|answer| answer.moved <= then).count()
    }

    /// When the answer that has been still for longest moved last.
    pub(super) fn oldest_answer(&self) -> Option<Duration> {
        self.answers.iter().map(|answer| answer.moved).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn go_away(code: u32, words: &str) -> Vec<u8> {
        let payload = [&[0, 0, 0, 1], &code.to_be_bytes()[..], words.as_bytes()].concat();
        frame(7, 0, 0, &payload)
    }

    /// The limits that these bytes to the client speak of.
    fn hits(bytes: &[u8]) -> Vec<Limit> {
        let mut hits = Vec::new();
        Traffic::new(10).written(bytes, Duration::ZERO, |limit| hits.push(limit));
        hits
    }

    /// Whether frames of this kind, each followed by the other one, come to a flood.
    fn floods(control: &[u8], paid: &[u8], count: usize, age: impl Fn(usize) -> Duration) -> bool {
        let mut traffic = Traffic::new(100);
        traffic.read(&[0; PREFACE_BYTES], Duration::ZERO);
        let both = [control, paid].concat();
        (0..count).any(|turn| traffic.read(&both, age(turn)).is_some())
    }

    #[test]
    fn a_client_may_send_so_much_beside_its_requests_and_no_more() {
        let at_once = |_: usize| Duration::ZERO;
        let (ping, update) = (frame(6, 0, 0, &[0; 8]), frame(8, 0, 3, &[0, 0, 0, 9]));
        let (settings, priority) = (frame(4, 0, 0, &[]), frame(2, 0, 3, &[0; 5]));
        for control in [&ping, &update, &settings, &priority, &frame(0, 0, 3, &[]), &frame(0xbe, 0, 3, b"?")]
        {
            assert!(!floods(control, &[], 100, at_once), "{control:?}");
            assert!(floods(control, &[], 101, at_once), "{control:?}");
            let now_and_then = |turn: usize| SECOND * u32::try_from(turn / 100).unwrap();
            assert!(!floods(control, &[], 10_000, now_and_then), "{control:?}");
        }
        for paid in [frame(0, 0, 3, b"body"), frame(0, END_STREAM, 3, &[])] {
            assert!(!floods(&update.repeat(32), &paid, 10_000, at_once), "{paid:?}");
            assert!(floods(&update.repeat(34), &paid, 10_000, at_once), "{paid:?}");
        }
        // Requests alone are no flood, and pay for nothing before they are answered.
        assert!(!floods(&[], &frame(1, 5, 3, b"request"), 10_000, at_once));
        assert!(floods(&frame(3, 0, 3, &[0, 0, 0, 8]), &frame(1, 5, 3, b"request"), 101, at_once));
    }

    #[test]
    fn answers_pay_and_refusals_do_not() {
        for (answer, floods) in [
            (frame(0, 0, 1, &[0; 16_384]), false),
            (frame(1, 5, 1, &[0x88, 0xbf]), false),
            (frame(1, 5, 1, &[0xbe]), true),
            (frame(3, 0, 1, &[0, 0, 0, 7]), true),
            (frame(6, 1, 0, &[0; 8]), true),
        ] {
            let mut traffic = Traffic::new(100);
            traffic.read(&[0; PREFACE_BYTES], Duration::ZERO);
            let flooded = (0..1000).any(|_| {
                traffic.written(&answer, Duration::ZERO, |_| {});
                traffic.read(&frame(8, 0, 1, &[0, 0, 64, 0]).repeat(30), Duration::ZERO).is_some()
            });
            assert_eq!(flooded, floods, "{answer:?}");
        }
        // Even where the client sends nothing but requests that are one too many.
        let mut traffic = Traffic::new(100);
        traffic.written(&frame(3, 0, 1, &[0, 0, 0, 7]).repeat(101), Duration::ZERO, |_| {});
        assert_eq!(traffic.read(&frame(1, 5, 3, b"request"), Duration::ZERO), Some(0));
    }

    #[test]
    fn a_head_is_under_way_until_its_end() {
        let mut traffic = Traffic::new(100);
        for (bytes, expected) in [
            (&[0; PREFACE_BYTES][..], true),
            (&frame(4, 0, 0, &[])[..5], true),
            (&frame(4, 0, 0, &[])[5..], false),
            (&frame(1, 5, 1, b"request")[..8], false),
            (&frame(1, 5, 1, b"request")[8..12], true),
            (&frame(1, 5, 1, b"request")[12..], false),
            (&frame(1, 1, 3, b"first part"), true),
            (&frame(9, 0, 3, b"second part"), true),
            (&frame(9, 4, 3, b"last part"), false),
            (&frame(0, 0, 3, b"body")[..10], false),
        ] {
            traffic.read(bytes, Duration::ZERO);
            assert_eq!(traffic.is_in_head(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_comes_before_a_flood_is_told() {
        let mut traffic = Traffic::new(2);
        let ping = frame(6, 0, 0, &[0; 8]);
        let bytes = [&[0; PREFACE_BYTES][..], &ping, &ping, &frame(1, 5, 7, b"x"), &ping.repeat(4)].concat();
        assert_eq!(traffic.read(&bytes, Duration::ZERO), Some(PREFACE_BYTES + 34 + 10));
        assert_eq!(traffic.go_away().unwrap()[9..], [0, 0, 0, 7, 0, 0, 0, 0xb]);
        traffic.written(&frame(0, 0, 7, b"half")[..11], Duration::ZERO, |_| {});
        assert_eq!(traffic.go_away(), None);
    }

    #[test]
    fn answers_are_followed_to_their_end() {
        let mut traffic = Traffic::new(100);
        let mut write = |bytes: &[u8], age| traffic.written(bytes, SECOND * age, |_| {});
        write(&[frame(1, 4, 1, b"head"), frame(1, 4, 3, b"head"), frame(1, 5, 5, b"no body")].concat(), 0);
        write(&frame(0, 0, 3, b"some"), 2);
        assert_eq!((traffic.answers_still_since(SECOND), traffic.answers_still_since(2 * SECOND)), (1, 2));
        assert_eq!(traffic.oldest_answer(), Some(Duration::ZERO));
        traffic.written(&frame(3, 0, 1, &[0, 0, 0, 8]), 3 * SECOND, |limit| panic!("{limit:?}"));
        assert_eq!(traffic.oldest_answer(), Some(2 * SECOND));
        traffic.written(&frame(1, 5, 3, b"trailers"), 4 * SECOND, |limit| panic!("{limit:?}"));
        assert_eq!(traffic.oldest_answer(), None);
        // What the client itself has reset may be on its way out.
        traffic.read(&[0; PREFACE_BYTES], Duration::ZERO);
        traffic.written(&frame(1, 4, 7, b"head"), 5 * SECOND, |limit| panic!("{limit:?}"));
        traffic.read(&[frame(3, 0, 7, &[0, 0, 0, 8]), frame(3, 0, 9, &[0, 0, 0, 8])].concat(), 5 * SECOND);
        traffic.written(
            &[frame(1, 4, 9, b"head"), frame(0, 0, 9, b"some"), frame(0, 0, 7, b"some")].concat(),
            6 * SECOND,
            |limit| panic!("{limit:?}"),
        );
        assert_eq!(traffic.oldest_answer(), None);
    }

    #[test]
    fn limits_of_the_codec_are_told_by_what_it_sends() {
        for (bytes, expected) in [
            (go_away(11, "too_many_resets"), Some(Limit::Http2PendingResetsMax)),
            (go_away(11, "too_many_internal_resets"), Some(Limit::Http2LocalResetsMax)),
            (go_away(11, "too_many_continuations"), Some(Limit::Http2ContinuationsMax)),
            (go_away(11, "too_many_data_frames"), Some(Limit::Http2SmallDataFramesMax)),
            (go_away(11, "header_list_way_too_large"), Some(Limit::RequestHeadBytesMax)),
            (go_away(9, ""), Some(Limit::RequestHeadBytesMax)),
            (
                go_away(11, "words that we do not know, and more of them than are kept"),
                Some(Limit::Http2Protocol),
            ),
            (go_away(0, ""), None),
            (go_away(1, ""), None),
            (frame(3, 0, 1, &[0, 0, 0, 7]), Some(Limit::Http2StreamsMax)),
            (frame(3, 0, 1, &[0, 0, 0, 8]), None),
            // :status 431, as a literal with Huffman's code or without, and once it is in the table.
            (frame(1, 5, 1, &[0x48, 0x82, 0x68, 0x1f]), Some(Limit::RequestHeadBytesMax)),
            (frame(1, 5, 1, &[0x48, 3, b'4', b'3', b'1']), Some(Limit::RequestHeadBytesMax)),
            (frame(1, 5, 1, &[0xbe]), Some(Limit::RequestHeadBytesMax)),
            // With a date.
            (frame(1, 5, 1, &[0x48, 0x82, 0x68, 0x1f, 0xbf]), None),
            (frame(1, 5, 1, &[0x88, 0xbf]), None),
            (frame(1, 4, 1, &[0xbe]), None),
        ] {
            assert_eq!(hits(&bytes), Vec::from_iter(expected), "{bytes:?}");
        }
    }

    proptest! {
        /// Whatever comes, and however it is cut, the same frames are found, and nothing panics.
        #[test]
        fn frames_are_found_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), 0..10u8, any::<u8>()], 0..400),
            cuts in prop::collection::vec(1..40usize, 0..40),
        ) {
            let see = |pieces: Vec<&[u8]>| {
                let (mut frames, mut seen) = (Frames::default(), Vec::new());
                for piece in pieces {
                    frames.pass(piece, |frame, _| {
                        seen.push((frame.kind, frame.flags, frame.stream, frame.length, frame.payload.to_vec()));
                    });
                }
                (seen, frames.is_between())
            };
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(see(pieces), see(vec![&bytes]));
        }
    }
}
