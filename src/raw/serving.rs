//! How many servers are registered, and how many of them serve: bounds how many may be ejected.
//!
//! # Protocol
//!
//! One word for each tier, `{ registered: 32, serving: 32 }`, and one for all tiers, `serving`. A server that stops
//! serving is counted out before its health changes, and one that serves again is counted in after it. The lock of its
//! health is held over both, so that no server is counted twice (see `health`). An ejection counts it out only within
//! the bound: first among all, then in its tier.
//!
//! While a change is under way, `serving` may be too low. So an ejection may be refused that would be allowed a moment
//! later.
//!
//! # Invariants
//!
//! - I1: `serving` is never more than the servers that serve. So an allowed ejection leaves a server that serves. It
//!   leaves as many of its tier as the bound says, unless a worse tier served when it looked. The thread that ejects
//!   sees a server that serves, unless that one stopped since.
//! - I2: with no change under way, `serving` is the number of registered servers that serve.
//!
//! Arithmetic: server numbers are below 2³¹ (`ServerSet`).
//!
//! # Orderings
//!
//! - In the word for all, `raise` is Release, and an ejection that is allowed is Acquire: it sees the health that the
//!   count stands for (I1). All changes are read-modify-writes, which keep the pairing.
//! - All else is Relaxed: each bound is decided on one word. `health` has the orderings that say who sees a server
//!   counted out.

use crate::sync::{AtomicU64, Ordering};

/// How many tiers there are. Those with lower numbers are better.
pub(crate) const TIERS: usize = 16;

const SERVING: u64 = 1;
const REGISTERED: u64 = 1 << 32;

/// The word of a tier at one moment.
#[derive(Clone, Copy)]
struct Counts(u64);

impl Counts {
    fn serving(self) -> u32 {
        self.0 as u32
    }

    fn registered(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    tiers: [AtomicU64; TIERS],
    all: AtomicU64,
}

impl Serving {
    fn counts(&self, tier: usize) -> Counts {
        // Relaxed: a hint.
        Counts(self.tiers[tier].load(Ordering::Relaxed))
    }

    /// How many servers serve. A hint: it may be too low while changes are under way.
    pub(crate) fn serving(&self) -> u32 {
        // Relaxed: a hint.
        self.all.load(Ordering::Relaxed) as u32
    }

    /// Whether servers of a tier serve. A hint: it may be false too early while changes are under way.
    pub(crate) fn has_serving(&self, tier: usize) -> bool {
        self.counts(tier).serving() > 0
    }

    /// Whether servers of a worse tier are registered.
    pub(crate) fn has_worse(&self, tier: usize) -> bool {
        (tier + 1..TIERS).any(|worse| self.counts(worse).registered() > 0)
    }

    /// A server of a tier was registered that does not count as serving yet.
    pub(crate) fn register(&self, tier: usize) {
        // Relaxed: see the module's page.
        self.tiers[tier].fetch_add(REGISTERED, Ordering::Relaxed);
    }

    /// A server of a tier was removed that does not count as serving any more.
    pub(crate) fn remove(&self, tier: usize) {
        // Relaxed: see the module's page.
        let found = self.tiers[tier].fetch_sub(REGISTERED, Ordering::Relaxed);
        debug_assert!(Counts(found).registered() > 0, "more servers were removed than registered");
    }

    /// Counts in a server that serves by now.
    pub(super) fn raise(&self, tier: usize) {
        // Relaxed and Release: see the module's page.
        self.tiers[tier].fetch_add(SERVING, Ordering::Relaxed);
        self.all.fetch_add(SERVING, Ordering::Release);
    }

    /// Counts out a server that is about to stop serving.
    pub(super) fn lower(&self, tier: usize) {
        // Relaxed: see the module's page.
        self.all.fetch_sub(SERVING, Ordering::Relaxed);
        let found = self.tiers[tier].fetch_sub(SERVING, Ordering::Relaxed);
        debug_assert!(Counts(found).serving() > 0, "a server was counted out twice");
    }

    /// Counts out a server that is about to be ejected, if it `serves`. True if at least one other serves afterwards,
    /// and either a worse tier serves, or no more than `max_ejected_ratio` of the registered ones of its tier do not
    /// (I1).
    pub(super) fn lower_within(&self, tier: usize, serves: bool, max_ejected_ratio: f64) -> bool {
        let out = if serves { SERVING } else { 0 };
        let leaves_one = |all| (all > out).then(|| all - out);
        // Acquire where it is allowed, Relaxed where not: see the module's page.
        if self.all.fetch_update(Ordering::Acquire, Ordering::Relaxed, leaves_one).is_err() {
            return false;
        }
        let is_backed = (tier + 1..TIERS).any(|worse| self.has_serving(worse));
        let allows = |word: u64| {
            let left = word - out;
            let [registered, serving] = [Counts(left).registered(), Counts(left).serving()].map(f64::from);
            // The quotient of 7 and 10 is the very `0.7` that a user writes; a product may be beside 7.
            (is_backed || (registered - serving) / registered <= max_ejected_ratio).then_some(left)
        };
        // Relaxed: see the module's page.
        let is_allowed = self.tiers[tier].fetch_update(Ordering::Relaxed, Ordering::Relaxed, allows).is_ok();
        if !is_allowed {
            // Relaxed: see the module's page.
            self.all.fetch_add(out, Ordering::Relaxed);
        }
        is_allowed
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
                serving.register(0);
                serving.raise(0);
            }
            let count = (0..servers).filter(|_| serving.lower_within(0, true, ratio)).count();
            assert_eq!((count, serving.serving()), (ejected, servers - ejected as u32), "{servers} servers, {ratio}");
        }
    }

    #[test]
    fn servers_down_by_connecting_use_up_the_bound() {
        let serving = Serving::default();
        for _ in 0..4 {
            serving.register(0);
            serving.raise(0);
        }
        serving.lower(0);
        serving.lower(0);
        assert!(!serving.lower_within(0, true, 0.5));
        assert!(serving.lower_within(0, false, 0.5) && !serving.lower_within(0, false, 0.4), "one of the two");
        serving.raise(0);
        assert!(serving.lower_within(0, true, 0.5));
    }

    /// Counts with so many servers of each tier, all serving.
    fn tiers(servers: &[u32]) -> Serving {
        let serving = Serving::default();
        for (tier, &count) in servers.iter().enumerate() {
            (0..count).for_each(|_| serving.register(tier));
            (0..count).for_each(|_| serving.raise(tier));
        }
        serving
    }

    #[test]
    fn a_tier_before_one_that_serves_may_be_ejected_whole() {
        let serving = tiers(&[2, 3]);
        assert!(serving.lower_within(0, true, 0.0) && serving.lower_within(0, true, 0.0), "the worse tier serves");
        assert!(!serving.has_serving(0) && serving.has_worse(0) && !serving.has_worse(1));
        let ejected = (0..3).filter(|_| serving.lower_within(1, true, 0.4)).count();
        assert_eq!((ejected, serving.serving()), (1, 2), "the last tier keeps its part");
        serving.raise(0);
        assert!(!serving.lower_within(1, true, 0.4), "a better tier is no excuse");
        assert!(serving.lower_within(0, true, 0.4));
    }

    #[test]
    fn the_last_server_of_all_tiers_is_not_ejected() {
        let serving = tiers(&[1, 0, 1]);
        assert!(serving.lower_within(2, true, 1.0), "a better tier serves");
        assert!(!serving.lower_within(0, true, 1.0));
        assert_eq!(serving.serving(), 1);
    }
}
