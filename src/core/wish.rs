//! The wishes of waiters.

use crate::acquire_options::Wish;
use crate::sync::{AtomicUsize, Ordering};

const NOWHERE: usize = usize::MAX;

/// The wish of a waiter, and where its order runs.
#[derive(Debug)]
pub(crate) struct WaiterWish {
    pub(crate) wish: Wish,
    /// The number of the server.
    ordered_at: AtomicUsize,
    /// Its orders that are older than the hedge delay.
    late: AtomicUsize,
}

impl WaiterWish {
    pub(crate) fn new(wish: Wish) -> Self {
        Self { wish, ordered_at: AtomicUsize::new(NOWHERE), late: AtomicUsize::new(0) }
    }

    /// The number of the server at which its order runs, if one does.
    pub(crate) fn ordered_at(&self) -> Option<usize> {
        // Relaxed: a hint. The end of an attempt wakes the background task, which looks again.
        Some(self.ordered_at.load(Ordering::Relaxed)).filter(|&number| number != NOWHERE)
    }

    /// Whether its waiter may order.
    pub(crate) fn has_no_order(&self) -> bool {
        self.ordered_at().is_none()
    }

    /// False if its order runs.
    pub(crate) fn begin_order(&self, number: usize) -> bool {
        // Relaxed: as in `ordered_at`; it publishes nothing.
        self.ordered_at.compare_exchange(NOWHERE, number, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn end_order(&self) {
        // Relaxed: see `ordered_at`.
        self.ordered_at.store(NOWHERE, Ordering::Relaxed);
    }

    /// Whether its next order is a hedge: one that is late still runs.
    pub(crate) fn has_late_order(&self) -> bool {
        // Relaxed: a hint.
        self.late.load(Ordering::Relaxed) > 0
    }

    /// An order grows late.
    pub(crate) fn grow_late(&self) {
        // Relaxed: see `has_late_order`. First: no look in between takes it for one without an order.
        self.late.fetch_add(1, Ordering::Relaxed);
        self.end_order();
    }

    pub(crate) fn end_late_order(&self) {
        // Relaxed: see `has_late_order`.
        self.late.fetch_sub(1, Ordering::Relaxed);
    }
}
