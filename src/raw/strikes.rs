//! The failures in a row that callers reported of a server.
//!
//! # Protocol
//!
//! One word, `{ first: 45, count: 19 }`, with the time of the first failure in steps of 10 µs. A failure counts one
//! more; if the first one is too old by then, it starts from one. A good return clears the word.
//!
//! So failures further apart than the memory never add up. A window that slides would need the time of each failure.
//! This one may start from one in the middle of a burst: then as many more reach the threshold.
//!
//! # Invariants
//!
//! - I1: of as many failures as the threshold, within the memory of the first and without a clear between them, exactly
//!   one reaches it.
//!
//! Arithmetic: the count saturates at 2¹⁹ - 1: I1 holds for a threshold below that. The time saturates at 11.1 years.
//!
//! # Orderings
//!
//! Relaxed: the word publishes nothing.

use core::time::Duration;

use super::time::{STEPS_BITS, Time};
use crate::sync::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 64 - STEPS_BITS;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    word: AtomicU64,
}

impl Strikes {
    /// Counts one failure. Returns how many came in a row, all within `memory` of the first (I1).
    pub(crate) fn count(&self, now: Time, memory: Duration) -> u32 {
        let next = |word: u64| {
            let (first, count) = (word >> COUNT_BITS, word & COUNT_MAX);
            if count == 0 || now.since(Time::from_steps(first)) > memory {
                return now.steps() << COUNT_BITS | 1;
            }
            first << COUNT_BITS | (count + 1).min(COUNT_MAX)
        };
        // Relaxed: see the module's page.
        let mut found = self.word.load(Ordering::Relaxed);
        loop {
            match self.word.compare_exchange_weak(found, next(found), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (next(found) & COUNT_MAX) as u32,
                Err(word) => found = word,
            }
        }
    }

    /// Whether there are none.
    #[inline(always)]
    pub(crate) fn is_clear(&self) -> bool {
        // Relaxed: see the module's page.
        self.word.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn clear(&self) {
        // Relaxed: see the module's page.
        self.word.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::{Strikes, Time};

    #[test]
    fn failures_add_up_until_a_clear_or_the_end_of_the_memory() {
        let (strikes, memory) = (Strikes::default(), Duration::from_secs(10));
        let at = |seconds| Time::ZERO.after(Duration::from_secs(seconds));
        assert_eq!([8, 12, 18].map(|seconds| strikes.count(at(seconds), memory)), [1, 2, 3]);
        assert_eq!([19, 20].map(|seconds| strikes.count(at(seconds), memory)), [1, 2], "the first is too old");
        assert!(!strikes.is_clear());
        strikes.clear();
        assert!(strikes.is_clear());
        assert_eq!([24, 31, 35].map(|seconds| strikes.count(at(seconds), memory)), [1, 2, 1]);
    }
}
