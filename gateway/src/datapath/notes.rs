//! What the kernel noted of a connection, read through its socket by the worker that serves it.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{Array, MapData, SkStorage};
use gateway_common::object::{LAYOUT, map};
use gateway_common::value::{Connection, Worker};

use super::load::Maps;
use super::stage::StageError;
use crate::telemetry::connections::{KernelRecord, Wire};

/// What user space saw of a connection itself, for spans that begin in the kernel and end here.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it was accepted.
    pub accepted: Instant,
    /// When the first bytes from the client were read.
    pub first_read: Option<Instant>,
}

/// The way to the maps for workers; may go to other threads.
#[derive(Clone, Debug, Default)]
pub struct Handles {
    pub(super) maps: Option<Arc<Maps>>,
    /// Whether this process speaks to the programs; another one may have the maps too.
    pub(super) speaks: Arc<AtomicBool>,
}

/// One worker's handles; nothing while the datapath is off.
#[derive(Clone, Debug, Default)]
pub struct Notes(Option<Rc<Inner>>);

struct Inner {
    worker: u32,
    speaks: Arc<AtomicBool>,
    connections: SkStorage<MapData, Connection>,
    accepted: RefCell<SkStorage<MapData, u64>>,
    workers: RefCell<Array<MapData, u32>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Notes of worker {}", self.worker)
    }
}

impl Handles {
    /// Those of the worker with this number.
    pub fn notes(&self, worker: usize) -> Notes {
        let Some(maps) = &self.maps else { return Notes::default() };
        match Inner::new(maps, Arc::clone(&self.speaks), worker) {
            Ok(inner) => Notes(Some(Rc::new(inner))),
            Err(error) => {
                tracing::error!(worker, %error, "a worker cannot read what the kernel notes");
                Notes::default()
            }
        }
    }
}

impl Inner {
    fn new(maps: &Maps, speaks: Arc<AtomicBool>, worker: usize) -> Result<Self, StageError> {
        Ok(Self {
            speaks,
            worker: u32::try_from(worker).unwrap_or(u32::MAX),
            connections: maps.typed(map::CONNECTIONS)?,
            accepted: RefCell::new(maps.typed(map::ACCEPTED)?),
            workers: RefCell::new(maps.typed(map::WORKERS)?),
        })
    }
}

impl Notes {
    /// The connection is taken: whatever becomes of it, its record tells, and the kernel need not report its end.
    pub fn accepted(&self, socket: RawFd) {
        if let Some(inner) = &self.0 {
            // The client may have reset it: then there is nothing to tell.
            let _ = inner.accepted.borrow_mut().insert(&socket, now_ns(), 0);
        }
    }

    /// This worker has more than its share of the connections, or no longer.
    pub fn over_share(&self, is_over: bool) {
        // While it drains, the worker of this number is the successor's.
        if let Some(inner) = self.0.as_ref().filter(|inner| inner.speaks.load(Ordering::Relaxed)) {
            let state = if is_over { Worker::Busy } else { Worker::Serving };
            // A worker beyond the map's end is given connections by the kernel alone.
            let _ = inner.workers.borrow_mut().set(inner.worker, state as u32, 0);
        }
    }

    /// What the kernel noted about a connection. To be asked before its descriptor is closed: the notes go with it.
    pub fn record(&self, socket: RawFd, seen: Seen) -> KernelRecord {
        let Some(inner) = &self.0 else { return KernelRecord::default() };
        match inner.connections.get(&socket, 0) {
            Ok(connection) => record(&connection, seen, now_ns(), Instant::now()),
            Err(_) => KernelRecord::default(),
        }
    }
}

/// `now_ns` and `now` are the same moment, as the kernel counts and as this process does.
fn record(connection: &Connection, seen: Seen, now_ns: u64, now: Instant) -> KernelRecord {
    let Connection { syn_ns, established_ns, first_payload_ns, packets, bytes, syn_tries, .. } = *connection;
    if connection.layout != LAYOUT || established_ns == 0 {
        return KernelRecord::default();
    }
    let at_ns = |moment: Instant| {
        let ago = u64::try_from(now.saturating_duration_since(moment).as_nanos()).unwrap_or(u64::MAX);
        now_ns.saturating_sub(ago)
    };
    let span = |from: u64, to: u64| match (from, to) {
        (0, _) | (_, 0) => None,
        // Two clocks read one after the other: what ends before it began took no time.
        (from, to) => Some(Duration::from_nanos(to.saturating_sub(from))),
    };
    // A connection whose packets are counted had at least one, or nothing was sent on it yet.
    let is_counted = packets > 0;
    KernelRecord {
        syn_tries: (syn_tries > 0).then_some(syn_tries),
        syn_to_established: span(syn_ns, established_ns),
        established_to_accept: span(established_ns, at_ns(seen.accepted)),
        syn_to_hello: span(syn_ns, first_payload_ns),
        hello_to_read: seen.first_read.and_then(|read| span(first_payload_ns, at_ns(read))),
        wire_in: is_counted.then_some(Wire { packets, bytes }),
        zero_windows: is_counted.then_some(connection.zero_windows),
    }
}

/// The clock that the programs read: CLOCK_MONOTONIC.
pub(super) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_join_the_kernel_s_times_with_ours() {
        let now = Instant::now();
        let ago = |ns: u64| now.checked_sub(Duration::from_nanos(ns)).unwrap();
        let seen = Seen { accepted: ago(600), first_read: Some(ago(100)) };
        let connection = Connection {
            layout: LAYOUT,
            syn_ns: 9_000,
            established_ns: 9_100,
            first_payload_ns: 9_700,
            packets: 3,
            bytes: 300,
            syn_tries: 2,
            ..Connection::default()
        };
        let ns = |ns| Some(Duration::from_nanos(ns));
        let known = record(&connection, seen, 10_000, now);
        let expected = KernelRecord {
            syn_tries: Some(2),
            syn_to_established: ns(100),
            established_to_accept: ns(300),
            syn_to_hello: ns(700),
            hello_to_read: ns(200),
            wire_in: Some(Wire { packets: 3, bytes: 300 }),
            zero_windows: Some(0),
        };
        assert_eq!(known, expected);
        let unmatched = Connection { syn_ns: 0, syn_tries: 0, ..connection };
        let known = record(&unmatched, seen, 10_000, now);
        assert_eq!((known.syn_tries, known.syn_to_established, known.syn_to_hello), (None, None, None));
        assert_eq!(known.established_to_accept, ns(300));
        for foreign in
            [Connection { layout: LAYOUT + 1, ..connection }, Connection { established_ns: 0, ..connection }]
        {
            assert_eq!(record(&foreign, seen, 10_000, now), KernelRecord::default());
        }
        let early = Seen { accepted: ago(2_000), first_read: None };
        assert_eq!(record(&connection, early, 10_000, now).established_to_accept, ns(0));
    }

    #[test]
    fn without_a_datapath_nothing_is_known_and_nothing_fails() {
        let notes = Handles::default().notes(3);
        notes.accepted(-1);
        notes.over_share(true);
        let seen = Seen { accepted: Instant::now(), first_read: None };
        assert_eq!(notes.record(-1, seen), KernelRecord::default());
    }
}
