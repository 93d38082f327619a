//! Warns where callers drop all connections and return none: a habit from pools whose guards return on drop.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Warns when so many connections were closed by drop and none was returned.
const WARN_AT: u64 = 100;

/// How the uses of a pool's connections ended.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    closed: AtomicU64,
    has_return: AtomicBool,
}

impl Drops {
    // Relaxed: neither publishes anything. A first return that races with the hundredth drop may be missed.

    /// Notes a return. Off the hot path: each connection's first return takes the slow one.
    pub(crate) fn note_return(&self) {
        // Stored once, so that the threads that come here share the cache line.
        if !self.has_return.load(Ordering::Relaxed) {
            self.has_return.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a connection that closes because its caller dropped it. Warns once.
    pub(crate) fn count(&self, pool: &str) {
        let closed = self.closed.fetch_add(1, Ordering::Relaxed) + 1;
        if closed == WARN_AT && !self.has_return.load(Ordering::Relaxed) {
            tracing::warn!(
                pool,
                "{closed} connections were closed since their callers dropped them, and none was returned: call \
                 `release` when an answer was read to its end, or let the connector's `after_use` keep connections \
                 that were dropped"
            );
        }
    }
}
