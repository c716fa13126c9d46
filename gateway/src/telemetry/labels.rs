//! Label values of metrics: closed enums, so that nothing from the wire ever becomes a label.

use crate::model::Reason;

use crate::model::RevocationStatus;

macro_rules! labels {
    ($( $(#[$outer:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $word:literal, )+ } )+) => { $(
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$doc])* $variant, )+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )+ ];

            /// The word in the label.
            pub const fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $word, )+ }
            }
        }
    )+ };
}

labels! {
    /// What became of an arriving connection.
    ConnectionResult {
        /// Taken up.
        Accepted = "accepted",
        /// Closed at once at a limit.
        Limited = "limited",
        /// Closed at once: its client is on the deny list.
        Denied = "denied",
        /// Dropped by the kernel's programs before it was established.
        EarlyDrop = "early_drop",
    }

    /// What a client is granted.
    Verdict {
        /// Nothing was held against it.
        Allowed = "allowed",
        /// Its certificate, its handshake or its address was.
        Refused = "refused",
        /// A limit was.
        Limited = "limited",
        /// The deny list was.
        Denied = "denied",
    }

    /// What becomes of a connection from a network on the deny list.
    DenyResult {
        /// It is closed.
        Denied = "denied",
        /// It is served, since the list only observes.
        Observed = "observed",
        /// It is served, since its network is never denied.
        Allowed = "allowed",
    }

    /// How a connection ended: what was first.
    ConnectionEnd {
        /// The client closed it.
        ClientClosed = "client_closed",
        /// The client reset it, or it was lost.
        ClientReset = "client_reset",
        /// We closed it after an answer, as the answer said or the client had asked for.
        Closed = "closed",
        /// It was without a request for too long.
        IdleTimeout = "idle_timeout",
        /// A request's head took too long.
        HeadTimeout = "request_head_timeout",
        /// The client did not take its answer.
        Stalled = "response_stall_timeout",
        /// Its client was refused, and what it had under way broken off.
        Revoked = "revoked",
        /// The client went over a limit of HTTP/2 that ends connections.
        Http2Limit = "http2_limit",
        /// The process drained.
        Drained = "drained",
        /// The process stopped while it was open.
        CutOff = "cut_off",
        /// There was no handshake.
        HandshakeRefused = "handshake_refused",
        /// Closed at once at a limit.
        Limited = "limited",
        /// Closed at once: its client is on the deny list.
        Denied = "denied",
        /// Let go of without order: memory was short, or a fault of ours.
        Aborted = "aborted",
    }

    /// Versions of HTTP that are served.
    HttpVersion {
        /// RFC 9112
        Http1 = "http/1.1",
        /// RFC 9113
        Http2 = "h2",
    }

    /// TLS protocol versions that are served.
    TlsVersion {
        /// No version was agreed on.
        Unknown = "unknown",
        /// RFC 5246
        Tls12 = "1.2",
        /// RFC 8446
        Tls13 = "1.3",
    }

    /// Request methods that have a label of their own (RFC 9110 §9.3, RFC 5789).
    Method {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// DELETE
        Delete = "DELETE",
        /// OPTIONS
        Options = "OPTIONS",
        /// PATCH
        Patch = "PATCH",
        /// Any other.
        Other = "_other",
    }

    /// Whose thread panicked.
    PanicPlace {
        /// A worker's: a connection, or one stream of it, is lost.
        Worker = "worker",
        /// The control thread.
        Control = "control",
        /// Any other.
        Other = "other",
    }

    /// What a revocation check found.
    CheckResult {
        /// Not listed, or not covered and need not be.
        Good = "good",
        /// Listed.
        Revoked = "revoked",
        /// No usable data.
        Unknown = "unknown",
        /// Data past the staleness allowance.
        Stale = "stale",
    }

    /// When a revocation check was made.
    CheckPhase {
        /// On the first request after a full handshake.
        Handshake = "handshake",
        /// On the first request of a resumed session.
        Resumption = "resumption",
        /// Later in a connection's life, because the data changed.
        Live = "live",
    }

    /// What became of a CRL that was to be loaded.
    CrlResult {
        /// In use now.
        Ok = "ok",
        /// No issuer's key verifies it.
        BadSignature = "bad_signature",
        /// nextUpdate is past.
        Expired = "expired",
        /// thisUpdate is to come.
        NotYetValid = "not_yet_valid",
        /// Its number is lower than that of the one in use.
        Rollback = "rollback",
        /// Issued by someone who is not in the bundle.
        WrongIssuer = "wrong_issuer",
        /// It holds a critical extension that is not understood, or its issuer may not sign CRLs.
        Unsupported = "unsupported",
        /// It cannot be read.
        Parse = "parse",
        /// It is over the size limit.
        TooBig = "too_big",
        /// It could not be fetched.
        Fetch = "fetch",
    }

    /// What became of a reload of the configuration.
    ReloadResult {
        /// Everything is in service.
        Ok = "ok",
        /// In service but for the parts that have errors.
        Partial = "partial",
        /// No part of it can be served.
        Rejected = "rejected",
    }

    /// What became of an upgrade.
    UpgradeResult {
        /// The successor has taken over.
        Ok = "ok",
        /// Not begun: this process serves what its documents no longer say.
        Refused = "refused",
        /// The successor could not be started, or nothing left to it.
        NotStarted = "not_started",
        /// The successor ended, or said that it cannot serve.
        Failed = "failed",
        /// The successor did not become ready in time.
        Timeout = "timeout",
    }

    /// An endpoint's state.
    EndpointState {
        /// Takes requests.
        Healthy = "healthy",
        /// Passed over.
        Unhealthy = "unhealthy",
        /// Finishes what it has.
        Draining = "draining",
    }

    /// What a certificate is used for.
    CertificateRole {
        /// Shown to clients.
        Server = "server",
        /// Anchors client certificates.
        Ca = "ca",
        /// Shown to backends.
        ClientToBackend = "client_to_backend",
    }

    /// Every limit that can be hit, by the name of its setting or constant.
    Limit {
        /// File descriptors (EMFILE, ENFILE).
        OpenFilesMax = "open_files_max",
        /// Memory of the system (ENOBUFS, ENOMEM).
        SystemMemory = "system_memory",
        /// Memory of the process: requests and connections turned away, connections cut off.
        MemoryPercentMax = "memory_percent_max",
        /// Open connections.
        ConnectionsMax = "connections_max",
        /// Open connections of one listener's port.
        ConnectionsPerListenerMax = "connections_per_listener_max",
        /// Open connections of one source.
        ConnectionsPerSourceMax = "connections_per_source_max",
        /// Handshakes in flight.
        HandshakesMax = "handshakes_max",
        /// Time for a handshake.
        HandshakeTimeout = "handshake_timeout",
        /// Size of a PROXY header.
        ProxyHeaderBytesMax = "proxy_header_bytes_max",
        /// Time between two requests of a connection.
        IdleTimeout = "idle_timeout",
        /// Time for a request head to arrive.
        RequestHeadTimeout = "request_head_timeout",
        /// Size of a request head.
        RequestHeadBytesMax = "request_head_bytes_max",
        /// Size of a request target.
        RequestTargetBytesMax = "request_target_bytes_max",
        /// Size of the line before a chunk.
        ChunkLineBytesMax = "chunk_line_bytes_max",
        /// Size of the extensions of a body's chunks.
        ChunkExtensionBytesMax = "chunk_extension_bytes_max",
        /// Number of header fields.
        RequestFieldsMax = "request_fields_max",
        /// Time between two pieces of a request body.
        RequestBodyTimeout = "request_body_timeout",
        /// Size of a request body.
        RequestBodyBytesMax = "request_body_bytes_max",
        /// Time for a whole request.
        RequestTimeout = "request_timeout",
        /// Time for a client to take the next piece of its answer.
        ResponseStallTimeout = "response_stall_timeout",
        /// Time in which nothing moves on a connection that has left HTTP.
        TunnelIdleTimeout = "tunnel_idle_timeout",
        /// Streams of an HTTP/2 connection.
        Http2StreamsMax = "http2_streams_max",
        /// Streams of an HTTP/2 connection that its client reset before they were looked at.
        Http2PendingResetsMax = "http2_pending_resets_max",
        /// Streams of an HTTP/2 connection that its client made us reset.
        Http2LocalResetsMax = "http2_local_resets_max",
        /// Frames of an HTTP/2 connection beside its requests and bodies.
        Http2ControlFramesMax = "http2_control_frames_max",
        /// CONTINUATION frames of one head.
        Http2ContinuationsMax = "http2_continuations_max",
        /// DATA frames that are empty, or so small that they cost more than they bring.
        Http2SmallDataFramesMax = "http2_small_data_frames_max",
        /// Another limit of the HTTP/2 codec.
        Http2Protocol = "http2_protocol",
        /// Bytes read from a refused client so that its answer reaches it.
        RefusedBodyBytesMax = "refused_body_bytes_max",
        /// Time for such reading.
        RefusedBodyTimeout = "refused_body_timeout",
        /// Time for a connection to a backend.
        ConnectTimeout = "connect_timeout",
        /// Time for one exchange with a backend.
        BackendTimeout = "backend_timeout",
        /// Connections to a backend.
        UpstreamConnectionsMax = "upstream_connections_max",
        /// Connections to a backend that are being made.
        UpstreamConnectsMax = "upstream_connects_max",
        /// Endpoints that a request goes to after the first one.
        UpstreamRetriesMax = "upstream_retries_max",
        /// Idle connections to a backend.
        UpstreamIdleMax = "upstream_idle_max",
        /// Time for a drain.
        DrainTimeout = "drain_timeout",
        /// Entries of the deny list.
        DenyEntriesMax = "deny_entries_max",
        /// Size of a CRL.
        CrlBytesMax = "crl_bytes_max",
        /// Issuers met with clients that wait for their lists to be verified.
        IssuersWantedMax = "issuers_wanted_max",
        /// Issuers met with clients that are remembered for a listener's authorities.
        LearntIssuersMax = "learnt_issuers_max",
        /// Size of a configuration file.
        DocumentBytesMax = "document_bytes_max",
        /// Number of configuration files.
        DocumentsMax = "documents_max",
        /// Lines that wait for the access log.
        AccessLogBufferBytesMax = "access_log_buffer_bytes_max",
        /// Findings that have a metric of their own.
        FindingMetricsMax = "finding_metrics_max",
        /// Connections to the admin server.
        AdminConnectionsMax = "admin_connections_max",
        /// Time for a request to the admin server.
        AdminTimeout = "admin_timeout",
        /// Sources of repeated happenings that are told apart.
        ThrottleKeysMax = "throttle_keys_max",
    }
}

impl Method {
    /// The label of a method.
    pub fn of(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            http::Method::OPTIONS => Self::Options,
            http::Method::PATCH => Self::Patch,
            _ => Self::Other,
        }
    }
}

impl ConnectionEnd {
    /// Whether the connection was more than accepted and closed.
    pub fn was_served(self) -> bool {
        !matches!(self, Self::Limited | Self::Denied)
    }
}

impl TlsVersion {
    /// The label of a version.
    pub fn of(version: Option<rustls::ProtocolVersion>) -> Self {
        match version {
            Some(rustls::ProtocolVersion::TLSv1_2) => Self::Tls12,
            Some(rustls::ProtocolVersion::TLSv1_3) => Self::Tls13,
            _ => Self::Unknown,
        }
    }
}

impl CheckResult {
    /// The label of a check that ended in a refusal, or would have; `None`: the reason is another one.
    pub fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::CertificateRevoked | Reason::CertificateOnHold => Some(Self::Revoked),
            Reason::RevocationStatusUnknown => Some(Self::Unknown),
            Reason::CrlExpired => Some(Self::Stale),
            _ => None,
        }
    }
}

impl From<&RevocationStatus> for CheckResult {
    fn from(status: &RevocationStatus) -> Self {
        match status {
            RevocationStatus::Good => Self::Good,
            RevocationStatus::Revoked(_) => Self::Revoked,
            RevocationStatus::Unknown => Self::Unknown,
            RevocationStatus::Stale => Self::Stale,
        }
    }
}

/// A reason's place in [`Reason::ALL`]. The list is ordered by code.
pub(super) fn reason_index(reason: Reason) -> usize {
    Reason::ALL.partition_point(|other| (*other as u8) < reason as u8)
}

/// HTTP status codes with a place of their own; 0 is a request that ended without an answer.
pub(super) const COMMON_CODES: [u16; 32] = [
    0, 101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 412,
    413, 414, 415, 421, 422, 429, 431, 500, 502, 503, 504,
];

/// A code's place in [`COMMON_CODES`].
pub(super) fn code_index(code: u16) -> Option<usize> {
    COMMON_CODES.binary_search(&code).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_finds_its_place() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason_index(*reason), index, "{reason}");
        }
    }

    #[test]
    fn common_codes_are_in_order_and_found() {
        assert!(COMMON_CODES.is_sorted());
        for (index, code) in COMMON_CODES.iter().enumerate() {
            assert_eq!(code_index(*code), Some(index));
        }
        assert_eq!(code_index(418), None);
    }

    #[test]
    fn methods() {
        for (method, label) in [
            ("GET", "GET"),
            ("get", "_other"),
            ("PROPFIND", "_other"),
            ("PATCH", "PATCH"),
            ("TRACE", "_other"),
        ] {
            assert_eq!(Method::of(&method.parse().unwrap()).as_str(), label);
        }
    }
}
