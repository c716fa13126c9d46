//! Where one HTTP/1.1 request ends and the next begins, and whether everybody would say the same (RFC 9112).
//!
//! In come a connection's bytes, in pieces of any size; out comes how many of them may go on, or a [`Fault`]. A head goes
//! on when it is there as a whole, a line of the chunked coding likewise, the bytes of a body as they are. What two
//! parties might read in two ways is a fault, even where the standard would let a recipient mend it: whoever speaks to
//! a backend through us must not be able to hide a request in another one's body. Reading, clocks and answers belong to
//! the guard.

use http::uri::PathAndQuery;
use http::{Method, Uri};
use memchr::memchr;

mod fault;
mod head;
mod syntax;

pub use fault::Fault;
use head::{Head, Length};

/// The size line of a chunk, with its extensions and line end.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// The extensions of all chunks of a body. Nobody is known to use any.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 8 * 1024;
/// Digits of a chunk's size: those of the largest, so that zeros in front cannot hide one.
const CHUNK_SIZE_DIGITS_MAX: usize = 16;
/// What no length may reach: everybody's integers hold it.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// Sizes and counts of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, and of a trailer section.
    pub head_bytes_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
    /// Fields of a head, and of a trailer section.
    pub fields_max: usize,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    /// The port that a host without one means.
    default_port: u16,
    place: Place,
    heads: u64,
}

/// Where the next byte belongs.
#[derive(Debug)]
enum Place {
    Head(Head),
    /// A body of known length, so many bytes before its end.
    Body(u64),
    ChunkLine(Chunks),
    /// A chunk, so many bytes before its end.
    Chunk(u64, Chunks),
    /// The line end behind a chunk.
    ChunkEnd(Chunks),
    Trailers(Trailers),
    /// Behind a request to leave HTTP: what the next byte belongs to is for its answer to say.
    Asked,
}

#[derive(Clone, Copy, Debug, Default)]
struct Chunks {
    /// No line end among so many bytes.
    searched: usize,
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Trailers {
    searched: usize,
    bytes: usize,
    fields: usize,
}

/// What may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// So many bytes, from the first one on.
    pub passed: usize,
    /// Why nothing behind them ever will.
    pub fault: Option<Fault>,
}

/// Whether a request's target is one that HTTP/1.1 would let through: both versions go to the same backends.
pub fn is_target(method: &Method, target: &Uri) -> bool {
    match target.path_and_query().map_or("", PathAndQuery::as_str) {
        "*" => method == Method::OPTIONS,
        target => target.starts_with('/') && syntax::is_path_and_query(target.as_bytes()),
    }
}

impl Framer {
    /// At the beginning of a connection.
    pub fn new(limits: Limits, default_port: u16) -> Self {
        Self { limits, default_port, place: Place::Head(Head::default()), heads: 0 }
    }

    /// Looks at bytes that follow those passed so far: the ones that were not passed the last time, and more. Not to be
    /// called again after a fault.
    pub fn advance(&mut self, bytes: &[u8]) -> Advance {
        let mut passed = 0;
        loop {
            match self.step(&bytes[passed..]) {
                Ok(0) => return Advance { passed, fault: None },
                Ok(length) => passed += length,
                Err(fault) => return Advance { passed, fault: Some(fault) },
            }
        }
    }

    /// How many heads have been passed.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a head has begun and not come to its end. Of an empty line before it nobody knows whether one follows.
    pub fn is_in_head(&self) -> bool {
        matches!(&self.place, Place::Head(head) if head.has_begun())
    }

    /// Whether the bytes to come are a head or the part of one; a fault then concerns a request that nobody has seen.
    pub fn is_before_body(&self) -> bool {
        matches!(self.place, Place::Head(_))
    }

    /// Whether the last request asks to leave HTTP. Nothing behind it passes, or is looked at, before its answer is known.
    pub fn waits(&self) -> bool {
        matches!(self.place, Place::Asked)
    }

    /// That request has been answered like any other: what follows it is the next one.
    pub fn resume(&mut self) {
        if self.waits() {
            self.place = Place::Head(Head::default());
        }
    }

    /// A well-formed request in the place of the one whose head is at fault: what of it was sound, for the log.
    /// `bytes`: those that have not been passed.
    pub fn stand_in(&self, bytes: &[u8]) -> Vec<u8> {
        match &self.place {
            Place::Head(head) => head.stand_in(bytes),
            _ => Head::default().stand_in(bytes),
        }
    }

    /// How many of the bytes make up the next part; 0: more have to come.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match &mut self.place {
            Place::Head(head) => {
                let Some((length, body)) = head.read(bytes, &self.limits, self.default_port)? else {
                    return Ok(0);
                };
                self.heads += 1;
                self.place = match body {
                    Length::Known(0) => Place::Head(Head::default()),
                    Length::Asked => Place::Asked,
                    Length::Known(left) => Place::Body(left),
                    Length::Chunked => Place::ChunkLine(Chunks::default()),
                };
                Ok(length)
            }
            Place::Body(left) => {
                let length = take(left, bytes);
                if *left == 0 {
                    self.place = Place::Head(Head::default());
                }
                Ok(length)
            }
            Place::ChunkLine(chunks) => {
                let Some((line, length)) =
                    line(bytes, &mut chunks.searched, CHUNK_LINE_BYTES_MAX, Fault::ChunkLineTooLong)?
                else {
                    return Ok(0);
                };
                let (size, extension_bytes) = chunk_line(line)?;
                chunks.searched = 0;
                chunks.extension_bytes += extension_bytes;
                if chunks.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
                    return Err(Fault::ChunkExtensionsTooLong);
                }
                self.place = match size {
                    0 => Place::Trailers(Trailers::default()),
                    size => Place::Chunk(size, *chunks),
                };
                Ok(length)
            }
            Place::Chunk(left, chunks) => {
                let length = take(left, bytes);
                if *left == 0 {
                    self.place = Place::ChunkEnd(*chunks);
                }
                Ok(length)
            }
            Place::ChunkEnd(chunks) => match bytes {
                [b'\r', b'\n', ..] => {
                    self.place = Place::ChunkLine(*chunks);
                    Ok(2)
                }
                [b'\r'] => Ok(0),
                _ => Err(Fault::ChunkEnd),
            },
            Place::Trailers(trailers) => {
                let Some((length, is_end)) = trailers.read(bytes, &self.limits)? else { return Ok(0) };
                if is_end {
                    self.place = Place::Head(Head::default());
                }
                Ok(length)
            }
            Place::Asked => Ok(0),
        }
    }
}

impl Trailers {
    /// The next line: its length, and whether it ends the section.
    fn read(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<(usize, bool)>, Fault> {
        let room = limits.head_bytes_max - self.bytes;
        let Some((line, length)) = line(bytes, &mut self.searched, room, Fault::TrailersTooLarge)? else {
            return Ok(None);
        };
        self.searched = 0;
        self.bytes += length;
        if line.is_empty() {
            return Ok(Some((length, true)));
        }
        let (name, _) = syntax::field(line)?;
        if syntax::is_framing(name) {
            return Err(Fault::TrailerForbidden);
        }
        self.fields += 1;
        if self.fields > limits.fields_max {
            return Err(Fault::TooManyTrailers);
        }
        Ok(Some((length, false)))
    }
}

/// The first line without its end, and its length with it; `None`: its end has not come. `searched` bytes are known to
/// hold none. Splitting the bytes in another way changes nothing: a line is too long if its end is not among the first
/// `max` bytes, no matter how many there are.
fn line<'b>(
    bytes: &'b [u8],
    searched: &mut usize,
    max: usize,
    too_long: Fault,
) -> Result<Option<(&'b [u8], usize)>, Fault> {
    let window = &bytes[..bytes.len().min(max)];
    let Some(place) = memchr(b'\n', &window[*searched..]) else {
        *searched = window.len();
        return if window.len() == max { Err(too_long) } else { Ok(None) };
    };
    let length = *searched + place + 1;
    match &window[..length] {
        [line @ .., b'\r', b'\n'] => Ok(Some((line, length))),
        _ => Err(Fault::LineEnd),
    }
}

/// Size and length of the extensions of a chunk (RFC 9112 §7.1). No white space around the size, which one reader skips
/// and another one takes for its end.
fn chunk_line(line: &[u8]) -> Result<(u64, usize), Fault> {
    let digits = memchr(b';', line).unwrap_or(line.len());
    let (size, extensions) = line.split_at(digits);
    if size.is_empty() || size.len() > CHUNK_SIZE_DIGITS_MAX {
        return Err(Fault::ChunkSize);
    }
    let mut value = 0;
    for digit in size {
        let digit = char::from(*digit).to_digit(16).ok_or(Fault::ChunkSize)?;
        value = value << 4 | u64::from(digit);
    }
    if value > LENGTH_MAX {
        return Err(Fault::ChunkSize);
    }
    if !syntax::is_text(extensions) {
        return Err(Fault::ChunkExtension);
    }
    Ok((value, extensions.len()))
}

/// Takes what belongs to a part of which so many bytes are left.
fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= length as u64;
    length
}

#[cfg(test)]
pub(super) mod tests;
