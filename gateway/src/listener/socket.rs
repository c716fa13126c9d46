//! The socket of an accepted connection. However a connection ends, its socket is dropped, and here the kernel's last
//! figures are read before the descriptor is closed: every connection has exactly one record.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::accept::Arrival;
use super::roster::Roster;
use crate::datapath::socket::tcp_info;
use crate::telemetry::connections::Origin;
use crate::telemetry::{ListenerMetrics, OpenConnection, Telemetry};

/// An accepted socket with what is told of its connection.
#[derive(Debug)]
pub struct Socket {
    pub(super) tcp: TcpStream,
    open: Rc<OpenConnection>,
    roster: Roster,
}

impl Socket {
    /// Takes up an arrival on the frontend with these metrics.
    pub fn take_up(
        arrival: Arrival,
        telemetry: &Arc<Telemetry>,
        frontend: &Arc<ListenerMetrics>,
        roster: &Roster,
    ) -> Self {
        let tcp = arrival.stream;
        let origin = Origin {
            peer: arrival.peer,
            // The bound address may be unspecified and then tells little.
            local: tcp.local_addr().unwrap_or(arrival.bound),
            worker: roster.worker(),
            is_local: is_local(&tcp),
            rtt: tcp_info(tcp.as_raw_fd()).map(|info| info.rtt),
        };
        let open = OpenConnection::begin(telemetry, frontend, origin);
        roster.enter(&tcp, &open);
        Self { tcp, open, roster: roster.clone() }
    }

    /// What is told of its connection.
    pub fn open(&self) -> &Rc<OpenConnection> {
        &self.open
    }

    /// The client's address: the peer's, or the one that a trusted proxy told.
    pub fn client(&self) -> SocketAddr {
        self.open.client()
    }
}

#[cfg(test)]
impl Socket {
    /// One whose record nobody reads.
    pub(crate) fn of_tests(stream: TcpStream, telemetry: &Arc<Telemetry>, roster: &Roster) -> Self {
        let (peer, bound) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        let arrival = Arrival { stream, peer, bound, at: tokio::time::Instant::now() };
        let metrics = telemetry.metrics.listener("default/gw:443");
        Self::take_up(arrival, telemetry, &metrics, roster)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.roster.leave(&self.tcp, &self.open);
    }
}

/// Whether this thread runs on the CPU that the connection's packets are handled on.
fn is_local(tcp: &TcpStream) -> bool {
    SockRef::from(tcp).cpu_affinity().is_ok_and(|cpu| cpu == rustix::thread::sched_getcpu())
}
