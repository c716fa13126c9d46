//! Yett's kernel-side programs: thin entries that read, decide, and map the decision to the hook's verdict.
//!
//! One program so far: it counts the packets that reach an interface and passes every one on. It decides nothing, and
//! no program here may ever let through what user space would refuse.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;

/// Packets seen: index 0, one count for each CPU.
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Counts a packet and passes it on. `frags`, so that it attaches to interfaces with frames of several pages.
#[xdp(frags)]
pub fn count(_packet: XdpContext) -> u32 {
    if let Some(packets) = PACKETS.get_ptr_mut(0) {
        // SAFETY: the map gave the pointer for this CPU's own slot, and nothing else on this CPU runs meanwhile.
        unsafe { *packets = (*packets).wrapping_add(1) };
    }
    XDP_PASS
}

/// The licence that the kernel asks for before a program may call helpers that are GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The compiler wants one; the verifier refuses any program that could reach it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
