//! How many there are of something at a server: uses, goodbyes, late attempts.
//!
//! # Protocol
//!
//! One word, which rises where one begins and falls where it ends.
//!
//! # Invariants
//!
//! - I1: with no change under way, the word is the number of those that have begun and not ended.
//!
//! # Orderings
//!
//! Relaxed: a plain counter, which publishes nothing. What changes it wakes those that must look.

use crate::sync::{AtomicU32, Ordering};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    word: AtomicU32,
}

impl Gauge {
    #[inline(always)]
    pub(crate) fn get(&self) -> u32 {
        // Relaxed: see the module's page.
        self.word.load(Ordering::Relaxed)
    }

    /// One begins.
    #[inline(always)]
    pub(crate) fn raise(&self) {
        // Relaxed: see the module's page.
        self.word.fetch_add(1, Ordering::Relaxed);
    }

    /// One ends.
    #[inline(always)]
    pub(crate) fn lower(&self) {
        // Relaxed: see the module's page.
        let found = self.word.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(found > 0, "one ended that never began");
    }
}

#[cfg(test)]
mod tests {
    use super::Gauge;

    #[test]
    fn rises_and_falls() {
        let gauge = Gauge::default();
        gauge.raise();
        gauge.raise();
        gauge.lower();
        assert_eq!(gauge.get(), 1);
        gauge.lower();
        assert_eq!(gauge.get(), 0);
    }
}
