//! One endpoint as one worker uses it: idle HTTP/1.1 connections, or one HTTP/2 connection that all requests share.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{Host, connect};
use super::error::UpstreamError;
use super::h1::Connection;
use super::pool::Limits;
use crate::model::Endpoint;
use crate::runtime::{Paced, Pressure};
use crate::telemetry::BackendMetrics;

/// What makes a body fit to be sent.
pub trait RequestBody:
    Body<Data = bytes::Bytes, Error: std::error::Error + Send + Sync> + Unpin + 'static
{
}
impl<B: Body<Data = bytes::Bytes, Error: std::error::Error + Send + Sync> + Unpin + 'static> RequestBody
    for B
{
}

/// An endpoint's connections on this worker.
pub(super) struct EndpointPool<B> {
    pub(super) endpoint: Endpoint,
    pub(super) label: Arc<str>,
    pub(super) metrics: Arc<BackendMetrics>,
    host: Host,
    limits: Limits,
    pressure: Arc<Pressure>,
    /// Requests in progress, for the choice of the less busy endpoint.
    busy: Cell<usize>,
    open: Rc<Cell<usize>>,
    /// Connections that are being made, and requests that wait for a shared one.
    connecting: Rc<Cell<usize>>,
    /// Oldest first; taken from the end, so that what is not needed grows old.
    idle: RefCell<Vec<Idle>>,
    /// Held across connecting, so that a burst makes one connection.
    shared: Mutex<Option<Shared<B>>>,
}

struct Shared<B> {
    sender: http2::SendRequest<B>,
    peer: Option<IpAddr>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A request in progress at an endpoint, counted until dropped.
pub(super) struct Busy<B>(Rc<EndpointPool<B>>);

impl<B> Busy<B> {
    pub(super) fn at(endpoint: &Rc<EndpointPool<B>>) -> Self {
        endpoint.busy.set(endpoint.busy.get() + 1);
        Self(Rc::clone(endpoint))
    }

    pub(super) fn endpoint(&self) -> &Rc<EndpointPool<B>> {
        &self.0
    }
}

impl<B> Drop for Busy<B> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// A connection, open or in the making, counted until dropped.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn in_place(of: &Rc<Cell<usize>>) -> Self {
        of.set(of.get() + 1);
        Self(Rc::clone(of))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<B> EndpointPool<B> {
    pub(super) fn new(
        endpoint: Endpoint,
        label: Arc<str>,
        metrics: Arc<BackendMetrics>,
        limits: Limits,
        pressure: Arc<Pressure>,
    ) -> Self {
        Self {
            host: Host::of(&endpoint, &metrics),
            endpoint,
            label,
            metrics,
            limits,
            pressure,
            busy: Cell::new(0),
            open: Rc::default(),
            connecting: Rc::default(),
            idle: RefCell::default(),
            shared: Mutex::default(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.get()
    }

    /// The youngest idle connection that still holds. `surely`: a request that could not be sent again is not sent on
    /// one that is closed already.
    pub(super) fn take_idle(&self, surely: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            if since.elapsed() >= self.limits.idle_timeout {
                // What is left is older.
                idle.clear();
            } else if connection.is_idle() && (!surely || connection.is_idle_now()) {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(super) fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.limits.idle_per_endpoint_max && self.leads_to(connection.peer()) {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long, what the backend has closed, and what leads to an address that its name
    /// no longer has.
    pub(super) fn sweep(&self) {
        let limit = self.limits.idle_timeout;
        self.idle.borrow_mut().retain(|idle| {
            let connection = &idle.connection;
            idle.since.elapsed() < limit && connection.is_idle() && self.leads_to(connection.peer())
        });
        // Where it is locked, somebody is connecting just now.
        if let Ok(mut shared) = self.shared.try_lock() {
            shared.take_if(|shared| !self.leads_to(shared.peer));
        }
        // A connection that is never idle for long would keep a name from being looked up.
        if self.open.get() > 0
            && let Host::Name(name) = &self.host
        {
            name.renew();
        }
    }

    /// Whether a connection to this address is still one to the endpoint.
    fn leads_to(&self, peer: Option<IpAddr>) -> bool {
        match (&self.host, peer) {
            (Host::Name(name), Some(peer)) => name.has(peer),
            _ => true,
        }
    }
}

impl<B: RequestBody> EndpointPool<B> {
    /// A new HTTP/1.1 connection.
    pub(super) async fn connect_http1(&self) -> Result<Connection, UpstreamError> {
        let _connecting = self.connecting()?;
        let (stream, open) = self.connect().await?;
        Ok(Connection::new(stream, (open, self.metrics.connected())))
    }

    /// The shared HTTP/2 connection; a new one where there is none or `stale` says that it is of no more use.
    pub(super) async fn shared_http2(&self, stale: bool) -> Result<http2::SendRequest<B>, UpstreamError> {
        let _connecting = self.connecting()?;
        let mut shared = self.shared.lock().await;
        if let Some(shared) = shared.as_ref().filter(|shared| !stale && !shared.sender.is_closed()) {
            return Ok(shared.sender.clone());
        }
        *shared = None;
        let (stream, open) = self.connect().await?;
        let peer = stream.peer_addr().ok().map(|address| address.ip());
        // What the backend sends ahead comes whether or not anybody asks for it.
        let stream = Paced::new(stream, Arc::clone(&self.pressure));
        let (sender, connection) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.limits.http2_stream_window_bytes)
            .initial_connection_window_size(self.limits.http2_connection_window_bytes)
            .max_header_list_size(u32::try_from(self.limits.response_head_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(self.limits.http2_ping_interval)
            .keep_alive_timeout(self.limits.http2_ping_timeout)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.not_begun(error))?;
        self.drive(connection, open);
        *shared = Some(Shared { sender: sender.clone(), peer });
        Ok(sender)
    }

    fn connecting(&self) -> Result<Counted, UpstreamError> {
        let connects_max = self.limits.connects_per_endpoint_max;
        if self.connecting.get() >= connects_max {
            return Err(UpstreamError::ConnectsMax { endpoint: Arc::clone(&self.label), connects_max });
        }
        Ok(Counted::in_place(&self.connecting))
    }

    async fn connect(&self) -> Result<(TcpStream, Counted), UpstreamError> {
        let connections_max = self.limits.connections_per_endpoint_max;
        if self.open.get() >= connections_max {
            return Err(UpstreamError::ConnectionsMax { endpoint: Arc::clone(&self.label), connections_max });
        }
        let open = Counted::in_place(&self.open);
        let stream = connect(&self.host, &self.label, self.limits.connect_timeout).await?;
        Ok((stream, open))
    }

    fn not_begun(&self, error: hyper::Error) -> UpstreamError {
        UpstreamError::Connect { endpoint: Arc::clone(&self.label), cause: io::Error::other(error) }
    }

    /// Lets a connection run until it ends by itself or its last sender is dropped.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + 'static, open: Counted) {
        let active = self.metrics.connected();
        let label = Arc::clone(&self.label);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(endpoint = %label, %error, "a connection to a backend broke off");
            }
            drop((active, open));
        });
    }
}

/// Runs hyper's tasks on this worker.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
