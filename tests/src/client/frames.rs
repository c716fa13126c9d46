//! HTTP/2 frame by frame, for clients that keep to no rule.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{Tls, block_on};

/// How long the server may take for what it is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;

/// Types of frames (RFC 9113 §6).
pub mod kind {
    /// DATA
    pub const DATA: u8 = 0;
    /// HEADERS
    pub const HEADERS: u8 = 1;
    /// PRIORITY
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS
    pub const SETTINGS: u8 = 4;
    /// PING
    pub const PING: u8 = 6;
    /// GOAWAY
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION
    pub const CONTINUATION: u8 = 9;
}

/// The flag of a frame that is its side's last on the stream.
pub const END_STREAM: u8 = 1;
/// The flag of a frame that ends a field block.
pub const END_HEADERS: u8 = 4;

/// The bytes of a frame.
///
/// # Panics
/// When its payload does not fit.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload fits its frame").to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// A field as HPACK has it without an index and without Huffman's code (RFC 7541 §6.2.2).
///
/// # Panics
/// When a string is too long for its prefix.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        [&[length.expect("a test's strings are short")], text.as_bytes()].concat()
    };
    [vec![0], string(name), string(value)].concat()
}

/// The field block of a GET.
pub fn get(path: &str) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "gw.test"), (":path", path)];
    pseudo.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A GET in one frame, with its end.
pub fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &get(path))
}

/// A connection by hand.
pub struct Frames {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    read: Vec<u8>,
}

/// What came until a connection was over, or what was waited for had come.
#[derive(Debug, Default)]
pub struct Over {
    /// The code of the last GOAWAY, and the words behind it.
    pub go_away: Option<(u32, String)>,
    /// Streams that the server reset, with the code.
    pub resets: Vec<(u32, u32)>,
    /// Streams with the first byte of their answer's head, which for many a status is all of it.
    pub heads: Vec<(u32, u8)>,
    /// Streams whose answers have come to their end.
    pub done: Vec<u32>,
    /// Whether the server closed the connection.
    pub closed: bool,
}

impl Frames {
    /// Shakes hands, and sends the preface with these settings.
    ///
    /// # Panics
    /// When there is no connection.
    pub fn open(tls: &Tls, address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut this = Self::silent(tls, address);
        let pairs: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        this.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &pairs)].concat());
        this
    }

    /// Shakes hands, and sends nothing.
    ///
    /// # Panics
    /// When there is no connection.
    pub fn silent(tls: &Tls, address: SocketAddr) -> Self {
        let link = tls.clone().alpn(&["h2"]).connect(address).expect("the handshake succeeds");
        let (reader, writer) = split(link.stream);
        Self { reader, writer, read: Vec::new() }
    }

    /// Sends these bytes. Where the server has closed, what it said before tells.
    pub fn send(&mut self, bytes: &[u8]) {
        block_on(write(&mut self.writer, bytes)).ok();
    }

    /// Reads until the server closes.
    ///
    /// # Panics
    /// When it does not.
    pub fn over(&mut self) -> Over {
        self.flood(&[], |_| false)
    }

    /// Sends these pieces one after the other, and reads beside until `is_enough`, or until the server closes.
    ///
    /// # Panics
    /// When neither happens.
    pub fn flood(&mut self, pieces: &[&[u8]], mut is_enough: impl FnMut(&Over) -> bool) -> Over {
        let Self { reader, writer, read } = self;
        let mut over = Over::default();
        let reading = async {
            loop {
                while let Some(length) = whole(read) {
                    over.note(&read[..length]);
                    read.drain(..length);
                    if is_enough(&over) {
                        return;
                    }
                }
                if reader.read_buf(read).await.unwrap_or(0) == 0 {
                    over.closed = true;
                    return;
                }
            }
        };
        let writing = async {
            for piece in pieces {
                if write(writer, piece).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let both = async {
            tokio::select! {
                () = reading => {}
                () = writing => {}
            }
        };
        let ended = block_on(async { timeout(ANSWER_LIMIT, both).await });
        assert!(ended.is_ok(), "neither over nor enough within {ANSWER_LIMIT:?}: {over:?}");
        over
    }
}

async fn write(writer: &mut WriteHalf<TlsStream<TcpStream>>, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// How long the frame is that these bytes begin with, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let length = HEAD_BYTES + usize::from(*bytes.first()?) * 65_536 + usize::from(*bytes.get(1)?) * 256;
    let length = length + usize::from(*bytes.get(2)?);
    (bytes.len() >= length.max(HEAD_BYTES)).then_some(length)
}

impl Over {
    fn note(&mut self, frame: &[u8]) {
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let (kind, flags, stream, payload) = (frame[3], frame[4], word(5), &frame[HEAD_BYTES..]);
        match kind {
            kind::HEADERS => self.heads.push((stream, payload[0])),
            kind::RST_STREAM => self.resets.push((stream, word(HEAD_BYTES))),
            kind::GOAWAY => {
                let words = String::from_utf8_lossy(&payload[8..]).into_owned();
                self.go_away = Some((word(HEAD_BYTES + 4), words));
            }
            _ => {}
        }
        if matches!(kind, kind::HEADERS | kind::DATA) && flags & END_STREAM != 0 {
            self.done.push(stream);
        }
    }
}
