//! What reaches our connections, counted where the kernel hands packets to their sockets: other people's traffic pays
//! nothing for it.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use gateway_common::parse::{self, Link, RST, SYN};

use crate::maps;
use crate::packet::{Skb, Wire as _};

/// Counts one packet. A listening socket's value has no time of establishment and stays as it is: its connections are
/// copies of it.
#[inline(always)]
pub fn count(skb: &Skb) {
    let Some(connection) = skb.socket().and_then(maps::connection) else { return };
    if connection.established_ns == 0 {
        return;
    }
    let Ok(ip) = parse::ip(skb, Link::Ip) else { return };
    let Ok(segment) = parse::segment(skb, &ip) else { return };
    let segments = skb.segments();
    connection.packets += segments;
    // A merged packet carries one set of headers; on the wire each had its own.
    connection.bytes += ip.bytes(skb.bytes()) as u64 + (segments - 1) * segment.payload_at as u64;
    if segment.window == 0 && segment.flags & (SYN | RST) == 0 {
        connection.zero_windows += 1;
    }
    if connection.first_payload_ns == 0 && segment.payload_bytes(&ip, skb.bytes()) > 0 {
        // SAFETY: a helper without arguments.
        connection.first_payload_ns = unsafe { bpf_ktime_get_ns() };
        // Bytes from the middle of the stream tell nothing: the first ones came with the handshake's last packet.
        if segment.sequence == connection.isn.wrapping_add(1) {
            connection.opening = parse::opening(skb.copied(segment.payload_at)) as u8;
        }
    }
}
