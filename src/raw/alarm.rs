//! How the task that watches the time for the line learns that something changed.
//!
//! The task sleeps until the next moment at which time alone may change something: a token, the end of a backoff or of
//! a pause. Whoever brings about an earlier such moment rings a bell, which is not this file's; here is only whether it
//! must.
//!
//! # Protocol
//!
//! Two words. `until` is the time up to which the task sleeps, or `UNTIL_RUNG` while it looks and while nobody waits,
//! so that all changes ring. `watched` says that there is a task: [`Alarm::engage`] makes one caller start it,
//! [`Alarm::dismiss`] ends it.
//!
//! # Invariants
//!
//! - I1: a change is seen by the task's look, or whoever made it is told to ring. The task sets `until`, fences, looks;
//!   who changes something fences, then reads `until`.
//! - I2: a caller that joins the line is seen by the task's last look, or sees that nobody watches. The task clears
//!   `watched`, fences, looks at the line; the caller joins, fences (in `Line::join`), then reads `watched`.
//! - I3: at most one task watches at a time.
//!
//! # Orderings
//!
//! The fences are SeqCst because each side stores one place and loads the other (I1, I2). `engage` acquires what
//! `dismiss` released, so that what the last task did happens before what the next does.

use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Alarm {
    until: AtomicU64,
    watched: AtomicBool,
}

impl Alarm {
    /// The `until` of a task that looks, or that sleeps until the bell rings, whatever for.
    pub(crate) const UNTIL_RUNG: u64 = u64::MAX;

    pub(crate) fn new() -> Self {
        Self { until: AtomicU64::new(Self::UNTIL_RUNG), watched: AtomicBool::new(false) }
    }

    /// Whether a change that takes effect at `at_ns` must ring the bell (I1). Fences before it looks.
    pub(crate) fn must_ring(&self, at_ns: u64) -> bool {
        // SeqCst: pairs with the fence of `look`: the change, then `until`.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        at_ns < self.until.load(Ordering::Relaxed)
    }

    /// The task is about to look at everything.
    pub(crate) fn look(&self) {
        // Relaxed: ordered by the fence.
        self.until.store(Self::UNTIL_RUNG, Ordering::Relaxed);
        // SeqCst: pairs with the fence of `must_ring`: `until`, then the look.
        fence(Ordering::SeqCst);
    }

    /// The task sleeps until `at_ns`, or until the bell rings.
    pub(crate) fn sleep(&self, at_ns: u64) {
        // Relaxed: who reads an older value rings in vain.
        self.until.store(at_ns, Ordering::Relaxed);
    }

    /// Whether a task watches.
    pub(crate) fn is_watched(&self) -> bool {
        // Relaxed: ordered, where it matters, by the fence of `Line::join` (I2).
        self.watched.load(Ordering::Relaxed)
    }

    /// True for the one caller who must start the task (I3).
    pub(crate) fn engage(&self) -> bool {
        // Acquire: pairs with the Release of `dismiss`.
        !self.watched.swap(true, Ordering::Acquire)
    }

    /// The task ends. It looks at the line afterwards (I2).
    pub(crate) fn dismiss(&self) {
        // Release: pairs with the Acquire of `engage`.
        self.watched.store(false, Ordering::Release);
        // SeqCst: pairs with the fence of `Line::join`: nobody watches, then the look at the line.
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::Alarm;

    #[test]
    fn only_a_change_before_the_end_of_the_sleep_rings() {
        let alarm = Alarm::new();
        assert!(alarm.must_ring(1_000), "nobody has looked yet");
        alarm.sleep(1_000);
        assert!(alarm.must_ring(999));
        assert!(!alarm.must_ring(1_000) && !alarm.must_ring(1_001), "it wakes by itself");
        alarm.look();
        assert!(alarm.must_ring(1_001), "it may have looked there already");
        alarm.sleep(Alarm::UNTIL_RUNG);
        assert!(alarm.must_ring(Alarm::UNTIL_RUNG - 1));
    }

    #[test]
    fn one_watches_until_it_is_dismissed() {
        let alarm = Alarm::new();
        assert!(!alarm.is_watched());
        assert!(alarm.engage() && alarm.is_watched());
        assert!(!alarm.engage());
        alarm.dismiss();
        assert!(!alarm.is_watched() && alarm.engage());
    }
}
