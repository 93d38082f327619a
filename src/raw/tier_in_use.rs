//! The worst tier whose servers callers may use: the best one of which a server serves, or the last one if none does.
//!
//! # Protocol
//!
//! One word, `{ is_switching: 1, tier: 4 }`. A server is in the up set if it serves and its tier is not beyond the
//! word. A thread that has changed the health or the tier of a server looks at the word by [`TierInUse::after_change`].
//! If the word may be wrong, the thread takes a lock and compares it with the servers (`Servers::settle_tier`):
//!
//! - A worse tier comes into use: the word changes, then the bits of its servers that serve are set.
//! - A better tier comes into use: the switch is announced, the servers are looked at again, the word changes, the bits
//!   of its servers that serve are set, then those of the worse tiers are cleared.
//!
//! Then it releases the lock and refreshes all these bits: servers may have changed meanwhile.
//!
//! # Invariants
//!
//! - I1: with no change under way, the word is the best tier of which a server serves, if one does. Either the thread
//!   that switches sees in its next look that a server has changed, or the thread that changed it sees the word.
//! - I2: while a server serves, the up set is not empty. The bit of a server that stopped is cleared after a look at
//!   the word that follows the stop: if no server of its tier serves, the bits of a worse tier are set by then. The
//!   bits of a worse tier are cleared after an announcement and a look that found the better one serving: a thread that
//!   stops its last server from then on sees the announcement, waits for the lock, and switches back.
//!
//! # Orderings
//!
//! SeqCst fences: each side stores one word and loads the other. The lock orders the threads that switch.

use super::serving::TIERS;
use crate::sync::{AtomicUsize, Ordering, fence};

const SWITCHING: usize = TIERS;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct TierInUse {
    word: AtomicUsize,
}

impl TierInUse {
    /// The last tier, which is in use if no server serves.
    pub(crate) const LAST: usize = TIERS - 1;

    pub(crate) fn get(&self) -> usize {
        // Relaxed: a thread that decides by an older word looks again after a fence.
        self.word.load(Ordering::Relaxed) & !SWITCHING
    }

    /// The tier after a change of a server, and whether another thread is about to switch to a better one.
    pub(crate) fn after_change(&self) -> (usize, bool) {
        // SeqCst: the change, then the word; pairs with the fence of `announce`.
        fence(Ordering::SeqCst);
        // Relaxed: after the fence.
        let word = self.word.load(Ordering::Relaxed);
        (word & !SWITCHING, word & SWITCHING != 0)
    }

    /// Announces the switch to a better tier. With the lock held; the caller looks at the servers afterwards.
    pub(crate) fn announce(&self) {
        // Relaxed: the fence orders it.
        self.word.store(self.get() | SWITCHING, Ordering::Relaxed);
        // SeqCst: the word, then the look at the servers; pairs with the fence of `after_change`.
        fence(Ordering::SeqCst);
    }

    /// Changes the tier, or takes an announcement back. With the lock held. Where the tier changed, the refreshes that
    /// follow look at the servers again.
    pub(crate) fn set(&self, tier: usize) {
        // Relaxed: the refreshes fence.
        self.word.store(tier, Ordering::Relaxed);
    }
}
