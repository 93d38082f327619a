//! Random and evenly spread numbers, for many threads.

use std::hash::{BuildHasher, RandomState};

use crate::servers::{GOLDEN, mix};
use crate::sync::{AtomicU64, Ordering};

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) struct Random {
    state: AtomicU64,
    /// Where the evenly spread numbers start.
    start: u64,
}

/// 2⁶⁴ times the fraction of the square root of 2.
const ROOT: u64 = 0x6a09_e667_f3bc_c908;

impl Random {
    /// Numbers that follow from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed), start: mix(seed) }
    }

    /// A seed of its own for each pool.
    pub(crate) fn any_seed() -> u64 {
        RandomState::new().hash_one("connring")
    }

    /// A number drawn uniformly from `0.0..1.0`.
    pub(crate) fn draw(&self) -> f64 {
        unit(self.next())
    }

    /// The number in `0.0..1.0` at an index of a series, by steps of the golden ratio (a Kronecker sequence). However
    /// many numbers of a series follow each other, they lie evenly spread. Series differ by where they start.
    pub(crate) fn spread(&self, series: usize, index: u64) -> f64 {
        let start = self.start.wrapping_add(ROOT.wrapping_mul(series as u64));
        unit(start.wrapping_add(GOLDEN.wrapping_mul(index)))
    }

    fn next(&self) -> u64 {
        // Relaxed: each caller gets a number of its own; nothing is published.
        mix(self.state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN))
    }
}

/// The number in `0.0..1.0` of the upper 53 bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // Rosetta Code, Pseudo-random numbers/Splitmix64.
        let random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.next()), expected);
    }

    #[test]
    fn draws_are_uniform() {
        let random = Random::new(1);
        let mut tenths = [0; 10];
        (0..100_000).for_each(|_| tenths[(random.draw() * 10.0) as usize] += 1);
        // Five standard deviations.
        assert!(tenths.iter().all(|count| (9_525..10_475).contains(count)), "{tenths:?}");
    }

    #[test]
    fn spread_numbers_fill_each_tenth_alike_from_any_index() {
        let random = Random::new(1);
        for (series, first, count) in [(0, 0, 10), (1, 7, 100), (2, 1_000, 100), (3, 12_345, 1_000)] {
            let mut tenths = [0; 10];
            (first..first + count).for_each(|index| tenths[(random.spread(series, index) * 10.0) as usize] += 1);
            let expected = count / 10;
            assert!(tenths.iter().all(|&tenth: &u64| tenth.abs_diff(expected) <= 2), "{series}: {tenths:?}");
        }
    }
}
