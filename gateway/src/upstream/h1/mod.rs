//! HTTP/1.1 towards a backend: our own client, strict about what it is answered.
//!
//! In come a request and a connection that nobody else uses; out comes the head of the answer with a body that still
//! reads from the connection, or the whole answer with the connection free again. There is no task and no channel
//! between a request and its connection: whoever waits for the answer drives both, and gives up both by letting go.
//!
//! [`frame`] decides what the bytes mean and touches nothing; [`outgoing`] sends the request, [`exchange`] waits for the
//! head, [`streaming`] relays what follows it. Which connection is used, and whether a request is sent twice, is for the
//! pool to say.

pub mod connection;
pub mod exchange;
pub mod frame;
pub mod outgoing;
pub mod streaming;

pub(super) use connection::Connection;
pub(super) use exchange::{Answer, Answered, Broken, exchange};
pub(super) use outgoing::Outgoing;
pub(super) use streaming::Streaming;

#[cfg(test)]
mod tests;
