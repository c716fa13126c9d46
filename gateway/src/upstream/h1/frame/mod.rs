//! Where an HTTP/1.1 message begins and ends (RFC 9112), as a function of its bytes alone.
//!
//! [`HeadReader`] takes the head of an answer from a buffer, [`Decoder`] its body, piece by piece as they come in; how
//! the bytes were cut up on the way makes no difference. [`request`] writes the other direction. Whatever two readers
//! could understand differently is a [`Fault`]: nothing of such an answer is used, and nothing more is read from its
//! connection.

pub mod body;
pub mod head;
pub mod request;

pub use body::{Decoder, Step};
pub use head::{Head, HeadReader};

/// What an answer may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, the status line and the empty line included.
    pub head_bytes_max: usize,
    /// Fields of a head, and of the trailers.
    pub fields_max: usize,
    /// Interim answers (1xx) before the final one.
    pub interim_max: usize,
}

/// How the end of a body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none, whatever the fields say: to HEAD, with 204 and with 304.
    None,
    /// By `content-length`.
    Exact(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// Why an answer is not HTTP/1.1 as we take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RFC 9112 §2.3: it does not begin with `HTTP/1.`.
    #[error("it does not begin as HTTP/1.1 does")]
    NotHttp,
    /// RFC 9112 §4
    #[error("its status line is malformed")]
    StatusLine,
    /// RFC 9112 §2.2: every line ends in CR LF.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// The head is over the limit.
    #[error("its head has more than {0} bytes")]
    HeadBytesMax(usize),
    /// The fields are over the limit.
    #[error("it has more than {0} header fields")]
    FieldsMax(usize),
    /// RFC 9112 §5.1
    #[error("a field's name is malformed")]
    FieldName,
    /// RFC 9110 §5.5: control bytes.
    #[error("a field's value is malformed")]
    FieldValue,
    /// RFC 9112 §5.2: obs-fold.
    #[error("a field is folded over several lines")]
    Folded,
    /// RFC 9112 §6.3: not one plain number.
    #[error("its content-length is not one number")]
    ContentLength,
    /// RFC 9112 §6.1: not one line that says `chunked`, or in HTTP/1.0.
    #[error("its transfer-encoding is not `chunked` alone")]
    TransferEncoding,
    /// RFC 9112 §6.3
    #[error("it has content-length and transfer-encoding")]
    TwoLengths,
    /// RFC 9112 §6.3: a body, or word of one, that cannot be.
    #[error("it has a body where there is none")]
    UnexpectedBody,
    /// More than the answer that was asked for.
    #[error("more bytes follow it")]
    Surplus,
    /// RFC 9110 §15.2.2: a 101 that was not asked for, or not to this protocol.
    #[error("it switches protocols unasked")]
    Switched,
    /// Interim answers are over the limit.
    #[error("more than {0} interim answers came before it")]
    InterimMax(usize),
    /// RFC 9112 §7.1
    #[error("a chunk's size is malformed")]
    ChunkSize,
    /// RFC 9112 §7.1.1: control bytes.
    #[error("a chunk's extension is malformed")]
    ChunkExtension,
    /// Chunk extensions are over the limit.
    #[error("its chunk extensions have more than {0} bytes")]
    ChunkExtensionBytesMax(usize),
    /// RFC 9112 §7.1: what follows a chunk's data.
    #[error("a chunk does not end in CR LF")]
    ChunkEnd,
    /// The trailers are over the limit.
    #[error("its trailers have more than {0} bytes")]
    TrailerBytesMax(usize),
    /// RFC 9112 §8: the connection ended first.
    #[error("the connection ended before it did")]
    Cut,
}

#[cfg(test)]
mod tests;
