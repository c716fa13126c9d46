//! Where the frames of HTTP/2 begin and end, and what their heads say.
//!
//! In go the bytes of one direction, however they are cut; out comes each frame with the beginning of its payload, as far as
//! its kind is of interest. What follows from it is left to [`super`].

use crate::telemetry::Limit;

/// RFC 9113 §4.1
pub(super) const FRAME_HEAD_BYTES: usize = 9;
/// What is kept of a payload: the code of a GOAWAY, and the words that hyper's codec puts behind it.
const PAYLOAD_KEPT_BYTES: usize = 8 + 40;
pub(super) const END_STREAM: u8 = 0x1;
const COMPRESSION_ERROR: u32 = 0x9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Finds the frames in the bytes of one direction, however they are cut.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to pass over.
    skip: usize,
    /// The part of a frame that is looked at, as far as it has come.
    kept: [u8; FRAME_HEAD_BYTES + PAYLOAD_KEPT_BYTES],
    have: usize,
}

/// A frame, with as much of its payload as is kept of its kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: usize,
    pub(super) payload: &'a [u8],
}

/// The types of frames (RFC 9113 §6) that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Reset,
    GoAway,
    Continuation,
    Other,
}

impl Kind {
    /// How much of a payload is kept.
    fn kept(self) -> usize {
        match self {
            Self::Headers | Self::Reset => 4,
            Self::GoAway => PAYLOAD_KEPT_BYTES,
            Self::Data | Self::Continuation | Self::Other => 0,
        }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: 0, kept: [0; FRAME_HEAD_BYTES + PAYLOAD_KEPT_BYTES], have: 0 }
    }
}

impl Frames {
    /// Those that follow so many bytes of something else.
    pub(super) fn behind(bytes: usize) -> Self {
        Self { skip: bytes, ..Self::default() }
    }

    /// Looks at the next bytes; `see` gets each frame as soon as the part of it that is looked at is there, and where
    /// among these bytes it begins.
    pub(super) fn pass(&mut self, bytes: &[u8], mut see: impl FnMut(Frame<'_>, usize)) {
        let (mut at, mut begin) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.skip > 0 {
                let passed = self.skip.min(rest.len());
                self.skip -= passed;
                at += passed;
                begin = at;
                continue;
            }
            let taken = (self.wanted() - self.have).min(rest.len());
            self.kept[self.have..self.have + taken].copy_from_slice(&rest[..taken]);
            self.have += taken;
            at += taken;
            if self.have < self.wanted() {
                continue;
            }
            let frame = self.frame();
            see(frame, begin);
            self.skip = frame.length - frame.payload.len();
            self.have = 0;
            begin = at;
        }
    }

    /// Whether no frame has begun that has not ended.
    pub(super) fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// Whether a frame of this kind has begun that has not ended.
    pub(super) fn is_in(&self, kind: Kind) -> bool {
        (self.skip > 0 || self.have >= FRAME_HEAD_BYTES) && self.kind() == kind
    }

    /// How much of the frame is to be kept, as far as can be told.
    fn wanted(&self) -> usize {
        if self.have < FRAME_HEAD_BYTES {
            return FRAME_HEAD_BYTES;
        }
        FRAME_HEAD_BYTES + self.kind().kept().min(self.length())
    }

    fn frame(&self) -> Frame<'_> {
        let stream = u32::from_be_bytes([self.kept[5], self.kept[6], self.kept[7], self.kept[8]]);
        Frame {
            kind: self.kind(),
            flags: self.kept[4],
            stream: stream & (u32::MAX >> 1),
            length: self.length(),
            payload: &self.kept[FRAME_HEAD_BYTES..self.have],
        }
    }

    fn kind(&self) -> Kind {
        match self.kept[3] {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::Reset,
            7 => Kind::GoAway,
            9 => Kind::Continuation,
            _ => Kind::Other,
        }
    }

    fn length(&self) -> usize {
        usize::from(self.kept[0]) << 16 | usize::from(self.kept[1]) << 8 | usize::from(self.kept[2])
    }
}

impl Frame<'_> {
    /// Whether this is the head of an answer of which more is to come.
    pub(super) fn begins_answer(&self) -> bool {
        self.kind == Kind::Headers && self.flags & END_STREAM == 0
    }

    /// The 32-bit number that begins at this byte of the payload.
    pub(super) fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// Whether this is an answer of one field, its status: what hyper's codec itself says to a head over the limit.
    /// Every other answer has a date.
    pub(super) fn is_status_alone(&self) -> bool {
        if self.kind != Kind::Headers || self.flags & END_STREAM == 0 {
            return false;
        }
        match *self.payload {
            // A field that both sides know already (RFC 7541 §6.1).
            [first] => first & 0x80 != 0,
            // A status (entry 8 of the static table) with its value (§6.2).
            [0x48 | 0x08 | 0x18, length, ..] => usize::from(length & 0x7f) + 2 == self.length,
            _ => false,
        }
    }

    /// The limit by which hyper's codec ends a connection; it says so behind the code.
    pub(super) fn limit_of_go_away(&self) -> Option<Limit> {
        let code = self.word(4)?;
        match self.payload.get(8..)? {
            b"too_many_resets" => Some(Limit::Http2PendingResetsMax),
            b"too_many_internal_resets" => Some(Limit::Http2LocalResetsMax),
            b"too_many_continuations" => Some(Limit::Http2ContinuationsMax),
            b"too_many_data_frames" => Some(Limit::Http2SmallDataFramesMax),
            b"header_list_way_too_large" => Some(Limit::RequestHeadBytesMax),
            // A field that is over the limit by itself.
            _ if code == COMPRESSION_ERROR => Some(Limit::RequestHeadBytesMax),
            _ if code == ENHANCE_YOUR_CALM => Some(Limit::Http2Protocol),
            _ => None,
        }
    }
}
