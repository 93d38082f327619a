//! How many connections a server has, and how many it may have.
//!
//! # Protocol
//!
//! One word, `{ max: 32, open: 32 }`. [`Permits::take`] raises `open` if it is below `max`, [`Permits::give_back`]
//! lowers it, [`Permits::set_max`] changes `max` alone. A maximum lowered below `open` takes nothing away: no permit is
//! given until enough came back.
//!
//! # Invariants
//!
//! - I1: a take that succeeds leaves `open <= max`, for the `max` of that very moment: both stand in one word.
//! - I2: `open` is the number of permits taken and not given back. It cannot go below zero (checked) nor pass `max`,
//!   so that neither half runs into the other.
//!
//! # Orderings
//!
//! `give_back` releases, `take` acquires: what the last holder did, dropping its connection included, happens before
//! what the next holder does. That somebody waits for a permit is learnt by the caller, behind a fence of its own.

use crate::sync::{AtomicU64, Ordering};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Permits {
    word: AtomicU64,
}

/// The packed word, `{ max: 32, open: 32 }`.
#[derive(Debug, Clone, Copy)]
struct Word(u64);

impl Word {
    const MAX_SHIFT: u32 = 32;

    fn new(max: u32, open: u32) -> Self {
        Self(u64::from(max) << Self::MAX_SHIFT | u64::from(open))
    }

    fn max(self) -> u32 {
        (self.0 >> Self::MAX_SHIFT) as u32
    }

    fn open(self) -> u32 {
        self.0 as u32
    }
}

impl Permits {
    pub(crate) fn new(max: u32) -> Self {
        Self { word: AtomicU64::new(Word::new(max, 0).0) }
    }

    fn load(&self) -> Word {
        // Relaxed: a hint or a snapshot; every change goes through a read-modify-write.
        Word(self.word.load(Ordering::Relaxed))
    }

    /// Takes one permit, if there is one (I1).
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        let mut found = self.load();
        while found.open() < found.max() {
            let left = Word::new(found.max(), found.open() + 1);
            // Acquire on success: pairs with the Release of `give_back`. Failure only reads the word anew: Relaxed.
            match self.word.compare_exchange_weak(found.0, left.0, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(word) => found = Word(word),
            }
        }
        false
    }

    /// Gives one permit back.
    pub(crate) fn give_back(&self) {
        // Release: pairs with the Acquire of the next `take`. The lower half alone changes (I2).
        let found = Word(self.word.fetch_sub(1, Ordering::Release));
        debug_assert!(found.open() > 0, "a permit was given back that nobody held");
    }

    /// Changes the maximum. What is above it stays open until it comes back.
    pub(crate) fn set_max(&self, max: u32) {
        let mut found = self.load();
        loop {
            let left = Word::new(max, found.open());
            // Relaxed: it publishes nothing but the word itself.
            match self.word.compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(word) => found = Word(word),
            }
        }
    }

    pub(crate) fn open(&self) -> u32 {
        self.load().open()
    }

    pub(crate) fn max(&self) -> u32 {
        self.load().max()
    }

    /// Whether a permit is free. A hint.
    pub(crate) fn is_free(&self) -> bool {
        let word = self.load();
        word.open() < word.max()
    }

    /// Whether the maximum was lowered below what is open: a connection that comes back must close.
    pub(crate) fn is_over(&self) -> bool {
        let word = self.load();
        word.open() > word.max()
    }
}

#[cfg(test)]
mod tests {
    use super::Permits;

    #[test]
    fn no_more_than_the_maximum() {
        let permits = Permits::new(2);
        assert!(permits.is_free() && permits.take());
        assert!(permits.is_free() && permits.take());
        assert!(!permits.is_free() && !permits.take());
        permits.give_back();
        assert!(permits.is_free() && permits.take());
    }

    #[test]
    fn a_lowered_maximum_waits_for_what_is_open() {
        let permits = Permits::new(3);
        assert!(permits.take() && permits.take() && permits.take());
        permits.set_max(1);
        assert!(permits.is_over() && !permits.is_free());
        permits.give_back();
        permits.give_back();
        assert!(!permits.is_over() && !permits.is_free());
        assert!(!permits.take());
        permits.give_back();
        assert!(permits.take());
        assert_eq!((permits.open(), permits.max()), (1, 1));
    }
}
