//! What each thread remembers of the lists that it used last, so that its next acquire loads none.
//!
//! To load an `ArcSwap` takes two read-modify-writes, which is a quarter of what an acquire from the idle queue takes.
//! A number tells whether a list is still the one that counts: each that is published has one that no other has.
//!
//! A thread may remember a list long after its pool has gone. So it remembers the seats only: no connection stays in
//! them after a server was removed or its pool closed, and they refer to nothing of the user's.

use std::any::Any;
use std::cell::RefCell;

use crate::connect::Connector;
use crate::server::list::{List, Seats};
use crate::server::ring::Ring;
use crate::server::stripe::near;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// The lists of so many pools are remembered by a thread.
const SLOTS: usize = 8;

struct Remembered {
    number: u64,
    /// The thread's own [`near`].
    near: usize,
    /// `Arc<Seats<C>>`.
    seats: Box<dyn Any>,
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
    POOLS.fetch_add(1, Ordering::Relaxed) % SLOTS
}

impl<C: Connector> Ring<C> {
    /// Makes a list the one that counts. Only under the registry's lock.
    pub(crate) fn publish(&self, list: Arc<List<C>>) {
        let number = list.number;
        self.list.store(list);
        // Release: who sees the number and looks for the list finds it, or a later one.
        self.number.store(number, Ordering::Release);
    }

    /// Uses the seats of the list that counts, if this thread remembers them, and its [`near`].
    #[inline(always)]
    pub(crate) fn with_seats<T>(&self, use_seats: impl FnOnce(&Seats<C>, usize) -> T) -> Option<T> {
        let used = REMEMBERED.try_with(|slots| {
            // Is it being replaced, by a drop that acquires? Then it is not for use.
            let slot = slots[self.slot % SLOTS].try_borrow().ok()?;
            // Acquire: pairs with the Release of `publish`.
            let number = self.number.load(Ordering::Acquire);
            let remembered = slot.as_ref().filter(|remembered| remembered.number == number)?;
            let seats: &Arc<Seats<C>> = remembered.seats.downcast_ref()?;
            Some(use_seats(seats, remembered.near))
        });
        // A thread that ends remembers nothing any more.
        used.ok().flatten()
    }

    /// Remembers a list for the next time.
    pub(crate) fn remember(&self, list: &List<C>) {
        let remembered = Remembered { number: list.number, near: near(), seats: Box::new(Arc::clone(&list.seats)) };
        // What was there is dropped after the slot is free again.
        let _before = REMEMBERED.try_with(|slots| {
            let mut slot = slots[self.slot % SLOTS].try_borrow_mut().ok()?;
            slot.replace(remembered)
        });
    }
}
