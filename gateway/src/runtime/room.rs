//! Streams whose readers say what they take, and wait while memory is critically short.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::futures::OwnedNotified;

use super::Pressure;

/// One reader's place for what it reads.
#[derive(Debug)]
pub struct Room {
    pressure: Arc<Pressure>,
    /// Only while there is none.
    eased: Option<Pin<Box<OwnedNotified>>>,
}

impl Room {
    /// A reader under this pressure.
    pub fn new(pressure: Arc<Pressure>) -> Self {
        Self { pressure, eased: None }
    }

    /// Ready when more may be read.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.pressure.is_critical() {
            let pressure = &self.pressure;
            let eased =
                self.eased.get_or_insert_with(|| Box::pin(Arc::clone(&pressure.eased).notified_owned()));
            // It may have eased before this was heard of: looked at again once it would be.
            if eased.as_mut().poll(cx).is_pending() && self.pressure.is_critical() {
                return Poll::Pending;
            }
            self.eased = None;
        }
        self.eased = None;
        Poll::Ready(())
    }

    /// Says what was read.
    pub fn take(&self, bytes: usize) {
        self.pressure.take(bytes as u64);
    }
}

/// A stream that is read as far as there is room. Writing, which makes room, is never held up.
#[derive(Debug)]
pub struct Paced<I> {
    io: I,
    room: Room,
}

impl<I> Paced<I> {
    /// Reads from `io` under this pressure.
    pub fn new(io: I, pressure: Arc<Pressure>) -> Self {
        Self { io, room: Room::new(pressure) }
    }

    /// The stream beneath.
    pub fn into_inner(self) -> I {
        self.io
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.room.poll(cx));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.room.take(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;
    use crate::runtime::pressure::Level;

    #[tokio::test]
    async fn reading_waits_while_memory_is_critically_short_and_writing_does_not() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let pressure = Arc::new(Pressure::default());
        let mut paced = Paced::new(ours, Arc::clone(&pressure));
        for round in 0..2 {
            pressure.set(Level::Critical);
            theirs.write_all(b"in").await.unwrap();
            paced.write_all(b"out").await.unwrap();
            let mut read = [0; 3];
            theirs.read_exact(&mut read).await.unwrap();
            let mut reading = std::pin::pin!(paced.read_u8());
            assert!(timeout(Duration::from_millis(1), &mut reading).await.is_err(), "in round {round}");
            pressure.set(Level::High);
            assert_eq!(reading.await.unwrap(), b'i', "once it has eased");
            assert_eq!(paced.read_u8().await.unwrap(), b'n');
        }
    }
}
