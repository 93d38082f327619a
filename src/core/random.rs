//! Random numbers for many threads.

use std::hash::{BuildHasher, RandomState};

use crate::sync::{AtomicU64, Ordering};

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) struct Random {
    state: AtomicU64,
}

impl Random {
    /// Numbers that follow from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// A seed of its own for each pool.
    pub(crate) fn any_seed() -> u64 {
        RandomState::new().hash_one("connring")
    }

    /// A number drawn uniformly from `0.0..1.0`.
    pub(crate) fn draw(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        // Relaxed: each caller gets a number of its own; nothing is published.
        let mut z = self.state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicU64, Random};

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // Rosetta Code, Pseudo-random numbers/Splitmix64.
        let random = Random { state: AtomicU64::new(1_234_567) };
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.next()), expected);
    }

    #[test]
    fn draws_are_uniform() {
        let random = Random { state: AtomicU64::new(1) };
        let mut tenths = [0; 10];
        (0..100_000).for_each(|_| tenths[(random.draw() * 10.0) as usize] += 1);
        // Five standard deviations.
        assert!(tenths.iter().all(|count| (9_525..10_475).contains(count)), "{tenths:?}");
    }
}
