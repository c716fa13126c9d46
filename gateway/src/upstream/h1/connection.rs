//! One connection to a backend, with what has been read from it and not yet used.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// Room for a read at first: heads and small answers.
const READ_BYTES_MIN: usize = 8 * 1024;
/// Room for a read once a body has shown that it fills it: under TLS fewer and larger pieces are cheaper.
const READ_BYTES_MAX: usize = 256 * 1024;

/// A connection that serves one request at a time. It closes when dropped.
pub struct Connection {
    stream: TcpStream,
    /// The backend's address.
    peer: Option<IpAddr>,
    /// Empty between two requests.
    pub(super) buffer: BytesMut,
    room: usize,
    /// What counts the connection as open.
    open: Box<dyn std::any::Any>,
}

impl Connection {
    /// A new connection; `open` is dropped with it.
    pub fn new(stream: TcpStream, open: impl std::any::Any) -> Self {
        // One that has been reset meanwhile has none.
        let peer = stream.peer_addr().ok().map(|address| address.ip());
        Self { stream, peer, buffer: BytesMut::new(), room: READ_BYTES_MIN, open: Box::new(open) }
    }

    /// Where the backend is.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Whether the backend has neither closed the connection nor sent what nobody asked for, as far as the last look at
    /// all sockets has shown.
    pub fn is_idle(&self) -> bool {
        let would_block =
            |read: io::Result<usize>| read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.buffer.is_empty() && would_block(self.stream.try_read(&mut [0]))
    }

    /// The same as of now, at the price of a system call.
    pub fn is_idle_now(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        self.buffer.is_empty() && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The stream, what has been read of it, and what counts it as open: for another protocol.
    pub fn into_parts(self) -> (TcpStream, BytesMut, Box<dyn std::any::Any>) {
        (self.stream, self.buffer, self.open)
    }

    /// Ready for the next request: an idle connection keeps no more than it needs.
    pub(super) fn rest(&mut self) {
        self.room = READ_BYTES_MIN;
        if self.buffer.capacity() > READ_BYTES_MIN {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads what there is, behind what is in the buffer; 0 bytes: the backend has closed.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < self.room / 4 {
            self.buffer.reserve(self.room);
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        let filled = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer);
        if matches!(filled, Poll::Ready(Ok(read)) if read == spare) {
            self.room = (self.room * 4).min(READ_BYTES_MAX);
        }
        filled
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}
