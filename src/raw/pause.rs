//! When dials to a server rest because they failed by the client's own fault (out of descriptors, ports, buffers).
//!
//! # Protocol
//!
//! One word, `{ until: 48, failures: 16 }`, with `until` in ticks of [`TICK_NS`]. A failure outside a pause sets the
//! next pause and counts one; a failure within one counts nothing; a dial that succeeds clears the word.
//!
//! # Invariants
//!
//! - I1: failures that come together lengthen the pause once: only the first finds `until` passed.
//! - I2: nothing wraps: 2⁴⁸ ticks are 89 years, `failures` saturates.
//!
//! # Orderings
//!
//! Relaxed: the word publishes nothing, and a dial that starts a moment too early or too late does no harm.

use super::health::{TICK_NS, ticks};
use crate::sync::{AtomicU64, Ordering};

const FAILURES_BITS: u32 = 16;
const FAILURES_MAX: u64 = (1 << FAILURES_BITS) - 1;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Pause {
    word: AtomicU64,
}

impl Pause {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// The end of the pause in nanoseconds; 0 if there is none.
    pub(crate) fn until(&self) -> u64 {
        // Relaxed: see the module's page.
        (self.word.load(Ordering::Relaxed) >> FAILURES_BITS) * TICK_NS
    }

    /// Counts a failure (I1). `until` tells the end of the pause after that many failures in a row.
    pub(crate) fn failed(&self, now_ns: u64, until: impl FnOnce(u32) -> u64) -> bool {
        // Relaxed: see the module's page.
        let found = self.word.load(Ordering::Relaxed);
        if (found >> FAILURES_BITS) * TICK_NS > now_ns {
            return false;
        }
        let failures = ((found & FAILURES_MAX) + 1).min(FAILURES_MAX);
        let left = ticks(until(failures as u32)) << FAILURES_BITS | failures;
        // A lost race means that another failure of the same moment has set the pause. Relaxed: see the module's page.
        self.word.compare_exchange(found, left, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A dial succeeded.
    pub(crate) fn clear(&self) {
        // Relaxed: see the module's page. The look first spares the cache line a write at every dial.
        if self.word.load(Ordering::Relaxed) != 0 {
            self.word.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pause;

    #[test]
    fn failures_together_count_once() {
        let pause = Pause::new();
        let until = |now: u64| move |failures: u32| now + u64::from(failures) * 1_000_000;
        assert!(pause.failed(0, until(0)));
        assert!(!pause.failed(999_999, until(999_999)));
        assert_eq!(pause.until(), 1_000_000);
        assert!(pause.failed(1_000_000, until(1_000_000)));
        assert_eq!(pause.until(), 3_000_000);
        pause.clear();
        assert_eq!(pause.until(), 0);
    }
}
