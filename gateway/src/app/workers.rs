//! The workers: one thread each, with its own sockets, its own pool and its own share of the limits.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::datapath::Handles;
use crate::http::roll::{self, Roll};
use crate::http::{Limits, Pool, Server};
use crate::listener::accept::Shortage;
use crate::listener::handshakes::Handshakes;
use crate::listener::quota::Quotas;
use crate::listener::reconcile::{self, Command, WORKER_COMMANDS_MAX};
use crate::listener::roster::Roster;
use crate::listener::serve::{self, Worker};
use crate::listener::steer::{Shares, Steer};
use crate::policy::deny::DenyList;
use crate::runtime::{Drained, Phase, Pressure, Progress, Published, Vital, worker};
use crate::settings::{self, Pin, Settings};
use crate::snapshot::Snapshot;
use crate::telemetry::event::LimitHit;
use crate::telemetry::listing::Question;
use crate::telemetry::{Limit, Telemetry};
use crate::upstream;

use super::kernel::cpus;

/// How long connections that are cut off may take to write their records.
const CUT_OFF_TIMEOUT: Duration = Duration::from_millis(500);

/// What every worker is made of.
#[derive(Clone)]
pub(super) struct Parts {
    /// What is served.
    pub(super) snapshots: Arc<Published<Snapshot>>,
    /// Where outcomes go.
    pub(super) telemetry: Arc<Telemetry>,
    /// Limits and trusted proxies.
    pub(super) settings: Arc<Settings>,
    /// The process's phase.
    pub(super) drained: Drained,
    /// Connections that were cut off when the process stopped.
    pub(super) cut_off: Arc<AtomicUsize>,
    /// Where it gives signs of life.
    pub(super) progress: Arc<Progress>,
    /// Connections over all workers.
    pub(super) quotas: Arc<Quotas>,
    /// Connections by worker.
    pub(super) shares: Arc<Shares>,
    /// Whether memory is short.
    pub(super) pressure: Arc<Pressure>,
    /// Where the kernel's notes on connections are.
    pub(super) notes: Handles,
    /// Whose connections are not wanted.
    pub(super) denied: Arc<Published<DenyList>>,
}

/// A running worker.
pub(super) struct Running {
    /// Hands it sockets.
    pub(super) commands: mpsc::Sender<Command>,
    /// Ends when its last connection has ended, or when the process stops.
    pub(super) thread: JoinHandle<()>,
}

/// Starts a worker for each of the ends that questions about connections come from.
pub(super) fn start(questions: Vec<mpsc::Receiver<Question>>, parts: &Parts) -> io::Result<Vec<Running>> {
    let count = questions.len();
    let pin = parts.settings.datapath.pin;
    let cpus = cpus(&parts.settings, count);
    tracing::debug!(count, ?pin, ?cpus, "workers");
    let start = |(index, questions): (usize, mpsc::Receiver<Question>)| {
        let (parts, cpu) = (parts.clone(), cpus[index]);
        let (commands, received) = mpsc::channel(WORKER_COMMANDS_MAX);
        let wanted = cpu.filter(|_| pin == Pin::Cpu);
        let thread =
            worker::spawn(index, cpu, move || run(index, count, parts, wanted, questions, received))?;
        Ok(Running { commands, thread })
    };
    questions.into_iter().enumerate().map(start).collect()
}

async fn run(
    index: usize,
    count: usize,
    parts: Parts,
    cpu: Option<usize>,
    questions: mpsc::Receiver<Question>,
    commands: mpsc::Receiver<Command>,
) {
    let Parts {
        snapshots,
        telemetry,
        settings,
        mut drained,
        cut_off,
        progress,
        quotas,
        pressure,
        denied,
        notes,
        shares,
        ..
    } = parts;
    let notes = notes.notes(index);
    let limits = &settings.limits;
    let server = Rc::new(Server {
        snapshots,
        telemetry: Arc::clone(&telemetry),
        limits: http_limits(limits),
        trusted_proxies: settings.trusted_proxies.clone(),
        refuse_ambiguous_paths: settings.refuse_ambiguous_paths,
        pool: Pool::new(upstream_limits(limits), Arc::clone(&pressure), &telemetry.metrics),
        pressure,
        roll: Roll::default(),
    });
    let running = progress.begin(index);
    let short = Arc::clone(&server.pressure);
    tokio::task::spawn_local(async move { short.give_back().await });
    let _vital = Vital("worker");
    let pool = Rc::clone(&server.pool);
    tokio::task::spawn_local(async move {
        let _vital = Vital("pool");
        pool.keep_house().await;
    });
    let called = Rc::clone(&server);
    tokio::task::spawn_local(async move {
        let _vital = Vital("roll");
        roll::follow(called).await;
    });
    let stall_timeout = limits.hang_timeout.0;
    if !stall_timeout.is_zero() {
        tokio::task::spawn_local(async move { running.beat(stall_timeout).await });
    }
    let steer = Rc::new(Steer::new(shares, index, cpu).telling(notes.clone()));
    let weighed = Rc::clone(&steer);
    tokio::task::spawn_local(async move { weighed.keep_weighing().await });
    let roster = Roster::new(index, notes);
    tokio::task::spawn_local(roster.clone().answer(questions));
    let worker = Rc::new(Worker {
        roster,
        denied,
        server,
        quotas,
        handshakes: Handshakes::new(limits.handshakes_max.div_ceil(count)),
        handshake_timeout: limits.handshake_timeout.0,
        steer: Rc::clone(&steer),
        metrics: telemetry.metrics.worker(index),
        drained: drained.clone(),
    });
    let connections = TaskTracker::new();
    let serve = {
        let connections = connections.clone();
        Rc::new(move |arrival| {
            connections.spawn_local(serve::serve(Rc::clone(&worker), arrival));
        })
    };
    let short_of = Rc::new(move |shortage| {
        let limit = match shortage {
            Shortage::Descriptors => Limit::OpenFilesMax,
            Shortage::Memory => Limit::SystemMemory,
        };
        LimitHit { limit, peer: None }.emit(&telemetry);
    });
    // Ends when the control thread lets go of the commands, which it does once the drain has begun.
    reconcile::follow(commands, steer, serve, short_of).await;
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = drained.reached(Phase::Stopping) => {
            cut_off.fetch_add(connections.len(), Ordering::Relaxed);
            // Each hears of it by itself and writes down what it was in; that takes no time worth speaking of.
            let _ = timeout(CUT_OFF_TIMEOUT, connections.wait()).await;
        }
    }
}

fn http_limits(limits: &settings::Limits) -> Limits {
    Limits {
        idle_timeout: limits.idle_timeout.0,
        request_head_timeout: limits.request_head_timeout.0,
        request_head_bytes_max: limits.request_head_bytes_max,
        request_target_bytes_max: limits.request_target_bytes_max,
        request_fields_max: limits.request_fields_max,
        request_body_timeout: limits.request_body_timeout.0,
        request_body_bytes_max: limits.request_body_bytes_max,
        response_stall_timeout: limits.response_stall_timeout.0,
        backend_timeout: limits.backend_timeout.0,
        http2_streams_max: limits.http2_streams_max,
        http2_stream_window_bytes: limits.http2_stream_window_bytes,
        http2_connection_window_bytes: limits.http2_connection_window_bytes,
        http2_send_buffer_bytes_max: limits.http2_send_buffer_bytes_max,
        http2_pending_resets_max: limits.http2_pending_resets_max,
        http2_local_resets_max: limits.http2_local_resets_max,
        http2_control_frames_max: limits.http2_control_frames_max,
        http2_ping_interval: limits.http2_ping_interval.0,
        http2_ping_timeout: limits.http2_ping_timeout.0,
        tunnel_idle_timeout: limits.tunnel_idle_timeout.0,
        close_timeout: limits.close_timeout.0,
    }
}

fn upstream_limits(limits: &settings::Limits) -> upstream::Limits {
    upstream::Limits {
        connect_timeout: limits.connect_timeout.0,
        idle_per_endpoint_max: limits.upstream_idle_max,
        idle_timeout: limits.upstream_idle_timeout.0,
        connections_per_endpoint_max: limits.upstream_connections_max,
        connects_per_endpoint_max: limits.upstream_connects_max,
        retries_max: limits.upstream_retries_max,
        response_head_bytes_max: limits.response_head_bytes_max,
        response_fields_max: limits.response_fields_max,
        interim_responses_max: limits.interim_responses_max,
        continue_timeout: limits.continue_timeout.0,
        http2_stream_window_bytes: limits.upstream_http2_stream_window_bytes,
        http2_connection_window_bytes: limits.upstream_http2_connection_window_bytes,
        http2_ping_interval: limits.upstream_http2_ping_interval.0,
        http2_ping_timeout: limits.upstream_http2_ping_timeout.0,
    }
}
