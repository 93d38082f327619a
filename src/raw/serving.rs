//! How many servers are registered, and how many of them serve: bounds how many may be ejected.
//!
//! # Protocol
//!
//! One word, `registered * 2³² + serving`, where `serving` is signed. A server that stops serving is counted out before
//! its health changes, and one that serves again is counted in after it (see `health`). An ejection counts it out only
//! within the bound.
//!
//! `serving` is below zero for a moment if threads race to stop one server, since each counts it out and all but one
//! count it in again, or if a server stops before the thread that let it serve has counted it in. So an ejection may be
//! refused that would be allowed a moment later.
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
//! Relaxed: the bound is decided on this one word, which publishes nothing. That a server is counted out before another
//! thread counts it in again follows from the orderings of `health`.

use crate::sync::{AtomicU64, Ordering};

const SERVING: u64 = 1;
const REGISTERED: u64 = 1 << 32;

/// The word at one moment.
#[derive(Clone, Copy)]
struct Counts(u64);

impl Counts {
    fn serving(self) -> i32 {
        self.0 as i32
    }

    fn registered(self) -> u32 {
        (self.0.wrapping_sub(i64::from(self.serving()) as u64) >> 32) as u32
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    word: AtomicU64,
}

impl Serving {
    /// How many servers serve. A hint: it may be too low while changes are under way.
    pub(crate) fn serving(&self) -> u32 {
        // Relaxed: a hint.
        Counts(self.word.load(Ordering::Relaxed)).serving().max(0) as u32
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
        debug_assert!(Counts(found).registered() > 0, "more servers were removed than registered");
    }

    /// Counts in a server that serves by now.
    pub(super) fn raise(&self) {
        // Relaxed: see the module's page.
        self.word.fetch_add(SERVING, Ordering::Relaxed);
    }

    /// Counts out a server that is about to stop serving.
    pub(super) fn lower(&self) {
        // Relaxed: see the module's page.
        self.word.fetch_sub(SERVING, Ordering::Relaxed);
    }

    /// Counts out a server that is about to be ejected, if at least one other serves afterwards, and no more than
    /// `max_ejected_ratio` of the registered ones do not (I1).
    pub(super) fn lower_within(&self, max_ejected_ratio: f64) -> bool {
        let allows = |word: u64| {
            let (registered, left) = (f64::from(Counts(word).registered()), f64::from(Counts(word).serving()) - 1.0);
            // The quotient of 7 and 10 is the very `0.7` that a user writes; a product may be beside 7.
            (left >= 1.0 && (registered - left) / registered <= max_ejected_ratio).then(|| word - SERVING)
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
        let few = [(1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (4, 0.0, 0), (4, 1.0, 3)];
        let exact = [(3, 2.0 / 3.0, 2), (10, 0.3, 3), (10, 0.7, 7), (100, 0.29, 29), (100, 0.58, 58)];
        for (servers, ratio, ejected) in few.into_iter().chain(exact) {
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
    fn a_server_counted_out_twice_for_a_moment_is_no_room_for_an_ejection() {
        let serving = Serving::default();
        serving.register();
        serving.raise();
        // Two threads stop the server; one of them will find that the other did.
        serving.lower();
        serving.lower();
        assert!(!serving.lower_within(1.0));
        assert_eq!(serving.serving(), 0);
        serving.remove();
        serving.raise();
        assert_eq!(serving.serving(), 0);
        serving.register();
        serving.raise();
        assert_eq!(serving.serving(), 1);
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
