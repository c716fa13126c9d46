//! What connections cost on the network, by frontend: histograms that are filled when a connection closes.
//!
//! Each is labelled by where its figure comes from: the kernel's programs (`ebpf`) where they know it, else TCP_INFO. One
//! connection counts in one of the two.

use std::time::Duration;

use super::shelf::{Buckets, HistogramGrid, Shelf};
use crate::telemetry::connections::{KernelRecord, TcpInfo};

const SOURCES: [&str; 2] = ["tcp_info", "ebpf"];
const TCP_INFO: usize = 0;
const EBPF: usize = 1;

pub(super) struct ConnectionMetrics {
    syn_to_established: HistogramGrid<2>,
    established_to_accept: HistogramGrid<2>,
    syn_to_hello: HistogramGrid<2>,
    hello_to_read: HistogramGrid<2>,
    wire_bytes: HistogramGrid<4>,
    retransmits: HistogramGrid<2>,
}

impl ConnectionMetrics {
    pub(super) fn on(shelf: &mut Shelf) -> Self {
        let span = |shelf: &mut Shelf, name: &str, help: &str| {
            shelf.histogram_grid(name, help, Buckets::RoundTrips, &["source"])
        };
        Self {
            syn_to_established: span(
                shelf,
                "yett_connection_syn_to_established_seconds",
                "Time of TCP handshakes: from the first SYN, or the round trip after it, to the connection",
            ),
            established_to_accept: span(
                shelf,
                "yett_connection_established_to_accept_seconds",
                "Time that connections waited to be accepted",
            ),
            syn_to_hello: span(
                shelf,
                "yett_connection_syn_to_hello_seconds",
                "Time from the first SYN to the first bytes of the client",
            ),
            hello_to_read: span(
                shelf,
                "yett_connection_hello_to_read_seconds",
                "Time from the arrival of the client's first bytes until they were read",
            ),
            wire_bytes: shelf.histogram_grid(
                "yett_connection_wire_bytes",
                "Bytes of connections: of IP packets (ebpf), or of TCP payload with what was repeated (tcp_info)",
                Buckets::Sizes,
                &["direction", "source"],
            ),
            retransmits: shelf.histogram_grid(
                "yett_connection_retransmits",
                "Packets that were sent again on connections",
                Buckets::Counts,
                &["source"],
            ),
        }
    }

    /// Counts a connection at its end; `rtt`: of its TCP handshake.
    pub(super) fn closed(&self, rtt: Option<Duration>, tcp: Option<&TcpInfo>, kernel: &KernelRecord) {
        let span = |histogram: &HistogramGrid<2>, span: Option<Duration>, source: usize| {
            if let Some(span) = span {
                histogram.at(source, &[SOURCES[source]]).observe(span.as_secs_f64());
            }
        };
        match kernel.syn_to_established {
            None => span(&self.syn_to_established, rtt, TCP_INFO),
            known => span(&self.syn_to_established, known, EBPF),
        }
        span(&self.established_to_accept, kernel.established_to_accept, EBPF);
        span(&self.syn_to_hello, kernel.syn_to_hello, EBPF);
        span(&self.hello_to_read, kernel.hello_to_read, EBPF);
        if let Some(wire) = &kernel.wire_in {
            self.bytes("in", EBPF, wire.bytes);
        }
        let Some(tcp) = tcp else { return };
        if kernel.wire_in.is_none() {
            self.bytes("in", TCP_INFO, tcp.bytes_received);
        }
        self.bytes("out", TCP_INFO, tcp.bytes_sent);
        self.retransmits.at(TCP_INFO, &[SOURCES[TCP_INFO]]).observe(tcp.retransmits.into());
    }

    #[allow(clippy::cast_precision_loss, reason = "a bucket does not need the last bit of a petabyte")]
    fn bytes(&self, direction: &str, source: usize, bytes: u64) {
        let cell = source * 2 + usize::from(direction == "out");
        self.wire_bytes.at(cell, &[direction, SOURCES[source]]).observe(bytes as f64);
    }
}
