//! Clients: curl and openssl as a user would run them, and one of rustls and hyper for what their
//! command lines cannot express (connections held open, raw certificates, tickets kept aside).

mod bridge;
mod curl;
pub mod frames;
mod held;
mod openssl;
mod tls;

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::thread;

use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Handle};

pub use bridge::Bridge;
pub use curl::{Curl, CurlAnswer};
pub use frames::Frames;
pub use held::{Answer, Http, Upload};
pub use openssl::{OpenSsl, Session};
pub use tls::{Ended, Link, Tls};

/// A connection in clear from this IPv4 address.
///
/// # Panics
/// When there is none.
pub fn from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    socket.bind(&source.into()).expect("an address of this machine");
    socket.connect(&address.into()).expect("a connection");
    socket.into()
}

/// The runtime that drives every held connection, on a thread of its own.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Runs `future` to its end on the calling thread, with the shared runtime's sockets and timers.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Runs `future` beside the test.
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    RUNTIME.spawn(future)
}
