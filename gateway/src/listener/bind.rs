//! Binds the sockets of a frontend's address: one for each worker, in one SO_REUSEPORT group.
//!
//! Binding and listening are apart: a set is bound first, so that a failure is known before anything is published,
//! and listens once the snapshot that serves it stands.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for one socket until a worker accepts them (`listen(2)` backlog; the kernel caps
/// it at `net.core.somaxconn`).
pub const BACKLOG_CONNECTIONS_MAX: i32 = 4096;

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {address}: {source}{}", hint(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE; --port-map 443=8443 binds another port)"
        }
        io::ErrorKind::AddrInUse => " (another process listens there)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has the address)",
        _ => "",
    }
}

/// Sockets that are bound and do not listen yet.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    sockets: Vec<Socket>,
}

/// Binds `workers` sockets to one address. `beside_own` says that sockets of this process already hold the port on an
/// overlapping address (a Gateway that moves from every address to a certain one, say).
pub fn bind(address: SocketAddr, workers: usize, beside_own: bool) -> Result<Bound, BindError> {
    let refused = |source| BindError { address, source };
    if !beside_own {
        // A socket of another process that also sets SO_REUSEPORT would share the port in silence, if its user is
        // ours. Without the option the system refuses, so this is tried first.
        drop(socket(address, false).map_err(refused)?);
    }
    let sockets = (0..workers).map(|_| socket(address, true)).collect::<io::Result<_>>().map_err(refused)?;
    Ok(Bound { address, sockets })
}

impl Bound {
    /// Lets the kernel take connections. The listeners are non-blocking, one for each worker in order.
    pub fn listen(self) -> Result<Vec<TcpListener>, BindError> {
        let address = self.address;
        self.sockets
            .into_iter()
            .map(|socket| {
                socket.listen(BACKLOG_CONNECTIONS_MAX)?;
                Ok(socket.into())
            })
            .collect::<io::Result<_>>()
            .map_err(|source| BindError { address, source })
    }
}

fn socket(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of a former process that linger in TIME_WAIT must not keep the port.
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // Else `::` would take IPv4 too and collide with the socket on 0.0.0.0.
        socket.set_only_v6(true)?;
    }
    // Accepted connections inherit it: answers are written whole, so there is nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether the machine speaks IPv6 at all; where it does not, `::` is left out of the default addresses.
pub fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// The machine's addresses that a client elsewhere can use; loopback ones only where there are no others.
pub fn machine_addresses() -> io::Result<Vec<IpAddr>> {
    let usable = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    };
    let mut all: Vec<IpAddr> =
        if_addrs::get_if_addrs()?.iter().map(|interface| interface.ip()).filter(usable).collect();
    if all.iter().any(|address| !address.is_loopback()) {
        all.retain(|address| !address.is_loopback());
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_group_shares_its_address_and_a_stranger_is_not_joined() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = socket(loopback, true).unwrap();
        let address = first.local_addr().unwrap().as_socket().unwrap();
        first.listen(1).unwrap();
        // The port is held with SO_REUSEPORT by a socket that is not of the group being bound.
        let error = bind(address, 2, false).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another process listens there"), "{error}");
        drop(first);
        let group = bind(address, 2, false).unwrap().listen().unwrap();
        assert_eq!(group.len(), 2);
        assert!(group.iter().all(|listener| listener.local_addr().unwrap() == address));
    }

    #[test]
    fn the_machine_has_an_address_and_none_is_unspecified() {
        let addresses = machine_addresses().unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| !address.is_unspecified()));
    }
}
