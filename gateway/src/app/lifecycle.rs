//! A process from its first thread to its last: start, the control loop, drain in three beats (stop accepting, wait with
//! a deadline, force).

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::admin::{AdminState, Command, server};
use crate::listener::quota::{QuotaLimits, Quotas};
use crate::listener::reconcile::Sockets;
use crate::listener::steer::Shares;
use crate::runtime::{Drain, Phase, Pressure, Progress, Published, files, panics, worker};
use crate::settings::{AccessLogTarget, Cap, Settings};
use crate::snapshot::Snapshot;
use crate::source::{FileSource, ReloadHandle, Trigger};
use crate::telemetry::event::{DrainBegun, DrainEnded};
use crate::telemetry::{AccessLog, AccessTarget, Metrics, Telemetry, log};
use crate::tls::TicketKeys;
use crate::tls::revocation::WANTED;

use super::build::Builder;
use super::control::Control;
use super::service_manager::ServiceManager;
use super::workers::{self, Parts};

/// How often the same documents are looked at again: dates pass, and sockets that were taken become free.
const REFRESH: Duration = Duration::from_secs(60);
/// How often binding is tried again while a socket is missing.
const BIND_RETRY: Duration = Duration::from_secs(2);
/// How long the access log may take to write what waits when the process ends.
const ACCESS_LOG_CLOSE: Duration = Duration::from_secs(2);
/// How long workers may take to end once they were told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the gateway until it has drained.
///
/// # Errors
/// Something that the process cannot do without is not to be had: a log, the admin listener, threads.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    log::start(&settings.log, log::LogFormat::of_stderr())?;
    let metrics = Metrics::new();
    let target = access_target(&settings.access_log);
    let access = AccessLog::start(&target, settings.limits.access_log_buffer_bytes_max, &metrics)
        .with_context(|| format!("cannot write the access log {target}"))?
        .with_connections(settings.access_log_connections);
    let telemetry = Telemetry::new(metrics, access);
    panics::watch(Arc::clone(&telemetry), settings.limits.panics_per_minute_max);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread")?;
    let outcome = LocalSet::new().block_on(&runtime, control(Arc::new(settings), Arc::clone(&telemetry)));
    telemetry.access.close(Instant::now() + ACCESS_LOG_CLOSE);
    runtime.shutdown_background();
    outcome
}

/// The control thread's whole life.
async fn control(settings: Arc<Settings>, telemetry: Arc<Telemetry>) -> anyhow::Result<()> {
    // Before anything else: a signal that comes early must not kill what has just begun.
    let mut ends = Ends::new().context("cannot follow signals")?;
    let mut hangups = signal(SignalKind::hangup()).context("cannot follow signals")?;
    let manager = Rc::new(ServiceManager::of_environment());
    let count = worker::count(settings.workers);
    let progress = Progress::new(count);
    let watched = Arc::clone(&progress);
    tokio::task::spawn_local(Rc::clone(&manager).keep_alive(move || watched.is_live()));
    let (admin, mut commands) = AdminState::new(Arc::clone(&telemetry));
    serve_admin(&settings, &admin).await?;
    let tickets =
        TicketKeys::generate().map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let builder = Builder::new(Arc::clone(&telemetry), tickets, settings.tls.v1_client_certificates);
    let snapshots = Arc::new(Published::new(Arc::new(Snapshot::default())));
    let drain = Drain::default();
    let quotas = Quotas::new(quota_limits(&settings));
    let (percent_max, bytes_max) = (settings.limits.memory_percent_max, settings.limits.memory_bytes_max);
    let pressure = Pressure::watch(percent_max, bytes_max, &telemetry).context("cannot watch memory")?;
    let short = Arc::clone(&pressure);
    tokio::task::spawn_local(async move { short.give_back().await });
    let cut_off = Arc::new(AtomicUsize::new(0));
    let parts = Parts {
        snapshots: Arc::clone(&snapshots),
        telemetry: Arc::clone(&telemetry),
        settings: Arc::clone(&settings),
        drained: drain.follow(),
        cut_off: Arc::clone(&cut_off),
        progress: Arc::clone(&progress),
        quotas,
        shares: Shares::new(count),
        pressure,
    };
    let running = workers::start(count, &parts).context("cannot start the workers")?;
    if !settings.limits.hang_timeout.0.is_zero() {
        progress.watch(settings.limits.hang_timeout.0).context("cannot watch the workers")?;
    }
    let (senders, threads): (Vec<_>, Vec<_>) =
        running.into_iter().map(|worker| (worker.commands, worker.thread)).unzip();
    let mut source = FileSource::new(settings.config.clone());
    let sockets = Sockets::new(senders);
    let told = Rc::clone(&manager);
    let mut control =
        Control::new(&settings, Arc::clone(&telemetry), builder, sockets, snapshots, admin, told);
    control.reload(&mut source);
    let cause = follow(&mut control, &mut source, &mut ends, &mut hangups, &mut commands, &telemetry).await;
    let began = Instant::now();
    manager.stopping(longest_end(&settings));
    drain_and_end(control, &settings, &telemetry, &mut ends, &drain, threads, cause).await;
    DrainEnded { elapsed: began.elapsed(), cut_off: cut_off.load(Ordering::Relaxed) }.emit(&telemetry);
    Ok(())
}

async fn serve_admin(settings: &Settings, state: &Arc<AdminState>) -> anyhow::Result<()> {
    if let Some(address) = settings.admin.on() {
        let listener = server::bind_tcp(*address).await;
        let listener =
            listener.with_context(|| format!("cannot bind the admin listener {address} (--admin)"))?;
        tokio::task::spawn_local(listener.serve(Arc::clone(state)));
    }
    if let Some(path) = settings.admin_socket.on() {
        match server::bind_socket(path) {
            Ok(listener) => drop(tokio::task::spawn_local(listener.serve(Arc::clone(state)))),
            // Traffic does not depend on it, and an unprivileged process cannot make the default path.
            Err(error) => tracing::warn!(path = %path.display(), %error, "no admin socket"),
        }
    }
    Ok(())
}

/// The control loop: whatever changes is put in service, until something asks for a drain. Says what did.
async fn follow(
    control: &mut Control,
    source: &mut FileSource,
    ends: &mut Ends,
    hangups: &mut Signal,
    commands: &mut mpsc::Receiver<Command>,
    telemetry: &Telemetry,
) -> &'static str {
    let asked: ReloadHandle = source.reload_handle();
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.reset();
    loop {
        tokio::select! {
            biased;
            cause = ends.next() => return cause,
            command = commands.recv() => match command {
                Some(Command::Reload(answer)) => {
                    // Nobody waits for the answer any more: the reload is done all the same.
                    let _ = answer.send(control.reload(source));
                }
                Some(Command::Drain(answer)) => {
                    let _ = answer.send(());
                    return "admin socket";
                }
                // The sender lives in the admin state, which the control holds.
                None => return "admin closed",
            },
            _ = hangups.recv() => {
                telemetry.access.reopen();
                asked.ask();
            }
            trigger = source.changed() => match trigger {
                Trigger::Asked => drop(control.reload(source)),
                Trigger::Changed | Trigger::Polled => control.follow(source),
            },
            wants = WANTED.next() => control.learn(wants),
            () = sleep(BIND_RETRY), if control.has_unfinished() => drop(control.refresh()),
            _ = refresh.tick() => drop(control.refresh()),
        }
    }
}

async fn drain_and_end(
    mut control: Control,
    settings: &Settings,
    telemetry: &Telemetry,
    ends: &mut Ends,
    drain: &Drain,
    threads: Vec<JoinHandle<()>>,
    cause: &str,
) {
    DrainBegun { cause, timeout: settings.drain_timeout.0 }.emit(telemetry);
    control.unready();
    let deadline = async {
        sleep(settings.drain_delay.0).await;
        control.close();
        // The workers' accept loops end with the senders that the control holds.
        drop(control);
        drain.announce(Phase::Draining);
        sleep(settings.drain_timeout.0).await;
    };
    let ended = tokio::task::spawn_blocking(move || {
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
    });
    tokio::pin!(ended);
    tokio::select! {
        _ = &mut ended => return,
        () = deadline => {}
        _ = ends.next() => {}
    }
    drain.announce(Phase::Stopping);
    tokio::select! {
        _ = &mut ended => {}
        () = sleep(STOP_TIMEOUT) => tracing::error!("a worker does not end"),
    }
}

/// How long the process may take to end from the first moment of a drain on.
fn longest_end(settings: &Settings) -> Duration {
    settings.drain_delay.0 + settings.drain_timeout.0 + STOP_TIMEOUT + ACCESS_LOG_CLOSE
}

/// The signals that end the process.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// TERM, or an interrupt from the keyboard.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn quota_limits(settings: &Settings) -> QuotaLimits {
    let (limits, open_files_max) = (&settings.limits, files::raise_limit());
    let connections_max = match limits.connections_max {
        Cap::Auto => files::connections(open_files_max),
        Cap::Count(count) => count,
    };
    tracing::debug!(open_files_max, connections_max, "limits of this process");
    QuotaLimits {
        connections_max,
        connections_per_listener_max: limits.connections_per_listener_max,
        connections_per_source_max: limits.connections_per_source_max,
        exempt: settings.trusted_proxies.clone(),
    }
}

fn access_target(setting: &AccessLogTarget) -> AccessTarget {
    match setting {
        AccessLogTarget::Off => AccessTarget::Off,
        AccessLogTarget::Stdout => AccessTarget::Stdout,
        AccessLogTarget::File(path) => AccessTarget::File(path.clone()),
    }
}
