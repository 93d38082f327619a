//! The time until which connecting to a server pauses after a fault of the client (out of descriptors, ports, buffers).
//!
//! # Protocol
//!
//! One word, `{ until: 48, failures: 16 }`, with `until` in steps of 10 µs. A failure outside a pause sets the next
//! pause and counts one; a failure within one counts nothing; an attempt that connects clears the word.
//!
//! # Invariants
//!
//! - I1: failures that come together lengthen the pause once: only the first one finds `until` passed.
//! - I2: nothing wraps: steps stop at 2⁴⁵, which is 11.1 years; `failures` saturates.
//!
//! # Orderings
//!
//! Relaxed: the word publishes nothing, and an attempt that starts a moment too early or too late does no harm.

use super::time::{STEP_NS, Time, steps};
use crate::sync::{AtomicU64, Ordering};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Pause {
    word: AtomicU64,
}

/// The packed word, `{ until: 48, failures: 16 }`.
#[derive(Debug, Clone, Copy)]
struct Word(u64);

impl Word {
    const FAILURES_BITS: u32 = 16;
    const FAILURES_MAX: u32 = (1 << Self::FAILURES_BITS) - 1;

    fn new(until: Time, failures: u32) -> Self {
        Self(steps(until) << Self::FAILURES_BITS | u64::from(failures))
    }

    fn until(self) -> Time {
        Time::from_nanos((self.0 >> Self::FAILURES_BITS) * STEP_NS)
    }

    fn one_failure_more(self) -> u32 {
        let failures = self.0 as u32 & Self::FAILURES_MAX;
        (failures + 1).min(Self::FAILURES_MAX)
    }
}

impl Pause {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    fn load(&self) -> Word {
        // Relaxed: see the module's page.
        Word(self.word.load(Ordering::Relaxed))
    }

    /// The end of the pause; `Time::ZERO` if there is none.
    pub(crate) fn until(&self) -> Time {
        self.load().until()
    }

    /// Counts a failure (I1). `until` gives the end of the pause after that many failures in a row. True if it set one.
    pub(crate) fn failed(&self, now: Time, until: impl FnOnce(u32) -> Time) -> bool {
        let found = self.load();
        if found.until() > now {
            return false;
        }
        let failures = found.one_failure_more();
        let left = Word::new(until(failures), failures);
        // A lost race means that another failure of the same moment has set the pause, or that an attempt connected.
        // Relaxed: see the module's page.
        self.word.compare_exchange(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// An attempt connected.
    pub(crate) fn clear(&self) {
        // Relaxed: see the module's page. The look first spares the cache line a write at every connect.
        if self.word.load(Ordering::Relaxed) != 0 {
            self.word.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pause, Time};

    #[test]
    fn failures_together_count_once() {
        let pause = Pause::new();
        let failed = |now| {
            let until = |failures| Time::from_nanos(now + u64::from(failures) * 1_000_000);
            pause.failed(Time::from_nanos(now), until)
        };
        assert!(failed(0));
        assert!(!failed(999_999));
        assert_eq!(pause.until(), Time::from_nanos(1_000_000));
        assert!(failed(1_000_000));
        assert_eq!(pause.until(), Time::from_nanos(3_000_000));
        pause.clear();
        assert_eq!(pause.until(), Time::ZERO);
    }
}
