//! A place for one boxed item: one atomic pointer.
//!
//! # Protocol
//!
//! The pointer is null (empty) or owns the box (full).
//!
//! ```text
//! empty --put--> full --take--> empty
//! ```
//!
//! # Invariants
//!
//! - I1: a non-null pointer in the slot came from `Box::into_raw` in [`Slot::put`] and owns its box. The CAS that
//!   writes it moves the ownership into the slot; the CAS that replaces it by null moves the ownership out.
//! - I2: [`Slot::take`] turns the address that its CAS replaced into a box. Between its load and its CAS the box may
//!   have left, been freed, and another box of the same type and layout been put at the same address. The CAS succeeds
//!   only if a box at that address is in the slot at that moment, so the caller owns the box that is there now. `put`
//!   exposes the provenance of each box; `take` picks up an exposed provenance for the address, so the pointer that the
//!   load returned is never used beyond its address.
//!
//! # Orderings
//!
//! - `put` publishes the item to `take`: SeqCst includes Release, `take` acquires.
//! - `put` is a SeqCst read-modify-write so that no fence is needed between it and a SeqCst load that follows. Side A
//!   puts an item, then loads a word (the closed bit, the number of waiters). Side B stores that word, runs a SeqCst
//!   fence, then loads this pointer. If the load of A misses the store of B, it precedes the fence of B in the single
//!   order of SeqCst operations. The `put` of A precedes its load, so the load of B sees the item (C++20,
//!   [atomics.order] p4). A Relaxed or an Acquire load of A would not be ordered by this.

#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::{null_mut, with_exposed_provenance_mut};

use crate::sync::{AtomicPtr, Mutex, Ordering};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    item: AtomicPtr<T>,
    /// Owns a `T`, and is `Sync` if `T` is `Send`, as a mutex: an item moves between threads and is never shared.
    owns: PhantomData<Mutex<Box<T>>>,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self { item: AtomicPtr::new(null_mut()), owns: PhantomData }
    }

    /// Puts an item in. Returns it if the slot is full.
    #[inline(always)]
    pub(crate) fn put(&self, item: Box<T>) -> Result<(), Box<T>> {
        // Relaxed: a hint that spares the CAS; the CAS decides.
        if !self.item.load(Ordering::Relaxed).is_null() {
            return Err(item);
        }
        let item = Box::into_raw(item);
        item.expose_provenance();
        // SeqCst on success: releases the item to `take`, and orders the SeqCst loads that follow (see Orderings).
        // Relaxed on failure: nothing is read through the pointer found.
        match self.item.compare_exchange(null_mut(), item, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: `item` came from `Box::into_raw` above and the CAS failed, so the slot does not own it (I1).
            Err(_) => Err(unsafe { Box::from_raw(item) }),
        }
    }

    /// Takes the item out.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Box<T>> {
        loop {
            // Relaxed: only the address is used. A load before the CAS lets the processor use the box while the locked
            // instruction executes: 27 ns for a put and a take, 38 with a swap.
            let found = self.item.load(Ordering::Relaxed);
            if found.is_null() {
                return None;
            }
            // Acquire on success: pairs with the CAS of `put`, which wrote the pointer. Relaxed on failure: looks
            // again.
            if self.item.compare_exchange(found, null_mut(), Ordering::Acquire, Ordering::Relaxed).is_ok() {
                let item = with_exposed_provenance_mut::<T>(found.addr());
                // SAFETY: the CAS moved the ownership of the box at this address out of the slot (I1, I2).
                return Some(unsafe { Box::from_raw(item) });
            }
        }
    }

    /// Whether it is empty. A hint.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint; a caller that must not miss an item runs a fence first.
        self.item.load(Ordering::Relaxed).is_null()
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;

    #[test]
    fn holds_one_item_and_returns_the_one_that_does_not_fit() {
        let slot = Slot::new();
        assert!(slot.is_empty() && slot.take().is_none());
        assert_eq!(slot.put(Box::new(1)), Ok(()));
        assert_eq!(slot.put(Box::new(2)), Err(Box::new(2)));
        assert!(!slot.is_empty());
        assert_eq!(slot.take(), Some(Box::new(1)));
        assert_eq!((slot.take(), slot.is_empty()), (None, true));
    }

    #[test]
    fn drops_the_item_that_is_left() {
        let item = std::sync::Arc::new(());
        let slot = Slot::new();
        slot.put(Box::new(item.clone())).expect("it is empty");
        drop(slot);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }
}
