//! Values of the maps: fixed widths, padding spelled out, sizes asserted. Zero is always the harmless value: a map
//! that nobody wrote drops nothing, limits nothing and leaves the choice of a socket to the kernel.

use crate::key::{Address, FrontendKey};
use crate::reason::Reason;

/// `PORTS`, indexed by TCP port: whether any front end has the port. Packets to other ports are looked at no further.
/// Some front end listens on exactly one address at this port.
pub const PORT_EXACT: u32 = 1;
/// Some front end listens on every address of a family at this port.
pub const PORT_ANY: u32 = 2;

/// A front end; the value of `FRONTENDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Frontend {
    /// Index into `COUNTERS`, below `FRONTENDS_MAX`; given out by the daemon, kept while the front end lives.
    pub id: u32,
    /// Index into `SOCKETS` of the socket of worker 0; worker n's is `first_socket + n`.
    pub first_socket: u32,
}

/// A front end found lately, so that its next packet needs no hash table; `RECENT` is indexed by [`Recent::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Recent {
    /// [`Control::heartbeat_ns`] when it was found. With the next sign of life everything is looked up anew, so what the
    /// daemon changed in `FRONTENDS` is counted wrongly no longer than until then.
    pub heartbeat_ns: u64,
    /// Where the packet went: its own address, also where the front end listens on every address.
    pub key: FrontendKey,
    /// [`Frontend::id`] and one; 0 where nothing was found yet.
    pub found: u32,
    /// Zero.
    pub pad: u32,
}

impl Recent {
    /// The index for a key.
    #[inline(always)]
    pub const fn index(key: &FrontendKey) -> u32 {
        let word = key.address[3] ^ key.address[1] ^ key.port << 16;
        word.wrapping_mul(0x9e37_79b1) >> (32 - RECENT_BITS)
    }
}

/// How many bits an index into `RECENT` has.
pub const RECENT_BITS: u32 = 8;

/// What the daemon tells the programs at run time; the only value of `CONTROL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// CLOCK_MONOTONIC at the daemon's last sign of life. When it is older than [`HEARTBEAT_NS_MAX`] (or 0), nothing
    /// is denied or limited.
    pub heartbeat_ns: u64,
    /// One new connection of a source each so many nanoseconds; 0: no limit.
    pub syn_interval_ns: u64,
    /// How far ahead of that pace a source may run.
    pub syn_burst_ns: u64,
    /// How many workers there are: `CPUS` points below it, hashing spreads over them. At most `WORKERS_MAX`.
    pub workers: u32,
    /// What becomes of a source on the deny list: a [`Mode`].
    pub deny: u8,
    /// What becomes of a source over its pace: a [`Mode`].
    pub limit: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// The age of the daemon's last sign of life from which on it counts as gone.
pub const HEARTBEAT_NS_MAX: u64 = 30_000_000_000;

/// How far a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Not looked at.
    Off = 0,
    /// Counted and reported, not applied.
    Observe = 1,
    /// Applied.
    Enforce = 2,
}

impl Mode {
    /// A mode of a map; unknown values are off.
    #[inline(always)]
    pub const fn of(value: u8) -> Mode {
        match value {
            1 => Mode::Observe,
            2 => Mode::Enforce,
            _ => Mode::Off,
        }
    }
}

/// Why the datapath drops: the index into the counters. Each has its stable [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Shed {
    /// On the deny list.
    Denied = 0,
    /// Over the pace for one source.
    RateLimited = 1,
}

impl Shed {
    /// Every one, in the order of the indices.
    pub const ALL: [Shed; SHEDS] = [Shed::Denied, Shed::RateLimited];

    /// The reason that metrics, logs and events name.
    #[inline(always)]
    pub const fn reason(self) -> Reason {
        match self {
            Shed::Denied => Reason::SourceDenied,
            Shed::RateLimited => Reason::SourceRateLimited,
        }
    }
}

/// How many kinds of [`Shed`] there are.
pub const SHEDS: usize = 2;

/// Counts of one front end on one CPU; `COUNTERS` is indexed by [`Frontend::id`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// TCP packets to the front end, as on the wire: a packet that the kernel merged counts its segments.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// SYNs without ACK, repeated ones too.
    pub syns: u64,
    /// SYNs that repeat the one in their slot.
    pub syn_retries: u64,
    /// SYN slots taken over from another handshake under way, whose times are lost.
    pub slots_overwritten: u64,
    /// Connections whose handshake was completed, counted by the kernel.
    pub established: u64,
    /// Of them, those without a slot of theirs: their times are unknown.
    pub unmatched: u64,
    /// Connections that ended before the daemon accepted them.
    pub unaccepted: u64,
    /// SYNs dropped, by [`Shed`].
    pub dropped: [u64; SHEDS],
    /// SYNs that would have been dropped with [`Mode::Enforce`].
    pub observed: [u64; SHEDS],
    /// SYNs that the allow list saved from being dropped.
    pub allowed: u64,
    /// Connections that the worker of the SYN's CPU got.
    pub picked_cpu: u64,
    /// Connections spread by hash over the workers that serve.
    pub picked_hash: u64,
    /// Connections left to the kernel's own choice: no worker serves, or none of ours has a socket.
    pub picked_kernel: u64,
    /// Connections moved from a closing listening socket to another.
    pub migrated: u64,
}

impl Counters {
    /// These and those of another CPU.
    pub const fn plus(&self, other: &Counters) -> Counters {
        Counters {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            syns: self.syns + other.syns,
            syn_retries: self.syn_retries + other.syn_retries,
            slots_overwritten: self.slots_overwritten + other.slots_overwritten,
            established: self.established + other.established,
            unmatched: self.unmatched + other.unmatched,
            unaccepted: self.unaccepted + other.unaccepted,
            dropped: [self.dropped[0] + other.dropped[0], self.dropped[1] + other.dropped[1]],
            observed: [self.observed[0] + other.observed[0], self.observed[1] + other.observed[1]],
            allowed: self.allowed + other.allowed,
            picked_cpu: self.picked_cpu + other.picked_cpu,
            picked_hash: self.picked_hash + other.picked_hash,
            picked_kernel: self.picked_kernel + other.picked_kernel,
            migrated: self.migrated + other.migrated,
        }
    }
}

/// Counts of one CPU over all packets; the only value of `TOTALS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// Packets seen at the interface.
    pub packets: u64,
    /// Of them, fragments of IP packets: passed on, since only the first has ports.
    pub fragments: u64,
    /// Of them, packets whose headers end early, contradict themselves, or nest deeper than is looked: passed on.
    pub unreadable: u64,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
}

impl Totals {
    /// These and those of another CPU.
    pub const fn plus(&self, other: &Totals) -> Totals {
        Totals {
            packets: self.packets + other.packets,
            fragments: self.fragments + other.fragments,
            unreadable: self.unreadable + other.unreadable,
            events_lost: self.events_lost + other.events_lost,
        }
    }
}

/// What the kernel remembers of a SYN until the connection is established; `SLOTS` is indexed by the flow's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    /// CLOCK_MONOTONIC at the first SYN.
    pub syn_ns: u64,
    /// The other half of the flow's hash; 0 where the slot is free.
    pub tag: u32,
    /// The client's initial sequence number.
    pub isn: u32,
    /// SYNs so far.
    pub tries: u32,
    /// Zero.
    pub pad: u32,
}

/// The pace of a source; `BUCKETS` is indexed by the source's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// When the source will have used up what it took so far.
    pub due_ns: u64,
    /// The other half of the source's hash.
    pub tag: u32,
    /// Zero.
    pub pad: u32,
}

/// Whether a worker takes connections; `WORKERS` is indexed by the worker's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Worker {
    /// No such worker, or not yet, or no longer.
    Absent = 0,
    /// Takes connections.
    Serving = 1,
    /// Over its share: takes them only when no other does.
    Busy = 2,
    /// Ends; takes no more.
    Draining = 3,
}

impl Worker {
    /// The state in a map; an unknown one is absent.
    #[inline(always)]
    pub const fn of(value: u32) -> Worker {
        match value {
            1 => Worker::Serving,
            2 => Worker::Busy,
            3 => Worker::Draining,
            _ => Worker::Absent,
        }
    }
}

/// A connection as the kernel saw it, in the storage of its socket (`CONNECTIONS`). The daemon puts a template on each
/// listening socket, with `frontend` set and the rest zero apart from `layout`; the kernel copies it to every
/// connection of that socket. Programs write to connections only, never to a listening socket's own value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Connection {
    /// [`crate::object::LAYOUT`]; with another value the socket is not ours.
    pub layout: u32,
    /// [`Frontend::id`].
    pub frontend: u32,
    /// CLOCK_MONOTONIC at the first SYN; 0: unknown.
    pub syn_ns: u64,
    /// CLOCK_MONOTONIC when the handshake was complete; 0: not yet, as on a listening socket.
    pub established_ns: u64,
    /// CLOCK_MONOTONIC at the first packet with payload; 0: none yet, or not watched.
    pub first_payload_ns: u64,
    /// Packets from the client after the handshake, as on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// The client's initial sequence number.
    pub isn: u32,
    /// SYNs until the handshake was complete; 0: unknown.
    pub syn_tries: u32,
    /// Packets in which the client closed its window.
    pub zero_windows: u32,
    /// What the first payload looked like: a [`crate::parse::Opening`].
    pub opening: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A SYN was dropped (a sample of them).
    Dropped = 1,
    /// A SYN would have been dropped (a sample of them).
    Observed = 2,
    /// A connection ended before it was accepted (every one).
    Unaccepted = 3,
}

impl EventKind {
    /// The kind of an event's byte; None for one of a later layout.
    pub const fn of(value: u8) -> Option<EventKind> {
        match value {
            1 => Some(EventKind::Dropped),
            2 => Some(EventKind::Observed),
            3 => Some(EventKind::Unaccepted),
            _ => None,
        }
    }
}

/// A rare happening, in the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// CLOCK_MONOTONIC at the first SYN; 0: unknown.
    pub syn_ns: u64,
    /// CLOCK_MONOTONIC when the handshake was complete; 0: it was not.
    pub established_ns: u64,
    /// CLOCK_MONOTONIC at the first payload; 0: none came.
    pub first_payload_ns: u64,
    /// The client.
    pub source: Address,
    /// The front end's address that the client used.
    pub destination: Address,
    /// [`Frontend::id`].
    pub frontend: u32,
    /// SYNs so far; 0: unknown.
    pub syn_tries: u32,
    /// The client's port.
    pub source_port: u16,
    /// The front end's port.
    pub destination_port: u16,
    /// [`EventKind`].
    pub kind: u8,
    /// [`Reason`] as its code; 0: none.
    pub reason: u8,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = {
    assert!(size_of::<Frontend>() == 8);
    assert!(size_of::<Recent>() == 40);
    assert!(size_of::<Control>() == 32);
    assert!(size_of::<Counters>() == 17 * 8);
    assert!(size_of::<Totals>() == 4 * 8);
    assert!(size_of::<Slot>() == 24);
    assert!(size_of::<Bucket>() == 16);
    assert!(size_of::<Connection>() == 64);
    assert!(size_of::<Event>() == 80);
};
