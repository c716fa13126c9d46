//! Bodies of answers.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::head::{Lines, fields};
use super::{Fault, Length, Limits};

/// Bytes of all chunk extensions of a body: nobody has a use for them.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a body's trailers.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// A size of more digits would be larger than any number of bytes.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Takes a body off a buffer.
#[derive(Clone, Debug)]
pub enum Decoder {
    /// So many bytes are to come.
    Exact(u64),
    /// Chunks are to come.
    Chunked(Chunks),
    /// Everything that comes.
    UntilClose,
    /// Nothing is to come.
    Ended,
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes of the body; not empty.
    Data(Bytes),
    /// The fields behind it; not empty, and the end of it.
    Trailers(HeaderMap),
    /// Its end.
    End,
    /// That there have to be more bytes first.
    More,
}

/// The place in a chunked body (RFC 9112 §7.1).
#[derive(Clone, Debug)]
pub struct Chunks {
    state: State,
    extension_bytes: usize,
    trailers: Lines,
    fields_max: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a chunk's size, after so many digits.
    Size(u64, u8),
    /// In its extensions.
    Extension(u64),
    /// Behind the CR of that line.
    Feed(u64),
    /// So many bytes of its data are to come.
    Data(u64),
    /// Behind the data.
    DataReturn,
    /// Behind the CR behind the data.
    DataFeed,
    /// Behind the last chunk's line.
    Trailers,
}

impl Decoder {
    /// A decoder of a body whose length is known in this way.
    pub fn new(length: Length, limits: Limits) -> Self {
        match length {
            Length::None | Length::Exact(0) => Self::Ended,
            Length::Exact(bytes) => Self::Exact(bytes),
            Length::UntilClose => Self::UntilClose,
            Length::Chunked => Self::Chunked(Chunks {
                state: State::Size(0, 0),
                extension_bytes: 0,
                trailers: Lines::default(),
                fields_max: limits.fields_max,
            }),
        }
    }

    /// Takes the next piece.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Step, Fault> {
        let step = match self {
            Self::Ended => return Ok(Step::End),
            Self::Exact(left) => match data(buffer, left) {
                Some(piece) => Step::Data(piece),
                None => Step::More,
            },
            Self::UntilClose if buffer.is_empty() => Step::More,
            Self::UntilClose => Step::Data(buffer.split().freeze()),
            Self::Chunked(chunks) => chunks.decode(buffer)?,
        };
        if matches!(self, Self::Exact(0)) || matches!(step, Step::Trailers(_) | Step::End) {
            *self = Self::Ended;
        }
        Ok(step)
    }

    /// The connection has ended, and nothing is left in the buffer but what cannot be decoded.
    pub fn closed(&mut self) -> Result<(), Fault> {
        match self {
            Self::Ended | Self::UntilClose => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Exact(_) | Self::Chunked(_) => Err(Fault::Cut),
        }
    }

    /// Whether nothing is to come.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// How many bytes are to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Ended => Some(0),
            Self::Exact(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

impl Chunks {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Step, Fault> {
        loop {
            match &mut self.state {
                State::Data(0) => self.state = State::DataReturn,
                State::Data(left) => return Ok(data(buffer, left).map_or(Step::More, Step::Data)),
                State::Trailers => return self.trailers(buffer),
                _ => {
                    let Some(byte) = buffer.first().copied() else { return Ok(Step::More) };
                    self.state = self.line(byte)?;
                    buffer.advance(1);
                }
            }
        }
    }

    /// The state after a byte of a line between the chunks.
    fn line(&mut self, byte: u8) -> Result<State, Fault> {
        Ok(match (self.state, byte) {
            (State::Size(size, 1..), b'\r') => State::Feed(size),
            (State::Size(size, 1..), b';') => State::Extension(size),
            (State::Size(size, digits), byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Fault::ChunkSize)?;
                if digits == CHUNK_SIZE_DIGITS_MAX {
                    return Err(Fault::ChunkSize);
                }
                State::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (State::Extension(size), b'\r') => State::Feed(size),
            // White space other than SP has no business here either.
            (State::Extension(_), ..b' ' | 0x7f) => return Err(Fault::ChunkExtension),
            (State::Extension(size), _) => {
                self.extension_bytes += 1;
                if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
                    return Err(Fault::ChunkExtensionBytesMax(CHUNK_EXTENSION_BYTES_MAX));
                }
                State::Extension(size)
            }
            (State::Feed(0), b'\n') => State::Trailers,
            (State::Feed(size), b'\n') => State::Data(size),
            (State::Feed(_), _) => return Err(Fault::LineEnd),
            (State::DataReturn, b'\r') => State::DataFeed,
            (State::DataFeed, b'\n') => State::Size(0, 0),
            (State::DataReturn | State::DataFeed | State::Data(_) | State::Trailers, _) => {
                return Err(Fault::ChunkEnd);
            }
        })
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Step, Fault> {
        let too_long = Fault::TrailerBytesMax(TRAILER_BYTES_MAX);
        let Some(end) = self.trailers.section(buffer, TRAILER_BYTES_MAX, too_long)? else {
            return Ok(Step::More);
        };
        let section = buffer.split_to(end).freeze();
        let trailers = fields(&section, 0, self.fields_max)?;
        Ok(if trailers.is_empty() { Step::End } else { Step::Trailers(trailers) })
    }
}

/// At most so many bytes, which are counted down.
fn data(buffer: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    if buffer.is_empty() {
        return None;
    }
    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= take as u64;
    Some(buffer.split_to(take).freeze())
}
