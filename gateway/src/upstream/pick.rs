//! Choices: which backend of a rule, which endpoint of a backend. Pure; the dice are an argument.

/// One of `weights`, each as likely as its share of the sum; `None` where the sum is zero.
/// `dice`: any number, uniformly distributed.
pub fn weighted(weights: impl Iterator<Item = u32> + Clone, dice: u64) -> Option<usize> {
    let sum: u64 = weights.clone().map(u64::from).sum();
    // The remainder's bias is below 2^-32 for any sum that weights can have in practice.
    let mut left = dice.checked_rem(sum)?;
    for (index, weight) in weights.enumerate() {
        match left.checked_sub(u64::from(weight)) {
            Some(less) => left = less,
            None => return Some(index),
        }
    }
    None
}

/// One of `count` endpoints: the less busy of two that the dice name, the first on a tie. `None` where there are none.
pub fn endpoint(count: usize, busy: impl Fn(usize) -> usize, dice: u64) -> Option<usize> {
    let first = at(count, dice)?;
    let Some(step) = at(count - 1, dice.rotate_left(32)) else { return Some(first) };
    let second = (first + 1 + step) % count;
    Some(if busy(second) < busy(first) { second } else { first })
}

/// The same among those that have not been `tried`.
pub fn another(count: usize, tried: &[usize], busy: impl Fn(usize) -> usize, dice: u64) -> Option<usize> {
    let left: Vec<usize> = (0..count).filter(|place| !tried.contains(place)).collect();
    endpoint(left.len(), |place| busy(left[place]), dice).map(|place| left[place])
}

/// A place below `count`.
fn at(count: usize, dice: u64) -> Option<usize> {
    let place = dice.checked_rem(u64::try_from(count).ok()?)?;
    usize::try_from(place).ok()
}

/// A sequence of dice (SplitMix64): quick, uniform, and no secret.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A sequence that begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares() {
        let cases: &[(&[u32], &[f64])] = &[
            (&[1], &[1.0]),
            (&[70, 30], &[0.7, 0.3]),
            (&[1, 0, 3], &[0.25, 0.0, 0.75]),
            (&[1_000_000, 1_000_000, 0], &[0.5, 0.5, 0.0]),
        ];
        for (weights, shares) in cases {
            let mut dice = Dice::new(7);
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..10_000 {
                counts[weighted(weights.iter().copied(), dice.roll()).unwrap()] += 1;
            }
            for (count, share) in counts.iter().zip(*shares) {
                assert!((f64::from(*count) / 10_000.0 - share).abs() < 0.02, "{weights:?}: {counts:?}");
            }
            assert!(counts.iter().zip(*weights).all(|(count, weight)| *weight > 0 || *count == 0));
        }
    }

    #[test]
    fn no_weight_no_backend() {
        assert_eq!(weighted([].into_iter(), 1), None);
        assert_eq!(weighted([0, 0].into_iter(), 1), None);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let mut dice = Dice::new(3);
        for (count, tried, possible) in [
            (0, &[][..], &[][..]),
            (1, &[0], &[]),
            (2, &[0], &[1]),
            (4, &[1, 2], &[0, 3]),
            (3, &[2, 0, 1], &[]),
        ] {
            for _ in 0..100 {
                let chosen = another(count, tried, |_| 0, dice.roll());
                assert!(
                    chosen.map_or(possible.is_empty(), |place| possible.contains(&place)),
                    "{count} {tried:?}: {chosen:?}"
                );
            }
        }
        assert_eq!(another(3, &[1], |place| 2 - place, dice.roll()), Some(2), "the less busy one");
    }

    #[test]
    fn of_two_endpoints_the_less_busy_one() {
        let mut dice = Dice::new(1);
        assert_eq!(endpoint(0, |_| 0, dice.roll()), None);
        assert_eq!(endpoint(1, |_| 9, dice.roll()), Some(0));
        for _ in 0..100 {
            assert_eq!(endpoint(2, |index| 1 - index, dice.roll()), Some(1));
        }
        let mut counts = [0u32; 5];
        for _ in 0..10_000 {
            counts[endpoint(5, |_| 0, dice.roll()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }
}
