//! A connection's storage from the kernel's side: when it is established, the SYN's slot is carried into it; when it
//! ends before anyone accepted it, that is reported, since user space never heard of it.

use core::ptr::NonNull;

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE,
    bpf_sock,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::SockOpsContext;
use gateway_common::decide;
use gateway_common::flow::Place;
use gateway_common::key::{Address, mapped};
use gateway_common::object::SLOTS_MAX;
use gateway_common::value::{Connection, Event, EventKind};

use crate::pick::AF_INET;
use crate::{maps, report, switch};

/// Looks at what happened to a socket; most of it is none of ours.
#[inline(always)]
pub fn event(context: &SockOpsContext) {
    match context.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(context),
        BPF_SOCK_OPS_STATE_CB if context.arg(1) == BPF_TCP_CLOSE => closed(context),
        _ => {}
    }
}

#[inline(always)]
fn established(context: &SockOpsContext) {
    let Some(connection) = socket(context).and_then(maps::connection) else { return };
    // SAFETY: the context is the hook's own, and the socket a full one, as its storage shows.
    let next = unsafe { (*context.ops).rcv_nxt };
    // SAFETY: a helper without arguments.
    connection.established_ns = unsafe { bpf_ktime_get_ns() };
    connection.isn = next.wrapping_sub(1);
    let matched = switch::slots() && recall(context, connection);
    if let Some(counters) = maps::counters(connection.frontend) {
        counters.established += 1;
        counters.unmatched += u64::from(!matched);
    }
    let flags = context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    // Without it an unaccepted end stays unreported, which is all that can be done about it.
    let _ = context.set_cb_flags(flags as i32);
}

/// Takes the SYN's time and tries out of its slot, when they are this connection's: the slot may be another flow's by
/// now, or an earlier connection's of the same port.
#[inline(always)]
fn recall(context: &SockOpsContext, connection: &mut Connection) -> bool {
    let (source, destination, ports) = tuple(context);
    let place = Place::of_flow(switch::seed(), &source, &destination, ports);
    let Some(slot) = maps::entry(&maps::SLOTS, place.index(SLOTS_MAX)) else { return false };
    if !decide::holds(slot, place.tag(), connection.isn) {
        return false;
    }
    connection.syn_ns = slot.syn_ns;
    connection.syn_tries = slot.tries;
    slot.tag = 0;
    true
}

#[inline(always)]
fn closed(context: &SockOpsContext) {
    let Some(socket) = socket(context) else { return };
    let Some(connection) = maps::connection(socket).filter(|connection| connection.established_ns != 0)
    else {
        return;
    };
    if maps::accepted(socket) {
        return;
    }
    if let Some(counters) = maps::counters(connection.frontend) {
        counters.unaccepted += 1;
    }
    if !switch::events() {
        return;
    }
    let (source, destination, (source_port, destination_port)) = tuple(context);
    report::send(Event {
        // SAFETY: a helper without arguments.
        at_ns: unsafe { bpf_ktime_get_ns() },
        syn_ns: connection.syn_ns,
        established_ns: connection.established_ns,
        first_payload_ns: connection.first_payload_ns,
        source,
        destination,
        frontend: connection.frontend,
        syn_tries: connection.syn_tries,
        source_port,
        destination_port,
        kind: EventKind::Unaccepted as u8,
        reason: 0,
        pad: [0; 2],
    });
}

#[inline(always)]
fn socket(context: &SockOpsContext) -> Option<NonNull<bpf_sock>> {
    // SAFETY: the context is the hook's own.
    NonNull::new(unsafe { (*context.ops).__bindgen_anon_2.sk })
}

/// Client, server, and their ports. The fields are read singly and before anything depends on them, since the verifier
/// knows each by its own offset and size.
#[inline(always)]
fn tuple(context: &SockOpsContext) -> (Address, Address, (u16, u16)) {
    macro_rules! word {
        ($($field:tt)+) => {
            // SAFETY: the context is the hook's own.
            unsafe { core::ptr::read_volatile(&raw const (*context.ops).$($field)+) }
        };
    }
    let (remote4, local4) = (word!(remote_ip4), word!(local_ip4));
    let remote6 = [word!(remote_ip6[0]), word!(remote_ip6[1]), word!(remote_ip6[2]), word!(remote_ip6[3])];
    let local6 = [word!(local_ip6[0]), word!(local_ip6[1]), word!(local_ip6[2]), word!(local_ip6[3])];
    // The kernel gives the remote port in network order and the local one in the host's.
    let ports = (u32::from_be(word!(remote_port)) as u16, word!(local_port) as u16);
    if context.family() == AF_INET {
        (mapped(remote4), mapped(local4), ports)
    } else {
        (remote6, local6, ports)
    }
}
