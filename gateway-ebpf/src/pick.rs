//! Which worker's listening socket gets a connection: the worker of the CPU that runs the SYN, so that the connection
//! is served where its packets arrive; where that one does not serve, another by hash.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::programs::SkReuseportContext;
use gateway_common::decide::{self, Picked};
use gateway_common::key::{FrontendKey, mapped};
use gateway_common::value::Worker;

use crate::{maps, switch};

/// Chooses, or leaves the choice to the kernel. The group's own address and port name the front end, since a migrated
/// connection comes without a packet.
#[inline(always)]
pub fn choose(context: &SkReuseportContext) {
    let socket: *const bpf_sock = context.sk().as_ptr().cast_const().cast();
    let Some(key) = listening(socket) else { return };
    // SAFETY: the daemon changes entries of this map by replacing them whole.
    let Some(frontend) = (unsafe { maps::FRONTENDS.get(&key) }) else { return };
    let Some(control) = maps::CONTROL.get(0) else { return };
    let Some(counters) = maps::counters(frontend.id) else { return };
    if context.migrating_sk().is_some() {
        counters.migrated += 1;
    }
    let state = |worker| maps::WORKERS.get(worker).map_or(Worker::Absent, |state| Worker::of(*state));
    let picked = decide::pick(own(), context.hash(), control.workers, state).filter(|(worker, _)| {
        maps::SOCKETS.select_reuseport(context, frontend.first_socket.wrapping_add(*worker)).is_ok()
    });
    match picked {
        Some((_, Picked::Cpu)) => counters.picked_cpu += 1,
        Some((_, Picked::Hash)) => counters.picked_hash += 1,
        None => counters.picked_kernel += 1,
    }
}

/// The worker of this CPU.
#[inline(always)]
fn own() -> Option<u32> {
    if !switch::pin_cpu() {
        return None;
    }
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    maps::CPUS.get(cpu)?.checked_sub(1)
}

/// Where a group of sockets listens. The fields are read singly and before anything depends on them: the verifier
/// knows each by its offset and allows no arithmetic on the pointer.
#[inline(always)]
fn listening(socket: *const bpf_sock) -> Option<FrontendKey> {
    macro_rules! word {
        ($($field:tt)+) => {
            // SAFETY: the context's socket is never null and lives as long as the program runs.
            unsafe { core::ptr::read_volatile(&raw const (*socket).$($field)+) }
        };
    }
    let (family, v4, port) = (word!(family), word!(src_ip4), word!(src_port));
    let v6 = [word!(src_ip6[0]), word!(src_ip6[1]), word!(src_ip6[2]), word!(src_ip6[3])];
    let address = match family {
        AF_INET => mapped(v4),
        AF_INET6 => v6,
        _ => return None,
    };
    Some(FrontendKey::new(address, port as u16))
}

/// IPv4, as sockets have it.
pub const AF_INET: u32 = 2;
/// IPv6, as sockets have it.
pub const AF_INET6: u32 = 10;
