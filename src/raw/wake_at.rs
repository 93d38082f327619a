//! The time until which the background task sleeps, and whether a change must wake it.
//!
//! # Protocol
//!
//! One word. The task stores `AWAKE` and looks at everything; then it stores the time of its next work and sleeps until
//! then. A caller that has changed something asks [`WakeAt::must_wake`] whether the task would wake too late for it.
//!
//! # Invariants
//!
//! - I1: the task's next look sees a change, or `must_wake` was true for it. The task stores the word, fences, looks;
//!   the caller makes its change, fences, loads the word.
//!
//! # Orderings
//!
//! SeqCst fences: each side stores one word and loads the other.

use super::time::Time;
use crate::sync::{AtomicU64, Ordering, fence};

/// The value of the word while the task looks: every change must wake it, to look again.
const AWAKE: u64 = u64::MAX;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct WakeAt {
    until: AtomicU64,
}

impl WakeAt {
    pub(crate) fn new() -> Self {
        Self { until: AtomicU64::new(AWAKE) }
    }

    /// Whether a change that takes effect `at` a time must wake the task (I1). Fences first.
    #[must_use]
    pub(crate) fn must_wake(&self, at: Time) -> bool {
        // SeqCst: the change, then the word; pairs with the fence of `look`.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        at.as_nanos() < self.until.load(Ordering::Relaxed)
    }

    /// The task is about to look at everything.
    pub(crate) fn look(&self) {
        // Relaxed: ordered by the fence.
        self.until.store(AWAKE, Ordering::Relaxed);
        // SeqCst: the word, then the look; pairs with the fence of `must_wake`.
        fence(Ordering::SeqCst);
    }

    /// The task sleeps until `until`.
    pub(crate) fn sleep(&self, until: Time) {
        // Relaxed: a caller that reads an older value wakes the task needlessly.
        self.until.store(until.as_nanos().min(AWAKE - 1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Time, WakeAt};

    #[test]
    fn wakes_for_a_change_before_the_end_of_the_sleep() {
        let wake_at = WakeAt::new();
        let at = Time::from_nanos;
        assert!(wake_at.must_wake(at(1_000)), "the task has not looked yet");
        wake_at.sleep(at(1_000));
        assert!(wake_at.must_wake(at(999)));
        assert!(!wake_at.must_wake(at(1_000)) && !wake_at.must_wake(at(1_001)), "it wakes by itself");
        wake_at.look();
        assert!(wake_at.must_wake(at(1_001)), "it may have looked there already");
        wake_at.sleep(Time::NEVER);
        assert!(wake_at.must_wake(at(5_000)));
        assert!(!wake_at.must_wake(Time::NEVER), "that never comes");
    }
}
