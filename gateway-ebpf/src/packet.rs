//! Views of the packet in the contexts of the hooks: bounds-checked reads of what can be read directly.

use core::ptr::NonNull;

use aya_ebpf::bindings::{__sk_buff, bpf_sock, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use gateway_common::parse::Packet;

/// A packet that may stand for several on the wire.
pub trait Wire: Packet {
    /// Its length in bytes, with what cannot be read directly.
    fn bytes(&self) -> usize;
    /// How many packets on the wire it was.
    fn segments(&self) -> u64;
}

/// A frame before it has an skb.
pub struct Frame {
    context: *mut xdp_md,
    data: usize,
    end: usize,
}

impl Frame {
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Frame {
        Frame { context: context.ctx, data: context.data(), end: context.data_end() }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        read(self.data, self.end, offset)
    }
}

impl Wire for Frame {
    #[inline(always)]
    fn bytes(&self) -> usize {
        // SAFETY: the context is the hook's own. The pointers' difference would leave out all but the first page.
        unsafe { bpf_xdp_get_buff_len(self.context) as usize }
    }

    #[inline(always)]
    fn segments(&self) -> u64 {
        1
    }
}

/// An skb: at an interface, or on its way to a socket, where it begins with the IP header.
pub struct Skb {
    skb: *mut __sk_buff,
    data: usize,
    end: usize,
}

impl Skb {
    #[inline(always)]
    pub fn new(skb: *mut __sk_buff) -> Skb {
        // SAFETY: the context is the hook's own.
        let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
        Skb { skb, data, end }
    }

    /// The socket that it is for. Only where the hook belongs to the receiving socket; at an interface it may be the
    /// sender's.
    #[inline(always)]
    pub fn socket(&self) -> Option<NonNull<bpf_sock>> {
        // SAFETY: the context is the hook's own.
        NonNull::new(unsafe { (*self.skb).__bindgen_anon_2.sk })
    }

    /// Bytes that may lie beyond what can be read directly, as payload mostly does.
    #[inline(always)]
    pub fn copied<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the kernel writes N bytes to the array, or none and an error.
        let done = unsafe {
            bpf_skb_load_bytes(self.skb.cast(), offset as u32, bytes.as_mut_ptr().cast(), N as u32)
        };
        (done == 0).then_some(bytes)
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        read(self.data, self.end, offset)
    }
}

impl Wire for Skb {
    #[inline(always)]
    fn bytes(&self) -> usize {
        // SAFETY: the context is the hook's own.
        unsafe { (*self.skb).len as usize }
    }

    #[inline(always)]
    fn segments(&self) -> u64 {
        // SAFETY: the context is the hook's own. 0 is said of a packet that was not merged.
        let segments = unsafe { (*self.skb).gso_segs };
        if segments == 0 { 1 } else { u64::from(segments) }
    }
}

/// One comparison for one read: the verifier follows the pointer that was compared, and no other.
#[inline(always)]
fn read<const N: usize>(data: usize, end: usize, offset: usize) -> Option<[u8; N]> {
    let from = data + offset;
    if from + N > end {
        return None;
    }
    // SAFETY: the N bytes lie before the end, as just compared, and bytes need no alignment.
    Some(unsafe { *(from as *const [u8; N]) })
}
