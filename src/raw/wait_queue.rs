//! The callers that wait for a connection, first come, first served.
//!
//! # Protocol
//!
//! A caller joins at the back and gets a [`Ticket`] with a number. [`WaitQueue::serve`] takes items from its supplier
//! and puts each into the slot of the front waiter, which leaves the queue thereby and is woken. The waiter finds the
//! item at its next poll. If the item is no good, the waiter joins again with its old number, ahead of all that came
//! after it. A waiter that leaves gets the item of its slot, to pass it on.
//!
//! ```text
//! joined --served--> served --polled--> out --rejoined--> joined
//!    \---left---> out   \---left, with the item---> out
//! ```
//!
//! The queue is a doubly linked list through a slab, so that a waiter leaves from the middle in constant time.
//!
//! # Invariants
//!
//! - I1: items go to waiters in the order of their numbers.
//! - I2: [`Signals::waiters`] is the number of joined waiters, changed under the lock together with the list.
//! - I3: an item is owned by the supplier, by one slot, or by the waiter that took it: none is lost, none is there
//!   twice.
//! - I4: a served waiter is woken once; no other is, except by [`WaitQueue::wake_all`] and
//!   [`WaitQueue::wake_impatient`].
//! - I5: no waker is cloned, called or dropped, and no item is dropped, under the lock.
//!
//! # Orderings
//!
//! All but the number of waiters is behind the lock. A caller joins, fences, then looks again for what it needs. A
//! thread that has put something there then loads the number of waiters, ordered behind what it put by a SeqCst fence
//! or a SeqCst read-modify-write (`Idle::push`). One of the two sees the other.

use core::task::Waker;

use super::signals::Signals;
use crate::sync::{Arc, Mutex, Ordering, fence, lock};

/// How many waiters are served before the lock is released to wake them. Few: mostly one is, and room for all their
/// wakers is made ready.
const BATCH: usize = 4;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct WaitQueue<T> {
    signals: Arc<Signals>,
    queue: Mutex<Queue<T>>,
}

/// A waiter's ticket in a [`WaitQueue`]. It must leave the queue before it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket {
    number: u64,
    patient: bool,
    slot: Option<usize>,
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
    Joined { number: u64, patient: bool, ahead: Option<usize>, behind: Option<usize>, waker: Option<Waker> },
    Served(T),
}

impl<T> WaitQueue<T> {
    /// An empty queue that counts its waiters in `signals`.
    pub(crate) fn new(signals: Arc<Signals>) -> Self {
        let queue = Queue { slots: Vec::new(), vacant: None, front: None, back: None, next_number: 0 };
        Self { signals, queue: Mutex::new(queue) }
    }

    /// Joins at the back, then fences: the caller sees what was put there before, or is seen by the thread that puts
    /// it. An impatient waiter is woken by [`WaitQueue::wake_impatient`].
    ///
    /// # Errors
    ///
    /// The number of waiters, if that is `max` or more.
    pub(crate) fn join(&self, max: usize, patient: bool) -> Result<Ticket, usize> {
        let ticket = {
            let mut queue = lock(&self.queue);
            let waiters = self.signals.waiters();
            if waiters >= max {
                return Err(waiters);
            }
            let number = queue.next_number;
            queue.next_number += 1;
            let ahead = queue.back;
            let slot = queue.insert(number, patient, ahead, None);
            self.signals.count_waiters(1);
            Ticket { number, patient, slot: Some(slot) }
        };
        // SeqCst: the count, then the look; pairs with a push and the load of `Signals::waiters` after it.
        fence(Ordering::SeqCst);
        Ok(ticket)
    }

    /// Joins again with the number of before, ahead of all that joined later (I1). Fences like
    /// [`join`](WaitQueue::join).
    pub(crate) fn rejoin(&self, ticket: &mut Ticket) {
        debug_assert!(ticket.slot.is_none(), "a waiter joins once");
        {
            let mut queue = lock(&self.queue);
            let (mut ahead, mut behind) = (None, queue.front);
            while let Some(next) = behind {
                let Slot::Joined { number, behind: after, .. } = queue.slots[next] else { break };
                if number > ticket.number {
                    break;
                }
                (ahead, behind) = (Some(next), after);
            }
            ticket.slot = Some(queue.insert(ticket.number, ticket.patient, ahead, behind));
            self.signals.count_waiters(1);
        }
        // SeqCst: as in `join`.
        fence(Ordering::SeqCst);
    }

    /// Takes the item that the waiter was served with, or leaves its waker. With `Some` the waiter is out of the queue.
    pub(crate) fn poll(&self, ticket: &mut Ticket, waker: &Waker) -> Option<T> {
        let slot = ticket.slot?;
        let mut new_waker = None;
        loop {
            let mut queue = lock(&self.queue);
            let Slot::Joined { waker: left, .. } = &mut queue.slots[slot] else {
                ticket.slot = None;
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
            // The new waker is not cloned under the lock either (I5). A waiter served meanwhile needs none.
            drop(queue);
            new_waker = Some(waker.clone());
        }
    }

    /// Leaves the queue. Returns the item that the waiter was served with, which must be passed on.
    pub(crate) fn leave(&self, ticket: &mut Ticket) -> Option<T> {
        let slot = ticket.slot.take()?;
        let mut queue = lock(&self.queue);
        if let Slot::Joined { ahead, behind, ref mut waker, .. } = queue.slots[slot] {
            let waker = waker.take();
            queue.unlink(ahead, behind);
            queue.vacate(slot);
            self.signals.count_waiters(-1);
            // The lock goes before the waker does (I5).
            drop(queue);
            drop(waker);
            return None;
        }
        queue.vacate(slot)
    }

    /// Serves waiters from the front, as long as there are any and `supply` has an item (I1). Returns how many.
    ///
    /// `supply` is called under the lock, and only when a waiter is there for what it returns. It must not run user
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
                    self.signals.count_waiters(-1);
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

    /// Wakes all waiters without serving them: they look again.
    pub(crate) fn wake_all(&self) {
        self.wake(|_| true);
    }

    /// Wakes the impatient waiters without serving them: they look again.
    pub(crate) fn wake_impatient(&self) {
        self.wake(|patient| !patient);
    }

    fn wake(&self, which: impl Fn(bool) -> bool) {
        let mut wakers = Vec::new();
        {
            let mut queue = lock(&self.queue);
            wakers.extend(queue.slots.iter_mut().filter_map(|slot| match slot {
                Slot::Joined { patient, waker, .. } if which(*patient) => waker.take(),
                _ => None,
            }));
        }
        // Outside the lock (I5).
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> Queue<T> {
    /// Links a waiter in between two others.
    fn insert(&mut self, number: u64, patient: bool, ahead: Option<usize>, behind: Option<usize>) -> usize {
        let joined = Slot::Joined { number, patient, ahead, behind, waker: None };
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

    /// Sets the waiter behind `slot`; without a slot, the front.
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

    /// Sets the waiter ahead of `slot`; without a slot, the back.
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

    /// Puts an item into the slot of the front waiter and takes that out of the queue. Returns its waker.
    fn put(&mut self, front: usize, item: T) -> Option<Waker> {
        match core::mem::replace(&mut self.slots[front], Slot::Served(item)) {
            Slot::Joined { ahead, behind, waker, .. } => {
                self.unlink(ahead, behind);
                waker
            }
            Slot::Vacant { .. } | Slot::Served(_) => unreachable!("only joined waiters are in the queue"),
        }
    }

    /// Empties a slot that is out of the queue. Returns the item that it held.
    fn vacate(&mut self, slot: usize) -> Option<T> {
        match core::mem::replace(&mut self.slots[slot], Slot::Vacant { next: self.vacant.replace(slot) }) {
            Slot::Served(item) => Some(item),
            Slot::Joined { .. } | Slot::Vacant { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
