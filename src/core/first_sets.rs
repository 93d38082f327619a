//! Counts the followed streams that have not delivered their first set. A pool without servers waits for it.

use crate::sync::{AtomicUsize, Ordering};

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct FirstSets(AtomicUsize);

impl FirstSets {
    /// Whether one is awaited. Asked before the look at the list of servers: see `arrived`.
    pub(crate) fn are_awaited(&self) -> bool {
        // Acquire: pairs with the Release of `arrived`.
        self.0.load(Ordering::Acquire) > 0
    }

    /// A stream is followed.
    pub(crate) fn await_one(&self) {
        // Relaxed: callers that come later are told by the caller of `follow`.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Its first set is applied, or it ended before. The waiters are woken next: one that looked before looks again.
    pub(crate) fn arrived(&self) {
        // Release: pairs with the Acquire of `are_awaited`, so that a caller that awaits none sees the servers.
        self.0.fetch_sub(1, Ordering::Release);
    }
}
