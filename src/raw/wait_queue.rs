//! The wait queue: the waiters in FIFO order.
//!
//! # Protocol
//!
//! A caller joins at the back and gets a [`Ticket`] with a number. [`WaitQueue::serve`] takes items from its supplier
//! and serves the front waiters with them. A served waiter is out of the queue and is woken. It takes its item at its
//! next poll. If the item is unusable, the waiter rejoins with its old number, ahead of all later ones. A waiter that
//! leaves gets the item that it was served with, to pass it on.
//!
//! ```text
//! joined --served--> served --polled--> out --rejoined--> joined
//!    \---left---> out   \---left, with the item---> out
//! ```
//!
//! A waiter may have a wish: then it does not accept each item. The supplier is given the wish of the waiter that it
//! supplies. If it has nothing for a waiter with a wish, it is asked for the next waiter.
//!
//! The waiters, and the items of those that were served, are kept by number in a [`Line`] each: most come at the back
//! and leave at the front.
//!
//! # Invariants
//!
//! - I1: an item goes to the first waiter, in the order of their numbers, that accepts it. One without a wish accepts
//!   each item.
//! - I2: [`Signals::waiters`] is the number of joined waiters, changed under the lock together with the list.
//! - I3: an item is owned by the supplier, by the line of the served, or by the waiter that took it: none is lost, none
//!   is there twice.
//! - I4: a served waiter is woken once; no other is, except by [`WaitQueue::wake_all`] and
//!   [`WaitQueue::wake_impatient`].
//! - I5: no waker is cloned, called or dropped, and no item is dropped, under the lock.
//!
//! # Orderings
//!
//! The lock guards all but the number of waiters. A caller joins, fences, then looks again for what it needs. A thread
//! that makes something available then loads the number of waiters, ordered after its change by a SeqCst fence or a
//! SeqCst read-modify-write (`Idle::push`). One of the two sees the other.

use core::task::Waker;

use super::line::Line;
use super::signals::Signals;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, fence, lock};

/// How many waiters are served before the lock is released to wake them. Small: mostly one is, and the array of their
/// wakers is on the stack.
const BATCH: usize = 4;

/// See the module's page. `T` is the type of the items, `W` that of the wishes.
#[derive(Debug)]
pub(crate) struct WaitQueue<T, W = ()> {
    signals: Arc<Signals>,
    /// How many of the waiters are impatient. Written under the lock.
    impatient: AtomicUsize,
    /// How many of the waiters have a wish. Written under the lock.
    wishing: AtomicUsize,
    queue: Mutex<Queue<T, W>>,
}

/// A waiter's ticket in a [`WaitQueue`]. It must leave the queue before it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket<W = ()> {
    number: u64,
    patient: bool,
    wish: Option<Arc<W>>,
    /// There were no waiters when it joined.
    is_first: bool,
    is_out: bool,
}

impl<W> Ticket<W> {
    pub(crate) fn wish(&self) -> Option<&Arc<W>> {
        self.wish.as_ref()
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }

    /// Whether there were no waiters when it joined.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }
}

#[derive(Debug)]
struct Queue<T, W> {
    joined: Line<Waiter<W>>,
    served: Line<T>,
    /// One a nanosecond would take 584 years to wrap.
    next_number: u64,
}

#[derive(Debug)]
struct Waiter<W> {
    patient: bool,
    /// Its ticket has it, too. So no wish is dropped under the lock.
    wish: Option<Arc<W>>,
    waker: Option<Waker>,
}

impl<T, W> Queue<T, W> {
    /// Takes out the first waiter behind the front one that `supply` has an item for, with the item.
    fn take_behind(&mut self, mut supply: impl FnMut(Option<&Arc<W>>) -> Option<T>) -> Option<(u64, Waiter<W>, T)> {
        let mut found = None;
        for (number, waiter) in self.joined.iter().skip(1) {
            found = supply(waiter.wish.as_ref()).map(|item| (number, item));
            // Where there is nothing for one without a wish, there is nothing for those behind it either.
            if found.is_some() || waiter.wish.is_none() {
                break;
            }
        }
        let (number, item) = found?;
        self.joined.remove(number).map(|waiter| (number, waiter, item))
    }
}

impl<T, W> WaitQueue<T, W> {
    /// An empty queue that counts its waiters in `signals`.
    pub(crate) fn new(signals: Arc<Signals>) -> Self {
        let queue = Queue { joined: Line::new(), served: Line::new(), next_number: 0 };
        let [impatient, wishing] = [(); 2].map(|()| AtomicUsize::new(0));
        Self { signals, impatient, wishing, queue: Mutex::new(queue) }
    }

    /// How many of the waiters are not patient.
    pub(crate) fn impatient(&self) -> usize {
        // Relaxed: a hint, and like `Signals::waiters` after a fence; the fence of `join` orders the count.
        self.impatient.load(Ordering::Relaxed)
    }

    /// How many of the waiters have a wish.
    pub(crate) fn wishing(&self) -> usize {
        // Relaxed: as `impatient`.
        self.wishing.load(Ordering::Relaxed)
    }

    /// The wishes of the first waiters that have one which `counts`, at most so many. It must not run user code.
    pub(crate) fn wishes(&self, most: usize, counts: impl Fn(&W) -> bool) -> Vec<Arc<W>> {
        if self.wishing() == 0 {
            return Vec::new();
        }
        let queue = lock(&self.queue);
        let wishes = queue.joined.iter().filter_map(|(_, waiter)| waiter.wish.as_ref());
        wishes.filter(|wish| counts(wish)).take(most).cloned().collect()
    }

    /// Counts a waiter that comes or goes. Only under the lock.
    fn count(&self, patient: bool, has_wish: bool, change: isize) {
        self.signals.count_waiters(change);
        for (counter, counts) in [(&self.impatient, !patient), (&self.wishing, has_wish)] {
            if counts {
                // Relaxed: the lock orders the writers; the fence of `join` orders the count before the look.
                let count = counter.load(Ordering::Relaxed).wrapping_add_signed(change);
                counter.store(count, Ordering::Relaxed);
            }
        }
    }

    /// Joins at the back, then fences: either the caller's next look finds an item, or the thread that puts the item
    /// sees the waiter, and wakes it by its `waker`. [`WaitQueue::wake_impatient`] wakes those that are not `patient`.
    /// One with a `wish` gets only what the supplier of [`WaitQueue::serve`] has for it.
    ///
    /// # Errors
    ///
    /// The number of waiters, if that is `max` or more.
    pub(crate) fn join(
        &self,
        max: usize,
        patient: bool,
        wish: Option<Arc<W>>,
        waker: Option<Waker>,
    ) -> Result<Ticket<W>, usize> {
        let (number, waiters) = {
            let mut queue = lock(&self.queue);
            let waiters = self.signals.waiters();
            if waiters >= max {
                return Err(waiters);
            }
            let number = queue.next_number;
            queue.next_number += 1;
            queue.joined.insert(number, Waiter { patient, wish: wish.clone(), waker });
            self.count(patient, wish.is_some(), 1);
            (number, waiters)
        };
        // SeqCst: the count, then the look; pairs with a push and the load of `Signals::waiters` after it.
        fence(Ordering::SeqCst);
        Ok(Ticket { number, patient, wish, is_first: waiters == 0, is_out: false })
    }

    /// Joins again with the same number, ahead of all that joined later (I1). Fences like [`join`](WaitQueue::join).
    pub(crate) fn rejoin(&self, ticket: &mut Ticket<W>) {
        debug_assert!(ticket.is_out, "a waiter joins once");
        ticket.is_out = false;
        {
            let mut queue = lock(&self.queue);
            let waiter = Waiter { patient: ticket.patient, wish: ticket.wish.clone(), waker: None };
            queue.joined.insert(ticket.number, waiter);
            self.count(ticket.patient, ticket.wish.is_some(), 1);
        }
        // SeqCst: as in `join`.
        fence(Ordering::SeqCst);
    }

    /// Takes the item that the waiter was served with, or stores its waker. After `Some` the waiter is out of the
    /// queue.
    pub(crate) fn poll(&self, ticket: &mut Ticket<W>, waker: &Waker) -> Option<T> {
        let mut new_waker = None;
        while !ticket.is_out {
            let mut queue = lock(&self.queue);
            let Some(Waiter { waker: left, .. }) = queue.joined.get_mut(ticket.number) else {
                ticket.is_out = true;
                return queue.served.remove(ticket.number);
            };
            if left.as_ref().is_some_and(|left| left.will_wake(waker)) {
                return None;
            }
            if new_waker.is_some() {
                core::mem::swap(left, &mut new_waker);
                // Releases the lock before the old waker drops (I5).
                drop(queue);
                return None;
            }
            // The new waker is not cloned under the lock (I5). A waiter served meanwhile needs none.
            drop(queue);
            new_waker = Some(waker.clone());
        }
        None
    }

    /// Leaves the queue. Returns the item that the waiter was served with, which must be passed on.
    pub(crate) fn leave(&self, ticket: &mut Ticket<W>) -> Option<T> {
        if ticket.is_out {
            return None;
        }
        ticket.is_out = true;
        let mut queue = lock(&self.queue);
        let Some(left) = queue.joined.remove(ticket.number) else { return queue.served.remove(ticket.number) };
        self.count(ticket.patient, ticket.wish.is_some(), -1);
        // Releases the lock before the waker drops (I5).
        drop(queue);
        drop(left);
        None
    }

    /// Serves waiters from the front while there are any and `supply` has an item (I1). Returns how many.
    ///
    /// `supply` is called under the lock with the wish of a waiter, which gets its item. It must not run user code.
    pub(crate) fn serve(&self, mut supply: impl FnMut(Option<&Arc<W>>) -> Option<T>) -> usize {
        let mut served = 0;
        loop {
            let mut wakers = [const { None }; BATCH];
            let mut batch = 0;
            {
                let mut queue = lock(&self.queue);
                while batch < BATCH {
                    let Some((_, front)) = queue.joined.front() else { break };
                    let taken = match supply(front.wish.as_ref()) {
                        Some(item) => queue.joined.pop_front().map(|(number, waiter)| (number, waiter, item)),
                        None if front.wish.is_none() => break,
                        None => queue.take_behind(&mut supply),
                    };
                    let Some((number, waiter, item)) = taken else { break };
                    queue.served.insert(number, item);
                    wakers[batch] = waiter.waker;
                    self.count(waiter.patient, waiter.wish.is_some(), -1);
                    batch += 1;
                }
            }
            // Outside the lock (I5).
            wake_each(wakers.into_iter().flatten());
            served += batch;
            if batch < BATCH {
                return served;
            }
        }
    }

    /// How many items that waiters were served with have not been taken, of those that `counts` tells. It must not run
    /// user code.
    pub(crate) fn count_served(&self, counts: impl Fn(&T) -> bool) -> usize {
        lock(&self.queue).served.values().filter(|item| counts(item)).count()
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
            let woken = queue.joined.values_mut().filter(|waiter| which(waiter.patient));
            wakers.extend(woken.filter_map(|waiter| waiter.waker.take()));
        }
        // Outside the lock (I5).
        wake_each(wakers.into_iter());
    }
}

/// Wakes them all. If one panics, the others are woken while it unwinds.
fn wake_each(wakers: impl Iterator<Item = Waker>) {
    struct Rest<I: Iterator<Item = Waker>>(I);
    impl<I: Iterator<Item = Waker>> Drop for Rest<I> {
        fn drop(&mut self) {
            self.0.by_ref().for_each(Waker::wake);
        }
    }
    Rest(wakers).0.by_ref().for_each(Waker::wake);
}

#[cfg(test)]
mod tests;
