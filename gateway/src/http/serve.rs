//! A client's connection from its first byte of HTTP to its end.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::connection::Connection;
use super::forward::forward;
use super::frame::{self, Framer};
use super::guard::Guard;
use super::roll::Roll;
use super::streams::Streams;
use super::tunnel::{HalfClose, Tunnel};
use super::watch::Watched;
use super::{Limits, Pool};
use crate::model::{FrontendId, Reason};
use crate::runtime::drain::{Drained, Phase};
use crate::runtime::{Paced, Pressure, Published};
use crate::snapshot::Snapshot;
use crate::telemetry::access::Connection as Facts;
use crate::telemetry::{ConnectionEnd, HttpVersion, Limit, ListenerMetrics, OpenConnection, Telemetry};
use crate::tls::peer::Credential;

/// RFC 9113 §3.4
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read at once to see the preface; a usual request fits and is not copied again.
const PREFACE_READ_BYTES_MAX: usize = 2048;

/// What hyper may find a head larger than the guard, which puts another one in its place.
const HEAD_SLACK_BYTES: usize = 1024;

/// What a worker's connections have in common.
#[derive(Debug)]
pub struct Server {
    /// What is served now.
    pub snapshots: Arc<Published<Snapshot>>,
    /// Where outcomes go.
    pub telemetry: Arc<Telemetry>,
    /// Sizes and times.
    pub limits: Limits,
    /// Peers whose word is taken for scheme, host and request id.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a path is refused that the backend may take for another one, where rules look at paths.
    pub refuse_ambiguous_paths: bool,
    /// Whether memory is short.
    pub pressure: Arc<Pressure>,
    /// The worker's connections to backends.
    pub pool: Rc<Pool>,
    /// The worker's open TLS connections.
    pub roll: Roll,
}

impl Server {
    /// Whether the word of this address is taken for its clients' addresses.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// A client whose connection stands.
#[derive(Debug)]
pub struct Client {
    /// Where it came in.
    pub frontend: FrontendId,
    /// That frontend's counters, for as long as a request's listener is not known.
    pub metrics: Arc<ListenerMetrics>,
    /// What is told of it for its record.
    pub open: Rc<OpenConnection>,
    /// Addresses and what the handshake agreed on.
    pub facts: Arc<Facts>,
    /// What it showed of itself.
    pub credential: Credential,
    /// What it speaks.
    pub wire: Wire,
}

/// The protocol of a connection. On TLS it is decided by ALPN alone (none offered: HTTP/1.1), never by sniffing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1
    Http1,
    /// HTTP/2
    Http2,
    /// In clear: HTTP/2 where the connection begins with its preface, else HTTP/1.1.
    ByPreface,
}

/// Serves a connection to its end. To be run within a `LocalSet`; dropping the future cuts the connection off.
///
/// When draining begins the requests in progress are finished and the client is told that the connection ends
/// (`connection: close`, GOAWAY); when stopping begins nothing is finished.
pub async fn serve<I>(server: Rc<Server>, client: Client, io: I, drained: Drained)
where
    I: HalfClose + 'static,
{
    let (mut stopped, open) = (drained.clone(), Rc::clone(&client.open));
    // Outlives the choice below: with it goes the socket, whose record says how the connection ended.
    let mut serving = pin!(serve_until_stopped(server, client, io, drained));
    tokio::select! {
        biased;
        () = stopped.reached(Phase::Stopping) => open.end(ConnectionEnd::CutOff),
        () = serving.as_mut() => {}
    }
}

async fn serve_until_stopped<I>(server: Rc<Server>, client: Client, mut io: I, mut drained: Drained)
where
    I: HalfClose + 'static,
{
    let connection = Connection::new(server, client);
    let limits = &connection.server.limits;
    let (multiplexed, ahead) = match connection.client.wire {
        Wire::Http1 => (false, Bytes::new()),
        Wire::Http2 => (true, Bytes::new()),
        Wire::ByPreface => {
            let preface = tokio::select! {
                () = async {
                    drained.reached(Phase::Draining).await;
                    sleep(limits.close_timeout).await;
                } => {
                    connection.client.open.end(ConnectionEnd::Drained);
                    None
                }
                preface = timeout(limits.request_head_timeout, read_preface(&mut io)) => match preface {
                    Ok(preface) => preface.ok().flatten(),
                    Err(_) => {
                        connection.server.telemetry.metrics.limit_hit(Limit::RequestHeadTimeout);
                        connection.client.open.end(ConnectionEnd::HeadTimeout);
                        None
                    }
                },
            };
            let Some(ahead) = preface else {
                // The client's side may be gone already; there is nobody to tell.
                let _ = io.shutdown().await;
                return;
            };
            (ahead.starts_with(HTTP2_PREFACE), ahead)
        }
    };
    connection.client.open.speaks(if multiplexed { HttpVersion::Http2 } else { HttpVersion::Http1 });
    let io = Paced::new(io, Arc::clone(&connection.server.pressure));
    let io = Watched::new(io, ahead, Rc::clone(&connection.activity), Rc::clone(&connection.client.open));
    let requests = Rc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let connection = Rc::clone(&requests);
        async move { Ok::<_, Infallible>(forward(&connection, request).await) }
    });
    if multiplexed {
        connection.activity.is_http2();
        let streams = Streams(Rc::clone(&connection.activity));
        let http2 = pin!(http2_builder(limits, streams).serve_connection(TokioIo::new(io), service));
        drive(&connection, drained, http2, http2::Connection::graceful_shutdown).await;
    } else {
        let io = Guard::new(io, framer(&connection), Rc::clone(&connection.intake));
        let mut http1 = http1_builder(limits).serve_connection(TokioIo::new(io), service);
        let finish = http1::Connection::graceful_shutdown;
        let is_done = drive(&connection, drained, Pin::new(&mut http1), finish).await;
        // Taken in any case: a connection that broke off has no tunnel either.
        let tunnel = connection.tunnel.take();
        if is_done {
            let http1::Parts { io, read_buf, .. } = http1.into_parts();
            // On the heap: the longest of lives need not be everybody's size.
            Box::pin(leave(&connection, io.into_inner(), read_buf, tunnel)).await;
        }
    }
}

/// When hyper is done with a connection: on with the tunnel, or an end.
async fn leave<I: HalfClose>(
    connection: &Connection,
    io: Guard<Watched<Paced<I>>>,
    unread: Bytes,
    tunnel: Option<Box<Tunnel>>,
) {
    let limits = &connection.server.limits;
    let (watched, early) = io.into_parts();
    let (paced, ahead) = watched.into_parts();
    let mut io = paced.into_inner();
    match tunnel {
        Some(tunnel) => {
            let early = BytesMut::from(&*[&unread[..], &early, &ahead].concat());
            let metrics = &connection.server.telemetry.metrics;
            tokio::select! {
                () = tunnel.run(io, early, limits.tunnel_idle_timeout, metrics, connection.cut()) => {}
                () = connection.shed() => metrics.limit_hit(Limit::MemoryPercentMax),
            }
        }
        // hyper leaves this to others where a request asked to leave HTTP, whatever became of that; else it is done.
        None => drop(timeout(limits.close_timeout, io.shutdown()).await),
    }
}

/// Polls a connection until it ends, and tells it when to. Whether it came to its end and did not break off.
async fn drive<C>(
    connection: &Connection,
    mut drained: Drained,
    mut http: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
) -> bool
where
    C: Future<Output = hyper::Result<()>>,
{
    let metrics = &connection.server.telemetry.metrics;
    let open = &connection.client.open;
    let ended = async {
        let mut finishing = false;
        let mut overdue = pin!(connection.activity.overdue());
        let mut draining = pin!(async {
            let end = tokio::select! {
                () = drained.reached(Phase::Draining) => ConnectionEnd::Drained,
                () = connection.server.pressure.risen() => ConnectionEnd::Aborted,
            };
            connection.activity.first_request().await;
            connection.activity.quiet().await;
            // Nor one that is in the middle of its next request. Looked at again whenever more of it has come, since the
            // connection wakes the same task; the head's clock ends the wait.
            poll_fn(|_| if connection.intake.is_in_head() { Poll::Pending } else { Poll::Ready(()) }).await;
            end
        });
        let mut shed = pin!(connection.shed());
        loop {
            tokio::select! {
                biased;
                ended = http.as_mut() => return ended.map(|()| true),
                () = shed.as_mut() => {
                    open.end(ConnectionEnd::Aborted);
                    metrics.limit_hit(Limit::MemoryPercentMax);
                    return Ok(false);
                }
                () = connection.ending() => {
                    if connection.is_cut_off() {
                        return Ok(false);
                    }
                    if finishing {
                        continue;
                    }
                }
                end = draining.as_mut(), if !finishing => open.end(end),
                limit = overdue.as_mut() => {
                    if let Some(limit) = limit {
                        metrics.limit_hit(limit);
                    }
                    let is_head = limit == Some(Limit::RequestHeadTimeout);
                    match limit {
                        Some(Limit::IdleTimeout) => open.end(ConnectionEnd::IdleTimeout),
                        Some(Limit::RequestHeadTimeout) => open.end(ConnectionEnd::HeadTimeout),
                        Some(Limit::ResponseStallTimeout) => open.end(ConnectionEnd::Stalled),
                        _ => {}
                    }
                    let is_answered = is_head && connection.intake.time_out();
                    // To a client that has not said a word there is nothing to answer.
                    if finishing || (is_head && !is_answered) {
                        return Ok(false);
                    }
                    overdue.set(connection.activity.overdue());
                    if is_answered {
                        continue;
                    }
                }
            }
            finishing = true;
            connection.activity.close();
            // hyper would end without having written the answer that the tunnel begins with, and ends with it anyway.
            if !connection.switches() {
                finish(http.as_mut());
            }
        }
    };
    match ended.await {
        Ok(is_done) => is_done,
        Err(error) => {
            if let Some(reason) = reason(&error) {
                connection.client.metrics.refused(reason);
            }
            if is_stalled(&error) {
                metrics.limit_hit(Limit::ResponseStallTimeout);
            }
            tracing::debug!(connection = %connection.client.facts.id, %error, "a client's connection broke off");
            false
        }
    }
}

/// Frames a client's requests.
fn framer(connection: &Connection) -> Framer {
    let limits = &connection.server.limits;
    let limits = frame::Limits {
        head_bytes_max: limits.request_head_bytes_max,
        target_bytes_max: limits.request_target_bytes_max,
        fields_max: limits.request_fields_max,
    };
    Framer::new(limits, if connection.client.facts.tls.is_some() { 443 } else { 80 })
}

/// What hyper answered by itself, below our sight. On HTTP/1.1 the guard leaves it nothing to refuse.
fn reason(error: &hyper::Error) -> Option<Reason> {
    match () {
        () if error.is_parse_too_large() => Some(Reason::HeaderFieldsTooLarge),
        () if error.is_parse() => Some(Reason::BadRequest),
        () => None,
    }
}

/// Whether the client did not take its answer: the only time that runs out in writing.
fn is_stalled(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Its clock would end idle connections too: ours tells a head that is under way from none.
        .header_read_timeout(None)
        .max_headers(limits.request_fields_max)
        // No `pipeline_flush`: it holds an answer back for as long as a part of the next request is there, and loses it
        // when the connection ends before the rest comes.
        // The guard's limit is the one that counts.
        .max_header_size(limits.request_head_bytes_max + HEAD_SLACK_BYTES);
    builder
}

fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .initial_stream_window_size(limits.http2_stream_window_bytes)
        .initial_connection_window_size(limits.http2_connection_window_bytes)
        .max_send_buf_size(limits.http2_send_buffer_bytes_max)
        .max_header_list_size(u32::try_from(limits.request_head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.http2_pending_resets_max)
        .max_local_error_reset_streams(limits.http2_local_resets_max)
        .keep_alive_interval(limits.http2_ping_interval)
        .keep_alive_timeout(limits.http2_ping_timeout);
    builder
}

/// Reads until it is clear whether the connection begins with HTTP/2's preface; gives what was read. `None`: the client
/// closed without a word.
async fn read_preface(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut read = BytesMut::with_capacity(PREFACE_READ_BYTES_MAX);
    loop {
        let ended = io.read_buf(&mut read).await? == 0;
        if ended && read.is_empty() {
            return Ok(None);
        }
        if ended || read.len() >= HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&read) {
            return Ok(Some(read.freeze()));
        }
    }
}
