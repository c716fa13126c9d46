//! The parser on the host: tables of headers by hand, and bytes at random.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::key::address;

const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

fn frame(parts: &[&[u8]]) -> Vec<u8> {
    [&ETHERNET[..]].iter().chain(parts).flat_map(|part| part.iter().copied()).collect()
}

/// An IPv4 header of 10.0.0.1 to 10.0.0.2 for TCP, with `total` as its length.
fn ipv4_header(total: u16) -> Vec<u8> {
    let [high, low] = total.to_be_bytes();
    vec![0x45, 0, high, low, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
}

fn ipv6_header(payload: u16, next: u8) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, high, low, next, 64];
    header.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    header
}

/// From port 40000 to 443, sequence number 0x01020304, SYN, window 500.
const TCP_HEADER: [u8; 20] =
    [0x9c, 0x40, 0x01, 0xbb, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 0x02, 0x01, 0xf4, 0, 0, 0, 0];

fn read(bytes: &[u8]) -> Result<(Ip, Segment), Skip> {
    let ip = ip(bytes, Link::Ethernet)?;
    Ok((ip, segment(bytes, &ip)?))
}

#[test]
fn a_segment_is_read_field_by_field() {
    let v4 = frame(&[&[8, 0], &ipv4_header(47), &TCP_HEADER, b"payload", &[0; 6]]);
    let (ip, segment) = read(&v4).unwrap();
    assert_eq!(ip.source, address("10.0.0.1".parse().unwrap()));
    assert_eq!(ip.destination, address("10.0.0.2".parse().unwrap()));
    assert_eq!((ip.at, ip.tcp_at, ip.end), (14, 34, 61));
    assert_eq!((segment.source_port, segment.destination_port), (40_000, 443));
    assert_eq!(destination_port(&v4[..], &ip), Ok(443));
    assert_eq!((segment.sequence, segment.flags, segment.window), (0x0102_0304, SYN, 500));
    assert!(segment.opens());
    assert_eq!((segment.payload_at, segment.payload_bytes(&ip, v4.len())), (54, 7), "padding is no payload");
    assert_eq!(ip.bytes(v4.len()), 47);

    let v6 = frame(&[&[0x86, 0xdd], &ipv6_header(23, 6), &TCP_HEADER, b"abc"]);
    let (ip, segment) = read(&v6).unwrap();
    assert_eq!(ip.source, address("2001:db8::1".parse().unwrap()));
    assert_eq!((ip.tcp_at, ip.end, segment.payload_bytes(&ip, v6.len())), (54, 77, 3));
    assert_eq!(super::ip(&v6[14..], Link::Ip).map(|ip| ip.tcp_at), Ok(40), "the same without a link header");
}

#[test]
fn what_is_no_whole_segment_says_why() {
    let hop = [6, 0, 0, 0, 0, 0, 0, 0];
    let chain = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
    let changed = |at: usize, byte: u8| {
        let mut bytes = frame(&[&[8, 0], &ipv4_header(40), &TCP_HEADER]);
        bytes[at] = byte;
        bytes
    };
    let table = [
        ("ARP", frame(&[&[8, 6], &[0; 28]]), Skip::Other),
        ("UDP", changed(23, 17), Skip::Other),
        ("a fragment", changed(20, 0x20), Skip::Fragment),
        ("a later fragment", changed(21, 1), Skip::Fragment),
        ("version 5", changed(14, 0x55), Skip::Unreadable),
        ("a short IP header", changed(14, 0x44), Skip::Unreadable),
        ("a total below the header", changed(17, 19), Skip::Unreadable),
        ("a total within the TCP header", changed(17, 39), Skip::Unreadable),
        ("a short TCP header", changed(46, 0x40), Skip::Unreadable),
        ("three tags", frame(&[&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0]]), Skip::Unreadable),
        ("an extension cut off", frame(&[&[0x86, 0xdd], &ipv6_header(1, 0), &[6]]), Skip::Unreadable),
        ("an IPv6 fragment", frame(&[&[0x86, 0xdd], &ipv6_header(8, 44), &hop]), Skip::Fragment),
        ("ESP", frame(&[&[0x86, 0xdd], &ipv6_header(8, 50), &hop]), Skip::Other),
        (
            "five extensions",
            frame(&[
                &[0x86, 0xdd],
                &ipv6_header(60, 0),
                &chain(60),
                &chain(60),
                &chain(60),
                &chain(60),
                &hop,
                &TCP_HEADER,
            ]),
            Skip::Unreadable,
        ),
    ];
    for (description, bytes, expected) in table {
        assert_eq!(read(&bytes), Err(expected), "{description}");
    }
}

#[test]
fn every_length_short_of_the_header_is_unreadable() {
    let tagged = [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x86, 0xdd];
    let whole = frame(&[&tagged, &ipv6_header(28, 0), &[6, 0, 0, 0, 0, 0, 0, 0], &TCP_HEADER]);
    for bytes in 0..whole.len() {
        assert_eq!(read(&whole[..bytes]), Err(Skip::Unreadable), "{bytes} bytes");
    }
    assert!(read(&whole).is_ok());
}

#[test]
fn the_first_payload_is_told_by_its_first_bytes() {
    for (first, expected) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], Opening::ClientHello),
        (b"\x16\x03\x01\x02\x00\x02", Opening::Other),
        (b"\x16\x03\x05\x02\x00\x01", Opening::Other),
        (b"PROXY TCP4", Opening::Proxy),
        (b"\r\n\r\n\0\r\nQUIT\n", Opening::Proxy),
        (b"GET / HTTP/1.1", Opening::Http),
        (b"PRI * HTTP/2.0", Opening::Http),
        (b"SSH-2.0-", Opening::Other),
        (b"\x16\x03\x01", Opening::Short),
        (b"", Opening::Short),
    ] {
        assert_eq!(opening(first.at(0)), expected, "{first:?}");
        assert_eq!(Opening::of(expected as u8), expected);
    }
}

#[test]
fn options_are_read_up_to_the_first_malformed_one() {
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let all = TcpOptions {
        segment_bytes_max: Some(1460),
        window_scale: Some(7),
        selective: true,
        timestamps: true,
    };
    let first = TcpOptions { segment_bytes_max: Some(1460), ..TcpOptions::default() };
    for (description, bytes, expected) in [
        ("those of Linux", &linux[..], all),
        ("none", &[], TcpOptions::default()),
        ("the end before others", &[2, 4, 5, 0xb4, 0, 4, 2], first),
        ("a length of nothing", &[2, 4, 5, 0xb4, 4, 0, 4, 2], first),
        ("a length beyond the end", &[2, 4, 5, 0xb4, 8, 10, 0], first),
        ("a kind without length", &[2, 4, 5, 0xb4, 4], first),
        ("an unknown one between", &[34, 3, 9, 2, 4, 5, 0xb4], first),
        ("a known one of another length", &[3, 4, 1, 2, 2, 4, 5, 0xb4], first),
    ] {
        assert_eq!(tcp_options(bytes), expected, "{description}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_read_beyond_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), link in any::<bool>()) {
        let link = if link { Link::Ethernet } else { Link::Ip };
        if let Ok(ip) = ip(&bytes[..], link) {
            prop_assert!(ip.at < ip.tcp_at && ip.tcp_at <= ip.at + 40 + EXTENSIONS_MAX * 2048);
            if let Ok(segment) = segment(&bytes[..], &ip) {
                prop_assert!(ip.tcp_at + 20 <= segment.payload_at && segment.payload_at <= ip.end);
                prop_assert!(ip.tcp_at + 20 <= bytes.len());
                prop_assert!(segment.payload_bytes(&ip, bytes.len()) <= bytes.len());
            }
        }
        let _ = tcp_options(&bytes);
    }

    #[test]
    fn a_segment_survives_any_headers_before_it(
        tags in 0..=VLAN_TAGS_MAX,
        extensions in proptest::collection::vec((prop_oneof![Just(0_u8), Just(43), Just(60)], 1_u8..4), 0..=EXTENSIONS_MAX),
        payload in 0..50_u16,
    ) {
        let mut rest = Vec::new();
        let mut numbers = extensions.iter().map(|(number, _)| *number).chain([6]);
        let first = numbers.next().unwrap();
        for ((_, words), next) in extensions.iter().zip(numbers) {
            rest.extend([next, words - 1]);
            rest.extend(vec![0; usize::from(*words) * 8 - 2]);
        }
        rest.extend(TCP_HEADER);
        rest.extend(vec![7; usize::from(payload)]);
        let header = ipv6_header(u16::try_from(rest.len()).unwrap(), first);
        let bytes = frame(&[&[0x81, 0, 0, 1].repeat(tags), &[0x86, 0xdd], &header, &rest]);
        let (ip, segment) = read(&bytes).unwrap();
        prop_assert_eq!((segment.sequence, segment.destination_port), (0x0102_0304, 443));
        prop_assert_eq!(segment.payload_bytes(&ip, bytes.len()), usize::from(payload));
    }
}
