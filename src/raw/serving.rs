//! How many servers are registered, and how many of them serve: bounds how many may be ejected.
//!
//! # Protocol
//!
//! One word, `{ registered: 32, serving: 32 }`. A server that stops serving is counted out before its health changes,
//! and one that serves again is counted in after it (see `health`). An ejection counts it out only within the bound.
//!
//! # Invariants
//!
//! - I1: `serving` is never more than the servers that serve. So an ejection that is allowed leaves at least as many as
//!   the bound says.
//! - I2: with no change under way, `serving` is the number of registered servers that serve.
//!
//! Arithmetic: server numbers are below 2³¹ (`UpSet`).
//!
//! # Orderings
//!
//! Relaxed: the bound is decided on this one word, which publishes nothing.

use crate::sync::{AtomicU64, Ordering};

const SERVING: u64 = 1;
const REGISTERED: u64 = 1 << 32;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    word: AtomicU64,
}

impl Serving {
    /// How many servers serve. A hint: it may lag behind changes under way.
    pub(crate) fn serving(&self) -> u32 {
        // Relaxed: a hint.
        self.word.load(Ordering::Relaxed) as u32
    }

    /// A server was registered that does not count as serving yet.
    pub(crate) fn register(&self) {
        // Relaxed: see the module's page.
        self.word.fetch_add(REGISTERED, Ordering::Relaxed);
    }

    /// A server was removed that does not count as serving any more.
    pub(crate) fn remove(&self) {
        // Relaxed: see the module's page.
        let found = self.word.fetch_sub(REGISTERED, Ordering::Relaxed);
        debug_assert!(found >= REGISTERED, "more servers were removed than registered");
    }

    /// Counts in a server that serves by now.
    pub(super) fn raise(&self) {
        // Relaxed: see the module's page.
        self.word.fetch_add(SERVING, Ordering::Relaxed);
    }

    /// Counts out a server that is about to stop serving.
    pub(super) fn lower(&self) {
        // Relaxed: see the module's page.
        let found = self.word.fetch_sub(SERVING, Ordering::Relaxed);
        debug_assert!(found as u32 > 0, "more servers stopped serving than served");
    }

    /// Counts out a server that is about to be ejected, if at least one other serves afterwards, and no more than
    /// `max_ejected_ratio` of the registered ones do not (I1).
    pub(super) fn lower_within(&self, max_ejected_ratio: f64) -> bool {
        let allows = |word: u64| {
            let (registered, left) = ((word >> 32) as f64, f64::from(word as u32) - 1.0);
            (left >= 1.0 && left >= (1.0 - max_ejected_ratio) * registered).then(|| word - SERVING)
        };
        // Relaxed: see the module's page.
        self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, allows).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Serving;

    #[test]
    fn ejections_stop_at_the_bound_and_before_the_last_server() {
        for (servers, ratio, ejected) in [(1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (4, 0.0, 0), (4, 1.0, 3)]
        {
            let serving = Serving::default();
            for _ in 0..servers {
                serving.register();
                serving.raise();
            }
            let count = (0..servers).filter(|_| serving.lower_within(ratio)).count();
            assert_eq!((count, serving.serving()), (ejected, servers - ejected as u32), "{servers} servers, {ratio}");
        }
    }

    #[test]
    fn servers_down_by_connecting_use_up_the_bound() {
        let serving = Serving::default();
        for _ in 0..4 {
            serving.register();
            serving.raise();
        }
        serving.lower();
        serving.lower();
        assert!(!serving.lower_within(0.5));
        serving.raise();
        assert!(serving.lower_within(0.5));
    }
}
