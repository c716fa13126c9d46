//! The accept loop: short, tolerant, backing off.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::steer::{Steer, Wish};

/// How long accepting rests when the process or the system is out of descriptors or memory. Trying again at once would
/// spin: the connection stays in the queue and the listener stays readable.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A connection that has come in.
#[derive(Debug)]
pub struct Arrival {
    /// The client's stream.
    pub stream: TcpStream,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the listening socket is bound to; may be unspecified.
    pub bound: SocketAddr,
    /// When it was accepted.
    pub at: Instant,
}

/// Why accepting paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// EMFILE or ENFILE.
    Descriptors,
    /// ENOBUFS or ENOMEM.
    Memory,
}

/// How accepting ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What has already queued is taken: a connection that the kernel completed is served, not reset.
    Drain,
    /// At once: another process holds the same socket, and takes what has queued.
    Leave,
}

/// Accepts until told to stop, then closes the socket. A sender that is dropped says [`Stop::Drain`].
pub async fn run(
    listener: TcpListener,
    bound: SocketAddr,
    steer: &Steer,
    mut stop: oneshot::Receiver<Stop>,
    mut serve: impl FnMut(Arrival),
    mut short_of: impl FnMut(Shortage),
) {
    let mut arrived = |stream, peer| serve(Arrival { stream, peer, bound, at: Instant::now() });
    let mut wish = Wish::new(steer);
    let stop = loop {
        if let Err(error) = wish.renew(&listener) {
            tracing::debug!(%error, "the kernel takes no wish for the connections of a CPU");
        }
        let accepted = tokio::select! {
            biased;
            stop = &mut stop => break stop,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => arrived(stream, peer),
            Err(error) => {
                if let Some(shortage) = shortage(&error) {
                    short_of(shortage);
                    tokio::select! {
                        stop = &mut stop => break stop,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
                // Any other error is that of one connection that died in the queue (accept(2)): take the next.
            }
        }
    };
    if stop == Ok(Stop::Leave) {
        return;
    }
    // Asked of the system itself: the reactor may not have heard of the last arrivals yet.
    let Ok(listener) = listener.into_std() else { return };
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    arrived(stream, peer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || shortage(&error).is_some() => return,
            Err(_) => {}
        }
    }
}

fn shortage(error: &io::Error) -> Option<Shortage> {
    match error.raw_os_error()? {
        libc::EMFILE | libc::ENFILE => Some(Shortage::Descriptors),
        libc::ENOBUFS | libc::ENOMEM => Some(Shortage::Memory),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::steer::Shares;

    #[tokio::test]
    async fn what_has_queued_is_left_to_whom_the_socket_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let other = listener.try_clone().unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let (stop, stopped) = oneshot::channel();
        stop.send(Stop::Leave).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let steer = Steer::new(Shares::new(1), 0, None);
        run(listener, address, &steer, stopped, |_| panic!("it is not ours any more"), |_| {}).await;
        let taken: Vec<_> = clients.iter().map(|_| other.accept().unwrap()).collect();
        assert_eq!(taken.len(), clients.len());
        assert!(std::net::TcpStream::connect(address).is_ok(), "the socket is open");
    }

    #[tokio::test]
    async fn what_has_queued_is_taken_before_the_socket_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let (stop, stopped) = oneshot::channel();
        stop.send(Stop::Drain).unwrap();
        let mut arrivals = Vec::new();
        let steer = Steer::new(Shares::new(1), 0, None);
        run(listener, address, &steer, stopped, |arrival| arrivals.push(arrival), |_| {}).await;
        assert_eq!(arrivals.len(), clients.len());
        assert!(std::net::TcpStream::connect(address).is_err(), "the socket is closed");
    }
}
