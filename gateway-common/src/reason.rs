//! Why something was refused: one closed vocabulary for the HTTP status, the `yett-reason` header, the access log,
//! the metric label and the kernel's drop counters.
//!
//! Codes are forever: a number or word once published keeps its meaning, a retired one is not given out again.

macro_rules! reasons {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $word:literal, $status:literal, $title:literal; )*) => {
        /// A refusal's reason. `as u8` is the stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $( $(#[$doc])* $variant = $code, )* }

        impl Reason {
            /// Every reason, in the order of the codes.
            pub const ALL: &'static [Reason] = &[ $( Reason::$variant, )* ];

            /// The word that stands in `yett-reason`, in logs and in metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $( Reason::$variant => $word, )* }
            }

            /// The HTTP status of the answer; 0 where no HTTP answer is given (the connection or handshake ends).
            pub const fn status(self) -> u16 {
                match self { $( Reason::$variant => $status, )* }
            }

            /// One line for people; the `title` of the problem body (RFC 9457 §3.1.3).
            pub const fn title(self) -> &'static str {
                match self { $( Reason::$variant => $title, )* }
            }
        }
    };
}

reasons! {
    // 1–31: the client's certificate, answered over HTTP.
    /// RFC 5280 §5: the issuer's CRL lists the serial.
    CertificateRevoked = 1, "certificate_revoked", 400, "The client certificate has been revoked";
    /// RFC 5280 §5.3.1: listed with reason certificateHold.
    CertificateOnHold = 2, "certificate_on_hold", 400, "The client certificate is on hold";
    /// No usable revocation data for an issuer that must have some.
    RevocationStatusUnknown = 3, "revocation_status_unknown", 400, "The client certificate's revocation status is unknown";
    /// The issuer's CRL is past its nextUpdate and the staleness allowance.
    CrlExpired = 4, "crl_expired", 400, "The certificate revocation list has expired";
    /// The OCSP responder gave no usable answer and the policy demands one.
    OcspUnavailable = 5, "ocsp_unavailable", 400, "The OCSP responder gave no usable answer";
    /// notAfter passed while the connection was open.
    ClientCertificateExpired = 6, "client_certificate_expired", 400, "The client certificate has expired";
    /// The trust anchor was removed while the connection was open.
    ClientCertificateUntrusted = 7, "client_certificate_untrusted", 400, "The client certificate is no longer trusted";

    // 32–63: the handshake, answered by a TLS alert or a closed connection.
    /// No certificate where one is required: alert certificate_required (RFC 8446 §6.2).
    NoCertificate = 32, "no_certificate", 0, "The client sent no certificate";
    /// No path to a trust anchor: alert unknown_ca.
    UnknownCa = 33, "unknown_ca", 0, "The client certificate's issuer is not trusted";
    /// notAfter is past: alert certificate_expired.
    CertificateExpired = 34, "expired", 0, "The client certificate has expired";
    /// notBefore is to come: alert certificate_expired.
    CertificateNotYetValid = 35, "not_yet_valid", 0, "The client certificate is not valid yet";
    /// A signature does not verify: alert decrypt_error or unknown_ca.
    BadSignature = 36, "bad_signature", 0, "A signature of the client's handshake or chain is wrong";
    /// The extended key usage excludes client authentication: alert unsupported_certificate.
    WrongUsage = 37, "wrong_usage", 0, "The client certificate is not for client authentication";
    /// Not a readable certificate: alert bad_certificate.
    BadCertificate = 38, "bad_certificate", 0, "The client certificate cannot be read";
    /// The name is not among the policy's subjectAltNames: alert certificate_unknown.
    NameNotAllowed = 39, "name_not_allowed", 0, "The client certificate carries none of the allowed names";
    /// Any other fault of the certificate: alert certificate_unknown.
    CertificateUnknown = 40, "certificate_unknown", 0, "The client certificate was not accepted";
    /// No listener serves the server name: alert unrecognized_name (RFC 6066 §3).
    UnrecognizedName = 41, "unrecognized_name", 0, "No listener serves this server name";
    /// Not TLS, or nothing in common with the client.
    HandshakeProtocol = 42, "protocol", 0, "The TLS handshake failed";
    /// The handshake did not finish in time.
    HandshakeTimeout = 43, "timeout", 0, "The TLS handshake took too long";
    /// The client went away in mid-handshake.
    HandshakeClosed = 44, "closed", 0, "The client closed during the handshake";
    /// Dropped at the cap on handshakes in flight, having waited longest.
    HandshakeShed = 45, "shed", 0, "Too many handshakes in flight";
    /// The client sent an alert of its own (it does not trust us, say).
    PeerAlert = 46, "peer_alert", 0, "The client refused the handshake";
    /// The listener's connections begin with a PROXY header, and the peer is not trusted to tell one.
    ProxyUntrusted = 47, "proxy_untrusted", 0, "The peer is no trusted proxy, and only those may connect here";
    /// What came is no PROXY header, or one over the limit.
    ProxyMalformed = 48, "proxy_malformed", 0, "The PROXY header is absent or malformed";
    /// The source is on the deny list; the datapath drops its SYN, where there is none the accepted socket is closed.
    SourceDenied = 49, "source_denied", 0, "The client's address is on the deny list";
    /// The source opens connections faster than its allowance.
    SourceRateLimited = 50, "source_rate_limited", 0, "The client's address opens connections too quickly";

    // 64–127: the request.
    /// Malformed or ambiguous (RFC 9112 §3, §6).
    BadRequest = 64, "bad_request", 400, "The request is malformed";
    /// No rule matches.
    RouteNotFound = 65, "route_not_found", 404, "No route matches the request";
    /// The head or body did not arrive in time.
    RequestTimeout = 66, "request_timeout", 408, "The request took too long to arrive";
    /// The body is over the limit.
    ContentTooLarge = 67, "content_too_large", 413, "The request body is too large";
    /// The target is over the limit.
    UriTooLong = 68, "uri_too_long", 414, "The request target is too long";
    /// Another listener of the port serves this authority (RFC 9110 §15.5.20).
    MisdirectedRequest = 69, "misdirected_request", 421, "This connection may not carry requests for this host";
    /// The header section is over the limit (RFC 6585 §5).
    HeaderFieldsTooLarge = 70, "header_fields_too_large", 431, "The request header fields are too large";
    /// The method or protocol asked for is not served (CONNECT, say).
    NotImplemented = 71, "not_implemented", 501, "The request asks for something that is not served";
    /// A path that the backend may take for another one than the rules did, where rules look at paths (RFC 3986 §6.2.2).
    AmbiguousPath = 72, "ambiguous_path", 400, "The request's path may mean another one to the backend";

    // 128–159: the backend.
    /// The route names a backend that does not exist or may not be used.
    BackendInvalid = 128, "backend_invalid", 500, "The route's backend is not usable";
    /// The backend has no ready endpoint.
    NoEndpoints = 129, "no_endpoints", 503, "The backend has no ready endpoint";
    /// The connection to the backend was refused or reset.
    UpstreamConnectFailed = 130, "upstream_connect_failed", 502, "The backend could not be reached";
    /// The connection to the backend was not made in time.
    UpstreamConnectTimeout = 131, "upstream_connect_timeout", 504, "The backend did not accept a connection in time";
    /// The backend did not answer in time.
    UpstreamTimeout = 132, "upstream_timeout", 504, "The backend did not answer in time";
    /// The backend closed before it answered.
    UpstreamClosed = 133, "upstream_closed", 502, "The backend closed the connection without an answer";
    /// The backend's answer breaks HTTP.
    UpstreamProtocol = 134, "upstream_protocol", 502, "The backend's answer is malformed";
    /// The rule asks for something that cannot be done; its requests must not fall to a lesser rule.
    RuleInvalid = 135, "rule_invalid", 500, "The route's rule cannot be applied";

    // 160–191: ourselves.
    /// At a limit; try again.
    Overloaded = 160, "overloaded", 503, "The gateway is at its limit";
    /// Something of ours failed.
    Internal = 161, "internal", 500, "The gateway failed";

    // 192–199: endings that are no refusals but must be told apart in the log.
    /// The client went away before the answer was complete.
    ClientClosed = 192, "client_closed", 0, "The client closed before the answer was complete";
    /// The backend's body broke off after the head was sent.
    UpstreamBodyCut = 193, "upstream_body_cut", 0, "The backend's body broke off";
    /// A connection that had left HTTP (WebSocket, say) carried nothing for too long.
    TunnelIdle = 194, "tunnel_idle", 0, "Nothing moved on the upgraded connection for too long";
    /// The process ended before the connection did.
    CutOff = 195, "cut_off", 0, "The gateway ended before the connection did";
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn codes_and_words_are_unique_and_statuses_are_error_statuses() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert!(a.status() == 0 || (400..600).contains(&a.status()), "{a}");
            for b in &Reason::ALL[i + 1..] {
                assert!((*a as u8) < (*b as u8), "{a} before {b}");
                assert_ne!(a.as_str(), b.as_str());
            }
        }
    }
}
