//! What becomes of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::model::Reason;
use http::request::Parts;
use http::{HeaderValue, StatusCode, Uri, Version, header};

use super::json::Object;
use super::{Connection, connection, cut, head};
use crate::model::Endpoint;
use crate::telemetry::Telemetry;
use crate::telemetry::labels::Method;
use crate::telemetry::metrics::{ActiveRequest, BackendMetrics, ListenerMetrics, RouteMetrics};

/// A request in progress. Held until its answer is complete (the answer's body owns it); dropping it writes the line
/// and counts the request, once.
#[derive(Debug)]
pub struct Outcome {
    telemetry: Arc<Telemetry>,
    connection: Arc<Connection>,
    active: ActiveRequest,
    at: SystemTime,
    started: Instant,
    // Cheap copies: all of these share the request's own buffer.
    method: http::Method,
    target: Uri,
    version: Version,
    host: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    route: Option<Arc<RouteMetrics>>,
    rule: Option<Rule>,
    backend: Option<Arc<BackendMetrics>>,
    endpoint: Option<Endpoint>,
    attempts: u32,
    upstream: Option<Duration>,
    status: Option<StatusCode>,
    reason: Option<Reason>,
    unchecked: Option<Reason>,
    received: Arc<AtomicU64>,
    sent: u64,
    complete: bool,
}

#[derive(Debug)]
enum Rule {
    Name(Arc<str>),
    Index(usize),
}

impl Outcome {
    /// Begins with a request's head. `listener` is the frontend's until the request's own is found.
    pub fn begin(
        telemetry: &Arc<Telemetry>,
        connection: &Arc<Connection>,
        listener: &Arc<ListenerMetrics>,
        request: &Parts,
    ) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            connection: Arc::clone(connection),
            active: listener.request(),
            at: SystemTime::now(),
            started: Instant::now(),
            method: request.method.clone(),
            target: request.uri.clone(),
            version: request.version,
            host: request.headers.get(header::HOST).cloned(),
            trace: request.headers.get("traceparent").cloned(),
            request_id: None,
            route: None,
            rule: None,
            backend: None,
            endpoint: None,
            attempts: 0,
            upstream: None,
            status: None,
            reason: None,
            unchecked: None,
            received: Arc::default(),
            sent: 0,
            complete: false,
        }
    }

    /// The listener that serves the request's host.
    pub fn listener(&mut self, listener: &Arc<ListenerMetrics>) {
        if !Arc::ptr_eq(self.active.listener(), listener) {
            self.active = listener.request();
        }
    }

    /// The `x-request-id` that goes to the backend.
    pub fn request_id(&mut self, id: HeaderValue) {
        self.request_id = Some(id);
    }

    /// The rule that the request met: its route, its position there, its name if it has one.
    pub fn routed(&mut self, route: &Arc<RouteMetrics>, index: usize, name: Option<&Arc<str>>) {
        self.route = Some(Arc::clone(route));
        self.rule = Some(name.map_or(Rule::Index(index), |name| Rule::Name(Arc::clone(name))));
    }

    /// The request is about to be sent to an endpoint.
    pub fn attempt(&mut self, backend: &Arc<BackendMetrics>, endpoint: &Endpoint) {
        self.backend = Some(Arc::clone(backend));
        self.endpoint = Some(endpoint.clone());
        self.attempts += 1;
    }

    /// How often it was tried to send the request, if more than once, and where at last.
    pub fn attempts(&mut self, count: u32, endpoint: &Endpoint) {
        if count > 1 {
            self.attempts = self.attempts.max(count);
            self.endpoint = Some(endpoint.clone());
        }
    }

    /// The head of the backend's answer came, so long after the request was sent.
    pub fn upstream_answered(&mut self, elapsed: Duration) {
        self.upstream = Some(elapsed);
    }

    /// The status of the answer that goes to the client, whoever made it.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The gateway refuses the request, or it broke off. The first reason stays.
    pub fn refuse(&mut self, reason: Reason) {
        self.reason.get_or_insert(reason);
    }

    /// Nothing vouches for the client's not being revoked; it passes all the same, and this is why it might not have.
    pub fn unchecked(&mut self, reason: Reason) {
        self.unchecked = Some(reason);
    }

    /// Counts bytes of the request's body; for the wrapper around it, which lives elsewhere.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Counts bytes of the answer's body.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The answer was handed over whole, body and trailers included. Without this the request counts as broken off by
    /// the client.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// When the request's head was there.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The connection that the request came on.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn line(&self, elapsed: Duration, bytes_in: u64) -> Vec<u8> {
        let mut line = Vec::with_capacity(1024);
        let mut object = Object::begin(&mut line);
        let Connection { id, peer, tls, client, .. } = &*self.connection;
        head(&mut object, "request", self.at, self.active.listener().name());
        connection(&mut object, *id, *peer, client.as_ref());
        if let Some(tls) = tls {
            object.object("tls", |object| {
                object.text("version", tls.version.as_str());
                object.text_if("cipher", tls.cipher);
                object.text_if("group", tls.group);
                object.boolean("resumed", tls.resumed);
            });
            object.text_if("sni", tls.sni.as_deref());
        }
        object.object("http", |object| {
            object.text("method", cut(self.method.as_str()));
            object.text_if("host", self.host().as_deref());
            object.text("path", &self.path());
            object.text("version", version_text(self.version));
        });
        object.number("status", self.status.map_or(0, |status| status.as_u16().into()));
        object.text_if("reason", self.reason.map(Reason::as_str));
        object.text_if("unchecked", self.unchecked.map(Reason::as_str));
        object.text_if("route", self.route.as_ref().map(|route| &**route.name()));
        match &self.rule {
            Some(Rule::Name(name)) => object.text("rule", name),
            Some(Rule::Index(index)) => object.text("rule", &index.to_string()),
            None => {}
        }
        if let (Some(backend), Some(endpoint)) = (&self.backend, &self.endpoint) {
            object.text("backend", backend.name());
            object.text("endpoint", &endpoint.to_string());
            object.number("attempts", self.attempts.into());
        }
        object.number("bytes_in", bytes_in);
        object.number("bytes_out", self.sent);
        object.object("t", |object| {
            object.millis("total_ms", elapsed);
            if let Some(tls) = tls {
                object.millis("handshake_ms", tls.handshake);
            }
            if let Some(upstream) = self.upstream {
                object.millis("upstream_ms", upstream);
            }
        });
        object.text_if("trace_id", self.trace.as_ref().and_then(trace_id));
        object.text_if("request_id", self.request_id.as_ref().and_then(|id| id.to_str().ok()).map(cut));
        object.end();
        line.push(b'\n');
        line
    }

    fn host(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self.target.authority() {
            Some(authority) => Some(cut(authority.as_str()).into()),
            None => self
                .host
                .as_ref()
                .map(|host| cut(&String::from_utf8_lossy(host.as_bytes())).to_owned().into()),
        }
    }

    fn path(&self) -> String {
        let path = cut(self.target.path());
        match self.target.query() {
            None => path.to_owned(),
            Some(query) if self.telemetry.access.query_values => format!("{path}?{}", cut(query)),
            Some(query) => format!("{path}?{}", redact(cut(query))),
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        if !self.complete {
            self.refuse(Reason::ClientClosed);
        }
        let listener = self.active.listener();
        if let Some(reason) = self.reason {
            listener.refused(reason);
        }
        let bytes_in = self.received.load(Ordering::Relaxed);
        let code = self.status.map_or(0, |status| status.as_u16());
        let route = self.route.as_ref().unwrap_or(&listener.unrouted);
        route.request(Method::of(&self.method), code, elapsed, bytes_in, self.sent);
        if self.telemetry.access.sink.is_on() {
            self.telemetry.access.sink.append(&self.line(elapsed, bytes_in));
        }
    }
}

/// Keeps the names of a query and hides its values; a piece without `=` may be a value itself.
fn redact(query: &str) -> String {
    let piece = |piece: &str| match piece.split_once('=') {
        Some((name, _)) => format!("{name}=*"),
        None if piece.is_empty() => String::new(),
        None => "*".to_owned(),
    };
    query.split('&').map(piece).collect::<Vec<_>>().join("&")
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        _ => "3",
    }
}

/// The trace id of a W3C `traceparent`: `00-<32 hexadecimal digits>-…`.
fn trace_id(traceparent: &HeaderValue) -> Option<&str> {
    let id = traceparent.to_str().ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_hidden() {
        for (query, logged) in [
            ("a=1&b=2", "a=*&b=*"),
            ("token=abc=def", "token=*"),
            ("secret", "*"),
            ("", ""),
            ("a=&&b", "a=*&&*"),
        ] {
            assert_eq!(redact(query), logged, "{query:?}");
        }
    }

    #[test]
    fn trace_ids() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (value, found) in [
            (format!("00-{id}-00f067aa0ba902b7-01"), Some(id)),
            (format!("00-{}-00f067aa0ba902b7-01", &id[1..]), None),
            ("junk".to_owned(), None),
            (format!("00-{}\"-1-01", &id[1..]), None),
        ] {
            assert_eq!(trace_id(&HeaderValue::from_str(&value).unwrap()), found, "{value}");
        }
    }
}
