//! WebSocket (RFC 6455) as far as the tests need it: the opening, masked frames of any size, ping, close.

use crate::client::Link;
use crate::raw::Wire;

/// RFC 6455 §1.3, so that nothing here has to hash.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client's side.
pub struct WebSocket {
    link: Link,
    masks: u32,
}

impl WebSocket {
    /// Opens one on an HTTP/1.1 connection.
    ///
    /// # Errors
    /// The answer, where it is not the one that opens it.
    pub fn open(mut link: Link, path: &str) -> Result<Self, String> {
        link.send(format!(
            "GET {path} HTTP/1.1\r\nHost: gw.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        ));
        let head = link.until("\r\n\r\n").unwrap_or_default();
        let lower = head.to_ascii_lowercase();
        let is_open = lower.starts_with("http/1.1 101 ")
            && lower.contains("\r\nconnection: upgrade\r\n")
            && lower.contains("\r\nupgrade: websocket\r\n")
            && head.contains(&format!("\r\nsec-websocket-accept: {ACCEPT}\r\n"));
        if is_open { Ok(Self { link, masks: 0x1234_5678 }) } else { Err(head + &link.rest()) }
    }

    /// Sends a message and waits for the next one.
    ///
    /// # Panics
    /// When something else comes.
    pub fn echo(&mut self, message: &[u8]) -> Vec<u8> {
        self.try_echo(message).unwrap_or_else(|failure| panic!("no message comes back: {failure}"))
    }

    /// Sends a message and waits for the next one.
    ///
    /// # Errors
    /// When something else comes, or nothing any more.
    pub fn try_echo(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.send(BINARY, message);
        match self.read() {
            Some((TEXT | BINARY, message)) => Ok(message),
            Some((kind, _)) => Err(format!("a frame of kind {kind}")),
            None => Err("the connection has ended".into()),
        }
    }

    /// Asks whether the other side lives.
    pub fn ping(&mut self) -> bool {
        self.send(PING, b"there?");
        self.read() == Some((PONG, b"there?".to_vec()))
    }

    /// Closes in good order; whether the other side did too, and ended the connection.
    pub fn close(mut self) -> bool {
        self.send(CLOSE, &1000u16.to_be_bytes());
        self.read() == Some((CLOSE, 1000u16.to_be_bytes().to_vec())) && self.link.rest().is_empty()
    }

    /// Whether the connection has ended without another frame.
    pub fn is_cut(&mut self) -> bool {
        self.read().is_none()
    }

    fn send(&mut self, kind: u8, payload: &[u8]) {
        self.masks = self.masks.wrapping_mul(0x9e37_79b9) | 1;
        let mask = self.masks.to_be_bytes();
        let mut bytes = frame_head(kind, payload.len(), 0x80);
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.link.send(bytes);
    }

    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        read(&mut |length| self.link.exactly(length)).map(|(kind, payload, _)| (kind, payload))
    }
}

/// A backend's side: opens the WebSocket that is asked for and sends every message back, until the client closes.
pub fn serve(mut wire: Wire) {
    let Some(head) = wire.head() else { return };
    if !head.contains(&format!("sec-websocket-key: {KEY}\r\n")) {
        wire.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        return;
    }
    wire.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    ));
    while let Some((kind, payload, is_masked)) = read(&mut |length| wire.exactly(length)) {
        // RFC 6455 §5.1
        if !is_masked {
            return;
        }
        let kind = if kind == PING { PONG } else { kind };
        wire.send([frame_head(kind, payload.len(), 0), payload].concat());
        if kind == CLOSE {
            return;
        }
    }
}

/// RFC 6455 §5.2
fn frame_head(kind: u8, length: usize, mask: u8) -> Vec<u8> {
    let mut head = vec![0x80 | kind];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => head.push(mask | short),
        (_, Ok(middle)) => {
            head.push(mask | 126);
            head.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

/// A frame's kind and payload, and whether it was masked.
fn read(exactly: &mut impl FnMut(usize) -> Option<Vec<u8>>) -> Option<(u8, Vec<u8>, bool)> {
    let head = exactly(2)?;
    let (kind, is_masked) = (head[0] & 0x0f, head[1] & 0x80 != 0);
    let length = match head[1] & 0x7f {
        short @ ..=125 => usize::from(short),
        long => exactly(if long == 126 { 2 } else { 8 })?
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    let mask = if is_masked { exactly(4)? } else { vec![0] };
    let payload = exactly(length)?;
    Some((kind, payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(), is_masked))
}
