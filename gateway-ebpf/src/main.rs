//! Yett's kernel-side programs: thin entries that read, decide, and map the decision to the hook's verdict.
//!
//! Everything that decides lives in `gateway-common`, where the host's tests run it. Programs observe and speed up:
//! none lets through what user space would refuse, and whatever cannot be read or found passes on untouched.
#![no_std]
#![no_main]

mod ingress;
mod maps;
mod packet;
mod pick;
mod report;
mod switch;
mod track;
mod wire;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, sk_action, xdp_action};
use aya_ebpf::macros::{cgroup_skb, classifier, sk_reuseport, sock_ops, xdp};
use aya_ebpf::programs::{SkBuffContext, SkReuseportContext, SockOpsContext, TcContext, XdpContext};

use ingress::{Verdict, screen};
use packet::{Frame, Skb};

/// Screens and counts where there is no skb yet. `frags`, so that it attaches to interfaces with frames of several
/// pages.
#[xdp(frags)]
pub fn ingress_xdp(context: XdpContext) -> u32 {
    match screen(&Frame::new(&context)) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

/// The same over an skb, as tcx or clsact. Passing means "no opinion", so that the next program has its say.
#[classifier]
pub fn ingress_tc(context: TcContext) -> i32 {
    match screen(&Skb::new(context.skb.skb)) {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT as i32,
    }
}

/// Chooses the listening socket of a connection, and of one whose listening socket closes. It never refuses one: where
/// it chooses nothing, the kernel does.
#[sk_reuseport(migrate)]
pub fn pick(context: SkReuseportContext) -> u32 {
    pick::choose(&context);
    sk_action::SK_PASS
}

/// Fills the storage of new connections and reports the ones that end unaccepted.
#[sock_ops]
pub fn track(context: SockOpsContext) -> u32 {
    track::event(&context);
    1
}

/// Counts what reaches our connections; lets everything through.
#[cgroup_skb(ingress)]
pub fn wire(context: SkBuffContext) -> i32 {
    wire::count(&Skb::new(context.skb.skb));
    1
}

/// Does nothing: what tests measure the others against.
#[xdp(frags)]
pub fn floor_xdp(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Does nothing: what tests measure the others against.
#[classifier]
pub fn floor_tc(_context: TcContext) -> i32 {
    TC_ACT_UNSPEC
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
