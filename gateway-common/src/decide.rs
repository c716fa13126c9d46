//! The decisions of the kernel programs as functions of values and the time: whether the daemon lives, what a SYN is
//! to its slot, whether a source keeps its pace, which worker gets a connection.

use crate::value::{Bucket, Control, HEARTBEAT_NS_MAX, Slot, Worker};

/// Whether the daemon gave a sign of life lately. Without one nothing is denied or limited.
#[inline(always)]
pub const fn alive(control: &Control, now_ns: u64) -> bool {
    // A sign of life from a moment after `now_ns` was read is one too.
    control.heartbeat_ns != 0 && now_ns.saturating_sub(control.heartbeat_ns) <= HEARTBEAT_NS_MAX
}

/// What a SYN is to the slot it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The first one of its handshake; the slot was free, or its handshake was the same client's earlier one.
    First,
    /// The same SYN again.
    Again,
    /// The first one, in the place of another handshake's, whose times are lost.
    Instead,
}

/// Whether a slot holds this SYN already. The tuple alone does not tell: a client may use its port again.
#[inline(always)]
pub const fn holds(slot: &Slot, tag: u32, isn: u32) -> bool {
    slot.tag == tag && slot.isn == isn
}

/// What a SYN is to its slot.
#[inline(always)]
pub const fn seen(slot: &Slot, tag: u32, isn: u32) -> Seen {
    if holds(slot, tag, isn) {
        Seen::Again
    } else if slot.tag == 0 || slot.tag == tag {
        Seen::First
    } else {
        Seen::Instead
    }
}

/// The bucket after one more connection of its source, and whether the source keeps its pace: one connection each
/// `interval_ns`, and as many at once as `burst_ns` holds. What is over the pace does not count against it.
#[inline(always)]
pub const fn paced(bucket: &Bucket, tag: u32, now_ns: u64, control: &Control) -> (Bucket, bool) {
    // Another source's bucket is taken over: it begins afresh, to the newcomer's advantage.
    let due_ns = if bucket.tag == tag && bucket.due_ns > now_ns { bucket.due_ns } else { now_ns };
    if due_ns - now_ns > control.syn_burst_ns {
        return (*bucket, false);
    }
    (Bucket { due_ns: due_ns.saturating_add(control.syn_interval_ns), tag, pad: 0 }, true)
}

/// Workers that a hash looks at before it gives up.
pub const PROBES_MAX: u32 = 8;

/// The worker for a connection: `first` where it serves, else one that serves by hash, else one that is busy.
/// None where there is none within [`PROBES_MAX`].
#[inline(always)]
pub fn pick(
    first: Option<u32>,
    hash: u32,
    workers: u32,
    state: impl Fn(u32) -> Worker,
) -> Option<(u32, Picked)> {
    if let Some(first) = first
        && first < workers
        && state(first) == Worker::Serving
    {
        return Some((first, Picked::Cpu));
    }
    // A number and no Option: the verifier refuses to copy the part of a None that was never written.
    let mut busy = u32::MAX;
    let mut at = ((hash as u64 * workers as u64) >> 32) as u32;
    for probe in 0..PROBES_MAX {
        if probe >= workers {
            break;
        }
        match state(at) {
            Worker::Serving => return Some((at, Picked::Hash)),
            Worker::Busy if busy == u32::MAX => busy = at,
            Worker::Busy | Worker::Absent | Worker::Draining => {}
        }
        at += 1;
        if at >= workers {
            at = 0;
        }
    }
    if busy == u32::MAX { None } else { Some((busy, Picked::Hash)) }
}

/// How a worker was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// It is the one of the CPU that runs the SYN.
    Cpu,
    /// By the flow's hash.
    Hash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_counts_as_gone_after_thirty_seconds() {
        let control = Control { heartbeat_ns: 1_000, ..Control::default() };
        for (description, control, now, expected) in [
            ("never a sign", Control::default(), 5, false),
            ("at the same moment", control, 1_000, true),
            ("from a moment later", control, 999, true),
            ("at the limit", control, 1_000 + HEARTBEAT_NS_MAX, true),
            ("over it", control, 1_001 + HEARTBEAT_NS_MAX, false),
        ] {
            assert_eq!(alive(&control, now), expected, "{description}");
        }
    }

    #[test]
    fn a_syn_is_told_from_a_repeated_one_and_from_another_flow() {
        let slot = Slot { tag: 7, isn: 100, ..Slot::default() };
        for (description, slot, tag, isn, expected) in [
            ("a free slot", Slot::default(), 7, 100, Seen::First),
            ("the same SYN", slot, 7, 100, Seen::Again),
            ("the port used again", slot, 7, 101, Seen::First),
            ("another flow", slot, 9, 100, Seen::Instead),
        ] {
            assert_eq!(seen(&slot, tag, isn), expected, "{description}");
        }
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_pace() {
        let control = Control { syn_interval_ns: 100, syn_burst_ns: 300, ..Control::default() };
        let mut bucket = Bucket::default();
        let mut passed = [false; 6];
        for passed in &mut passed {
            (bucket, *passed) = paced(&bucket, 7, 1_000, &control);
        }
        assert_eq!(passed, [true, true, true, true, false, false], "four at once");
        assert!(!paced(&bucket, 7, 1_099, &control).1);
        (bucket, passed[0]) = paced(&bucket, 7, 1_100, &control);
        assert!(passed[0], "one interval later one more");
        assert!(!paced(&bucket, 7, 1_100, &control).1);
        assert!(paced(&bucket, 9, 1_100, &control).1, "another source takes the bucket over");
        let limitless = Control { syn_burst_ns: u64::MAX, syn_interval_ns: u64::MAX, ..control };
        let (full, _) = paced(&Bucket::default(), 7, u64::MAX - 1, &limitless);
        assert_eq!(full.due_ns, u64::MAX, "time does not wrap");
    }

    #[test]
    fn a_connection_goes_to_the_workers_that_serve() {
        use Worker::{Absent, Busy, Draining, Serving};
        let half = u32::MAX / 2 + 1;
        for (description, first, hash, states, expected) in [
            ("its own", Some(1), 0, &[Serving, Serving][..], Some((1, Picked::Cpu))),
            ("its own is busy", Some(1), 0, &[Serving, Busy], Some((0, Picked::Hash))),
            ("no own", None, half, &[Serving, Serving], Some((1, Picked::Hash))),
            ("the hash's drains", None, half, &[Serving, Draining], Some((0, Picked::Hash))),
            ("own beyond the count", Some(2), 0, &[Serving, Serving], Some((0, Picked::Hash))),
            ("all busy", Some(1), half, &[Busy, Busy], Some((1, Picked::Hash))),
            ("a busy one before none", Some(0), 0, &[Absent, Draining, Busy], Some((2, Picked::Hash))),
            ("nobody", Some(0), 0, &[Absent, Draining], None),
            ("no workers", None, u32::MAX, &[], None),
        ] {
            let workers = u32::try_from(states.len()).unwrap();
            let found = pick(first, hash, workers, |at| states[usize::try_from(at).unwrap()]);
            assert_eq!(found, expected, "{description}");
        }
    }

    #[test]
    fn the_search_ends_and_stays_within_the_workers() {
        for workers in [1, 2, 3, 7, 8, 9, 256] {
            for hash in [0, 1, u32::MAX / 3, u32::MAX - 1, u32::MAX] {
                let found = pick(None, hash, workers, |at| {
                    assert!(at < workers, "{at} of {workers}");
                    Worker::Absent
                });
                assert_eq!(found, None);
            }
        }
    }
}
