//! Free TCP ports on loopback for processes that want to be told theirs, and one where nothing goes on.
//!
//! They come from below the range from which the kernel takes the ports of outgoing connections, so
//! none is lost between the choice and the child's bind.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// A connection that is not made in this time will not be.
const FILLS_WITHIN: Duration = Duration::from_millis(300);

/// A port that nothing listens on.
///
/// # Panics
/// When every port of the range is taken.
pub fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (process::id().wrapping_mul(97) + step) % COUNT;
        let port = u16::try_from(port).expect("the range lies below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// A listener whose queue is full and that nobody reads: it neither takes a connection nor refuses one.
pub struct Full {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl Full {
    /// One on an address of its own.
    pub fn new() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// One on this IPv4 address.
    ///
    /// # Panics
    /// When it is taken.
    pub fn at(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&address.into()).expect("the address is free");
        listener.listen(0).expect("a bound socket listens");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, FILLS_WITHIN) {
            waiting.push(stream);
        }
        Self { address, _listener: listener, _waiting: waiting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Full {
    fn default() -> Self {
        Self::new()
    }
}
