//! What can be wrong with a request's framing.

use crate::model::Reason;

/// Why a request is refused before anybody has seen it. The words are for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RFC 9112 §3
    #[error("the request line is not METHOD TARGET VERSION with single spaces")]
    RequestLine,
    /// RFC 9110 §9.1
    #[error("the method is no token")]
    Method,
    /// RFC 9112 §3.2
    #[error("the request target is malformed")]
    Target,
    /// RFC 9112 §2.3
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    /// RFC 9112 §2.2: a line feed alone may end a line for some, and not for others.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// RFC 9110 §5.5
    #[error("a control byte stands in a field's value")]
    FieldValue,
    /// RFC 9112 §5.1
    #[error("a field's name is no token followed by a colon")]
    FieldName,
    /// RFC 9112 §5.2, and white space before the first field (§2.2)
    #[error("a line of the head begins with white space")]
    Fold,
    /// RFC 9112 §3.2
    #[error("the request names no host")]
    HostMissing,
    /// RFC 9112 §3.2
    #[error("the request has more than one host field")]
    HostRepeated,
    /// RFC 9112 §3.2
    #[error("the request's host is malformed")]
    HostMalformed,
    /// RFC 9112 §3.2.2
    #[error("the request's target and its host field disagree")]
    HostContradicts,
    /// RFC 9112 §6.3 (5)
    #[error("content-length is no plain decimal number")]
    LengthMalformed,
    /// RFC 9112 §6.3 (5), also where both say the same
    #[error("there is more than one content-length")]
    LengthRepeated,
    /// RFC 9112 §6.1: the one coding that everybody knows is served.
    #[error("transfer-encoding is not exactly chunked")]
    Coding,
    /// RFC 9112 §6.1
    #[error("there is more than one transfer-encoding")]
    CodingRepeated,
    /// RFC 9112 §6.1
    #[error("HTTP/1.0 has no transfer-encoding")]
    CodingInHttp10,
    /// RFC 9112 §6.3 (3)
    #[error("content-length stands beside transfer-encoding")]
    LengthBesideCoding,
    /// RFC 9112 §7.1
    #[error("a chunk's size is malformed")]
    ChunkSize,
    /// RFC 9112 §7.1.1
    #[error("a control byte stands in a chunk's extensions")]
    ChunkExtension,
    /// RFC 9112 §7.1
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// RFC 9110 §6.5.1
    #[error("a trailer would change what the head says of the request")]
    TrailerForbidden,
    /// Over the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// Over the limit.
    #[error("the head is too large")]
    HeadTooLarge,
    /// Over the limit.
    #[error("the head has too many fields")]
    TooManyFields,
    /// Over the limit.
    #[error("a chunk's size line is too long")]
    ChunkLineTooLong,
    /// Over the limit.
    #[error("the chunks have too many extensions")]
    ChunkExtensionsTooLong,
    /// Over the limit.
    #[error("the trailers are too large")]
    TrailersTooLarge,
    /// Over the limit.
    #[error("there are too many trailers")]
    TooManyTrailers,
    /// The clock's.
    #[error("the head did not come to its end in time")]
    HeadTimeout,
}

impl Fault {
    /// What the client is told in one word.
    pub fn reason(self) -> Reason {
        match self {
            Self::TargetTooLong => Reason::UriTooLong,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge | Self::TooManyTrailers => {
                Reason::HeaderFieldsTooLarge
            }
            Self::HeadTimeout => Reason::RequestTimeout,
            _ => Reason::BadRequest,
        }
    }
}
