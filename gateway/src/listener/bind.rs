//! Binds the sockets of a frontend's address: one for each worker, in one SO_REUSEPORT group.
//!
//! Binding and listening are apart: a set is bound first, so that a failure is known before anything is published,
//! and listens once the snapshot that serves it stands. Sockets that a former process has left ([`Inherited`]) listen all
//! along: they become part of the set, and what has queued on them is served.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

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

/// Sockets that are bound and, but for those of a former process, do not listen yet.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    sockets: Vec<Socket>,
    inherited: usize,
}

/// Listening sockets of a former process, by the address that they are bound to.
#[derive(Debug, Default)]
pub struct Inherited(BTreeMap<SocketAddr, Vec<Socket>>);

impl Inherited {
    /// Takes one in; those of one address keep their order.
    ///
    /// # Errors
    /// It is no socket that listens on an address.
    pub fn add(&mut self, fd: OwnedFd) -> io::Result<SocketAddr> {
        let socket = Socket::from(fd);
        let unfit = || io::Error::new(io::ErrorKind::InvalidInput, "no listening TCP socket");
        let address = socket.local_addr()?.as_socket().ok_or_else(unfit)?;
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(unfit());
        }
        socket.set_nonblocking(true)?;
        self.0.entry(address).or_default().push(socket);
        Ok(address)
    }

    /// Whether one of them holds this port.
    pub fn holds_port(&self, port: u16) -> bool {
        self.0.keys().any(|address| address.port() == port)
    }

    /// The sockets of an address, with as many more as `workers` asks for.
    pub(super) fn take(&mut self, address: SocketAddr, workers: usize) -> Option<Bound> {
        let mut sockets = self.0.remove(&address)?;
        let inherited = sockets.len();
        while sockets.len() < workers {
            // A group has a socket for each worker. A socket that is in none (a service manager may have bound it) or
            // that cannot be joined is shared, so that its connections come to all of them.
            let one = &sockets[sockets.len() % inherited];
            let more = match one.reuse_port() {
                Ok(true) => socket(address, true).or_else(|_| one.try_clone()),
                _ => one.try_clone(),
            };
            let Ok(more) = more else { break };
            sockets.push(more);
        }
        Some(Bound { address, sockets, inherited })
    }

    /// The addresses that nobody has asked for; their sockets are closed.
    pub(super) fn give_up(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.0).into_keys().collect()
    }
}

/// Binds `workers` sockets to one address. `beside_own` says that sockets of this process already hold the port on an
/// overlapping address (a Gateway that moves from every address to a certain one, say), or those that it inherited.
pub fn bind(address: SocketAddr, workers: usize, beside_own: bool) -> Result<Bound, BindError> {
    let refused = |source| BindError { address, source };
    if !beside_own {
        // A socket of another process that also sets SO_REUSEPORT would share the port in silence, if its user is
        // ours. Without the option the system refuses, so this is tried first.
        drop(socket(address, false).map_err(refused)?);
    }
    let sockets = (0..workers).map(|_| socket(address, true)).collect::<io::Result<_>>().map_err(refused)?;
    Ok(Bound { address, sockets, inherited: 0 })
}

impl Bound {
    /// They.
    pub(super) fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// How many of the sockets a former process has left.
    pub(super) fn inherited(&self) -> usize {
        self.inherited
    }

    /// Lets the kernel take connections. The listeners are non-blocking, one for each worker in order; beyond that,
    /// those that a former process with more workers has left.
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
    fn what_a_former_process_left_is_joined_or_shared() {
        for (description, group, workers, expected) in [
            ("as many", true, 2, 2),
            ("fewer workers: every socket stays", true, 1, 2),
            ("more workers: the group grows", true, 3, 3),
            ("a socket of no group is shared", false, 3, 3),
        ] {
            let first = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), group).unwrap();
            let address = first.local_addr().unwrap().as_socket().unwrap();
            let mut left = vec![first];
            if group {
                left.push(socket(address, true).unwrap());
            }
            let mut inherited = Inherited::default();
            for socket in &left {
                socket.listen(8).unwrap();
                assert_eq!(inherited.add(socket.try_clone().unwrap().into()).unwrap(), address);
            }
            let clients: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let count = left.len();
            drop(left);
            assert!(inherited.holds_port(address.port()));
            let bound = inherited.take(address, workers).unwrap();
            assert_eq!(bound.inherited(), count, "{description}");
            let listeners = bound.listen().unwrap();
            assert_eq!(listeners.len(), expected, "{description}");
            let queued: usize =
                listeners.iter().map(|one| std::iter::from_fn(|| one.accept().ok()).count()).sum();
            assert_eq!(queued, clients.len(), "{description}: what has queued");
            assert!(inherited.give_up().is_empty());
        }
    }

    #[test]
    fn nothing_but_a_listening_socket_is_inherited() {
        let bound = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), true).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [OwnedFd::from(bound), datagrams.into(), pair.into(), tempfile::tempfile().unwrap().into()]
        {
            assert!(Inherited::default().add(fd).is_err());
        }
    }

    #[test]
    fn the_machine_has_an_address_and_none_is_unspecified() {
        let addresses = machine_addresses().unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| !address.is_unspecified()));
    }
}
