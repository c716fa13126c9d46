//! A process from its first thread to its last: start, the control loop, drain in three beats (stop accepting, wait with
//! a deadline, force).

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::admin::{AdminState, Command, Upgraded};
use crate::datapath::Datapath;
use crate::handover::kept_by_manager;
use crate::listener::quota::{QuotaLimits, Quotas};
use crate::listener::reconcile::Sockets;
use crate::listener::steer::Shares;
use crate::runtime::confine::{self, Keep};
use crate::runtime::{Drain, Phase, Pressure, Progress, Published, files, panics, worker};
use crate::settings::{AccessLogTarget, Cap, Settings};
use crate::snapshot::Snapshot;
use crate::source::{FileSource, KubeSource, ReloadHandle, Source, Trigger};
use crate::telemetry::event::{DrainBegun, DrainEnded, TakenOver};
use crate::telemetry::listing::Directory;
use crate::telemetry::{AccessLog, AccessTarget, Metrics, Telemetry, denied, log};
use crate::tls::TicketKeys;
use crate::tls::revocation::WANTED;

use super::admin_sockets::AdminSockets;
use super::build::Builder;
use super::control::{Control, Means};
use super::deny::Denials;
use super::estate::Estate;
use super::kernel;
use super::service_manager::ServiceManager;
use super::upgrade::{self, Heir, UpgradeError, Upgrades};
use super::workers::{self, Parts};

/// How often the same documents are looked at again: dates pass, and sockets that were taken become free.
const REFRESH: Duration = Duration::from_secs(60);
/// How often the programs in the kernel are given a sign of life, and their counts are read.
const BEAT: Duration = Duration::from_secs(1);
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
    // Before anything is opened that could take their numbers.
    let kept = kept_by_manager();
    log::start(&settings.log, log::LogFormat::of_stderr())?;
    let datapath = kernel::load(&settings)?;
    let metrics = Metrics::new();
    // No thread has been started, and of what follows nothing needs a privilege but binding a port.
    confine::process(Keep::Bind).context("this process cannot be confined")?;
    let target = access_target(&settings.access_log);
    let buffer_bytes_max = settings.limits.access_log_buffer_bytes_max;
    let access = confine::apart(|| AccessLog::start(&target, buffer_bytes_max, &metrics))
        .flatten()
        .map_err(|error| anyhow!("cannot write the access log {target}: {}", denied::in_words(&error)))?
        .with_connections(settings.access_log_connections);
    let telemetry = Telemetry::new(metrics, access);
    panics::watch(Arc::clone(&telemetry), settings.limits.panics_per_minute_max);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(confine::thread)
        .build()
        .context("cannot start the control thread")?;
    let outcome = LocalSet::new()
        .block_on(&runtime, control(Arc::new(settings), Arc::clone(&telemetry), kept, datapath));
    telemetry.access.close(Instant::now() + ACCESS_LOG_CLOSE);
    runtime.shutdown_background();
    outcome
}

/// The control thread's whole life.
async fn control(
    settings: Arc<Settings>,
    telemetry: Arc<Telemetry>,
    kept: Vec<(String, OwnedFd)>,
    loaded: Option<Datapath>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    // Before anything else: a signal that comes early must not kill what has just begun.
    let mut asked = Asked::new(settings.upgrade_timeout.0).context("cannot follow signals")?;
    let manager = Rc::new(ServiceManager::of_environment());
    let mut estate = Estate::find(kept).await?;
    let count = worker::count(settings.workers);
    let progress = Progress::new(count);
    let watched = Arc::clone(&progress);
    tokio::task::spawn_local(Rc::clone(&manager).keep_alive(move || watched.is_live()));
    let (admin, mut commands) = AdminState::new(Arc::clone(&telemetry));
    let mut admin_sockets = AdminSockets::bind(&settings, &mut estate).await?;
    let tickets = match estate.tickets() {
        Some(tickets) => tickets,
        None => TicketKeys::generate().map_err(|_| anyhow!("the system gives no random numbers"))?,
    };
    let builder = Builder::new(Arc::clone(&telemetry), tickets, settings.tls.v1_client_certificates);
    let snapshots = Arc::new(Published::new(Arc::new(Snapshot::default())));
    let drain = Drain::default();
    let quotas = Quotas::new(quota_limits(&settings));
    let (percent_max, bytes_max) = (settings.limits.memory_percent_max, settings.limits.memory_bytes_max);
    let pressure = Pressure::watch(percent_max, bytes_max, &telemetry).context("cannot watch memory")?;
    let short = Arc::clone(&pressure);
    tokio::task::spawn_local(async move { short.give_back().await });
    let datapath = match kernel::take_over(loaded, &settings, &mut estate) {
        Ok(datapath) => datapath,
        Err(error) => {
            if let Some(predecessor) = &estate.predecessor {
                predecessor.refuse(error.to_string());
            }
            return Err(error.into());
        }
    };
    let denied = &settings.datapath.deny;
    let denials = Denials::new(denied, estate.denied(), Arc::clone(&admin), Arc::clone(&telemetry));
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
        notes: datapath.handles(),
        denied: denials.published(),
    };
    let (directory, questions) = Directory::new(count);
    admin.connections.store(Arc::new(directory));
    let running = workers::start(questions, &parts).context("cannot start the workers")?;
    if !settings.limits.hang_timeout.0.is_zero() {
        progress.watch(settings.limits.hang_timeout.0).context("cannot watch the workers")?;
    }
    let (senders, threads): (Vec<_>, Vec<_>) =
        running.into_iter().map(|worker| (worker.commands, worker.thread)).unzip();
    let mut source = if settings.kube {
        let source = KubeSource::begin().await.context("cannot follow a Kubernetes API server")?;
        Source::Kube(Box::new(source))
    } else {
        let source = file_source(settings.config.clone()).context("cannot follow files")?;
        Source::Files(Box::new(source))
    };
    let sockets = Sockets::new(senders, std::mem::take(&mut estate.listeners));
    let means = Means { builder, sockets, snapshot: snapshots, manager: Rc::clone(&manager), datapath };
    let mut control = Control::new(&settings, Arc::clone(&telemetry), Arc::clone(&admin), means);
    let refused = begin(&mut control, &mut source, &denials, estate, &telemetry, started).await;
    control.deny(&denials.published().load_full());
    let ending = match &refused {
        Some(_) => Ending::Refused,
        None => {
            admin_sockets.serve(&admin);
            follow(&mut control, &mut source, &denials, &mut asked, &mut commands, &telemetry, &admin_sockets)
                .await
        }
    };
    let began = Instant::now();
    let mut delay = Duration::ZERO;
    let cause = match ending {
        Ending::Asked(cause) => {
            asked.upgrades.give_up();
            manager.stopping(longest_end(&settings));
            delay = settings.drain_delay.0;
            cause
        }
        Ending::Succeeded(heir, answer) => {
            pass_on(&heir, &mut control, &mut admin_sockets, &manager);
            if let Some(answer) = answer {
                let Heir { process, generation, .. } = heir;
                // Whoever asked may have gone.
                let _ = answer.send(Ok(Upgraded { process, generation }));
            }
            "upgrade"
        }
        Ending::Refused => {
            control.leave(&[]);
            admin_sockets.leave(&[]);
            "not ready"
        }
    };
    let drained = Drained { drain: &drain, delay, timeout: settings.drain_timeout.0 };
    drain_and_end(control, drained, &telemetry, &mut asked.ends, threads, cause).await;
    DrainEnded { elapsed: began.elapsed(), cut_off: cut_off.load(Ordering::Relaxed) }.emit(&telemetry);
    match refused {
        Some(words) => Err(anyhow!("cannot take over: {words}")),
        None => Ok(()),
    }
}

/// Serves for the first time, and takes over from a predecessor if there is one; says why that cannot be.
async fn begin(
    control: &mut Control,
    source: &mut Source,
    denials: &Denials,
    mut estate: Estate,
    telemetry: &Telemetry,
    started: Instant,
) -> Option<String> {
    let Some(predecessor) = estate.predecessor.take() else {
        control.reload(source);
        // Else what a service manager kept waits for documents that can be used.
        if control.ready().is_ok() {
            control.give_up();
        }
        return None;
    };
    control.hold_back();
    // The predecessor serves meanwhile, and waits no longer than it was told to.
    source.complete().await;
    control.reload(source);
    let generation = match control.ready() {
        Ok(generation) => generation,
        Err(words) => {
            predecessor.refuse(words.clone());
            return Some(words);
        }
    };
    let mut left = control.give_up();
    left.extend(estate.give_up());
    predecessor.relieve(generation, left).await;
    denials.catch_up();
    telemetry.metrics.upgrades_before(&predecessor.facts.upgrades);
    TakenOver { predecessor: predecessor.facts.process, elapsed: started.elapsed() }.emit(telemetry);
    control.take_over();
    None
}

/// Lets go of everything that the successor has, and then says so.
fn pass_on(heir: &Heir, control: &mut Control, admin: &mut AdminSockets, manager: &ServiceManager) {
    admin.leave(&heir.left);
    control.leave(&heir.left);
    manager.succeeded_by(heir.process);
    heir.relieved();
}

/// How the control loop ends.
enum Ending {
    /// A signal or a command asked for it.
    Asked(&'static str),
    /// A successor serves.
    Succeeded(Heir, Option<upgrade::Answer>),
    /// This process cannot take over from its predecessor.
    Refused,
}

/// The control loop: whatever changes is put in service, until something asks for a drain or a successor serves.
async fn follow(
    control: &mut Control,
    source: &mut Source,
    denials: &Denials,
    asked: &mut Asked,
    commands: &mut mpsc::Receiver<Command>,
    telemetry: &Telemetry,
    admin: &AdminSockets,
) -> Ending {
    let reload: ReloadHandle = source.reload_handle();
    let Asked { ends, hangups, upgrades } = asked;
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    refresh.reset();
    // A time of its own: what happens every second must not put it off.
    let mut retry = interval(BIND_RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            cause = ends.next() => return Ending::Asked(cause),
            command = commands.recv() => match command {
                Some(Command::Reload(answer)) => {
                    // Nobody waits for the answer any more: the reload is done all the same.
                    let _ = answer.send(control.reload(source));
                }
                Some(Command::Deny(change, answer)) => {
                    let outcome = denials.change(&change);
                    control.deny(&denials.published().load_full());
                    let _ = answer.send(outcome);
                }
                Some(Command::Drain(answer)) => {
                    let _ = answer.send(());
                    return Ending::Asked("admin socket");
                }
                Some(Command::Upgrade(answer)) => {
                    begin_upgrade(control, denials, upgrades, admin, telemetry, Some(answer));
                }
                // The sender lives in the admin state, which the control holds.
                None => return Ending::Asked("admin closed"),
            },
            next = upgrades.next() => match next {
                upgrade::Next::Asked => {
                    begin_upgrade(control, denials, upgrades, admin, telemetry, None);
                }
                upgrade::Next::Ready(heir, answer) => return Ending::Succeeded(heir, answer),
                upgrade::Next::Failed(error, answer) => {
                    upgrade::failed(&error, answer, telemetry);
                    control.tell_manager();
                }
            },
            _ = hangups.recv() => {
                telemetry.access.reopen();
                reload.ask();
            }
            trigger = source.changed() => match trigger {
                Trigger::Asked => drop(control.reload(source)),
                Trigger::Changed | Trigger::Polled => control.follow(source),
            },
            wants = WANTED.next() => control.learn(wants),
            () = denials.expiry() => {
                denials.expire();
                control.deny(&denials.published().load_full());
            }
            _ = beat.tick() => control.beat(),
            _ = retry.tick(), if control.has_unfinished() => drop(control.refresh()),
            _ = refresh.tick(), if source.is_complete() => drop(control.refresh()),
        }
    }
}

/// Starts a successor, unless one is on its way.
fn begin_upgrade(
    control: &Control,
    denials: &Denials,
    upgrades: &mut Upgrades,
    admin: &AdminSockets,
    telemetry: &Telemetry,
    mut answer: Option<upgrade::Answer>,
) {
    let mut begin = || {
        if upgrades.under_way() {
            return Err(UpgradeError::UnderWay);
        }
        let (facts, mut items) = control.legacy()?;
        items.extend(admin.items()?);
        items.push(denials.leave()?);
        upgrades.begin(&facts, &items, &mut answer)
    };
    match begin() {
        Ok(()) => control.tell_of_upgrade(),
        Err(error) => upgrade::failed(&error, answer, telemetry),
    }
}

/// How a process drains.
struct Drained<'a> {
    drain: &'a Drain,
    delay: Duration,
    timeout: Duration,
}

async fn drain_and_end(
    mut control: Control,
    drained: Drained<'_>,
    telemetry: &Telemetry,
    ends: &mut Ends,
    threads: Vec<JoinHandle<()>>,
    cause: &str,
) {
    let Drained { drain, delay, timeout } = drained;
    DrainBegun { cause, timeout }.emit(telemetry);
    control.unready();
    // Its notes are read to the last connection.
    let mut datapath = control.give_datapath();
    let deadline = async {
        sleep(delay).await;
        control.close();
        // The workers' accept loops end with the senders that the control holds.
        drop(control);
        drain.announce(Phase::Draining);
        sleep(timeout).await;
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
        _ = &mut ended => return datapath.end(),
        () = deadline => {}
        _ = ends.next() => {}
    }
    drain.announce(Phase::Stopping);
    tokio::select! {
        _ = &mut ended => {}
        () = sleep(STOP_TIMEOUT) => tracing::error!("a worker does not end"),
    }
    datapath.end();
}

/// How long the process may take to end from the first moment of a drain on.
fn longest_end(settings: &Settings) -> Duration {
    settings.drain_delay.0 + settings.drain_timeout.0 + STOP_TIMEOUT + ACCESS_LOG_CLOSE
}

/// The signals that ask for something.
struct Asked {
    ends: Ends,
    hangups: Signal,
    upgrades: Upgrades,
}

impl Asked {
    fn new(upgrade_timeout: Duration) -> io::Result<Self> {
        let (ends, hangups) = (Ends::new()?, signal(SignalKind::hangup())?);
        Ok(Self { ends, hangups, upgrades: Upgrades::new(upgrade_timeout)? })
    }
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

/// Watches files from a thread that has no capability.
fn file_source(config: Vec<PathBuf>) -> io::Result<FileSource> {
    let control = runtime::Handle::current();
    confine::apart(|| {
        let _timers = control.enter();
        FileSource::new(config)
    })
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
