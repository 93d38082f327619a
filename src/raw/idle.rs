//! The idle connections of a server, and the bit that says that nothing may stay there.
//!
//! They stand in a few queues, the stripes: one queue is a pair of cache lines that all cores would fight for. Whoever
//! pushes or pops says near which stripe it is; threads that are near different ones do not meet. First in, first out
//! holds within a stripe.
//!
//! # Protocol
//!
//! [`Idle::push`] puts an item into the stripe that is near, or into any other that has room, fences, then looks at the
//! closed bit; if that is set it pops until nothing is left. [`Idle::close`] sets the bit, fences, and the closer then
//! pops until nothing is left. [`Idle::pop`] looks into the stripe that is near, then into all others.
//!
//! # Invariants
//!
//! - I1: once the bit is set, and the closer and all pushers are through, nothing is left in any stripe. Either the
//!   pusher sees the bit, and its own item is popped by itself, if not by another; or its push came before the closer's
//!   fence, and the closer pops it, if not another. (To pop one item for one pushed is not enough: it may be another's,
//!   which the closer would have popped, while one's own comes too late for the closer.)
//! - I2: an item comes out once: each is owned by a stripe or by who popped it.
//! - I3: no item is dropped in here: what may not stay is handed out, to be dropped where user code may run.
//! - I4: an item is refused for want of room only if the caller says that there may be none, and then only if every
//!   stripe was found full twice. While there are no more items than slots, the pusher's own included, one has room
//!   at each moment, so that a pusher that found them all full lost races, each of which was won by another.
//! - I5: `pop` finds an item that was there before it began and is not popped by another: items do not move.
//!
//! # Orderings
//!
//! Push then look, and close then pop, are a store followed by a load of another place on both sides: Acquire and
//! Release let both loads miss both stores. The SeqCst fences in `push` and `close` forbid it. The fence of `push`
//! serves whoever looks, after a push, for callers in the line, too.

use crate::sync::{ArrayQueue, AtomicBool, Ordering, fence};

/// A stripe has this many slots at least. A server that may have few idle connections has few stripes.
const MIN_SLOTS: usize = 2;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    /// A power of two of them.
    stripes: Box<[ArrayQueue<T>]>,
    closed: AtomicBool,
}

impl<T> Idle<T> {
    /// Room for `capacity` items, at least one, in at most `stripes` stripes.
    pub(crate) fn new(capacity: usize, stripes: usize) -> Self {
        let most = stripes.min(capacity / MIN_SLOTS).max(1);
        let count = 1 << most.ilog2();
        let slots = |stripe| capacity / count + usize::from(stripe < capacity % count);
        // The slots of a queue are an allocation of their own, often smaller than a cache line. Something between any
        // two keeps them, as allocators go, from sharing one.
        let mut apart = Vec::new();
        let stripe = |stripe| {
            apart.push([0_u8; 192].to_vec());
            ArrayQueue::new(slots(stripe))
        };
        let stripes = (0..count).map(stripe).collect();
        Self { stripes, closed: AtomicBool::new(false) }
    }

    /// The stripe near `near`, then all the others.
    fn from(&self, near: usize) -> impl Iterator<Item = &ArrayQueue<T>> {
        (0..self.stripes.len()).map(move |step| self.nearest(near + step))
    }

    #[inline]
    fn nearest(&self, near: usize) -> &ArrayQueue<T> {
        &self.stripes[near & (self.stripes.len() - 1)]
    }

    /// Puts an item in. What may not stay goes to `refuse`: all that is there, if it is closed (I1); the item, if there
    /// is no room, which is believed only if `may_be_full` says so (I4). Fences after the item is in.
    #[inline(always)]
    pub(crate) fn push(&self, item: T, near: usize, may_be_full: impl Fn() -> bool, refuse: impl FnMut(T)) {
        match self.nearest(near).push(item) {
            Ok(()) => self.heed_the_bit(refuse),
            Err(item) => self.push_elsewhere(item, near, may_be_full, refuse),
        }
    }

    #[cold]
    fn push_elsewhere(&self, mut item: T, near: usize, may_be_full: impl Fn() -> bool, mut refuse: impl FnMut(T)) {
        loop {
            for stripe in self.from(near) {
                match stripe.push(item) {
                    Ok(()) => return self.heed_the_bit(refuse),
                    Err(back) => item = back,
                }
            }
            if may_be_full() && self.stripes.iter().all(ArrayQueue::is_full) {
                refuse(item);
                return self.heed_the_bit(refuse);
            }
        }
    }

    /// After a push.
    #[inline(always)]
    fn heed_the_bit(&self, refuse: impl FnMut(T)) {
        // SeqCst: pairs with the fence of `close`, and with that of `Line::join`.
        fence(Ordering::SeqCst);
        // Relaxed: the fence above orders it after the push.
        if self.closed.load(Ordering::Relaxed) {
            self.drain(refuse);
        }
    }

    #[cold]
    fn drain(&self, refuse: impl FnMut(T)) {
        // All are out before the first is refused: if its drop panics, the others are dropped all the same.
        let mut items = Vec::new();
        while let Some(item) = self.pop(0) {
            items.push(item);
        }
        items.into_iter().for_each(refuse);
    }

    /// Takes an item out of the stripe that is near only.
    #[inline]
    pub(crate) fn pop_near(&self, near: usize) -> Option<T> {
        self.nearest(near).pop()
    }

    /// Takes an item out, of the stripe that is near before all others.
    pub(crate) fn pop(&self, near: usize) -> Option<T> {
        // To look costs less than to try, most of all where nothing is.
        self.from(near).find_map(|stripe| if stripe.is_empty() { None } else { stripe.pop() })
    }

    /// Takes out what is there now, one after the other, and tells `visit` from which stripe each comes. To put them
    /// back there keeps their order.
    pub(crate) fn visit(&self, mut visit: impl FnMut(T, usize)) {
        for (near, stripe) in self.stripes.iter().enumerate() {
            for _ in 0..stripe.len() {
                let Some(item) = stripe.pop() else { break };
                visit(item, near);
            }
        }
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
        // Relaxed: a pusher that still sees the bit closes more connections than it need.
        self.closed.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a hint; what decides is the look behind the fence in `push`.
        self.closed.load(Ordering::Relaxed)
    }

    /// How many stripes there are, a power of two.
    pub(crate) fn stripes(&self) -> usize {
        self.stripes.len()
    }

    /// How many items there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.stripes.iter().map(ArrayQueue::capacity).sum()
    }

    /// Whether no item is there. Off under load.
    pub(crate) fn is_empty(&self) -> bool {
        self.stripes.iter().all(ArrayQueue::is_empty)
    }

    /// How many items are there. Off under load.
    pub(crate) fn len(&self) -> usize {
        self.stripes.iter().map(ArrayQueue::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::Idle;

    fn push(idle: &Idle<u32>, item: u32, near: usize) -> Vec<u32> {
        let mut refused = Vec::new();
        idle.push(item, near, || true, |item| refused.push(item));
        refused
    }

    #[test]
    fn first_in_first_out_and_what_does_not_fit_comes_back() {
        let idle = Idle::new(2, 1);
        assert_eq!([push(&idle, 1, 0), push(&idle, 2, 7), push(&idle, 3, 0)], [vec![], vec![], vec![3]]);
        assert_eq!([idle.pop(3), idle.pop(0), idle.pop(0)], [Some(1), Some(2), None]);
    }

    #[test]
    fn the_slots_are_shared_out_and_there_are_no_more() {
        for (capacity, stripes, count) in [(1, 8, 1), (3, 8, 1), (4, 8, 2), (10, 8, 4), (10, 2, 2), (33, 16, 16)] {
            let idle = Idle::<u32>::new(capacity, stripes);
            assert_eq!((idle.stripes(), idle.capacity()), (count, capacity), "{capacity} over {stripes}");
        }
    }

    #[test]
    fn what_finds_no_room_near_goes_elsewhere_and_is_found_from_everywhere() {
        for near in 0..5 {
            let idle = Idle::new(8, 4);
            for item in 0..8 {
                assert_eq!(push(&idle, item, near), []);
            }
            assert_eq!((push(&idle, 8, near), idle.len()), (vec![8], 8));
            assert_eq!([idle.pop(near), idle.pop(near)], [Some(0), Some(1)], "its own first");
            let mut rest: Vec<_> = std::iter::from_fn(|| idle.pop(near + 1)).collect();
            rest.sort_unstable();
            assert_eq!((rest, idle.is_empty()), (vec![2, 3, 4, 5, 6, 7], true));
        }
    }

    #[test]
    fn an_item_is_refused_only_if_all_is_full_and_may_be() {
        let idle = Idle::new(4, 2);
        (0..4).for_each(|item| assert_eq!(push(&idle, item, 0), []));
        let asked = Cell::new(0);
        let cannot_be = || {
            asked.set(asked.get() + 1);
            assert!(asked.get() == 1 || idle.pop(1).is_some());
            false
        };
        idle.push(4, 0, cannot_be, |_| panic!("there is room in a moment"));
        idle.push(5, 0, || idle.pop(0).is_some(), |_| panic!("there is room by now"));
        assert_eq!((asked.get(), idle.len(), push(&idle, 6, 0)), (2, 4, vec![6]));
    }

    #[test]
    fn a_visit_sees_each_once_and_keeps_the_order() {
        let idle = Idle::new(8, 4);
        for item in 0..5 {
            push(&idle, item, item as usize % 2);
        }
        let mut seen = Vec::new();
        idle.visit(|item, near| {
            seen.push(item);
            assert_eq!(push(&idle, item, near), []);
        });
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!([idle.pop(1), idle.pop(1), idle.pop(0), idle.pop(0)], [Some(1), Some(3), Some(0), Some(2)]);
    }

    #[test]
    fn nothing_stays_in_a_closed_queue() {
        let idle = Idle::new(4, 2);
        assert_eq!(push(&idle, 1, 0), []);
        assert_eq!(push(&idle, 2, 1), []);
        idle.close();
        assert_eq!(push(&idle, 3, 0), [1, 3, 2]);
        idle.reopen();
        assert_eq!(push(&idle, 4, 0), []);
        assert_eq!((idle.len(), idle.is_empty()), (1, false));
    }
}
