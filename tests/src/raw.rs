//! Plain sockets at both ends of the gateway, where a test says byte for byte what is sent.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::wait;

/// A backend that does with each connection what a test says. Its threads end with the test.
pub struct Raw {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

/// One end of a connection.
pub struct Wire {
    stream: TcpStream,
    /// Read, and not given out.
    ahead: Vec<u8>,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Raw {
    /// Starts one; `serve` gets each connection with its number from 0, and closes it by returning.
    ///
    /// # Panics
    /// When no socket is to be had.
    pub fn start(serve: impl Fn(Wire, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (seen, connections) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicUsize>::default());
        let (serve, log, count) = (Arc::new(serve), Arc::clone(&seen), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let (serve, wire) = (Arc::clone(&serve), Wire::of(stream, Arc::clone(&log)));
                thread::spawn(move || serve(wire, number));
            }
        });
        Self { address, seen, connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What has been read since the last time, of all connections.
    pub fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Wire {
    /// A client's connection.
    ///
    /// # Panics
    /// When there is none.
    pub fn to(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("the gateway accepts"), Arc::default())
    }

    fn of(stream: TcpStream, seen: Arc<Mutex<Vec<u8>>>) -> Self {
        stream.set_read_timeout(Some(wait::SOON)).expect("a socket has timeouts");
        stream.set_nodelay(true).expect("a socket need not wait");
        Self { stream, ahead: Vec::new(), seen }
    }

    /// Sends bytes; whether they could be sent.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads on until this has come; `None` if the connection ends before.
    pub fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.ahead.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let text = self.ahead.drain(..at + end.len()).collect::<Vec<u8>>();
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Reads the head of a message.
    pub fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n")
    }

    /// Reads so many bytes; `None` if the connection ends before.
    pub fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < length {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.ahead.drain(..length).collect())
    }

    /// Reads to the end of the connection.
    pub fn rest(&mut self) -> String {
        while self.fill() > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned()
    }

    /// Reads what comes before nothing more does for a while; and whether the connection ended.
    ///
    /// # Panics
    /// When the socket has no timeouts.
    pub fn pause(&mut self, span: Duration) -> (String, bool) {
        self.stream.set_read_timeout(Some(span)).expect("a socket has timeouts");
        let mut piece = [0; 4096];
        let ended = loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break true,
                Ok(length) => self.keep(&piece[..length]),
                Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        self.stream.set_read_timeout(Some(wait::SOON)).expect("a socket has timeouts");
        (String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned(), ended)
    }

    /// Ends the writing side.
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Ends both sides with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).ok();
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0; 64 * 1024];
        // A broken connection has ended too.
        let length = self.stream.read(&mut piece).unwrap_or(0);
        self.keep(&piece[..length]);
        length
    }

    fn keep(&mut self, piece: &[u8]) {
        self.ahead.extend_from_slice(piece);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
    }
}
