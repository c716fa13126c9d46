//! Events: rare happenings in full, for logs and for `yett top`. Drops are sampled, since they come in floods.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use gateway_common::value::{Event, EventKind, Shed};

use crate::ingress::Arrival;
use crate::{maps, switch};

/// A SYN that was dropped, or would have been.
#[inline(always)]
pub fn shed(arrival: &Arrival, shed: Shed, enforced: bool, now_ns: u64) {
    // SAFETY: a helper without arguments.
    if !switch::events() || unsafe { bpf_get_prandom_u32() } & switch::event_mask() != 0 {
        return;
    }
    send(Event {
        at_ns: now_ns,
        syn_ns: now_ns,
        established_ns: 0,
        first_payload_ns: 0,
        source: arrival.ip.source,
        destination: arrival.ip.destination,
        frontend: arrival.frontend,
        syn_tries: 0,
        source_port: arrival.segment.source_port,
        destination_port: arrival.segment.destination_port,
        kind: if enforced { EventKind::Dropped } else { EventKind::Observed } as u8,
        reason: shed.reason() as u8,
        pad: [0; 2],
    });
}

/// Puts an event into the ring buffer, or counts it as lost.
#[inline(always)]
pub fn send(event: Event) {
    match maps::EVENTS.reserve(0) {
        Some(mut place) => {
            place.write(event);
            place.submit(0);
        }
        None => {
            if let Some(totals) = maps::totals() {
                totals.events_lost += 1;
            }
        }
    }
}
