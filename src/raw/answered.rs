//! What a server answered: when last, and how many open connections of the current outage number have, or may yet.
//!
//! # Protocol
//!
//! Three words. `at` is the tick of the last good return, stored only when it differs. The others are `{ outage: 45,
//! count: 19 }` and count open connections under the outage number that they name; a newer number starts from zero.
//! `unproven` counts a connection from when it is opened under that number to its first good return; `proven` counts
//! each one that came back well under that number, from its first such return. A connection that closes is counted out.
//!
//! # Invariants
//!
//! - I1: `at` is no later than the last good return.
//! - I2: with no call under way, `unproven` and `proven` are exact for the newest outage number that each has seen.
//!
//! Arithmetic: a count that has reached 2¹⁹ - 1 stays there until a newer outage number: a server with more such
//! connections is taken to have one for as long as that number lasts.
//!
//! # Orderings
//!
//! Relaxed: each word is evidence for one decision, which may miss what happens at the same time.

use super::health::Outage;
use super::time::{STEPS_BITS, Time};
use crate::sync::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 64 - STEPS_BITS;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    at: AtomicU64,
    proven: Open,
    unproven: Open,
}

impl Answered {
    /// A connection came back well. At most one store a tick.
    #[inline(always)]
    pub(crate) fn note(&self, tick: Time) {
        // Relaxed: see the module's page.
        if self.at.load(Ordering::Relaxed) != tick.as_nanos() {
            self.at.store(tick.as_nanos(), Ordering::Relaxed);
        }
    }

    /// Whether a connection came back well in the tick of `since` or later. Zero is no tick of a return.
    pub(crate) fn is_since(&self, since: Time) -> bool {
        // Relaxed: see the module's page.
        let at = self.at.load(Ordering::Relaxed);
        at != 0 && at >= since.as_nanos()
    }

    /// An open connection came back well for the first time under `outage`.
    pub(crate) fn count_proven(&self, outage: Outage) {
        self.proven.count(outage);
    }

    /// A connection closed that was counted under `outage`.
    pub(crate) fn discount_proven(&self, outage: Outage) {
        self.proven.discount(outage);
    }

    /// Whether an open connection has come back well under `outage`.
    pub(crate) fn is_any_proven(&self, outage: Outage) -> bool {
        self.proven.under(outage) > 0
    }

    /// A connection was opened under `outage`.
    pub(crate) fn count_unproven(&self, outage: Outage) {
        self.unproven.count(outage);
    }

    /// A connection that was opened under `outage` came back well for the first time, or closed before that.
    pub(crate) fn discount_unproven(&self, outage: Outage) {
        self.unproven.discount(outage);
    }

    /// How many open connections were opened or came back well under `outage`.
    pub(crate) fn open(&self, outage: Outage) -> u64 {
        self.proven.under(outage) + self.unproven.under(outage)
    }
}

/// A number of open connections, and the outage number under which they count.
#[derive(Debug, Default)]
struct Open(AtomicU64);

impl Open {
    fn count(&self, outage: Outage) {
        self.change(|word| {
            let newest = word >> COUNT_BITS;
            if newest < outage.number() {
                return Some(outage.number() << COUNT_BITS | 1);
            }
            (newest == outage.number() && word & COUNT_MAX < COUNT_MAX).then(|| word + 1)
        });
    }

    fn discount(&self, outage: Outage) {
        self.change(|word| {
            let is_counted = word >> COUNT_BITS == outage.number() && (1..COUNT_MAX).contains(&(word & COUNT_MAX));
            is_counted.then(|| word - 1)
        });
    }

    fn under(&self, outage: Outage) -> u64 {
        // Relaxed: see the module's page.
        let word = self.0.load(Ordering::Relaxed);
        if word >> COUNT_BITS == outage.number() { word & COUNT_MAX } else { 0 }
    }

    fn change(&self, next: impl Fn(u64) -> Option<u64>) {
        // Relaxed: see the module's page. Nothing is to be done where there is no next word.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::Outage;
    use super::{Answered, Time};

    #[test]
    fn counts_connections_of_the_newest_outage_number() {
        let answered = Answered::default();
        let [first, second] = [1, 2].map(Outage::from_number);
        assert!(!answered.is_any_proven(first));
        answered.count_proven(first);
        answered.count_proven(first);
        answered.discount_proven(first);
        assert!(answered.is_any_proven(first));
        answered.count_proven(second);
        answered.count_proven(first);
        answered.discount_proven(first);
        assert_eq!([first, second].map(|outage| answered.is_any_proven(outage)), [false, true]);
        answered.discount_proven(second);
        answered.discount_proven(second);
        assert!(!answered.is_any_proven(second));
        answered.count_proven(second);
        assert!(answered.is_any_proven(second));
    }

    #[test]
    fn a_connection_counts_as_unproven_until_it_answers() {
        let answered = Answered::default();
        let [first, second] = [1, 2].map(Outage::from_number);
        answered.count_unproven(first);
        answered.count_unproven(second);
        answered.count_unproven(first);
        assert_eq!([first, second].map(|outage| answered.open(outage)), [0, 1], "the older ones count no more");
        assert!(!answered.is_any_proven(second));
        answered.discount_unproven(first);
        answered.discount_unproven(second);
        answered.count_proven(second);
        assert_eq!((answered.open(second), answered.is_any_proven(second)), (1, true));
        answered.count_unproven(second);
        assert_eq!(answered.open(second), 2);
        answered.discount_proven(second);
        answered.discount_unproven(second);
        assert_eq!((answered.open(second), answered.open(Outage::NONE)), (0, 0));
    }

    #[test]
    fn the_last_answer_is_that_of_the_last_tick() {
        let answered = Answered::default();
        assert!(!answered.is_since(Time::ZERO));
        answered.note(Time::from_nanos(100));
        assert_eq!([99, 100, 101].map(|at| answered.is_since(Time::from_nanos(at))), [true, true, false]);
    }
}
