//! PROXY headers: nothing that comes later changes an answer, and what is accepted says what the bytes say.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::listener::proxy_protocol::{PROXY_HEADER_BYTES_MAX, Progress, parse};

/// The beginning of a connection.
pub fn preludes(bytes: &[u8]) {
    let whole = parse(bytes);
    // Of a long input, the places around the header's end.
    let end = match whole {
        Ok(Progress::Complete { length, .. }) => length + 16,
        _ => 128,
    };
    for end in 0..bytes.len().min(end) {
        match parse(&bytes[..end]) {
            Ok(Progress::Incomplete) => {}
            early => assert_eq!(early, whole, "more bytes changed the answer behind {end}"),
        }
    }
    let Ok(Progress::Complete { client, length }) = whole else { return };
    assert!(length <= bytes.len() && length <= PROXY_HEADER_BYTES_MAX);
    let header = &bytes[..length];
    assert_eq!(parse(header), whole);
    let Some(client) = client else { return };
    if header.starts_with(b"PROXY ") {
        assert_eq!(told_by_line(header), Some(client));
    } else {
        assert_eq!(told_by_bytes(header), Some(client));
    }
}

/// The source of a line of version 1, read once more and otherwise.
fn told_by_line(header: &[u8]) -> Option<SocketAddr> {
    let line = std::str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
    assert!(header.len() <= 107 && line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    let [_, family, source, destination, port, _] = line.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
    let is_v4 = family == "TCP4";
    assert!(is_v4 || family == "TCP6");
    assert!(source.is_ipv4() == is_v4 && destination.is_ipv4() == is_v4);
    let number: u16 = port.parse().ok()?;
    assert_eq!(number.to_string(), port);
    Some(SocketAddr::new(source, number))
}

/// The source of a header of version 2.
fn told_by_bytes(header: &[u8]) -> Option<SocketAddr> {
    assert_eq!(header.len(), 16 + usize::from(u16::from_be_bytes([header[14], header[15]])));
    assert_eq!(header[12], 0x21);
    let (address, ports) = match header[13] {
        0x11 => (IpAddr::from([header[16], header[17], header[18], header[19]]), 24),
        0x21 => (IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&header[16..32]).ok()?)), 48),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes([header[ports], header[ports + 1]])))
}
