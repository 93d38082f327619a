//! What each thread remembers of the lists that it used last, so that its next acquire loads none.
//!
//! To load an `ArcSwap` takes two read-modify-writes, a good part of what an acquire from the idle queue takes.
//! A number tells whether a list is still the one that counts: each that is published has one that no other has.
//!
//! A thread may remember a list long after its pool has gone. So it remembers the seats only: no connection stays in
//! them after a server was removed or its pool closed, and they refer to nothing of the user's. What stays, until the
//! thread ends or remembers another, are the empty idle queues: 16 bytes for each slot and 400 for each stripe.

use std::cell::RefCell;

use crate::connector::Connector;
use crate::server::list::{AnySeats, List, Seats};
use crate::server::ring::Ring;
use crate::server::stripe::near;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// The lists of so many pools are remembered by a thread. If it uses more in turn, they replace each other, and
/// each acquire loads its list.
const SLOTS: usize = 8;

struct Remembered {
    number: u64,
    /// The thread's own [`near`].
    near: usize,
    /// The [`Seats`] of the pool's own type.
    seats: AnySeats,
}

thread_local! {
    static REMEMBERED: [RefCell<Option<Remembered>>; SLOTS] = const { [const { RefCell::new(None) }; SLOTS] };
}

/// A number that no other list of the process has. One a nanosecond would take 584 years to wrap.
pub(super) fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    // Relaxed: a plain counter.
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// The slot of a new pool.
pub(super) fn next_slot() -> usize {
    static POOLS: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: a plain counter.
    POOLS.fetch_add(1, Ordering::Relaxed)
}

impl<C: Connector> Ring<C> {
    /// Makes a list the one that counts. Only under the registry's lock.
    pub(crate) fn publish(&self, list: Arc<List<C>>) {
        let number = list.number;
        self.list.store(list);
        // Relaxed: who sees the number, but the list before, remembers that one in vain.
        self.number.store(number, Ordering::Relaxed);
    }

    /// Uses the seats of the list that counts, if this thread remembers them, and its [`near`].
    #[inline(always)]
    pub(crate) fn with_seats<T>(&self, use_seats: impl FnOnce(&Seats<C>, usize) -> T) -> Option<T> {
        let used = REMEMBERED.try_with(|slots| {
            let slot = slots[self.slot % SLOTS].try_borrow().ok()?;
            // Relaxed: seats that are remembered by their number are whole; other ones are looked for in the list.
            let number = self.number.load(Ordering::Relaxed);
            let remembered = slot.as_ref().filter(|remembered| remembered.number == number)?;
            Some(use_seats(remembered.seats.downcast_ref()?, remembered.near))
        });
        // A thread that ends remembers nothing any more.
        used.ok().flatten()
    }

    /// Remembers a list for the next time.
    pub(crate) fn remember(&self, list: &List<C>) {
        let remembered = Remembered { number: list.number, near: near(), seats: Arc::clone(&list.seats) };
        // In use? Then a check, a drop or a waker acquires in the midst of an acquire. What was there is dropped after
        // the slot is free again.
        let _before = REMEMBERED.try_with(|slots| {
            let mut slot = slots[self.slot % SLOTS].try_borrow_mut().ok()?;
            slot.replace(remembered)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, next_number, next_slot};

    #[test]
    fn numbers_are_unique_and_slots_are_shared_out() {
        assert!(next_number() < next_number());
        // Pools of other tests may take some in between.
        let mut pools = [0; SLOTS];
        (0..100 * SLOTS).for_each(|_| pools[next_slot() % SLOTS] += 1);
        assert!(pools.iter().all(|&count| count > 0), "{pools:?}");
    }
}
