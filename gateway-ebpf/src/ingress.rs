//! What happens to a packet at an interface: other people's traffic is let go after a look at its port; what is for a
//! front end is counted; a SYN is held against the deny list and its source's pace, and leaves its time behind.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use gateway_common::decide::{self, Seen};
use gateway_common::flow::Place;
use gateway_common::key::FrontendKey;
use gateway_common::object::{BUCKETS_MAX, SLOTS_MAX};
use gateway_common::parse::{self, Ip, Link, Segment, Skip};
use gateway_common::value::{Counters, Frontend, Mode, PORT_ANY, PORT_EXACT, Recent, Shed, Slot};

use crate::packet::Wire;
use crate::{maps, report, switch};

/// What becomes of a packet.
pub enum Verdict {
    /// On to the next program and the stack.
    Pass,
    /// It ends here.
    Drop,
}

/// The whole way of one packet.
#[inline(always)]
pub fn screen<P: Wire>(packet: &P) -> Verdict {
    let Some(totals) = maps::totals() else { return Verdict::Pass };
    totals.packets += packet.segments();
    let link = if switch::raw_ip() { Link::Ip } else { Link::Ethernet };
    match ours(packet, link) {
        Ok(Some((ip, segment, frontend))) => {
            let Some(counters) = maps::counters(frontend) else { return Verdict::Pass };
            let segments = packet.segments();
            counters.packets += segments;
            // A merged packet carries one set of headers; on the wire each had its own.
            counters.bytes +=
                ip.bytes(packet.bytes()) as u64 + (segments - 1) * (segment.payload_at - ip.at) as u64;
            if segment.opens() { syn(&Arrival { ip, segment, frontend }, counters) } else { Verdict::Pass }
        }
        Ok(None) | Err(Skip::Other) => Verdict::Pass,
        Err(Skip::Fragment) => {
            totals.fragments += 1;
            Verdict::Pass
        }
        Err(Skip::Unreadable) => {
            totals.unreadable += 1;
            Verdict::Pass
        }
    }
}

/// The segment and its front end's number, where it has one of ours.
#[inline(always)]
fn ours<P: Wire>(packet: &P, link: Link) -> Result<Option<(Ip, Segment, u32)>, Skip> {
    let ip = parse::ip(packet, link)?;
    let port = parse::destination_port(packet, &ip)?;
    let Some(listening) = maps::PORTS.get(u32::from(port)).copied().filter(|bits| *bits != 0) else {
        return Ok(None);
    };
    let Some(frontend) = frontend(&ip, port, listening) else { return Ok(None) };
    Ok(Some((ip, parse::segment(packet, &ip)?, frontend)))
}

/// The front end that a packet goes to: the one that its predecessor went to, or as the maps say.
#[inline(always)]
fn frontend(ip: &Ip, port: u16, listening: u32) -> Option<u32> {
    let key = FrontendKey::new(ip.destination, port);
    let heartbeat_ns = maps::CONTROL.get(0)?.heartbeat_ns;
    let recent = maps::recent(&key)?;
    if recent.key == key && recent.heartbeat_ns == heartbeat_ns && recent.found != 0 {
        return Some(recent.found - 1);
    }
    let id = looked_up(key, listening)?.id;
    *recent = Recent { heartbeat_ns, key, found: id.wrapping_add(1), pad: 0 };
    Some(id)
}

/// A front end on the packet's own address comes before one on every address.
#[inline(always)]
fn looked_up(key: FrontendKey, listening: u32) -> Option<&'static Frontend> {
    let found = |key: &FrontendKey| {
        // SAFETY: the daemon changes entries of this map by replacing them whole; a stale one counts to its old place.
        unsafe { maps::FRONTENDS.get(key) }
    };
    if listening & PORT_EXACT != 0
        && let Some(frontend) = found(&key)
    {
        return Some(frontend);
    }
    if listening & PORT_ANY != 0 { found(&key.on_any()) } else { None }
}

/// A SYN for a front end.
pub struct Arrival {
    pub ip: Ip,
    pub segment: Segment,
    /// Its number.
    pub frontend: u32,
}

#[inline(always)]
fn syn(arrival: &Arrival, counters: &mut Counters) -> Verdict {
    counters.syns += 1;
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if let Some((shed, mode)) = objection(arrival, now_ns) {
        if maps::allowed(&arrival.ip.source) {
            counters.allowed += 1;
        } else {
            let enforced = mode == Mode::Enforce;
            let counts = if enforced { &mut counters.dropped } else { &mut counters.observed };
            match shed {
                Shed::Denied => counts[0] += 1,
                Shed::RateLimited => counts[1] += 1,
            }
            report::shed(arrival, shed, enforced, now_ns);
            if enforced {
                return Verdict::Drop;
            }
        }
    }
    if switch::slots() {
        remember(arrival, counters, now_ns);
    }
    Verdict::Pass
}

/// Why the SYN would not be let in, and how far that goes. Nothing is said against anyone while the daemon is gone.
#[inline(always)]
fn objection(arrival: &Arrival, now_ns: u64) -> Option<(Shed, Mode)> {
    if !switch::deny() && !switch::limit() {
        return None;
    }
    let control = maps::CONTROL.get(0).filter(|control| decide::alive(control, now_ns))?;
    let source = &arrival.ip.source;
    if switch::deny() {
        let mode = Mode::of(control.deny);
        if mode != Mode::Off && maps::denied(source) {
            return Some((Shed::Denied, mode));
        }
    }
    if switch::limit() {
        let mode = Mode::of(control.limit);
        if mode != Mode::Off {
            let place = Place::of_source(switch::seed(), source);
            let bucket = maps::entry(&maps::BUCKETS, place.index(BUCKETS_MAX))?;
            let (after, keeps) = decide::paced(bucket, place.tag(), now_ns, control);
            *bucket = after;
            return (!keeps).then_some((Shed::RateLimited, mode));
        }
    }
    None
}

/// Leaves the SYN's time for the connection's storage.
#[inline(always)]
fn remember(arrival: &Arrival, counters: &mut Counters, now_ns: u64) {
    let Arrival { ip, segment, .. } = arrival;
    let ports = (segment.source_port, segment.destination_port);
    let place = Place::of_flow(switch::seed(), &ip.source, &ip.destination, ports);
    let Some(slot) = maps::entry(&maps::SLOTS, place.index(SLOTS_MAX)) else { return };
    let isn = if switch::fresh() { slot.isn.wrapping_add(1) } else { segment.sequence };
    match decide::seen(slot, place.tag(), isn) {
        Seen::Again => {
            slot.tries += 1;
            counters.syn_retries += 1;
            return;
        }
        Seen::Instead => counters.slots_overwritten += 1,
        Seen::First => {}
    }
    *slot = Slot { syn_ns: now_ns, tag: place.tag(), isn, tries: 1, pad: 0 };
}
