//! From the bytes of a packet to the TCP segment in it, for packets that begin with an Ethernet or an IP header.
//!
//! In comes a view of the bytes, out goes what the datapath decides by: addresses, ports, sequence number, flags, where
//! the payload is. Nothing is judged here. What cannot be read says why and is passed on by everyone, since the host's
//! own stack and user space look at it again. Headers are Ethernet with up to two VLAN tags (IEEE 802.1Q), IPv4 with
//! options (RFC 791), IPv6 with extension headers (RFC 8200 §4), TCP (RFC 9293 §3.1).

use crate::key::{Address, mapped, words};

/// The bytes of a packet, as far as they can be read.
pub trait Packet {
    /// The `N` bytes from `offset` on; None where the readable part ends before.
    fn at<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Packet for [u8] {
    fn at<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

/// What a packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IP header: tunnels, and programs that see packets of a socket.
    Ip,
}

/// Why there is no segment to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Neither IPv4 nor IPv6, or another transport protocol than TCP.
    Other,
    /// A fragment, the first one too: what is decided by its ports would not hold for the rest.
    Fragment,
    /// A header ends early, contradicts itself, or lies deeper than is looked.
    Unreadable,
}

/// Where the TCP header is, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// Offset of the IP header.
    pub at: usize,
    /// Offset of the TCP header.
    pub tcp_at: usize,
    /// Offset of the end, by the IP header's own length. The packet may be longer (Ethernet pads short ones) or, where
    /// the kernel merged several, the length 0 (RFC 2675 §3); then this is `usize::MAX`.
    pub end: usize,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first byte, of the SYN where there is one.
    pub sequence: u32,
    /// [`FIN`], [`SYN`], [`RST`], [`ACK`] and the others.
    pub flags: u8,
    /// The window, unscaled.
    pub window: u16,
    /// Offset of the payload.
    pub payload_at: usize,
}

/// The sender has no more to send.
pub const FIN: u8 = 0x01;
/// The first segment of its direction.
pub const SYN: u8 = 0x02;
/// The connection is reset.
pub const RST: u8 = 0x04;
/// The acknowledgement number counts; on every segment but a client's first and some resets.
pub const ACK: u8 = 0x10;

impl Segment {
    /// Whether it asks for a new connection.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// How much payload there is, in a packet of `packet_bytes` altogether.
    #[inline(always)]
    pub const fn payload_bytes(&self, ip: &Ip, packet_bytes: usize) -> usize {
        let end = if ip.end < packet_bytes { ip.end } else { packet_bytes };
        end.saturating_sub(self.payload_at)
    }
}

impl Ip {
    /// Bytes from the IP header on, in a packet of `packet_bytes` altogether, without what Ethernet pads.
    #[inline(always)]
    pub const fn bytes(&self, packet_bytes: usize) -> usize {
        let end = if self.end < packet_bytes { self.end } else { packet_bytes };
        end.saturating_sub(self.at)
    }
}

/// VLAN tags that are looked through: an outer and an inner one.
pub const VLAN_TAGS_MAX: usize = 2;
/// IPv6 extension headers that are looked through.
pub const EXTENSIONS_MAX: usize = 4;

const ETHERNET_BYTES: usize = 14;
const TCP_BYTES: usize = 20;

/// Finds the IP header and the TCP header behind it.
///
/// # Errors
/// The reason why there is none.
#[inline(always)]
pub fn ip<P: Packet + ?Sized>(packet: &P, link: Link) -> Result<Ip, Skip> {
    match link {
        // Two bytes for one: of a comparison with the very first byte the verifier learns nothing.
        Link::Ip => match packet.at::<2>(0).ok_or(Skip::Unreadable)?[0] >> 4 {
            4 => ipv4(packet, 0),
            6 => ipv6(packet, 0),
            _ => Err(Skip::Other),
        },
        Link::Ethernet => {
            let mut kind = number(packet, ETHERNET_BYTES - 2)?;
            let mut at = ETHERNET_BYTES;
            for _ in 0..VLAN_TAGS_MAX {
                if !matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
                    break;
                }
                kind = number(packet, at + 2)?;
                at += 4;
            }
            match kind {
                0x0800 => ipv4(packet, at),
                0x86dd => ipv6(packet, at),
                0x8100 | 0x88a8 | 0x9100 => Err(Skip::Unreadable),
                _ => Err(Skip::Other),
            }
        }
    }
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(packet: &P, at: usize) -> Result<Ip, Skip> {
    let header: [u8; 20] = packet.at(at).ok_or(Skip::Unreadable)?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_bytes < 20 || (total != 0 && total < header_bytes) {
        return Err(Skip::Unreadable);
    }
    // More fragments, or not the first one.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Skip::Fragment);
    }
    if header[9] != TCP {
        return Err(Skip::Other);
    }
    Ok(Ip {
        source: mapped(u32::from_ne_bytes([header[12], header[13], header[14], header[15]])),
        destination: mapped(u32::from_ne_bytes([header[16], header[17], header[18], header[19]])),
        at,
        tcp_at: at + header_bytes,
        end: if total == 0 { usize::MAX } else { at + total },
    })
}

const TCP: u8 = 6;

#[inline(always)]
fn ipv6<P: Packet + ?Sized>(packet: &P, at: usize) -> Result<Ip, Skip> {
    let header: [u8; 8] = packet.at(at).ok_or(Skip::Unreadable)?;
    if header[0] >> 4 != 6 {
        return Err(Skip::Unreadable);
    }
    let source = words(packet.at(at + 8).ok_or(Skip::Unreadable)?);
    let destination = words(packet.at(at + 24).ok_or(Skip::Unreadable)?);
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut next = header[6];
    let mut tcp_at = at + 40;
    for _ in 0..EXTENSIONS_MAX {
        if next == TCP {
            break;
        }
        match next {
            // Some kinds fewer than there are, since the verifier walks every sequence of them: an authentication
            // header (RFC 4302) is the stack's to check first.
            HOP_BY_HOP | ROUTING | DESTINATION => {}
            // One that says it is the only one (RFC 6946) too.
            FRAGMENT => return Err(Skip::Fragment),
            _ => return Err(Skip::Other),
        }
        let [following, length]: [u8; 2] = packet.at(tcp_at).ok_or(Skip::Unreadable)?;
        tcp_at += (usize::from(length) + 1) * 8;
        next = following;
    }
    match next {
        TCP => Ok(Ip {
            source,
            destination,
            at,
            tcp_at,
            end: if payload == 0 { usize::MAX } else { at + 40 + payload },
        }),
        HOP_BY_HOP | ROUTING | DESTINATION => Err(Skip::Unreadable),
        FRAGMENT => Err(Skip::Fragment),
        _ => Err(Skip::Other),
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// The receiver's port alone: by it most packets are let go before more is read.
///
/// # Errors
/// When the packet ends before it.
#[inline(always)]
pub fn destination_port<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Result<u16, Skip> {
    number(packet, ip.tcp_at + 2)
}

/// Reads the TCP header that [`ip`] found.
///
/// # Errors
/// When the packet ends before the header does, or the header contradicts itself.
#[inline(always)]
pub fn segment<P: Packet + ?Sized>(packet: &P, ip: &Ip) -> Result<Segment, Skip> {
    let header: [u8; TCP_BYTES] = packet.at(ip.tcp_at).ok_or(Skip::Unreadable)?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    let payload_at = ip.tcp_at + header_bytes;
    if header_bytes < TCP_BYTES || payload_at > ip.end {
        return Err(Skip::Unreadable);
    }
    Ok(Segment {
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        flags: header[13],
        window: u16::from_be_bytes([header[14], header[15]]),
        payload_at,
    })
}

#[inline(always)]
fn number<P: Packet + ?Sized>(packet: &P, at: usize) -> Result<u16, Skip> {
    packet.at(at).map(u16::from_be_bytes).ok_or(Skip::Unreadable)
}

/// What a connection's first payload looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opening {
    /// Not seen: none yet, or it came with the handshake's last packet.
    Unseen = 0,
    /// A TLS record with a ClientHello (RFC 8446 §4.1.2, §5.1).
    ClientHello = 1,
    /// A PROXY protocol header, version 1 or 2.
    Proxy = 2,
    /// The beginning of an HTTP request in clear text.
    Http = 3,
    /// Fewer bytes than tell.
    Short = 4,
    /// Something else.
    Other = 5,
}

impl Opening {
    /// The kind in a map; an unknown one is unseen.
    pub const fn of(value: u8) -> Opening {
        match value {
            1 => Opening::ClientHello,
            2 => Opening::Proxy,
            3 => Opening::Http,
            4 => Opening::Short,
            5 => Opening::Other,
            _ => Opening::Unseen,
        }
    }

    /// The word in logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Opening::Unseen => "unseen",
            Opening::ClientHello => "client_hello",
            Opening::Proxy => "proxy",
            Opening::Http => "http",
            Opening::Short => "short",
            Opening::Other => "other",
        }
    }
}

/// Looks at the first bytes of the first payload; None where there are fewer.
#[inline(always)]
pub const fn opening(first: Option<[u8; 6]>) -> Opening {
    let Some(first) = first else { return Opening::Short };
    match first {
        [0x16, 0x03, 0..=4, _, _, 0x01] => Opening::ClientHello,
        [b'P', b'R', b'O', b'X', b'Y', b' '] | [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d] => Opening::Proxy,
        [b'G', b'E', b'T', b' ', ..]
        | [b'P', b'U', b'T', b' ', ..]
        | [b'P', b'O', b'S', b'T', b' ', _]
        | [b'H', b'E', b'A', b'D', b' ', _]
        | [b'P', b'R', b'I', b' ', b'*', b' ']
        | [b'D', b'E', b'L', b'E', b'T', b'E']
        | [b'P', b'A', b'T', b'C', b'H', b' ']
        | [b'O', b'P', b'T', b'I', b'O', b'N'] => Opening::Http,
        _ => Opening::Other,
    }
}

/// What a SYN's TCP options say of the client's stack (RFC 9293 §3.2, RFC 7323); user space reads them off the SYN that
/// the kernel saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// The largest segment that it takes.
    pub segment_bytes_max: Option<u16>,
    /// The power of two that its window counts in.
    pub window_scale: Option<u8>,
    /// Whether it acknowledges selectively (RFC 2018).
    pub selective: bool,
    /// Whether it sends timestamps.
    pub timestamps: bool,
}

/// Reads the options between the TCP header and the payload. What follows a malformed option is left out, as every
/// stack does.
pub fn tcp_options(mut bytes: &[u8]) -> TcpOptions {
    let mut options = TcpOptions::default();
    loop {
        bytes = match bytes {
            [] | [0, ..] => return options,
            [1, rest @ ..] => rest,
            [kind, length, rest @ ..] => {
                let Some(value_bytes) = usize::from(*length).checked_sub(2) else { return options };
                let Some((value, rest)) = rest.split_at_checked(value_bytes) else { return options };
                match (kind, value) {
                    (2, [high, low]) => options.segment_bytes_max = Some(u16::from_be_bytes([*high, *low])),
                    (3, [scale]) => options.window_scale = Some(*scale),
                    (4, []) => options.selective = true,
                    (8, [_, _, _, _, _, _, _, _]) => options.timestamps = true,
                    _ => {}
                }
                rest
            }
            [_] => return options,
        };
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
