//! How many connections a server has open, how many of them are being opened, and how many it may have.
//!
//! # Protocol
//!
//! One word, `{ max: 24, open: 24, connecting: 16 }`. `open` counts permits: one from before a connect attempt starts
//! until its connection is gone. `connecting` counts those permits whose attempt still runs.
//!
//! ```text
//! begin: open + 1, connecting + 1, if open < max and connecting < most
//! connected: connecting - 1
//! failed: open - 1, connecting - 1
//! release: open - 1
//! ```
//!
//! [`Permits::set_max`] changes `max` alone. A maximum lowered below `open` revokes no permit: none is granted until
//! enough are released.
//!
//! # Invariants
//!
//! - I1: a `begin` that succeeds leaves `open <= max` and `connecting <= most`, for the `max` at that moment: all are
//!   in one word.
//! - I2: `connecting <= open <=` the largest `max` so far, so that no field runs into its neighbour. Each permit is
//!   released once; a release without a permit is a bug, caught by a debug assertion.
//!
//! Arithmetic: a server has at most 2²⁴ - 1 connections and 2¹⁶ - 1 attempts; the builder checks both.
//!
//! # Orderings
//!
//! A release (of a failed attempt too) is a Release, `begin` an Acquire: what the last holder did, dropping its
//! connection included, happens before what the next holder does. A caller that wakes waiters for a free permit fences.

use crate::sync::{AtomicU64, Ordering};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Permits {
    word: AtomicU64,
}

/// The packed word, `{ max: 24, open: 24, connecting: 16 }`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PermitCounts(u64);

impl PermitCounts {
    const CONNECTING: u64 = 1;
    const OPEN: u64 = 1 << 16;
    const MAX_SHIFT: u32 = 40;
    /// The largest `max`.
    pub(crate) const MOST_OPEN: u32 = (1 << 24) - 1;
    /// The largest number of attempts at once.
    pub(crate) const MOST_CONNECTING: u32 = (1 << 16) - 1;

    pub(crate) fn max(self) -> u32 {
        (self.0 >> Self::MAX_SHIFT) as u32
    }

    /// Permits that are taken: connections that are open or being opened.
    pub(crate) fn open(self) -> u32 {
        (self.0 / Self::OPEN) as u32 & Self::MOST_OPEN
    }

    /// Attempts that run.
    pub(crate) fn connecting(self) -> u32 {
        self.0 as u32 & Self::MOST_CONNECTING
    }

    /// Connections that are open.
    pub(crate) fn established(self) -> u32 {
        self.open().saturating_sub(self.connecting())
    }

    pub(crate) fn has_free(self) -> bool {
        self.open() < self.max()
    }

    /// How many more attempts may start, if at most `most` may run at once.
    pub(crate) fn room(self, most: u32) -> u32 {
        self.max().saturating_sub(self.open()).min(most.saturating_sub(self.connecting()))
    }

    /// Whether the maximum was lowered below `open`, less those that are `leaving` already: a connection that is
    /// returned must close.
    #[inline(always)]
    pub(crate) fn exceed_max(self, leaving: u32) -> bool {
        self.open() > self.max().saturating_add(leaving)
    }

    fn with_max(self, max: u32) -> Self {
        let rest = self.0 & ((1 << Self::MAX_SHIFT) - 1);
        Self(u64::from(max.min(Self::MOST_OPEN)) << Self::MAX_SHIFT | rest)
    }
}

impl core::fmt::Debug for PermitCounts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} open of {}, {} connecting", self.open(), self.max(), self.connecting())
    }
}

impl Permits {
    pub(crate) fn new(max: u32) -> Self {
        Self { word: AtomicU64::new(PermitCounts(0).with_max(max).0) }
    }

    /// The counts at one moment. A hint: each change goes through a read-modify-write.
    #[inline(always)]
    pub(crate) fn counts(&self) -> PermitCounts {
        // Relaxed: a hint or a snapshot.
        PermitCounts(self.word.load(Ordering::Relaxed))
    }

    /// Takes a permit for an attempt, if one is free and fewer than `most` attempts run (I1).
    #[must_use]
    pub(crate) fn begin(&self, most: u32) -> bool {
        let mut found = self.counts();
        while found.has_free() && found.connecting() < most.min(PermitCounts::MOST_CONNECTING) {
            let next = found.0 + PermitCounts::OPEN + PermitCounts::CONNECTING;
            // Acquire on success: pairs with the Release of `release_counts`. Relaxed on failure: only reads the word
            // anew.
            match self.word.compare_exchange_weak(found.0, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(word) => found = PermitCounts(word),
            }
        }
        false
    }

    /// Records that an attempt succeeded: its connection keeps the permit.
    pub(crate) fn connected(&self) {
        // Relaxed: the permit stays with the same holder.
        let found = PermitCounts(self.word.fetch_sub(PermitCounts::CONNECTING, Ordering::Relaxed));
        debug_assert!(found.connecting() > 0, "an attempt ended that never began");
    }

    /// Releases the permit of a failed attempt.
    pub(crate) fn failed(&self) {
        let found = self.release_counts(PermitCounts::OPEN + PermitCounts::CONNECTING);
        debug_assert!(found.connecting() > 0, "an attempt ended that never began");
    }

    /// Releases the permit of a closed connection.
    pub(crate) fn release(&self) {
        self.release_counts(PermitCounts::OPEN);
    }

    fn release_counts(&self, change: u64) -> PermitCounts {
        // Release: pairs with the Acquire of the next `begin`.
        let found = PermitCounts(self.word.fetch_sub(change, Ordering::Release));
        debug_assert!(found.open() > 0, "a permit was released that nothing held");
        found
    }

    /// Changes the maximum. Connections above it stay open until they are returned.
    pub(crate) fn set_max(&self, max: u32) {
        let mut found = self.counts();
        loop {
            // Relaxed: nothing is published.
            let set = found.with_max(max).0;
            match self.word.compare_exchange_weak(found.0, set, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(word) => found = PermitCounts(word),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PermitCounts, Permits};

    #[test]
    fn gives_no_more_than_the_maximum() {
        let permits = Permits::new(2);
        assert!(permits.begin(8) && permits.begin(8));
        assert!(!permits.counts().has_free() && !permits.begin(8));
        permits.connected();
        permits.failed();
        assert_eq!(format!("{:?}", permits.counts()), "1 open of 2, 0 connecting");
        assert!(permits.counts().has_free() && permits.begin(8));
        permits.connected();
        permits.release();
        permits.release();
        assert_eq!((permits.counts().open(), permits.counts().connecting()), (0, 0));
    }

    #[test]
    fn runs_no_more_attempts_than_allowed() {
        let permits = Permits::new(10);
        assert_eq!((permits.counts().room(2), permits.counts().room(20)), (2, 10));
        assert!(permits.begin(2) && permits.begin(2) && !permits.begin(2));
        assert_eq!(permits.counts().room(2), 0);
        permits.connected();
        assert!(permits.begin(2) && !permits.begin(2));
        assert_eq!((permits.counts().open(), permits.counts().connecting()), (3, 2));
    }

    #[test]
    fn a_lowered_maximum_waits_for_open_connections() {
        let permits = Permits::new(3);
        for _ in 0..3 {
            assert!(permits.begin(1));
            permits.connected();
        }
        permits.set_max(1);
        assert!(permits.counts().exceed_max(0) && !permits.begin(1));
        permits.release();
        permits.release();
        assert!(!permits.counts().exceed_max(0) && !permits.begin(1));
        permits.release();
        assert!(permits.begin(1));
        assert_eq!((permits.counts().open(), permits.counts().max()), (1, 1));
    }

    #[test]
    fn the_fields_do_not_touch_at_their_limits() {
        let permits = Permits::new(u32::MAX);
        assert_eq!(permits.counts().max(), PermitCounts::MOST_OPEN);
        for _ in 0..PermitCounts::MOST_CONNECTING {
            assert!(permits.begin(u32::MAX));
        }
        assert!(!permits.begin(u32::MAX));
        let counts = permits.counts();
        assert_eq!((counts.open(), counts.connecting(), counts.max()), (65_535, 65_535, 16_777_215));
    }
}
