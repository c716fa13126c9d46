//! A worker's connections to all backends. Nothing here is shared between workers, so nothing is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::Upstream;
use super::body::UpstreamBody;
use super::endpoint::{Busy, EndpointPool, RequestBody};
use super::error::UpstreamError;
use super::h1::{self, Answer, Broken, Outgoing};
use super::pick::{self, Dice};
use super::switched::Switched;
use crate::model::{BackendKey, BackendProtocol, Endpoint};
use crate::runtime::Pressure;
use crate::telemetry::{BackendMetrics, Limit, Metrics};
use crate::tls::revocation::gate::Admitted;

/// Sizes and times towards backends; counts are per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a name's lookup and the connection together.
    pub connect_timeout: Duration,
    /// Idle HTTP/1.1 connections kept to one endpoint.
    pub idle_per_endpoint_max: usize,
    /// How long such a connection is kept: less than backends commonly keep theirs, so that few requests meet a
    /// connection that is just being closed.
    pub idle_timeout: Duration,
    /// Open connections to one endpoint.
    pub connections_per_endpoint_max: usize,
    /// Connections to one endpoint that are being made, or requests that wait for one they share.
    pub connects_per_endpoint_max: usize,
    /// How often a request that an endpoint did not take goes to another one.
    pub retries_max: usize,
    /// Bytes of a response head.
    pub response_head_bytes_max: usize,
    /// Fields of a response head, and of its trailers.
    pub response_fields_max: usize,
    /// Interim answers (1xx) before the final one, on HTTP/1.1.
    pub interim_responses_max: usize,
    /// How long a body that its client holds back waits for the backend to ask for it, on HTTP/1.1.
    pub continue_timeout: Duration,
    /// What a backend may send ahead on one HTTP/2 stream.
    pub http2_stream_window_bytes: u32,
    /// What it may send ahead on one connection: many streams' worth, since a stalled client holds its stream's share.
    pub http2_connection_window_bytes: u32,
    /// How often a busy HTTP/2 connection is asked whether it still lives.
    pub http2_ping_interval: Duration,
    /// How long it may take to say so.
    pub http2_ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_per_endpoint_max: 64,
            idle_timeout: Duration::from_secs(30),
            connections_per_endpoint_max: 4096,
            connects_per_endpoint_max: 1024,
            retries_max: 1,
            response_head_bytes_max: 64 * 1024,
            response_fields_max: 128,
            interim_responses_max: 8,
            continue_timeout: Duration::from_secs(1),
            http2_stream_window_bytes: 128 * 1024,
            http2_connection_window_bytes: 16 * 1024 * 1024,
            http2_ping_interval: Duration::from_secs(20),
            http2_ping_timeout: Duration::from_secs(10),
        }
    }
}

/// A worker's connections; `B` is the body of the requests that are sent.
pub struct Pool<B> {
    limits: Limits,
    pressure: Arc<Pressure>,
    metrics: Arc<Metrics>,
    dice: RefCell<Dice>,
    /// By the number of the upstream.
    groups: RefCell<HashMap<u64, Rc<Group<B>>>>,
    /// Outlives groups, so that a backend whose endpoints change keeps the connections to those that stay.
    endpoints: RefCell<HashMap<EndpointKey, Rc<EndpointPool<B>>>>,
}

type EndpointKey = (BackendKey, BackendProtocol, Endpoint);

/// The endpoints of one upstream.
struct Group<B> {
    upstream: Weak<Upstream>,
    endpoints: Vec<Rc<EndpointPool<B>>>,
    metrics: Arc<Metrics>,
}

/// An endpoint chosen for one request of an admitted client.
pub struct Lease<B> {
    group: Rc<Group<B>>,
    busy: Option<Busy<B>>,
    endpoint: Rc<EndpointPool<B>>,
    /// The endpoint's place among the group's.
    chosen: usize,
    /// Those that did not take the request.
    tried: Vec<usize>,
    dice: Dice,
    protocol: BackendProtocol,
    attempts: u32,
}

/// What a backend makes of a request.
#[derive(Debug)]
pub enum Exchanged<B> {
    /// It answers.
    Answered(Response<UpstreamBody<B>>),
    /// It goes on with the protocol that the request's `upgrade` names; with the fields of its answer, 101.
    Switched(HeaderMap, Switched<B>),
}

impl<B> Exchanged<B> {
    fn status(&self) -> StatusCode {
        match self {
            Self::Answered(response) => response.status(),
            Self::Switched(..) => StatusCode::SWITCHING_PROTOCOLS,
        }
    }
}

impl<B> Pool<B> {
    /// An empty pool, which reads as far as there is room.
    pub fn new(limits: Limits, pressure: Arc<Pressure>, metrics: &Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            limits,
            pressure,
            metrics: Arc::clone(metrics),
            // Workers must not walk the endpoints in step.
            dice: RefCell::new(Dice::new(RandomState::new().hash_one(0u8))),
            groups: RefCell::default(),
            endpoints: RefCell::default(),
        })
    }

    /// The next number of the worker's dice.
    pub fn roll(&self) -> u64 {
        self.dice.borrow_mut().roll()
    }

    /// Chooses an endpoint. Only an admitted client's request gets this far: there is no way around the argument.
    pub fn lease(
        &self,
        _admitted: &Admitted<'_>,
        upstream: &Arc<Upstream>,
    ) -> Result<Lease<B>, UpstreamError> {
        let group = self.group(upstream);
        let endpoints = &group.endpoints;
        let chosen = pick::endpoint(endpoints.len(), |index| endpoints[index].busy(), self.roll())
            .ok_or(UpstreamError::NoEndpoints)?;
        let endpoint = Rc::clone(&endpoints[chosen]);
        let (busy, protocol) = (Some(Busy::at(&endpoint)), upstream.protocol());
        Ok(Lease {
            group,
            busy,
            endpoint,
            chosen,
            tried: Vec::new(),
            dice: Dice::new(self.roll()),
            protocol,
            attempts: 0,
        })
    }

    /// Closes idle connections in time and forgets backends that no snapshot holds, for as long as it is polled.
    pub async fn keep_house(self: Rc<Self>) {
        let pause = (self.limits.idle_timeout / 4).clamp(Duration::from_millis(100), Duration::from_secs(1));
        loop {
            sleep(pause).await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        self.groups.borrow_mut().retain(|_, group| group.upstream.strong_count() > 0);
        self.endpoints.borrow_mut().retain(|_, endpoint| {
            endpoint.sweep();
            Rc::strong_count(endpoint) > 1
        });
    }

    fn group(&self, upstream: &Arc<Upstream>) -> Rc<Group<B>> {
        if let Some(group) = self.groups.borrow().get(&upstream.id()) {
            return Rc::clone(group);
        }
        let mut pools = self.endpoints.borrow_mut();
        let endpoints = upstream
            .endpoints()
            .map(|(endpoint, label)| {
                let key = (upstream.key().clone(), upstream.protocol(), endpoint.clone());
                let metrics: &Arc<BackendMetrics> = upstream.metrics();
                let make = || {
                    let pressure = Arc::clone(&self.pressure);
                    EndpointPool::new(endpoint.clone(), label.clone(), metrics.clone(), self.limits, pressure)
                };
                Rc::clone(pools.entry(key).or_insert_with(|| Rc::new(make())))
            })
            .collect();
        let group = Rc::new(Group {
            upstream: Arc::downgrade(upstream),
            endpoints,
            metrics: Arc::clone(&self.metrics),
        });
        self.groups.borrow_mut().insert(upstream.id(), Rc::clone(&group));
        group
    }
}

impl<B> Lease<B> {
    /// The endpoint that was chosen last.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint.endpoint
    }

    /// The same as logs show it.
    pub fn label(&self) -> &Arc<str> {
        &self.endpoint.label
    }

    /// How often it was tried to send the request.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl<B: RequestBody> Lease<B> {
    /// Sends the request and waits for the head of the answer. On HTTP/1.1 the request's target must be in
    /// origin-form with a `host` field, on HTTP/2 it must have scheme and authority. Only a request whose client asks to
    /// leave HTTP, and may, has an `upgrade` field.
    ///
    /// A request that met a connection which was being closed is sent once more, on a new one: if nothing of it had
    /// left, or if no byte of an answer had come, it is idempotent, and nothing of its body is gone. On the same
    /// conditions one that an endpoint did not take on a new connection goes to another endpoint. Dropping the future
    /// ends the exchange; the connection is not used again.
    pub async fn exchange(&mut self, request: Request<B>) -> Result<Exchanged<B>, UpstreamError> {
        let began = Instant::now();
        let exchanged = match self.protocol {
            BackendProtocol::Http1 => self.http1(request).await,
            BackendProtocol::H2c => self.http2(request).await.map(Exchanged::Answered),
        };
        let metrics = &self.endpoint.metrics;
        match &exchanged {
            Ok(exchanged) => metrics.exchange(exchanged.status().as_u16(), began.elapsed()),
            Err(_) => metrics.exchange(0, began.elapsed()),
        }
        exchanged
    }

    async fn http1(&mut self, request: Request<B>) -> Result<Exchanged<B>, UpstreamError> {
        let limits = self.endpoint.limits();
        let framing = h1::frame::Limits {
            head_bytes_max: limits.response_head_bytes_max,
            fields_max: limits.response_fields_max,
            interim_max: limits.interim_responses_max,
        };
        let mut outgoing = Outgoing::new(request);
        let mut kept = self.endpoint.take_idle(!outgoing.is_idempotent());
        loop {
            self.attempts += 1;
            let reused = kept.is_some();
            let connection = match kept.take() {
                Some(connection) => connection,
                None => match self.endpoint.connect_http1().await {
                    Ok(connection) => connection,
                    Err(error) => {
                        self.not_connected(error)?;
                        kept = self.endpoint.take_idle(!outgoing.is_idempotent());
                        continue;
                    }
                },
            };
            match h1::exchange(connection, outgoing, framing, limits.continue_timeout).await {
                Ok(answered) => return Ok(self.answered(answered)),
                Err(Broken::Unanswered(Some(again), cause)) => {
                    outgoing = again;
                    if reused {
                        self.endpoint.metrics.retried();
                    } else {
                        self.go_elsewhere(UpstreamError::http1::<B>(
                            &self.endpoint.label,
                            Broken::Ended(cause),
                        ))?;
                        kept = self.endpoint.take_idle(!outgoing.is_idempotent());
                    }
                }
                Err(broken) => return Err(UpstreamError::http1(&self.endpoint.label, broken)),
            }
        }
    }

    /// There is no connection to the endpoint: nothing has been sent, so that any request may go elsewhere.
    fn not_connected(&mut self, error: UpstreamError) -> Result<(), UpstreamError> {
        self.endpoint.metrics.connect_failed(error.reason());
        if let Some(limit) = error.limit() {
            self.group.metrics.limit_hit(limit);
        }
        self.go_elsewhere(error)
    }

    /// Chooses another endpoint for what this one did not take. The error where there is none, or it has been tried often
    /// enough.
    fn go_elsewhere(&mut self, error: UpstreamError) -> Result<(), UpstreamError> {
        self.tried.push(self.chosen);
        let endpoints = &self.group.endpoints;
        let busy = |place: usize| endpoints[place].busy();
        let Some(chosen) = pick::another(endpoints.len(), &self.tried, busy, self.dice.roll()) else {
            return Err(error);
        };
        if self.tried.len() > self.endpoint.limits().retries_max {
            self.group.metrics.limit_hit(Limit::UpstreamRetriesMax);
            return Err(error);
        }
        tracing::debug!(%error, "a request goes to another endpoint");
        self.endpoint = Rc::clone(&endpoints[chosen]);
        self.chosen = chosen;
        self.busy = Some(Busy::at(&self.endpoint));
        self.endpoint.metrics.retried();
        Ok(())
    }

    fn answered(&mut self, answered: h1::Answered<B>) -> Exchanged<B> {
        let busy = self.busy.take().unwrap_or_else(|| Busy::at(&self.endpoint));
        let body = match answered.body {
            Answer::Whole(bytes, connection) => UpstreamBody::whole(bytes, connection, &busy),
            Answer::Streaming(streaming) => UpstreamBody::http1(streaming, busy),
            Answer::Switched(connection) => {
                return Exchanged::Switched(answered.headers, Switched::new(connection, busy));
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = answered.status;
        *response.headers_mut() = answered.headers;
        Exchanged::Answered(response)
    }

    async fn http2(&mut self, mut request: Request<B>) -> Result<Response<UpstreamBody<B>>, UpstreamError> {
        let mut stale = false;
        loop {
            self.attempts += 1;
            let mut sender = match self.endpoint.shared_http2(stale).await {
                Ok(sender) => sender,
                Err(error) => {
                    self.not_connected(error)?;
                    stale = false;
                    continue;
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let busy = self.busy.take().unwrap_or_else(|| Busy::at(&self.endpoint));
                    return Ok(response.map(|incoming| UpstreamBody::http2(incoming, busy)));
                }
                Err(mut failed) => match failed.take_message().filter(|_| !stale) {
                    Some(unsent) => {
                        request = unsent;
                        stale = true;
                        self.endpoint.metrics.retried();
                    }
                    None => return Err(UpstreamError::http2(&self.endpoint.label, failed.into_error())),
                },
            }
        }
    }
}

impl<B> std::fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("endpoints", &self.endpoints.borrow().len()).finish_non_exhaustive()
    }
}
