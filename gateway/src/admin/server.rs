//! The admin sockets and the connections on them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::AdminState;
use super::answer::answer;
use crate::telemetry::Limit;
use crate::telemetry::event::LimitHit;

/// Connections to one admin socket at once; more are closed unanswered.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// From a connection's start, or its last answer, to the end of a request's head.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may live, whatever happens on it.
pub const ADMIN_CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// Size of a request head.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 << 10;
/// How long accepting rests where the system is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a request came, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// TCP on a loopback address: reading, under names of this machine.
    Loopback,
    /// TCP on another address: reading.
    Open,
    /// The unix socket: reading and commands. Its file mode says who may.
    Socket,
}

/// Binds a TCP address, for reading.
///
/// # Errors
/// The address cannot be bound.
pub async fn bind_tcp(address: SocketAddr) -> io::Result<AdminListener> {
    Ok(AdminListener::new(Sockets::Tcp(TcpListener::bind(address).await?), surface_of(address)))
}

/// Takes up a TCP listener that a predecessor left.
///
/// # Errors
/// It is none.
pub fn inherit_tcp(fd: OwnedFd) -> io::Result<AdminListener> {
    let listener = std::net::TcpListener::from(fd);
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(AdminListener::new(Sockets::Tcp(TcpListener::from_std(listener)?), surface_of(address)))
}

fn surface_of(address: SocketAddr) -> Surface {
    if address.ip().is_loopback() { Surface::Loopback } else { Surface::Open }
}

/// Takes up the unix socket that a predecessor left at this path.
///
/// # Errors
/// It is none.
pub fn inherit_socket(path: &Path, fd: OwnedFd) -> io::Result<AdminListener> {
    let listener = std::os::unix::net::UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let listener = AdminListener::new(Sockets::Unix(listener, path.to_owned()), Surface::Socket);
    // The path is the predecessor's until this process serves there.
    listener.left.store(true, Ordering::Relaxed);
    Ok(listener)
}

/// Makes the unix socket, for its owner alone; missing folders are made. A socket that a dead process left is replaced.
///
/// # Errors
/// Another process answers on it, or it cannot be made.
pub fn bind_socket(path: &Path) -> io::Result<AdminListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Made aside and moved into place, so that nobody finds it before its mode is set.
    let aside = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&aside, path))
        .inspect_err(|_| drop(fs::remove_file(&aside)))?;
    Ok(AdminListener::new(Sockets::Unix(listener, path.to_owned()), Surface::Socket))
}

/// A bound admin socket.
#[derive(Debug)]
pub struct AdminListener {
    sockets: Sockets,
    surface: Surface,
    /// Whether a successor has the socket, and its path with it.
    left: Arc<AtomicBool>,
}

/// The same socket, to be left to a successor.
#[derive(Debug)]
pub struct Leaving {
    fd: OwnedFd,
    left: Arc<AtomicBool>,
}

impl Leaving {
    /// The socket.
    ///
    /// # Errors
    /// The system has no descriptor to give.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// A successor has it: its path stays when the listener goes.
    pub fn left(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Sockets {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AdminListener {
    fn new(sockets: Sockets, surface: Surface) -> Self {
        Self { sockets, surface, left: Arc::default() }
    }

    /// The same socket once more, to be left to a successor.
    ///
    /// # Errors
    /// The system has no descriptor to give.
    pub fn leaving(&self) -> io::Result<Leaving> {
        let fd = match &self.sockets {
            Sockets::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Sockets::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        };
        Ok(Leaving { fd: fd?, left: Arc::clone(&self.left) })
    }

    /// The address of a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.sockets {
            Sockets::Tcp(listener) => listener.local_addr().ok(),
            Sockets::Unix(..) => None,
        }
    }

    /// Answers for as long as the future is polled. Each connection is a task of the current runtime.
    pub async fn serve(self, state: Arc<AdminState>) {
        self.left.store(false, Ordering::Relaxed);
        let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        let surface = self.surface;
        loop {
            let accepted = match &self.sockets {
                Sockets::Tcp(listener) => {
                    listener.accept().await.map(|(stream, peer)| (Stream::Tcp(stream), Some(peer.ip())))
                }
                Sockets::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None))
                }
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the admin server");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                LimitHit { limit: Limit::AdminConnectionsMax, peer }.emit(&state.telemetry);
                continue;
            };
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                match stream {
                    Stream::Tcp(stream) => connection(stream, surface, &state).await,
                    Stream::Unix(stream) => connection(stream, surface, &state).await,
                }
                drop(place);
            });
        }
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        if let Sockets::Unix(_, path) = &self.sockets
            && !self.left.load(Ordering::Relaxed)
        {
            let _ = fs::remove_file(path);
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, surface: Surface, state: &AdminState) {
    let service = service_fn(|request| async move {
        Ok::<_, std::convert::Infallible>(answer(state, surface, &request).await)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ADMIN_TIMEOUT)
        .max_buf_size(ADMIN_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(ADMIN_CONNECTION_LIFE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_timeout() => state.telemetry.metrics.limit_hit(Limit::AdminTimeout),
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin server broke off"),
        Err(_) => state.telemetry.metrics.limit_hit(Limit::AdminTimeout),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::admin::{Command, Readiness};
    use crate::telemetry::Telemetry;

    async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tcp_reads_and_the_socket_commands() {
        let (state, mut commands) = AdminState::new(Telemetry::in_memory().0);
        state.readiness.store(Readiness { snapshot: Some(1), ..Readiness::default() }.into());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/admin.sock");
        let tcp = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = tcp.address().unwrap();
        let serving = tokio::spawn(tcp.serve(Arc::clone(&state)));
        let socket = bind_socket(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let serving_socket = tokio::spawn(socket.serve(state));
        let get = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = exchange(TcpStream::connect(address).await.unwrap(), get).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ready\n"), "{answer}");
        let post = "POST /drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let answer =
            exchange(TcpStream::connect(address).await.unwrap(), &post.replace(": x", ": localhost")).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        let obeyed = async {
            match commands.recv().await {
                Some(Command::Drain(answer)) => answer.send(()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let (answer, ()) = tokio::join!(exchange(UnixStream::connect(&path).await.unwrap(), post), obeyed);
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        serving.abort();
        serving_socket.abort();
        assert!(serving_socket.await.unwrap_err().is_cancelled());
        assert!(!path.exists(), "the socket goes with its server");
    }

    #[tokio::test]
    async fn a_living_socket_is_not_taken_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let living = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(bind_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(living);
        assert!(path.exists());
        bind_socket(&path).unwrap();
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_counted() {
        let (state, _commands) = AdminState::new(Telemetry::in_memory().0);
        let tcp = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = tcp.address().unwrap();
        let serving = tokio::spawn(tcp.serve(Arc::clone(&state)));
        let mut held = Vec::new();
        for _ in 0..ADMIN_CONNECTIONS_MAX {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let mut one_more = TcpStream::connect(address).await.unwrap();
        assert_eq!(one_more.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert!(state.telemetry.metrics.render().contains("{limit=\"admin_connections_max\"} 1"));
        serving.abort();
    }
}
