//! The downstream side of HTTP: from a request to its answer.
//!
//! In come a client's stream, in clear or behind TLS, and what its handshake showed; [`serve`] speaks HTTP/1.1 or
//! HTTP/2 on it until it ends, or both ends agree on something else ([`tunnel`]). Each request goes down [`forward`] once: one snapshot, the gate, the rule, the backend,
//! and back. Sockets, TLS, path validation, revocation data and connections to backends belong to others.

use std::time::Duration;

mod admission;
pub mod answer;
pub mod authority;
pub mod body;
mod connection;
mod cut;
pub mod forward;
pub mod frame;
pub(crate) mod guard;
pub mod headers;
pub mod redirect;
pub mod roll;
pub mod serve;
mod streams;
mod traffic;
pub mod tunnel;
mod upgrade;
pub(crate) mod watch;

pub use body::{RequestBody, ResponseBody};
pub use serve::{Client, Server, Wire, serve};
pub use tunnel::HalfClose;

/// A worker's connections to backends.
pub type Pool = crate::upstream::Pool<RequestBody>;

/// Sizes and times towards clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// From the first byte of a request (of a connection: from its beginning) to the end of the head.
    pub request_head_timeout: Duration,
    /// Bytes of a request head, and of a trailer section.
    pub request_head_bytes_max: usize,
    /// Bytes of a request target on HTTP/1.1.
    pub request_target_bytes_max: usize,
    /// Fields of a request head, and of a trailer section.
    pub request_fields_max: usize,
    /// How long a client may take for the next piece of a body that it is sending.
    pub request_body_timeout: Duration,
    /// Bytes of a request's body; 0: as many as come.
    pub request_body_bytes_max: u64,
    /// How long a client may take to accept the next piece of an answer.
    pub response_stall_timeout: Duration,
    /// Where the rule has no timeout: how long a backend may take for the head of its answer, from the last piece of
    /// the request's body on.
    pub backend_timeout: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// What a client may send ahead on one HTTP/2 stream.
    pub http2_stream_window_bytes: u32,
    /// What a client may send ahead on one HTTP/2 connection.
    pub http2_connection_window_bytes: u32,
    /// What may wait to be sent on one HTTP/2 stream.
    pub http2_send_buffer_bytes_max: usize,
    /// Streams that a client reset and that are not yet disposed of (CVE-2023-44487).
    pub http2_pending_resets_max: usize,
    /// Streams that a client made us reset, over the life of a connection (CVE-2025-8671).
    pub http2_local_resets_max: usize,
    /// Frames within a second that belong neither to a request nor to its body, beyond 32 for each part of a body or of
    /// an answer.
    pub http2_control_frames_max: u32,
    /// How often a silent HTTP/2 client is asked whether it still lives.
    pub http2_ping_interval: Duration,
    /// How long it may take to say so.
    pub http2_ping_timeout: Duration,
    /// How long a connection that has left HTTP may carry nothing in either direction; zero: for ever.
    pub tunnel_idle_timeout: Duration,
    /// How long a connection that is to end may go on without a request.
    pub close_timeout: Duration,
}

impl Limits {
    /// The most bytes that a request's body may have.
    fn request_body_bytes(&self) -> u64 {
        match self.request_body_bytes_max {
            0 => u64::MAX,
            bytes_max => bytes_max,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(300),
            request_head_timeout: Duration::from_secs(10),
            request_head_bytes_max: 64 * 1024,
            request_target_bytes_max: 16 * 1024,
            request_fields_max: 100,
            request_body_timeout: Duration::from_secs(30),
            request_body_bytes_max: 0,
            response_stall_timeout: Duration::from_secs(60),
            backend_timeout: Duration::from_secs(60),
            http2_streams_max: 128,
            http2_stream_window_bytes: 256 * 1024,
            http2_connection_window_bytes: 1024 * 1024,
            http2_send_buffer_bytes_max: 64 * 1024,
            http2_pending_resets_max: 20,
            http2_local_resets_max: 1024,
            http2_control_frames_max: 1000,
            http2_ping_interval: Duration::from_secs(60),
            http2_ping_timeout: Duration::from_secs(20),
            tunnel_idle_timeout: Duration::from_secs(300),
            close_timeout: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests;
