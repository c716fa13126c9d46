//! The client's side of a TCP connection, closed so that the last answer arrives.
//!
//! `close(2)` on a socket with unread bytes sends RST, and a client that is still sending then loses the answer that
//! it has not read yet. So shutting down means: end our side, go on reading and discarding for a while, then close.
//! The stream sits beneath TLS and HTTP; both end with `poll_shutdown`, which is where it happens. A connection that has
//! left HTTP ends one direction at a time, and neither needs this.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::socket::Socket;
use crate::http::HalfClose;

use crate::telemetry::ConnectionEnd;

/// How long a closed connection is still read from.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// How many bytes a closed connection may still send.
pub const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Told of every read that brought bytes: the client is not silent.
pub type Heard = Rc<dyn Fn()>;

/// A client's TCP stream.
pub struct ClientStream {
    socket: Socket,
    state: State,
    /// Whether shutting down means more than ending our side.
    lingers: bool,
    heard: Rc<RefCell<Option<Heard>>>,
}

/// Lets go of the listener for bytes once it is of no more use.
#[derive(Clone)]
pub struct Hearing(Rc<RefCell<Option<Heard>>>);

impl Hearing {
    /// No more reports.
    pub fn end(&self) {
        self.0.borrow_mut().take();
    }
}

enum State {
    Open,
    Discarding { until: Pin<Box<Sleep>>, left: usize },
    Closed,
}

impl ClientStream {
    /// Wraps an accepted stream; `heard` is called whenever bytes arrive, until the returned hearing is ended.
    pub fn new(socket: Socket, heard: Option<Heard>) -> (Self, Hearing) {
        let heard = Rc::new(RefCell::new(heard));
        (Self { socket, state: State::Open, lingers: true, heard: heard.clone() }, Hearing(heard))
    }

    fn tell(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(_)) = written {
            self.socket.open().end(ConnectionEnd::ClientReset);
        }
        written
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0u8; 16 * 1024];
        loop {
            let State::Discarding { until, left } = &mut self.state else { return Poll::Ready(()) };
            if until.as_mut().poll(cx).is_ready() || *left == 0 {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.socket.tcp).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *left = left.saturating_sub(buffer.filled().len()),
                // The client has closed too, or the connection is gone: nothing is left to wait for.
                Ok(()) => {
                    self.socket.open().read_to_end();
                    return Poll::Ready(());
                }
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl HalfClose for ClientStream {
    fn half_close(&mut self) {
        self.lingers = false;
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let result = ready!(Pin::new(&mut self.socket.tcp).poll_read(cx, buffer));
        let open = self.socket.open();
        match &result {
            Ok(()) if buffer.filled().len() > before => {
                open.heard();
                if let Some(heard) = &*self.heard.borrow() {
                    heard();
                }
            }
            Ok(()) if room > 0 => {
                open.read_to_end();
                open.end(ConnectionEnd::ClientClosed);
            }
            Ok(()) => {}
            Err(_) => open.end(ConnectionEnd::ClientReset),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket.tcp).poll_write(cx, bytes);
        self.tell(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket.tcp).poll_write_vectored(cx, slices);
        self.tell(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Open) {
            self.socket.open().end(ConnectionEnd::Closed);
            ready!(Pin::new(&mut self.socket.tcp).poll_shutdown(cx))?;
            if !self.lingers {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(sleep_until(Instant::now() + LINGER_TIME_MAX));
            self.state = State::Discarding { until, left: LINGER_BYTES_MAX };
        }
        ready!(self.poll_discard(cx));
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Notes;
    use crate::listener::roster::Roster;
    use crate::telemetry::Telemetry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (
            ClientStream::new(
                Socket::of_tests(
                    listener.accept().await.unwrap().0,
                    &Telemetry::in_memory().0,
                    &Roster::new(0, Notes::default()),
                ),
                None,
            )
            .0,
            client,
        )
    }

    #[tokio::test]
    async fn a_client_in_mid_upload_reads_the_answer() {
        let (mut server, mut client) = pair().await;
        let server = async move {
            let mut first = [0; 1024];
            server.read_exact(&mut first).await.unwrap();
            server.write_all(b"refused").await.unwrap();
            server.shutdown().await.unwrap();
        };
        let client = async move {
            // Far more than the socket buffers hold, and nothing is read before the last byte is sent.
            client.write_all(&vec![0; 10 << 20]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        assert_eq!(tokio::join!(server, client).1, b"refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_waited_for_long() {
        let (mut server, _client) = pair().await;
        let start = Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), LINGER_TIME_MAX.as_secs());
    }
}
