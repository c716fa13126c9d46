//! The answers that are ours: a status, `yett-reason`, and a problem body (RFC 9457), or its like for gRPC.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use serde::Serialize;

use crate::model::{Reason, Refusal};

/// The reason's word.
pub const YETT_REASON: HeaderName = HeaderName::from_static("yett-reason");
const PROBLEM_BASE: &str = "https://gateway.yett.dev/problems/";

/// What of a request decides over the form of an answer; taken before the request is given away.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    grpc: bool,
    head: bool,
    version: Version,
}

impl Form {
    /// The form for a request.
    pub fn of(request: &Parts) -> Self {
        Self {
            grpc: is_grpc(&request.headers),
            head: request.method == Method::HEAD,
            version: request.version,
        }
    }

    /// The answer to a refused request. `close`: nothing more is answered on an HTTP/1.1 connection.
    pub fn refuse(self, refusal: &Refusal, close: bool) -> Response<Bytes> {
        let reason = refusal.reason;
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(YETT_REASON, HeaderValue::from_static(reason.as_str()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if close && self.version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.grpc {
            grpc(headers, reason, status);
            return response;
        }
        let body = problem(refusal, status);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LENGTH, body.len().into());
        if !self.head {
            *response.body_mut() = body;
        }
        response
    }
}

/// A whole HTTP/1.1 message for a connection that is not even listened to.
pub fn overloaded() -> &'static [u8] {
    static MESSAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let form = Form { grpc: false, head: false, version: Version::HTTP_11 };
        let answer = form.refuse(&Refusal::new(Reason::Overloaded), true);
        let mut message = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
        for (name, value) in answer.headers() {
            message.extend_from_slice(name.as_str().as_bytes());
            message.extend_from_slice(b": ");
            message.extend_from_slice(value.as_bytes());
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(answer.body());
        message
    });
    &MESSAGE
}

/// `application/grpc`, `application/grpc+proto` and their like, but not `application/grpc-web`, which browsers speak.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// A trailers-only response: a body beside it would make some clients report UNKNOWN.
fn grpc(headers: &mut HeaderMap, reason: Reason, status: StatusCode) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(grpc_status(reason, status)),
    );
    // The words of reasons need no percent-encoding.
    headers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(reason.as_str()));
}

/// The statuses that gRPC clients would infer from the HTTP status, but for refused certificates.
fn grpc_status(reason: Reason, status: StatusCode) -> &'static str {
    const UNKNOWN: &str = "2";
    const DEADLINE_EXCEEDED: &str = "4";
    const UNIMPLEMENTED: &str = "12";
    const INTERNAL: &str = "13";
    const UNAVAILABLE: &str = "14";
    const UNAUTHENTICATED: &str = "16";
    match status.as_u16() {
        400 if (reason as u8) < Reason::NoCertificate as u8 => UNAUTHENTICATED,
        400 => INTERNAL,
        404 | 501 => UNIMPLEMENTED,
        502 | 503 => UNAVAILABLE,
        504 => DEADLINE_EXCEEDED,
        _ => UNKNOWN,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crl_number: Option<&'a str>,
}

fn problem(refusal: &Refusal, status: StatusCode) -> Bytes {
    let reason = refusal.reason;
    let revocation = refusal.revocation.as_ref();
    let problem = Problem {
        r#type: format!("{PROBLEM_BASE}{reason}"),
        title: reason.title(),
        status: status.as_u16(),
        detail: &refusal.detail,
        reason: reason.as_str(),
        revocation_reason: revocation.map(|revocation| revocation.reason.as_str()),
        revoked_at: revocation
            .and_then(|revocation| jiff::Timestamp::from_second(revocation.revoked_at?).ok())
            .map(|at| at.to_string()),
        crl_number: revocation.and_then(|revocation| revocation.crl_number.as_deref()),
    };
    // Texts and numbers alone: there is nothing in it that could not be written.
    serde_json::to_vec(&problem).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::model::RevocationReason;
    use crate::model::verdict::Revocation;

    fn form(method: &str, version: Version, content_type: &str) -> Form {
        let request = Request::builder().method(method).version(version).header(CONTENT_TYPE, content_type);
        Form::of(&request.body(()).unwrap().into_parts().0)
    }

    fn revoked() -> Refusal {
        Refusal {
            reason: Reason::CertificateRevoked,
            detail: "Serial 2a was revoked by its issuer.".into(),
            revocation: Some(Revocation {
                reason: RevocationReason::KeyCompromise,
                revoked_at: Some(1_767_225_600),
                crl_number: Some("17".into()),
            }),
        }
    }

    #[test]
    fn a_refused_client_is_told_why() {
        let answer = form("GET", Version::HTTP_11, "text/plain").refuse(&revoked(), true);
        assert_eq!(answer.status(), 400);
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("yett-reason"), Some("certificate_revoked"));
        assert_eq!(header("content-type"), Some("application/problem+json"));
        assert_eq!(header("cache-control"), Some("no-store"));
        assert_eq!(header("connection"), Some("close"));
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "https://gateway.yett.dev/problems/certificate_revoked",
                "title": "The client certificate has been revoked",
                "status": 400,
                "detail": "Serial 2a was revoked by its issuer.",
                "reason": "certificate_revoked",
                "revocationReason": "keyCompromise",
                "revokedAt": "2026-01-01T00:00:00Z",
                "crlNumber": "17",
            })
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let refusal = Refusal::new(Reason::NoEndpoints);
        let answer = form("GET", Version::HTTP_2, "text/plain").refuse(&refusal, true);
        assert_eq!((answer.status().as_u16(), answer.headers().get(CONNECTION)), (503, None));
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 5);
    }

    #[test]
    fn head_has_the_length_without_the_body() {
        let refusal = Refusal::new(Reason::RouteNotFound);
        let whole = form("GET", Version::HTTP_11, "text/plain").refuse(&refusal, false);
        let head = form("HEAD", Version::HTTP_11, "text/plain").refuse(&refusal, false);
        assert!(head.body().is_empty());
        assert_eq!(head.headers(), whole.headers());
    }

    #[test]
    fn grpc_is_answered_in_its_own_way() {
        for (reason, content_type, status, grpc_status) in [
            (Reason::CertificateRevoked, "application/grpc", 400, Some("16")),
            (Reason::CrlExpired, "application/grpc+proto", 400, Some("16")),
            (Reason::BadRequest, "application/grpc;x", 400, Some("13")),
            (Reason::RouteNotFound, "application/grpc", 404, Some("12")),
            (Reason::NoEndpoints, "application/grpc", 503, Some("14")),
            (Reason::UpstreamTimeout, "application/grpc", 504, Some("4")),
            (Reason::CertificateRevoked, "application/grpc-web", 400, None),
            (Reason::CertificateRevoked, "application/json", 400, None),
        ] {
            let answer = form("POST", Version::HTTP_2, content_type).refuse(&Refusal::new(reason), true);
            let found = answer.headers().get("grpc-status").map(|value| value.to_str().unwrap());
            assert_eq!((answer.status().as_u16(), found), (status, grpc_status), "{reason} {content_type}");
            assert_eq!(answer.body().is_empty(), grpc_status.is_some(), "{reason} {content_type}");
            if grpc_status.is_some() {
                assert_eq!(answer.headers()["grpc-message"], reason.as_str());
                assert_eq!(answer.headers()["content-type"], "application/grpc");
            }
        }
    }
}
