//! A request from its head to the head of its answer: one descent, one snapshot.
//!
//! frontend → the connection's listener → gate → the host's listener (421, 404) → rule → filters → backend → answer.
//! The gate comes before anything that the request says is looked at: a refused client learns nothing but that. Whatever
//! ends the descent early is a [`Refused`], and answered in one place.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, LOCATION};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::admission::{self, Unwelcome};
use super::answer::Form;
use super::authority::Authority;
use super::body::{Broken, Progress, RequestBody, ResponseBody};
use super::connection::{Connection, Held};
use super::frame::{self, Fault};
use super::guard;
use super::headers::{self, Told};
use super::redirect;
use super::tunnel::Tunnel;
use super::upgrade;
use crate::model::{BackendProtocol, Filter, Protocol, Reason, Refusal};
use crate::route::{Ambiguity, Asked, Found, ambiguity, readings};
use crate::runtime::pressure;
use crate::snapshot::{ServedAction, ServedBackend, ServedFrontend, ServedListener, ServedRule, Snapshot};
use crate::telemetry::{Limit, Outcome};
use crate::tls::revocation::gate::Admitted;
use crate::upstream::{Exchanged, Lease, Switched, Upstream, UpstreamBody, UpstreamError, pick};

/// A request that is not answered by a backend.
struct Refused {
    refusal: Refusal,
    /// The connection ends with the answer.
    last: bool,
    /// There is no answer: the connection is closed.
    is_silent: bool,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Refusal::new(reason).into()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, last: false, is_silent: false }
    }
}

impl From<Unwelcome> for Refused {
    fn from(Unwelcome { refusal, is_silent }: Unwelcome) -> Self {
        Self { refusal, last: true, is_silent }
    }
}

impl Refused {
    fn last(refusal: Refusal) -> Self {
        Self { refusal, last: true, is_silent: false }
    }
}

/// What a request carries with it on its way down.
struct Descent<'a> {
    connection: &'a Rc<Connection>,
    snapshot: Arc<Snapshot>,
    outcome: Outcome,
    began: Instant,
    /// The request only stands for one that the guard refused.
    fault: Option<Fault>,
    /// How far the request's body has come, if it has one.
    progress: Option<Rc<Progress>>,
}

/// The head of an answer and where its body comes from.
enum Answer {
    Ours(Response<Bytes>),
    Backend(Response<UpstreamBody<RequestBody>>, Option<Instant>),
    /// There is no body: the connection leaves HTTP.
    Switched(Response<()>, Switched<RequestBody>),
}

/// Answers a request. Every way out goes through here, and the answer's body carries the outcome on.
pub(super) async fn forward(
    connection: &Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut held = connection.hold();
    let server = &connection.server;
    let (head, body) = request.into_parts();
    #[cfg(debug_assertions)]
    crate::runtime::fault::provoke(head.uri.path());
    let form = Form::of(&head);
    let outcome =
        Outcome::begin(&server.telemetry, &connection.client.facts, &connection.client.metrics, &head);
    let multiplexed = head.version == Version::HTTP_2;
    let (body, progress) =
        RequestBody::new(body, multiplexed, || outcome.received(), &server.limits, &server.telemetry);
    let mut descent = Descent {
        connection,
        snapshot: server.snapshots.load_full(),
        outcome,
        began: Instant::now(),
        fault: connection.intake.take(),
        progress,
    };
    let answer = match descent.descend(head, body).await {
        Err(refused) if refused.is_silent => {
            descent.outcome.refuse(refused.refusal.reason);
            // Until the connection is gone, which it is with this.
            std::future::pending().await
        }
        answer => answer,
    };
    let answer = answer.unwrap_or_else(|refused| {
        let reason = refused.refusal.reason;
        descent.outcome.refuse(reason);
        // Without a status there is nobody left to answer.
        if let Ok(status) = StatusCode::from_u16(reason.status()) {
            descent.outcome.answered(status);
        }
        let unread = descent.progress.as_ref().is_some_and(|progress| !progress.is_complete());
        if refused.last {
            held.is_last();
        }
        // What is left of an unread body would be taken for the next request.
        Answer::Ours(form.refuse(&refused.refusal, refused.last || unread))
    });
    if !matches!(answer, Answer::Switched(..)) {
        connection.intake.answered();
    }
    descent.finish(answer, held)
}

impl Descent<'_> {
    async fn descend(&mut self, head: Parts, body: RequestBody) -> Result<Answer, Refused> {
        let connection = self.connection;
        let snapshot = Arc::clone(&self.snapshot);
        let frontend = admission::frontend(&snapshot, connection)?;
        let own = admission::own_listener(frontend, connection)?;
        if let Some(own) = own {
            self.outcome.listener(&own.metrics);
        }
        let admitted = admission::admitted(connection, own)?;
        if let Some(reason) = admitted.unchecked() {
            self.outcome.unchecked(reason);
        }
        if let Some(fault) = self.fault {
            return Err(self.faulty(fault));
        }

        let authority = self.check(&head, body.size_hint().lower(), frontend)?;
        let host = authority.as_ref().map_or("", |authority| &authority.host);
        let listener = listener(frontend, own, host)?;
        self.outcome.listener(&listener.metrics);

        let path = head.uri.path();
        let found = route(&admitted, listener, host, path, &head).ok_or(Reason::RouteNotFound)?;
        if found.by_path && connection.server.refuse_ambiguous_paths {
            plain(path, |reading| {
                let other = route(&admitted, listener, host, reading, &head);
                other.is_none_or(|other| Arc::ptr_eq(other.value, found.value))
            })?;
        }
        let rule = found.value;
        self.outcome.routed(&rule.metrics, rule.index, rule.name.as_ref());

        match &rule.action {
            ServedAction::Refuse(reason) => Err((*reason).into()),
            ServedAction::Redirect(to) => {
                let asked = redirect::Asked {
                    protocol: frontend.protocol,
                    port: frontend.id.port,
                    host,
                    path: head.uri.path(),
                    query: head.uri.query(),
                };
                let location = redirect::location(to, &asked, &found.matched.path);
                self.outcome.answered(to.status);
                Ok(Answer::Ours(moved(to.status, &location, rule)?))
            }
            ServedAction::Forward(backends) => {
                let backend = choose(backends, connection.server.pool.roll())?;
                let upstream = backend.target.as_ref().map_err(|reason| *reason)?;
                self.exchange(&admitted, rule, backend, upstream, authority.as_ref(), head, body).await
            }
        }
    }

    /// What a request must be, whoever sends it.
    fn check(
        &self,
        head: &Parts,
        body_bytes: u64,
        frontend: &ServedFrontend,
    ) -> Result<Option<Authority>, Refused> {
        if head.method == Method::CONNECT {
            return Err(Reason::NotImplemented.into());
        }
        let server = &self.connection.server;
        if server.pressure.is_high() {
            server.telemetry.metrics.limit_hit(Limit::MemoryPercentMax);
            return Err(Refused::last(Refusal::new(Reason::Overloaded)));
        }
        server.pressure.take(pressure::REQUEST_BYTES);
        // hyper bounds the fields of HTTP/1.1 alone.
        if head.headers.len() > server.limits.request_fields_max {
            server.telemetry.metrics.limit_hit(Limit::RequestFieldsMax);
            return Err(Reason::HeaderFieldsTooLarge.into());
        }
        if body_bytes > server.limits.request_body_bytes() {
            server.telemetry.metrics.limit_hit(Limit::RequestBodyBytesMax);
            return Err(Reason::ContentTooLarge.into());
        }
        // The guard has seen to that on HTTP/1.1.
        if head.version == Version::HTTP_2 && !frame::is_target(&head.method, &head.uri) {
            return Err(Refusal::with_detail(Reason::BadRequest, Fault::Target.to_string()).into());
        }
        let default_port = match frontend.protocol {
            Protocol::Http => 80,
            Protocol::Https => 443,
        };
        Authority::of(head, default_port).map_err(|error| Refused {
            refusal: Refusal::with_detail(Reason::BadRequest, error.to_string()),
            // Whoever sends this on HTTP/1.1 may mean more requests than we see; an HTTP/2 stream stands for itself.
            last: head.version < Version::HTTP_2,
            is_silent: false,
        })
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one request, each used once; a struct would only be taken apart"
    )]
    async fn exchange(
        &mut self,
        admitted: &Admitted<'_>,
        rule: &ServedRule,
        backend: &ServedBackend,
        upstream: &Arc<Upstream>,
        authority: Option<&Authority>,
        mut head: Parts,
        body: RequestBody,
    ) -> Result<Answer, Refused> {
        let server = &self.connection.server;
        let is_head = head.method == Method::HEAD;
        let asked = (upstream.protocol() == BackendProtocol::Http1 && self.progress.is_none())
            .then(|| upgrade::asked(&head))
            .flatten();
        let mut lease = server.pool.lease(admitted, upstream).map_err(|error| error.reason())?;
        self.tell(&mut head.headers, admitted, authority, upstream.protocol());
        edit_request(&mut head.headers, &rule.filters);
        edit_request(&mut head.headers, &backend.filters);
        address(&mut head, authority, &lease, upstream.protocol())?;

        let length = body.size_hint().exact().filter(|_| head.headers.contains_key(CONTENT_LENGTH));
        headers::frame(&mut head.headers, length);
        if let Some(protocol) = asked {
            upgrade::ask(&mut head.headers, protocol);
        }
        let progress = self.progress.clone();
        self.outcome.attempt(upstream.metrics(), lease.endpoint());

        let sent = Instant::now();
        let deadline = deadline(self.began, rule.request_timeout);
        let limit = earlier(deadline, self::deadline(sent, rule.backend_timeout));
        let patience = (rule.request_timeout.is_none() && rule.backend_timeout.is_none())
            .then_some(server.limits.backend_timeout);
        let exchange = lease.exchange(Request::from_parts(head, body));
        let answered = tokio::select! {
            biased;
            answered = within(exchange, sent, limit, patience, progress.as_deref()) => answered,
            refusal = self.connection.cut().made() => {
                let is_silent = self.connection.is_cut_off();
                return Err(Unwelcome { refusal: refusal.clone(), is_silent }.into());
            }
        };
        self.outcome.attempts(lease.attempts(), lease.endpoint());
        let Some(answered) = answered else {
            let hit = if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                Limit::RequestTimeout
            } else {
                Limit::BackendTimeout
            };
            server.telemetry.metrics.limit_hit(hit);
            return Err(Reason::UpstreamTimeout.into());
        };
        let exchanged = answered.map_err(|error| self.failed(&error))?;
        self.outcome.upstream_answered(sent.elapsed());
        let edit = |headers: &mut HeaderMap| {
            edit_response(headers, &backend.filters);
            edit_response(headers, &rule.filters);
        };
        let mut response = match exchanged {
            Exchanged::Answered(response) => response,
            Exchanged::Switched(headers, switched) => {
                return Ok(Answer::Switched(upgrade::switched(headers, edit), switched));
            }
        };
        let length_is_known = is_head
            || response.status() == StatusCode::NOT_MODIFIED
            || response.body().size_hint().exact().is_some();
        headers::to_client(response.headers_mut(), length_is_known);
        edit(response.headers_mut());
        Ok(Answer::Backend(response, deadline))
    }

    /// A request that is none.
    fn faulty(&self, fault: Fault) -> Refused {
        if let Some(limit) = guard::limit_of(fault) {
            self.connection.server.telemetry.metrics.limit_hit(limit);
        }
        Refused::last(Refusal::with_detail(fault.reason(), fault.to_string()))
    }

    /// Headers from the client to the backend.
    fn tell(
        &mut self,
        headers: &mut HeaderMap,
        admitted: &Admitted<'_>,
        authority: Option<&Authority>,
        protocol: BackendProtocol,
    ) {
        let connection = self.connection;
        let theirs = headers.get(headers::X_REQUEST_ID).filter(|_| connection.peer_is_trusted).cloned();
        let request_id = theirs.unwrap_or_else(|| new_request_id(connection));
        let told = Told {
            peer: &connection.peer,
            scheme: if connection.client.facts.tls.is_some() { "https" } else { "http" },
            host: authority.map(|authority| &authority.text),
            request_id: &request_id,
            client_cert: admitted.identity().map(|identity| connection.client_cert(identity)),
            peer_is_trusted: connection.peer_is_trusted,
            backend_is_http1: protocol == BackendProtocol::Http1,
        };
        headers::to_backend(headers, &told);
        self.outcome.request_id(request_id);
    }

    /// What the client is told of a failed exchange.
    fn failed(&self, error: &UpstreamError) -> Refused {
        let broken = self.progress.as_ref().and_then(|progress| progress.broken());
        match (error, broken) {
            (UpstreamError::RequestBody(_), Some(Broken::Malformed(fault))) => self.faulty(fault),
            (UpstreamError::RequestBody(_), Some(Broken::Paused)) => Reason::RequestTimeout.into(),
            (UpstreamError::RequestBody(_), Some(Broken::TooLarge)) => Reason::ContentTooLarge.into(),
            (UpstreamError::RequestBody(_), _) => Reason::ClientClosed.into(),
            _ => {
                tracing::debug!(%error, "no answer of the backend");
                error.reason().into()
            }
        }
    }

    fn finish(self, answer: Answer, held: Held) -> Response<ResponseBody> {
        let mut outcome = self.outcome;
        match answer {
            Answer::Ours(response) => response.map(|bytes| ResponseBody::whole(bytes, outcome, held)),
            Answer::Backend(mut response, deadline) => {
                outcome.answered(response.status());
                // hyper's client notes the backend's; what goes to the client is for the server side to say.
                *response.version_mut() = Version::default();
                response.map(|body| ResponseBody::relayed(body, deadline, outcome, held))
            }
            Answer::Switched(response, switched) => {
                outcome.answered(response.status());
                self.connection.tunnel.replace(Some(Box::new(Tunnel::new(switched, outcome))));
                response.map(|()| ResponseBody::switched(held))
            }
        }
    }
}

/// The listener that serves a host. On TLS it has to be the connection's own: another one's clients may have had to
/// show another certificate (Gateway API, `GatewayHTTPSListenerDetectMisdirectedRequests`).
fn listener<'s>(
    frontend: &'s ServedFrontend,
    own: Option<&'s ServedListener>,
    host: &str,
) -> Result<&'s ServedListener, Refused> {
    let best = frontend.for_host(host).ok_or(Reason::RouteNotFound)?;
    match own {
        Some(own) if !std::ptr::eq(own, &**best) => Err(Reason::MisdirectedRequest.into()),
        _ => Ok(best),
    }
}

/// The rule that an admitted client's request meets: there is no way here without the argument.
fn route<'s>(
    _admitted: &Admitted<'_>,
    listener: &'s ServedListener,
    host: &str,
    path: &str,
    head: &Parts,
) -> Option<Found<'s, Arc<ServedRule>>> {
    listener.routes.find(&Asked {
        host,
        path,
        method: &head.method,
        headers: &head.headers,
        query: head.uri.query(),
    })
}

/// A path that means one thing to everybody; `is_ours`: whether another reading of it leads to no other rule.
fn plain(path: &str, is_ours: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let other_rule = || readings(path).any(|reading| !is_ours(&reading)).then_some(Ambiguity::OtherRule);
    match ambiguity(path).or_else(other_rule) {
        Some(ambiguity) => Err(Refusal::with_detail(Reason::AmbiguousPath, ambiguity.to_string())),
        None => Ok(()),
    }
}

/// One backend by weight. Without any weight there is no backend to send to, which the specification answers with 500.
fn choose(backends: &[ServedBackend], dice: u64) -> Result<&ServedBackend, Reason> {
    let chosen = pick::weighted(backends.iter().map(|backend| backend.weight), dice);
    chosen.and_then(|index| backends.get(index)).ok_or(Reason::BackendInvalid)
}

fn moved(status: StatusCode, location: &str, rule: &ServedRule) -> Result<Response<Bytes>, Reason> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let location = HeaderValue::from_str(location).map_err(|_| Reason::BadRequest)?;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    edit_response(response.headers_mut(), &rule.filters);
    Ok(response)
}

/// Gives the request the target and host that the backend's protocol asks for.
fn address(
    head: &mut Parts,
    authority: Option<&Authority>,
    lease: &Lease<RequestBody>,
    protocol: BackendProtocol,
) -> Result<(), Reason> {
    // A filter may have set another host. An HTTP/1.0 client need not name one, but the backend has to be told some.
    let host = match (head.headers.get(HOST), authority) {
        (Some(host), _) => host.clone(),
        (None, Some(authority)) => authority.text.clone(),
        (None, None) => HeaderValue::from_str(lease.label()).map_err(|_| Reason::Internal)?,
    };
    let mut target = http::uri::Parts::default();
    target.path_and_query = Some(origin_form(&head.uri)?);
    match protocol {
        BackendProtocol::Http1 => {
            head.version = Version::HTTP_11;
            head.headers.insert(HOST, host);
        }
        BackendProtocol::H2c => {
            head.version = Version::HTTP_2;
            head.headers.remove(HOST);
            target.scheme = Some(Scheme::HTTP);
            target.authority = Some(host.as_bytes().try_into().map_err(|_| Reason::BadRequest)?);
        }
    }
    head.uri = Uri::from_parts(target).map_err(|_| Reason::BadRequest)?;
    Ok(())
}

/// RFC 9112 §3.2.1; an absolute-form may do without a path, `http://a?b`.
fn origin_form(target: &Uri) -> Result<PathAndQuery, Reason> {
    match target.path_and_query() {
        None => Ok(PathAndQuery::from_static("/")),
        Some(query) if query.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", query.as_str())).map_err(|_| Reason::BadRequest)
        }
        Some(path) => Ok(path.clone()),
    }
}

fn edit_request(headers: &mut HeaderMap, filters: &[Filter]) {
    for filter in filters {
        if let Filter::RequestHeaders(edit) = filter {
            headers::edit(headers, edit);
        }
    }
}

fn edit_response(headers: &mut HeaderMap, filters: &[Filter]) {
    for filter in filters {
        if let Filter::ResponseHeaders(edit) = filter {
            headers::edit(headers, edit);
        }
    }
}

/// Waits for the head of an answer until `limit`, and with `patience` no longer than that after the last sign of life:
/// the sending of the request or a piece of its body.
async fn within<T>(
    exchange: impl Future<Output = T>,
    sent: Instant,
    limit: Option<Instant>,
    patience: Option<Duration>,
    progress: Option<&Progress>,
) -> Option<T> {
    let due = || {
        let moved = progress.map_or(sent, Progress::moved);
        earlier(limit, patience.map(|patience| moved + patience))
    };
    let Some(first) = due() else { return Some(exchange.await) };
    let mut exchange = std::pin::pin!(exchange);
    let mut alarm = std::pin::pin!(sleep_until(first));
    loop {
        tokio::select! {
            biased;
            answered = exchange.as_mut() => return Some(answered),
            () = alarm.as_mut() => match due() {
                Some(later) if later > Instant::now() => alarm.as_mut().reset(later),
                _ => return None,
            },
        }
    }
}

/// A timeout of a rule as an instant; none, and zero, is none.
fn deadline(from: Instant, timeout: Option<Duration>) -> Option<Instant> {
    from.checked_add(timeout.filter(|timeout| !timeout.is_zero())?)
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// In the form of a version 4 UUID (RFC 9562 §5.4), since that is what readers of such names expect.
fn new_request_id(connection: &Connection) -> HeaderValue {
    let (a, b) = (connection.server.pool.roll(), connection.server.pool.roll());
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
