//! The PROXY protocol, versions 1 and 2: a header before everything else, TLS included, in which a load balancer tells
//! whose connection it passes on.
//!
//! [`parse`] is pure: bytes so far in; the header, the wish for more, or the fault out. [`read`] takes exactly the header
//! off a connection, since what follows belongs to TLS or HTTP. Whether the peer may send one, the caller knows.
//! Whatever else a header tells (the address that the client came to, TLVs) is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The most that a header may take. A load balancer's TLVs have a few hundred bytes.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// With its line's end (version 1, §2.1 of the specification).
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Start, version and command, family and transport, length of the rest.
const V2_FIXED_BYTES: usize = 16;

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything so far belongs to the header, and more is to come.
    Incomplete,
    /// The header is complete.
    Complete {
        /// The client's address; `None`: the connection is the proxy's own (a health check, say), or the proxy does
        /// not tell.
        client: Option<SocketAddr>,
        /// How many bytes the header has.
        length: usize,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version begins so.
    #[error("no PROXY header")]
    Start,
    /// A line of version 1 that does not end.
    #[error("the line does not end")]
    Endless,
    /// A line of version 1 that is not of the protocol's form.
    #[error("the line is not of the form PROXY FAMILY SOURCE DESTINATION PORT PORT")]
    Line,
    /// Not version 2, or a command that it does not have.
    #[error("an unknown version or command")]
    Command,
    /// A family and transport that are not assigned.
    #[error("an unknown family or transport")]
    Family,
    /// Addresses that do not fit into the header's length.
    #[error("too short for its addresses")]
    Short,
    /// Longer than [`PROXY_HEADER_BYTES_MAX`].
    #[error("longer than {PROXY_HEADER_BYTES_MAX} bytes")]
    Long,
}

/// Reads a header at the beginning of `bytes`. What follows it is not looked at, and more bytes never change an answer
/// other than [`Progress::Incomplete`].
///
/// # Errors
/// The bytes cannot begin with a header, whatever comes.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    if begins(bytes, V1_START) {
        line(bytes)
    } else if begins(bytes, V2_START) {
        binary(bytes)
    } else {
        Err(Malformed::Start)
    }
}

/// Whether the bytes begin as `start` does, as far as there are any.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

fn line(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(end) = bytes.iter().take(V1_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < V1_BYTES_MAX { Ok(Progress::Incomplete) } else { Err(Malformed::Endless) };
    };
    let text = bytes[..end].strip_suffix(b"\r").and_then(|text| text.strip_prefix(V1_START));
    let text = text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(Malformed::Line)?;
    let client = fields(text).ok_or(Malformed::Line)?;
    Ok(Progress::Complete { client, length: end + 1 })
}

/// `TCP4 SOURCE DESTINATION PORT PORT`, or `UNKNOWN` and whatever follows it.
fn fields(text: &str) -> Option<Option<SocketAddr>> {
    let mut fields = text.split(' ');
    let family = fields.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut next = || fields.next();
    let (source, destination, port, to_port) = (next()?, next()?, next()?, next()?);
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let client = SocketAddr::new(address(source)?, decimal(port)?);
    address(destination)?;
    decimal(to_port)?;
    next().is_none().then_some(Some(client))
}

/// A port as the protocol has it: digits alone, none of them a leading zero.
fn decimal(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn binary(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(command) = bytes.get(12) else { return Ok(Progress::Incomplete) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Command),
    };
    let Some(fixed) = bytes.get(..V2_FIXED_BYTES) else { return Ok(Progress::Incomplete) };
    let (family, rest) = (fixed[13], usize::from(u16::from_be_bytes([fixed[14], fixed[15]])));
    let length = V2_FIXED_BYTES + rest;
    // How many bytes the addresses take. Where we cannot use them they are as good as not told.
    let (addresses, told) = match family {
        _ if local => (0, false),
        0x11 => (12, true),
        0x21 => (36, true),
        // Unspecified; UDP over either IP; unix sockets.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => (0, false),
        _ => return Err(Malformed::Family),
    };
    if rest < addresses {
        return Err(Malformed::Short);
    }
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed::Long);
    }
    let Some(body) = bytes.get(V2_FIXED_BYTES..length) else { return Ok(Progress::Incomplete) };
    let client = if told { client_of(&body[..addresses]) } else { None };
    Ok(Progress::Complete { client, length })
}

/// Source, destination, source port, destination port.
fn client_of(addresses: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = match addresses.len() {
        12 => (IpAddr::from(*addresses.first_chunk::<4>()?), addresses.get(8..10)?),
        36 => (IpAddr::from(*addresses.first_chunk::<16>()?), addresses.get(32..34)?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]])))
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection broke, or ended before the header did.
    #[error("the connection ended within the PROXY header")]
    Closed,
    /// What came is no header.
    #[error("a malformed PROXY header: {0}")]
    Malformed(#[from] Malformed),
}

/// Takes the header off a connection, and nothing that follows it. Gives the client's address, if it is told. How long
/// that may take the caller decides.
///
/// # Errors
/// The connection ended, or its bytes are no header.
pub async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ReadError> {
    let mut header = [0; PROXY_HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        // Looked at first: only the header tells how much of it is the header.
        let seen = stream.peek(&mut header[taken..]).await.map_err(|_| ReadError::Closed)?;
        if seen == 0 {
            return Err(ReadError::Closed);
        }
        let (client, end) = match parse(&header[..taken + seen])? {
            Progress::Complete { client, length } => (Some(client), length),
            Progress::Incomplete => (None, taken + seen),
        };
        stream.read_exact(&mut header[taken..end]).await.map_err(|_| ReadError::Closed)?;
        taken = end;
        if let Some(client) = client {
            return Ok(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_START, &[command, family], &length, body].concat()
    }

    fn v4_addresses() -> Vec<u8> {
        [&[192, 0, 2, 7][..], &[198, 51, 100, 1], &[0x30, 0x39], &[0x01, 0xbb]].concat()
    }

    fn v6_addresses() -> Vec<u8> {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        [&ip("2001:db8::7")[..], &ip("2001:db8::1"), &[0x30, 0x39], &[0x01, 0xbb]].concat()
    }

    /// What a table's rows have: the client, nobody, a fault, or the wish for more.
    fn outcome(bytes: &[u8]) -> String {
        match parse(bytes) {
            Ok(Progress::Complete { client: Some(client), length }) if length == bytes.len() => {
                client.to_string()
            }
            Ok(Progress::Complete { client: None, length }) if length == bytes.len() => "-".to_owned(),
            Ok(Progress::Complete { length, .. }) => format!("{} bytes follow", bytes.len() - length),
            Ok(Progress::Incomplete) => "more".to_owned(),
            Err(fault) => format!("{fault:?}"),
        }
    }

    #[test]
    fn lines() {
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
        let endless = "PROXY TCP4 ".to_owned() + &"1".repeat(120);
        for (text, expected) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n", "192.0.2.7:12345"),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n", "[2001:db8::7]:12345"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 0 65535\r\n", "192.0.2.7:0"),
            ("PROXY UNKNOWN\r\n", "-"),
            ("PROXY UNKNOWN ffff::1 whatever 1\r\n", "-"),
            (&long, "-"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\nGET / HTTP/1.1\r\n", "16 bytes follow"),
            ("", "more"),
            ("PRO", "more"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r", "more"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\n", "Line"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n", "Line"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443 1\r\n", "Line"),
            ("PROXY TCP4  192.0.2.7 198.51.100.1 12345 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 12345 443 \r\n", "Line"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.7 198.51.100.1 01 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.007 198.51.100.1 1 443\r\n", "Line"),
            ("PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n", "Line"),
            ("PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n", "Line"),
            ("PROXY TCP6 fe80::7%1 2001:db8::1 1 443\r\n", "Line"),
            ("PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n", "Line"),
            ("PROXY tcp4 192.0.2.7 198.51.100.1 1 443\r\n", "Line"),
            ("PROXY \r\n", "Line"),
            ("PROXY\r\n", "Start"),
            ("proxy TCP4", "Start"),
            ("GET / HTTP/1.1\r\n", "Start"),
            ("\x16\x03\x01", "Start"),
            (&endless, "Endless"),
        ] {
            assert_eq!(outcome(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn binary_headers() {
        let (v4, v6) = (v4_addresses(), v6_addresses());
        // An authority (2) and a checksum (3) whose value nobody looks at.
        let tlvs = [&v4[..], &[2, 0, 7], b"gw.test", &[3, 0, 4, 0, 0, 0, 0]].concat();
        for (description, header, expected) in [
            ("TCP over IPv4", v2(0x21, 0x11, &v4), "192.0.2.7:12345"),
            ("TCP over IPv6", v2(0x21, 0x21, &v6), "[2001:db8::7]:12345"),
            ("with TLVs", v2(0x21, 0x11, &tlvs), "192.0.2.7:12345"),
            ("local", v2(0x20, 0x00, &[]), "-"),
            ("local, with addresses", v2(0x20, 0x11, &v4), "-"),
            ("local, of an unassigned family", v2(0x20, 0xff, &[]), "-"),
            ("unspecified", v2(0x21, 0x00, &[]), "-"),
            ("unspecified, with something", v2(0x21, 0x00, &[1, 2, 3]), "-"),
            ("UDP", v2(0x21, 0x12, &v4), "-"),
            ("a unix socket", v2(0x21, 0x31, &[0; 216]), "-"),
            ("bytes behind", [v2(0x21, 0x11, &v4), vec![0x16]].concat(), "1 bytes follow"),
            ("at the limit", v2(0x21, 0x11, &[1; PROXY_HEADER_BYTES_MAX - 16]), "1.1.1.1:257"),
            ("past the limit", v2(0x21, 0x11, &[1; PROXY_HEADER_BYTES_MAX - 15]), "Long"),
            ("past the limit, local", v2(0x20, 0x00, &[1; PROXY_HEADER_BYTES_MAX - 15]), "Long"),
            ("version 1 in binary", v2(0x11, 0x11, &v4), "Command"),
            ("an unknown command", v2(0x22, 0x11, &v4), "Command"),
            ("an unknown family", v2(0x21, 0x41, &v4), "Family"),
            ("an unknown transport", v2(0x21, 0x13, &v4), "Family"),
            ("too short for IPv4", v2(0x21, 0x11, &v4[..11]), "Short"),
            ("too short for IPv6", v2(0x21, 0x21, &v6[..35]), "Short"),
            ("half a start", V2_START[..7].to_vec(), "more"),
            ("without its addresses", v2(0x21, 0x11, &v4)[..20].to_vec(), "more"),
            ("a broken start", b"\r\n\r\n\0\r\nQUIX".to_vec(), "Start"),
        ] {
            assert_eq!(outcome(&header), expected, "{description}");
        }
    }

    /// Headers, near headers, and anything.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let line = "PROXY (TCP4|TCP6|UNKNOWN|X)( [0-9a-f.:]{0,20}){0,5}(\r\n|\n|\r)?.{0,8}"
            .prop_map(String::into_bytes);
        let bytes = || prop::collection::vec(any::<u8>(), 0..64);
        let binary =
            (any::<u8>(), any::<u8>(), any::<u16>(), bytes()).prop_map(|(command, family, length, rest)| {
                let command = if command < 200 { 0x20 | (command & 1) } else { command };
                let family =
                    if family < 200 { [0x00, 0x11, 0x21, 0x12][usize::from(family & 3)] } else { family };
                [V2_START, &[command, family], &(length % 80).to_be_bytes(), &rest].concat()
            });
        prop_oneof![line, binary, bytes()]
    }

    proptest! {
        #[test]
        fn more_bytes_change_no_answer_and_it_says_what_they_say(bytes in input()) {
            crate::fuzzing::preludes(&bytes);
        }
    }

    #[tokio::test]
    async fn exactly_the_header_is_taken_however_it_arrives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let headers =
            [b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(), v2(0x21, 0x11, &v4_addresses())];
        for header in headers {
            for pieces in [1, 7, usize::MAX] {
                let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                client.set_nodelay(true).unwrap();
                let (mut server, _) = listener.accept().await.unwrap();
                let sent = [&header[..], b"hello"].concat();
                let send = async {
                    for piece in sent.chunks(pieces.min(sent.len())) {
                        client.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    client.shutdown().await.unwrap();
                };
                let (read, ()) = tokio::join!(read(&mut server), send);
                assert_eq!(read.unwrap(), Some("192.0.2.7:12345".parse().unwrap()));
                let mut rest = String::new();
                server.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "hello", "in pieces of {pieces}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_ends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (bytes, closes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], false, "a malformed PROXY header: no PROXY header"),
            (b"PROXY TCP4 ", true, "the connection ended within the PROXY header"),
            (b"", true, "the connection ended within the PROXY header"),
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.write_all(bytes).await.unwrap();
            if closes {
                client.shutdown().await.unwrap();
            }
            assert_eq!(read(&mut server).await.unwrap_err().to_string(), expected);
        }
    }
}
