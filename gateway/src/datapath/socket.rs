//! TCP_INFO (tcp(7), `struct tcp_info` of linux/tcp.h), read as bytes at their offsets.
//!
//! The structure only ever grows at its end, and a kernel says how much of it it filled in: what an older one does not
//! know reads as zero. It is not taken from `libc`, whose declaration ends before the fields that are wanted here.
#![allow(unsafe_code, reason = "getsockopt(2) writes into a buffer; no safe wrapper knows TCP_INFO")]

use std::os::fd::RawFd;
use std::time::Duration;

use crate::telemetry::connections::TcpInfo;

/// More than any kernel has filled in so far.
const INFO_BYTES_MAX: usize = 256;

/// What the kernel says of a TCP connection; `None` where the descriptor is no such thing. Any number is safe to pass.
pub fn tcp_info(socket: RawFd) -> Option<TcpInfo> {
    let mut info = [0u8; INFO_BYTES_MAX];
    let mut length = libc::socklen_t::try_from(INFO_BYTES_MAX).ok()?;
    // SAFETY: the buffer is writable for `length` bytes, both pointers are valid for the call, and the kernel writes no
    // more than `length`. A descriptor that is not a socket gives an error.
    let outcome = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    (outcome == 0).then(|| parse(&info))
}

fn parse(info: &[u8; INFO_BYTES_MAX]) -> TcpInfo {
    let four = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let eight = |at: usize| {
        let [low, high] = [four(at), four(at + 4)].map(u32::to_ne_bytes);
        u64::from_ne_bytes([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]])
    };
    let micros = |at| Duration::from_micros(four(at).into());
    TcpInfo {
        state: info[0],
        rtt: micros(68),
        retransmits: four(100),
        bytes_received: eight(128),
        segments_out: four(136),
        segments_in: four(140),
        // All ones until a round trip was measured.
        min_rtt: (four(148) != u32::MAX).then(|| micros(148)),
        delivered_ce: four(196),
        bytes_sent: eight(200),
        bytes_retransmitted: eight(208),
        out_of_order: four(224),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_kernel_counts_what_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let accepted = tcp_info(server.as_raw_fd()).unwrap();
        assert!(accepted.rtt > Duration::ZERO && accepted.bytes_in(false) == 0, "{accepted:?}");
        client.write_all(&[b'x'; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        server.write_all(&[b'y'; 70]).unwrap();
        client.read_exact(&mut [0; 70]).unwrap();
        let info = tcp_info(server.as_raw_fd()).unwrap();
        assert_eq!((info.bytes_in(false), info.bytes_sent), (1000, 70), "{info:?}");
        assert!(info.segments_in >= 3 && info.segments_out >= 1, "{info:?}");
        assert_eq!((info.retransmits, info.bytes_retransmitted), (0, 0), "{info:?}");
        // The client's end of stream takes a sequence number and is no byte of its.
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(tcp_info(server.as_raw_fd()).unwrap().bytes_in(true), 1000);
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(tcp_info(server.as_raw_fd()).unwrap().bytes_in(true), 1000);
    }

    #[test]
    fn what_is_no_connection_has_no_figures() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(tcp_info(file.as_raw_fd()), None);
        assert_eq!(tcp_info(-1), None);
    }
}
