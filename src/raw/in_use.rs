//! How many of a server's connections are in use, counted while the pool chooses by it.
//!
//! # Protocol
//!
//! One word, which rises at a counted checkout and falls at the end of that use. Each connection keeps whether it is
//! counted, so the policy may change while connections are in use.
//!
//! # Invariants
//!
//! - I1: with no change under way, the word is the number of counted connections in use.
//!
//! # Orderings
//!
//! Relaxed: a plain counter, which publishes nothing.

use crate::sync::{AtomicUsize, Ordering};

/// See the module's page. Each checkout and each return writes it: it must share no cache line with what they read.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    word: AtomicUsize,
}

impl InUse {
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        // Relaxed: see the module's page.
        self.word.load(Ordering::Relaxed)
    }

    /// A use begins.
    #[inline(always)]
    pub(crate) fn raise(&self) {
        // Relaxed: see the module's page.
        self.word.fetch_add(1, Ordering::Relaxed);
    }

    /// A counted use ends.
    #[inline(always)]
    pub(crate) fn lower(&self) {
        // Relaxed: see the module's page.
        let found = self.word.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(found > 0, "a use ended that was not counted");
    }
}

#[cfg(test)]
mod tests {
    use super::InUse;

    #[test]
    fn counts_up_and_down() {
        let in_use = InUse::default();
        in_use.raise();
        in_use.raise();
        in_use.lower();
        assert_eq!(in_use.count(), 1);
        in_use.lower();
        assert_eq!(in_use.count(), 0);
    }
}
