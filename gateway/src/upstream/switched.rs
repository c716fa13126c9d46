//! A backend's connection that has left HTTP.

use bytes::BytesMut;
use tokio::net::TcpStream;

use super::endpoint::Busy;
use super::h1::Connection;

/// A connection that goes on with another protocol. It counts as open, and its endpoint as busy, until it is dropped; no
/// other request ever uses it.
pub struct Switched<B> {
    /// The connection.
    pub stream: TcpStream,
    /// What the backend sent behind its answer.
    pub ahead: BytesMut,
    #[allow(dead_code, reason = "held until dropped")]
    held: (Box<dyn std::any::Any>, Busy<B>),
}

impl<B> Switched<B> {
    pub(super) fn new(connection: Connection, busy: Busy<B>) -> Self {
        let (stream, ahead, open) = connection.into_parts();
        Self { stream, ahead, held: (open, busy) }
    }
}

impl<B> std::fmt::Debug for Switched<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switched").field("stream", &self.stream).finish_non_exhaustive()
    }
}
