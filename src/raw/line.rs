//! The callers that wait, first come, first served.
//!
//! # Protocol
//!
//! A caller joins at the back and has a place with a number. [`Line::serve`] takes items from its supplier and puts
//! each into the slot of the caller in front, which leaves the queue thereby, and wakes it. The caller finds the item
//! at its next poll; if the item is no good, it joins again with its old number, ahead of all that came after it. A
//! caller that leaves gets what was put into its slot, to pass it on.
//!
//! ```text
//! joined --served--> served --polled--> out --rejoined--> joined
//!    \---left---> out   \---left, with the item---> out
//! ```
//!
//! The queue is a doubly linked list through a slab, so that a caller leaves from the middle in constant time.
//!
//! # Invariants
//!
//! - I1: items go to joined callers in the order of their numbers.
//! - I2: `waiting` is the number of joined callers, changed under the lock together with the queue.
//! - I3: an item is owned by the supplier, by one slot, or by the caller that took it out: none is lost, none is there
//!   twice.
//! - I4: a caller that is served is woken once; nobody else is, but by [`Line::wake_all`].
//! - I5: no waker is cloned, called or dropped, and no item is dropped, under the lock.
//!
//! # Orderings
//!
//! All but `waiting` is behind the lock. A caller joins, fences, then looks again for what it needs; whoever has put
//! something there fences, then looks at `waiting`. One of the two sees the other: that is what the SeqCst fence of
//! [`Line::join`] and its partners are for (`Idle::push`, and the fences of whoever frees a permit, ends a dial or
//! registers a server).

use core::task::Waker;

use crate::sync::{AtomicUsize, Mutex, Ordering, fence, lock};

/// How many callers are served before the lock is let go to wake them. Few: most of the time one is, and room for the
/// wakers of all is made ready.
const BATCH: usize = 4;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Line<T> {
    /// I2. Written under the lock, read anywhere.
    waiting: AtomicUsize,
    queue: Mutex<Queue<T>>,
}

/// A caller's place in a [`Line`]. Whoever drops it must leave the line first.
#[derive(Debug)]
#[must_use]
pub(crate) struct Place {
    number: u64,
    slot: Option<usize>,
    found_nobody: bool,
}

impl Place {
    /// Whether nobody waited when the caller joined.
    pub(crate) fn found_nobody(&self) -> bool {
        self.found_nobody
    }
}

#[derive(Debug)]
struct Queue<T> {
    slots: Vec<Slot<T>>,
    /// The head of the list of vacant slots.
    vacant: Option<usize>,
    front: Option<usize>,
    back: Option<usize>,
    next_number: u64,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: Option<usize> },
    Joined { number: u64, ahead: Option<usize>, behind: Option<usize>, waker: Option<Waker> },
    Served(T),
}

impl<T> Line<T> {
    pub(crate) fn new() -> Self {
        let queue = Queue { slots: Vec::new(), vacant: None, front: None, back: None, next_number: 0 };
        Self { waiting: AtomicUsize::new(0), queue: Mutex::new(queue) }
    }

    /// How many callers wait. Whoever must not miss one fences first.
    pub(crate) fn waiting(&self) -> usize {
        // Relaxed: ordered by the reader's fence, which pairs with that of `join`.
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts joined callers (I2). Only under the lock.
    fn count(&self, change: isize) {
        // Relaxed: the lock orders the writers; `join` fences for the readers.
        let waiting = self.waiting.load(Ordering::Relaxed).checked_add_signed(change);
        self.waiting.store(waiting.expect("more callers left the line than joined it"), Ordering::Relaxed);
    }

    /// Joins at the back, then fences: what the caller looks at afterwards it sees, or is seen by who put it there.
    ///
    /// # Errors
    ///
    /// How many wait, if that is `max` or more.
    pub(crate) fn join(&self, max: usize) -> Result<Place, usize> {
        let place = {
            let mut queue = lock(&self.queue);
            let waiting = self.waiting();
            if waiting >= max {
                return Err(waiting);
            }
            let number = queue.next_number;
            queue.next_number += 1;
            let ahead = queue.back;
            let slot = queue.insert(number, ahead, None);
            self.count(1);
            Place { number, slot: Some(slot), found_nobody: waiting == 0 }
        };
        // SeqCst: pairs with the fence of whoever puts something there and then looks at `waiting`.
        fence(Ordering::SeqCst);
        Ok(place)
    }

    /// Joins again with the number of before, ahead of all that joined later (I1). Fences like [`join`](Line::join).
    pub(crate) fn rejoin(&self, place: &mut Place) {
        debug_assert!(place.slot.is_none(), "a caller joins once");
        {
            let mut queue = lock(&self.queue);
            let (mut ahead, mut behind) = (None, queue.front);
            while let Some(next) = behind {
                let Slot::Joined { number, behind: after, .. } = queue.slots[next] else { break };
                if number > place.number {
                    break;
                }
                (ahead, behind) = (Some(next), after);
            }
            place.slot = Some(queue.insert(place.number, ahead, behind));
            self.count(1);
        }
        // SeqCst: as in `join`.
        fence(Ordering::SeqCst);
    }

    /// Takes out what the caller was served with, or leaves its waker. With `Some` the caller is out of the line.
    pub(crate) fn poll(&self, place: &mut Place, waker: &Waker) -> Option<T> {
        let slot = place.slot?;
        let mut new_waker = None;
        loop {
            let mut queue = lock(&self.queue);
            let Slot::Joined { waker: left, .. } = &mut queue.slots[slot] else {
                place.slot = None;
                return queue.vacate(slot);
            };
            if left.as_ref().is_some_and(|left| left.will_wake(waker)) {
                return None;
            }
            if new_waker.is_some() {
                core::mem::swap(left, &mut new_waker);
                // The lock goes before the old waker does (I5).
                drop(queue);
                return None;
            }
            // Nor is the new one cloned under the lock. Whoever is served meanwhile needs none.
            drop(queue);
            new_waker = Some(waker.clone());
        }
    }

    /// Leaves the line. Returns what the caller was served with and must be passed on.
    pub(crate) fn leave(&self, place: &mut Place) -> Option<T> {
        let slot = place.slot.take()?;
        let mut queue = lock(&self.queue);
        if let Slot::Joined { ahead, behind, ref mut waker, .. } = queue.slots[slot] {
            let waker = waker.take();
            queue.unlink(ahead, behind);
            queue.vacate(slot);
            self.count(-1);
            // The lock goes before the waker does (I5).
            drop(queue);
            drop(waker);
            return None;
        }
        queue.vacate(slot)
    }

    /// Serves callers from the front, as long as there are any and `supply` has something (I1). Returns how many.
    ///
    /// `supply` is called under the lock, only when a caller is there to take what it returns: it must not run user
    /// code.
    pub(crate) fn serve(&self, mut supply: impl FnMut() -> Option<T>) -> usize {
        let mut served = 0;
        loop {
            let mut wakers = [const { None }; BATCH];
            let mut batch = 0;
            {
                let mut queue = lock(&self.queue);
                while batch < BATCH {
                    let Some(front) = queue.front else { break };
                    let Some(item) = supply() else { break };
                    wakers[batch] = queue.put(front, item);
                    self.count(-1);
                    batch += 1;
                }
            }
            // Outside the lock (I5).
            wakers.into_iter().flatten().for_each(Waker::wake);
            served += batch;
            if batch < BATCH {
                return served;
            }
        }
    }

    /// Wakes all that wait, without serving them: something has ended for all.
    pub(crate) fn wake_all(&self) {
        let mut wakers = Vec::new();
        {
            let mut queue = lock(&self.queue);
            wakers.extend(queue.slots.iter_mut().filter_map(|slot| match slot {
                Slot::Joined { waker, .. } => waker.take(),
                Slot::Vacant { .. } | Slot::Served(_) => None,
            }));
        }
        // Outside the lock (I5).
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Queue<T> {
    /// Links a caller in between two others.
    fn insert(&mut self, number: u64, ahead: Option<usize>, behind: Option<usize>) -> usize {
        let joined = Slot::Joined { number, ahead, behind, waker: None };
        let slot = match self.vacant {
            Some(slot) => {
                if let Slot::Vacant { next } = self.slots[slot] {
                    self.vacant = next;
                }
                self.slots[slot] = joined;
                slot
            }
            None => {
                self.slots.push(joined);
                self.slots.len() - 1
            }
        };
        self.set_behind(ahead, Some(slot));
        self.set_ahead(behind, Some(slot));
        slot
    }

    fn unlink(&mut self, ahead: Option<usize>, behind: Option<usize>) {
        self.set_behind(ahead, behind);
        self.set_ahead(behind, ahead);
    }

    /// Sets who comes after `slot`; after nobody comes the front.
    fn set_behind(&mut self, slot: Option<usize>, to: Option<usize>) {
        match slot {
            None => self.front = to,
            Some(slot) => {
                if let Slot::Joined { behind, .. } = &mut self.slots[slot] {
                    *behind = to;
                }
            }
        }
    }

    /// Sets who comes before `slot`; before nobody comes the back.
    fn set_ahead(&mut self, slot: Option<usize>, to: Option<usize>) {
        match slot {
            None => self.back = to,
            Some(slot) => {
                if let Slot::Joined { ahead, .. } = &mut self.slots[slot] {
                    *ahead = to;
                }
            }
        }
    }

    /// Puts an item into the slot of the caller in front and takes it out of the queue. Returns its waker.
    fn put(&mut self, front: usize, item: T) -> Option<Waker> {
        match core::mem::replace(&mut self.slots[front], Slot::Served(item)) {
            Slot::Joined { ahead, behind, waker, .. } => {
                self.unlink(ahead, behind);
                waker
            }
            Slot::Vacant { .. } | Slot::Served(_) => unreachable!("only joined callers are in the queue"),
        }
    }

    /// Empties a slot that is out of the queue. Returns what it was served with.
    fn vacate(&mut self, slot: usize) -> Option<T> {
        match core::mem::replace(&mut self.slots[slot], Slot::Vacant { next: self.vacant.replace(slot) }) {
            Slot::Served(item) => Some(item),
            Slot::Joined { .. } | Slot::Vacant { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
