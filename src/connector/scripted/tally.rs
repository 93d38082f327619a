//! The counters.
//!
//! They are exact: each is changed by one atomic operation, before the thing counted begins or after it ended. Read
//! one by one while attempts run, two of them may be off against each other by what happened in between. They are
//! relaxed, as they publish nothing else.

use super::Shared;
use super::script::Target;
use crate::sync::{Arc, AtomicU64, Ordering};

/// What was connected to, at one address or at all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectCounts {
    /// Attempts started.
    pub attempts: u64,
    /// Attempts that succeeded.
    pub connected: u64,
    /// Attempts that run.
    pub in_flight: u32,
    /// Attempts that run, and connections that were not dropped yet.
    pub open: u32,
    /// The most that `open` ever was.
    pub max_open: u32,
    /// Calls of `is_reusable`.
    pub reuse_checks: u64,
    /// Checks started.
    pub checks: u64,
    /// Calls of `after_use`.
    pub after_uses: u64,
    /// Recyclings started.
    pub recycles: u64,
}

/// The counters of [`ConnectCounts`].
#[derive(Default)]
pub(super) struct Tally {
    pub(super) attempts: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) open: AtomicU64,
    pub(super) max_open: AtomicU64,
    pub(super) reuse_checks: AtomicU64,
    pub(super) checks: AtomicU64,
    pub(super) after_uses: AtomicU64,
    pub(super) recycles: AtomicU64,
}

/// An attempt that runs or a connection, counted as open for as long as it lives.
pub(super) struct Open {
    pub(super) shared: Arc<Shared>,
    pub(super) target: Arc<Target>,
}

/// An attempt that runs, counted as in flight for as long as it lives.
pub(super) struct InFlight<'a>(&'a Open);

impl Tally {
    pub(super) fn counts(&self) -> ConnectCounts {
        // One below zero would show as the greatest number.
        let small = |count: &AtomicU64| u32::try_from(count.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        ConnectCounts {
            attempts: self.attempts.load(Ordering::Relaxed),
            connected: self.connected.load(Ordering::Relaxed),
            in_flight: small(&self.in_flight),
            open: small(&self.open),
            max_open: small(&self.max_open),
            reuse_checks: self.reuse_checks.load(Ordering::Relaxed),
            checks: self.checks.load(Ordering::Relaxed),
            after_uses: self.after_uses.load(Ordering::Relaxed),
            recycles: self.recycles.load(Ordering::Relaxed),
        }
    }
}

impl Open {
    pub(super) fn new(shared: Arc<Shared>, target: Arc<Target>) -> Self {
        let this = Self { shared, target };
        for tally in this.tallies() {
            tally.attempts.fetch_add(1, Ordering::Relaxed);
            let before = tally.open.fetch_add(1, Ordering::Relaxed);
            tally.max_open.fetch_max(before + 1, Ordering::Relaxed);
        }
        this
    }

    pub(super) fn tallies(&self) -> [&Tally; 2] {
        [&self.target.tally, &self.shared.total]
    }
}

impl<'a> InFlight<'a> {
    pub(super) fn new(open: &'a Open) -> Self {
        for tally in open.tallies() {
            tally.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Self(open)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        for tally in self.0.tallies() {
            tally.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        for tally in self.tallies() {
            tally.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
