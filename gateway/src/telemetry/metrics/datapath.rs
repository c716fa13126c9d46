//! What the programs in the kernel counted, by front end, and how loading them came out. Read from the kernel once a
//! second; a scrape shows what was read last.

use gateway_common::value::{Counters, Shed, Totals};
use prometheus::{IntCounter, IntGaugeVec};

use super::shelf::{Row, Shelf};

/// How a connection's worker was chosen.
const CHOSEN_BY: [&str; 3] = ["cpu", "hash", "kernel"];

/// The datapath as a whole.
pub struct DatapathMetrics {
    packets: IntCounter,
    fragments: IntCounter,
    unreadable: IntCounter,
    events_lost: IntCounter,
    attached: IntGaugeVec,
    stages: IntGaugeVec,
}

/// A front end as the programs counted it.
pub struct FrontendMetrics {
    syns: IntCounter,
    syn_retries: IntCounter,
    slots_overwritten: IntCounter,
    established: IntCounter,
    unmatched: IntCounter,
    unaccepted: IntCounter,
    packets: Row,
    bytes: Row,
    dropped: Row,
    observed: Row,
    allowed: IntCounter,
    chosen: Row,
    migrated: IntCounter,
}

impl DatapathMetrics {
    pub(super) fn on(shelf: &mut Shelf) -> Self {
        Self {
            packets: shelf
                .counter("yett_bpf_packets_total", "Packets that the programs of the interfaces saw"),
            fragments: shelf.counter(
                "yett_bpf_fragments_total",
                "Fragments of IP packets that the programs of the interfaces passed on unread",
            ),
            unreadable: shelf.counter(
                "yett_bpf_unreadable_total",
                "Packets that the programs of the interfaces passed on since they could not be read",
            ),
            events_lost: shelf.counter(
                "yett_bpf_events_lost_total",
                "Reports of the programs that found no room in the ring",
            ),
            attached: shelf.gauges(
                "yett_bpf_programs_attached",
                "Programs that are attached; always 1",
                &["program", "interface", "mode"],
            ),
            stages: shelf.gauges(
                "yett_bpf_stage",
                "How many times a stage of loading came out so: ok, fallback or failed",
                &["stage", "result"],
            ),
        }
    }

    /// Shows what is attached: program, interface, mode.
    pub fn attached<'a>(&self, programs: impl IntoIterator<Item = [&'a str; 3]>) {
        self.attached.reset();
        for labels in programs {
            self.attached.with_label_values(&labels).set(1);
        }
    }

    /// Shows how the stages came out: stage, result.
    pub fn stages<'a>(&self, outcomes: impl IntoIterator<Item = [&'a str; 2]>) {
        self.stages.reset();
        for labels in outcomes {
            self.stages.with_label_values(&labels).inc();
        }
    }

    /// Adds what was counted from one reading to the next.
    pub fn counted(&self, before: &Totals, now: &Totals) {
        self.packets.inc_by(now.packets.saturating_sub(before.packets));
        self.fragments.inc_by(now.fragments.saturating_sub(before.fragments));
        self.unreadable.inc_by(now.unreadable.saturating_sub(before.unreadable));
        self.events_lost.inc_by(now.events_lost.saturating_sub(before.events_lost));
    }
}

impl FrontendMetrics {
    pub(super) fn on(shelf: &mut Shelf) -> Self {
        let reasons = || Shed::ALL.iter().map(|shed| shed.reason().as_str());
        Self {
            syns: shelf.counter("yett_bpf_syns_total", "SYNs that came in, repeated ones too"),
            syn_retries: shelf.counter("yett_bpf_syn_retries_total", "SYNs that repeated one under way"),
            slots_overwritten: shelf.counter(
                "yett_bpf_syn_slots_overwritten_total",
                "Handshakes whose times were lost to another one's",
            ),
            established: shelf.counter(
                "yett_bpf_connections_total",
                "Connections whose TCP handshake the kernel completed",
            ),
            unmatched: shelf.counter(
                "yett_bpf_connections_unmatched_total",
                "Connections whose SYN is not known: it came by another way, or its time was lost",
            ),
            unaccepted: shelf.counter(
                "yett_bpf_connections_unaccepted_total",
                "Connections that ended before they were accepted",
            ),
            packets: shelf.row(
                "yett_bpf_wire_packets_total",
                "TCP packets as on the wire",
                "direction",
                ["in"],
            ),
            bytes: shelf.row(
                "yett_bpf_wire_bytes_total",
                "Bytes of TCP packets as on the wire, from the IP header on",
                "direction",
                ["in"],
            ),
            dropped: shelf.row("yett_bpf_drops_total", "SYNs that were dropped", "reason", reasons()),
            observed: shelf.row(
                "yett_bpf_observed_total",
                "SYNs that would have been dropped if the rule were enforced",
                "reason",
                reasons(),
            ),
            allowed: shelf.counter("yett_bpf_allowed_total", "SYNs that the allow list saved"),
            chosen: shelf.row(
                "yett_bpf_chosen_total",
                "Connections by who chose their worker: the CPU of the SYN, a hash, or the kernel",
                "by",
                CHOSEN_BY,
            ),
            migrated: shelf.counter(
                "yett_bpf_migrated_total",
                "Connections that moved from a closing socket to another",
            ),
        }
    }

    /// Adds what was counted from one reading to the next.
    pub fn counted(&self, before: &Counters, now: &Counters) {
        let add = |counter: &IntCounter, count: fn(&Counters) -> u64| {
            counter.inc_by(count(now).saturating_sub(count(before)));
        };
        add(&self.syns, |counts| counts.syns);
        add(&self.syn_retries, |counts| counts.syn_retries);
        add(&self.slots_overwritten, |counts| counts.slots_overwritten);
        add(&self.established, |counts| counts.established);
        add(&self.unmatched, |counts| counts.unmatched);
        add(&self.unaccepted, |counts| counts.unaccepted);
        add(self.packets.at(0), |counts| counts.packets);
        add(self.bytes.at(0), |counts| counts.bytes);
        for (at, shed) in Shed::ALL.iter().enumerate() {
            let shed = *shed as usize;
            self.dropped.at(at).inc_by(now.dropped[shed].saturating_sub(before.dropped[shed]));
            self.observed.at(at).inc_by(now.observed[shed].saturating_sub(before.observed[shed]));
        }
        add(&self.allowed, |counts| counts.allowed);
        add(self.chosen.at(0), |counts| counts.picked_cpu);
        add(self.chosen.at(1), |counts| counts.picked_hash);
        add(self.chosen.at(2), |counts| counts.picked_kernel);
        add(&self.migrated, |counts| counts.migrated);
    }
}

impl std::fmt::Debug for FrontendMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrontendMetrics")
    }
}
