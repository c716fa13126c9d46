//! The names in the kernel object: programs, maps, and the switches that the loader sets before the programs load.
//!
//! The loader finds everything by these names, and a test holds them against the object.

/// The version of keys, values, and what they mean. It stands in the path that maps are pinned at and in every
/// connection's storage; a change of either side's reading raises it.
pub const LAYOUT: u32 = 1;

/// Front ends at most.
pub const FRONTENDS_MAX: u32 = 1024;
/// Workers at most.
pub const WORKERS_MAX: u32 = 256;
/// CPUs that may have a worker; those beyond are served by hash.
pub const CPUS_MAX: u32 = 1024;
/// Listening sockets at most, unless the loader sizes `SOCKETS` otherwise.
pub const SOCKETS_MAX: u32 = 4096;
/// Handshakes under way whose times are known; a power of two.
pub const SLOTS_MAX: u32 = 65_536;
/// Sources whose pace is known; a power of two.
pub const BUCKETS_MAX: u32 = 65_536;
/// Prefixes in each of the deny and allow lists.
pub const PREFIXES_MAX: u32 = 65_536;
/// Bytes of the ring buffer for events.
pub const EVENTS_BYTES_MAX: u32 = 1 << 20;

/// The programs: name, and what they attach to.
pub mod program {
    /// XDP: screens and counts, on the interfaces where it can drop before there is an skb.
    pub const INGRESS_XDP: &str = "ingress_xdp";
    /// tcx or clsact ingress: the same over an skb.
    pub const INGRESS_TC: &str = "ingress_tc";
    /// `sk_reuseport/migrate`: which worker's socket gets a connection. One program for all groups.
    pub const PICK: &str = "pick";
    /// sock_ops on the daemon's cgroup: fills connections' storage, reports the ones that nobody accepted.
    pub const TRACK: &str = "track";
    /// cgroup_skb ingress on the daemon's cgroup: counts the wire packets of our sockets.
    pub const WIRE: &str = "wire";
    /// XDP: passes everything on. What tests measure costs against; never attached.
    pub const FLOOR_XDP: &str = "floor_xdp";
    /// tcx ingress: the same.
    pub const FLOOR_TC: &str = "floor_tc";

    /// All of them.
    pub const ALL: [&str; 7] = [INGRESS_XDP, INGRESS_TC, PICK, TRACK, WIRE, FLOOR_XDP, FLOOR_TC];
}

/// The maps: name, type, key, value, who writes.
pub mod map {
    /// Array, [`super::super::value`]'s PORT_ bits by TCP port; the daemon.
    pub const PORTS: &str = "PORTS";
    /// Hash, FrontendKey to Frontend; the daemon.
    pub const FRONTENDS: &str = "FRONTENDS";
    /// Array of one Control; the daemon.
    pub const CONTROL: &str = "CONTROL";
    /// LPM trie, IPv4 address to the u32 code of a Reason; the daemon.
    pub const DENY4: &str = "DENY4";
    /// LPM trie, IPv6 address to the u32 code of a Reason; the daemon.
    pub const DENY6: &str = "DENY6";
    /// LPM trie, IPv4 address to u32 (any value); the daemon. Wins over the deny list and the pace.
    pub const ALLOW4: &str = "ALLOW4";
    /// LPM trie, IPv6 address to u32 (any value); the daemon. Wins over the deny list and the pace.
    pub const ALLOW6: &str = "ALLOW6";
    /// Array of u32 by CPU: its worker's number + 1; 0: none. The daemon.
    pub const CPUS: &str = "CPUS";
    /// Array of u32 by worker: its state (`Worker`). The daemon.
    pub const WORKERS: &str = "WORKERS";
    /// Array of listening sockets (REUSEPORT_SOCKARRAY), by `Frontend::first_socket` + worker; the daemon.
    pub const SOCKETS: &str = "SOCKETS";
    /// Storage of sockets, Connection, cloned from the listening socket; the daemon its template, programs the rest.
    pub const CONNECTIONS: &str = "CONNECTIONS";
    /// Storage of sockets, u64 CLOCK_MONOTONIC ns when accepted; the daemon. Without it a socket that ends is reported.
    pub const ACCEPTED: &str = "ACCEPTED";
    /// Array of Slot; programs.
    pub const SLOTS: &str = "SLOTS";
    /// Array of Bucket; programs.
    pub const BUCKETS: &str = "BUCKETS";
    /// Per-CPU array of Recent; programs.
    pub const RECENT: &str = "RECENT";
    /// Per-CPU array of Counters by `Frontend::id`; programs.
    pub const COUNTERS: &str = "COUNTERS";
    /// Per-CPU array of one Totals; programs.
    pub const TOTALS: &str = "TOTALS";
    /// Ring buffer of Event; programs.
    pub const EVENTS: &str = "EVENTS";

    /// All of them.
    pub const ALL: [&str; 18] = [
        PORTS,
        FRONTENDS,
        CONTROL,
        DENY4,
        DENY6,
        ALLOW4,
        ALLOW6,
        CPUS,
        WORKERS,
        SOCKETS,
        CONNECTIONS,
        ACCEPTED,
        SLOTS,
        BUCKETS,
        RECENT,
        COUNTERS,
        TOTALS,
        EVENTS,
    ];
}

/// The switches: globals in `.rodata` that the loader sets before loading. What a switch turns off, the verifier
/// removes from the program.
pub mod switch {
    /// u8: the deny list (default 1). What it does is [`crate::value::Control::deny`]'s to say.
    pub const DENY: &str = "SWITCH_DENY";
    /// u8: the pace of each source (default 0). What it does is [`crate::value::Control::limit`]'s to say.
    pub const LIMIT: &str = "SWITCH_LIMIT";
    /// u8: SYN slots (default 1): times and tries of handshakes.
    pub const SLOTS: &str = "SWITCH_SLOTS";
    /// u8: events (default 1).
    pub const EVENTS: &str = "SWITCH_EVENTS";
    /// u8: `pick` follows the CPU (default 1); with 0 it spreads by hash.
    pub const PIN_CPU: &str = "SWITCH_PIN_CPU";
    /// u8: packets begin with the IP header (default 0): interfaces without Ethernet headers, such as tunnels.
    pub const RAW_IP: &str = "SWITCH_RAW_IP";
    /// u8: every SYN counts as the first of another handshake (default 0). For measurements alone: a packet that is run
    /// again and again would be a repeated SYN from the second time on.
    pub const FRESH: &str = "SWITCH_FRESH";
    /// u32: one drop in how many, less one, becomes an event; a power of two less one (default 63).
    pub const EVENT_MASK: &str = "EVENT_MASK";
    /// u64: the secret of the hashes of slots and buckets; chance, the same for every program that shares the maps.
    pub const SEED: &str = "SEED";

    /// Those that are u8 and either 0 or 1.
    pub const ON_OFF: [&str; 7] = [DENY, LIMIT, SLOTS, EVENTS, PIN_CPU, RAW_IP, FRESH];
}
