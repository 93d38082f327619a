//! The idle connections of a server, first in, first out, and the bit that says that nothing may stay there.
//!
//! # Protocol
//!
//! [`Idle::push`] puts an item in, fences, then looks at the closed bit; if that is set it pops until nothing is left.
//! [`Idle::close`] sets the bit, fences, and the closer then pops until nothing is left.
//!
//! # Invariants
//!
//! - I1: once the bit is set, and the closer and all pushers are through, nothing is left in the queue. Either the
//!   pusher sees the bit, and its own item is popped by itself, if not by another; or its push came before the closer's
//!   fence, and the closer pops it, if not another. (To pop one item for one pushed is not enough: it may be another's,
//!   which the closer would have popped, while one's own comes too late for the closer.)
//! - I2: an item comes out once: each is owned by the queue or by who popped it.
//! - I3: no item is dropped in here: what may not stay is handed out, to be dropped where user code may run.
//!
//! # Orderings
//!
//! Push then look, and close then pop, are a store followed by a load of another place on both sides: Acquire and
//! Release let both loads miss both stores. The SeqCst fences in `push` and `close` forbid it. The fence of `push`
//! serves whoever looks, after a push, for callers in the line, too.

use crate::sync::{ArrayQueue, AtomicBool, Ordering, fence};

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    queue: ArrayQueue<T>,
    closed: AtomicBool,
}

impl<T> Idle<T> {
    /// Room for `capacity` items, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { queue: ArrayQueue::new(capacity), closed: AtomicBool::new(false) }
    }

    /// Puts an item in. What may not stay, because the queue is full or closed (I1), goes to `refuse`. Fences after
    /// the item is in.
    pub(crate) fn push(&self, item: T, mut refuse: impl FnMut(T)) {
        let pushed = self.queue.push(item);
        // SeqCst: pairs with the fence of `close`, and with that of `Line::join`.
        fence(Ordering::SeqCst);
        if let Err(item) = pushed {
            refuse(item);
        }
        // Relaxed: the fence above orders it after the push.
        if self.closed.load(Ordering::Relaxed) {
            while let Some(item) = self.queue.pop() {
                refuse(item);
            }
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Lets nothing stay from now on. The caller then pops until nothing is left.
    pub(crate) fn close(&self) {
        // Relaxed: the fence below orders it before the pops.
        self.closed.store(true, Ordering::Relaxed);
        // SeqCst: pairs with the fence of `push`.
        fence(Ordering::SeqCst);
    }

    /// Lets items stay again.
    pub(crate) fn reopen(&self) {
        // Relaxed: a pusher that still sees the bit closes one connection more than it need.
        self.closed.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a hint; what decides is the look behind the fence in `push`.
        self.closed.load(Ordering::Relaxed)
    }

    /// How many items are there. Off under load.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Idle;

    fn push(idle: &Idle<u32>, item: u32) -> Vec<u32> {
        let mut refused = Vec::new();
        idle.push(item, |item| refused.push(item));
        refused
    }

    #[test]
    fn first_in_first_out_and_what_does_not_fit_comes_back() {
        let idle = Idle::new(2);
        assert_eq!([push(&idle, 1), push(&idle, 2), push(&idle, 3)], [vec![], vec![], vec![3]]);
        assert_eq!([idle.pop(), idle.pop(), idle.pop()], [Some(1), Some(2), None]);
    }

    #[test]
    fn nothing_stays_in_a_closed_queue() {
        let idle = Idle::new(2);
        assert_eq!(push(&idle, 1), []);
        idle.close();
        assert_eq!(push(&idle, 2), [1, 2]);
        idle.reopen();
        assert_eq!(push(&idle, 3), []);
        assert_eq!(idle.len(), 1);
    }
}
