//! Which CPU each worker keeps to, and when one has more than its share. Pure: what the machine has is an argument.

/// A worker with so many more connections than its share is over it by chance.
const SLACK_CONNECTIONS: usize = 16;

/// A CPU for each worker, or none for any: they keep to CPUs only where each can have one of its own.
pub fn places(workers: usize, cpus: &[usize]) -> Option<Vec<usize>> {
    (workers == cpus.len()).then(|| cpus.to_vec())
}

/// Whether a worker that has `own` of `all` connections has so many more than the mean that it is to be given no more
/// than others. A worker that `was` over its share must come down near the mean again.
pub fn is_over_share(own: usize, all: usize, workers: usize, was: bool) -> bool {
    let percent = if was { 110 } else { 125 };
    // own > mean * percent + slack, without division.
    own.saturating_sub(SLACK_CONNECTIONS).saturating_mul(workers).saturating_mul(100)
        > all.saturating_mul(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_for_each_or_none() {
        for (description, workers, cpus, expected) in [
            ("as many", 2, &[0, 1][..], Some(vec![0, 1])),
            ("the CPUs of a set that begins elsewhere", 2, &[4, 6], Some(vec![4, 6])),
            ("more workers", 3, &[0, 1], None),
            ("fewer workers", 1, &[0, 1], None),
            ("nothing known", 1, &[], None),
        ] {
            assert_eq!(places(workers, cpus), expected, "{description}");
        }
    }

    #[test]
    fn shares() {
        for (description, own, all, workers, was, expected) in [
            ("idle", 0, 0, 2, false, false),
            ("a few are no load", 16, 16, 8, false, false),
            ("alone it has all of them", 5000, 5000, 1, false, false),
            ("even", 1000, 2000, 2, false, false),
            ("a quarter more", 1250, 2000, 2, false, false),
            ("beyond that", 1270, 2000, 2, false, true),
            ("still above the mean", 1200, 2000, 2, true, true),
            ("near the mean again", 1100, 2000, 2, true, false),
            ("everything on one of many", 100, 100, 64, false, true),
        ] {
            assert_eq!(is_over_share(own, all, workers, was), expected, "{description}");
        }
    }
}
