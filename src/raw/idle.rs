//! The idle connections of one generation of a server, and the bit that closes it.
//!
//! A few shards hold the items, so that threads do not contend for one queue. A caller passes its thread's number,
//! which chooses its shard. Threads with different shards share no cache line. FIFO holds within a shard, except for
//! calls that overlap: a pop finds the slot empty, then one push fills the slot and a second one goes to the queue. The
//! pop now takes the item of the second.
//!
//! # Protocol
//!
//! A shard is a [`Slot`] in front of a queue. An item goes into the slot if both are empty, otherwise into the queue. A
//! pop tries the slot first. If callers may push more items than there is room for, the set is bounded: it refuses the
//! rest, and uses the queues alone, whose room is exactly its capacity. [`Idle::push`] puts an item into the caller's
//! shard, or into another one with room, then loads the closed bit; if the bit is set it pops until nothing is left.
//! [`Idle::close`] sets the bit, fences, and its caller pops until nothing is left. [`Idle::pop`] looks into its
//! caller's shard, then into all others.
//!
//! # Invariants
//!
//! - I1: once the bit is set, and the closer and all pushers have returned, no item is left in any shard. Either the
//!   pusher sees the bit and pops until nothing is left, or its push came before the closer's fence and the closer pops
//!   the item. (It is not enough that a pusher pops one item: that may be another pusher's, and its own, which came too
//!   late for the closer, would stay.)
//! - I2: an item comes out once: it is owned by a shard or by the caller that popped it.
//! - I3: no item is dropped in here: an item that may not stay is passed to `refuse`, where user code may run.
//! - I4: `push` refuses an item only if the set is bounded and the pusher found every shard full twice. Without a bound
//!   there are never more items than capacity, the pushed one included, so some shard has room at each moment, and a
//!   pusher that found all full lost races to other pushers.
//! - I5: `pop` finds an item that was there before it began and that no other pop takes: items do not move.
//! - I6: a thread that finds the closed bit set sees what the closer wrote before it: the list with the generation that
//!   takes over.
//!
//! # Orderings
//!
//! Push then load, and close then pop, are a store followed by a load of another word on both sides, which Acquire and
//! Release allow to miss both stores. So both sides are ordered by SeqCst: `close` by its fence; `push` by the SeqCst
//! CAS of the slot (see its page), or by a fence where the queue takes the item, and a SeqCst load. A caller may load
//! other words after `push` (the number of waiters), by SeqCst loads too, with the same guarantee.

use super::slot::Slot;
use crate::sync::{ArrayQueue, AtomicBool, Ordering, fence, spin_loop};

/// Each of several shards has room for at least this many items, so a server with few connections has few shards.
const MIN_ROOM: usize = 2;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    /// Their number is a power of two.
    shards: Box<[Shard<T>]>,
    closed: AtomicBool,
    /// Whether more items may be pushed than the queues have room for (I4).
    bounded: bool,
}

/// Alone on its cache lines, of which processors fetch two at a time.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<T> {
    slot: Slot<T>,
    queue: ArrayQueue<Box<T>>,
}

impl<T> Shard<T> {
    /// Puts an item in. `Ok(true)` if the slot took it, which needs no fence.
    #[inline(always)]
    fn push(&self, item: Box<T>, bounded: bool) -> Result<bool, Box<T>> {
        if bounded || !self.queue.is_empty() {
            return self.queue.push(item).map(|()| false);
        }
        match self.slot.put(item) {
            Ok(()) => Ok(true),
            Err(item) => self.queue.push(item).map(|()| false),
        }
    }

    #[inline(always)]
    fn pop(&self) -> Option<Box<T>> {
        self.slot.take().or_else(|| self.queue.pop())
    }

    fn is_empty(&self) -> bool {
        self.slot.is_empty() && self.queue.is_empty()
    }

    fn len(&self) -> usize {
        usize::from(!self.slot.is_empty()) + self.queue.len()
    }
}

impl<T> Idle<T> {
    /// An empty set with room for `capacity` items, at least one, in at most `shards` shards. `bounded`: more items
    /// than that may be pushed, and are refused.
    pub(crate) fn new(capacity: usize, shards: usize, bounded: bool) -> Self {
        let most = shards.min(capacity / MIN_ROOM).max(1);
        let count = 1 << most.ilog2();
        let room = |shard| (capacity / count + usize::from(shard < capacity % count)).max(1);
        // The cells of a queue are an allocation of their own, often smaller than a cache line. An allocation between
        // any two keeps them, as allocators go, from sharing one.
        let mut apart = Vec::new();
        let shard = |shard| {
            apart.push([0_u8; 192].to_vec());
            Shard { slot: Slot::new(), queue: ArrayQueue::new(room(shard)) }
        };
        Self { shards: (0..count).map(shard).collect(), closed: AtomicBool::new(false), bounded }
    }

    /// The own shard, then all others.
    fn shards_from(&self, thread: usize) -> impl Iterator<Item = &Shard<T>> {
        (0..self.shards.len()).map(move |step| self.shard_of(thread + step))
    }

    #[inline(always)]
    fn shard_of(&self, thread: usize) -> &Shard<T> {
        &self.shards[thread & (self.shards.len() - 1)]
    }

    /// Puts an item in. Passes to `refuse` the items that may not stay: all, if the generation is closed (I1); this
    /// one, if it is bounded and full (I4). SeqCst loads that follow are ordered after the push.
    #[inline(always)]
    pub(crate) fn push(&self, item: Box<T>, thread: usize, refuse: impl FnMut(Box<T>)) {
        match self.shard_of(thread).push(item, self.bounded) {
            Ok(true) => self.drain_if_closed(refuse),
            Ok(false) => self.fence_and_drain_if_closed(refuse),
            Err(item) => self.push_elsewhere(item, thread, refuse),
        }
    }

    #[cold]
    fn push_elsewhere(&self, mut item: Box<T>, thread: usize, mut refuse: impl FnMut(Box<T>)) {
        loop {
            for shard in self.shards_from(thread) {
                match shard.push(item, self.bounded) {
                    Ok(_) => return self.fence_and_drain_if_closed(refuse),
                    Err(back) => item = back,
                }
            }
            if self.bounded && self.shards.iter().all(|shard| shard.queue.is_full()) {
                refuse(item);
                return self.fence_and_drain_if_closed(refuse);
            }
            if self.is_closed() {
                // Only a closed set may be short of room, for the moment until its closer drains it.
                self.drain(&mut refuse);
            }
            spin_loop();
        }
    }

    fn fence_and_drain_if_closed(&self, refuse: impl FnMut(Box<T>)) {
        // SeqCst: the push, then the loads that follow; pairs with the fence of `close`, and with that of
        // `WaitQueue::join`.
        fence(Ordering::SeqCst);
        self.drain_if_closed(refuse);
    }

    #[inline(always)]
    fn drain_if_closed(&self, refuse: impl FnMut(Box<T>)) {
        // SeqCst: ordered after the push by the single order (see Orderings); pairs with the fence of `close`.
        if self.closed.load(Ordering::SeqCst) {
            self.drain(refuse);
        }
    }

    /// Pops until nothing is left, then refuses what it popped.
    #[cold]
    pub(crate) fn drain(&self, refuse: impl FnMut(Box<T>)) {
        // All are popped before the first is refused: if its drop panics, unwinding drops the rest.
        let mut items = Vec::new();
        while let Some(item) = self.pop(0) {
            items.push(item);
        }
        items.into_iter().for_each(refuse);
    }

    /// Takes an item out of the caller's shard only.
    #[inline(always)]
    pub(crate) fn pop_own(&self, thread: usize) -> Option<Box<T>> {
        self.shard_of(thread).pop()
    }

    /// Takes an item out, of the caller's shard before all others.
    pub(crate) fn pop(&self, thread: usize) -> Option<Box<T>> {
        // Checking for empty is cheaper than a failed pop.
        self.shards_from(thread).find_map(|shard| if shard.is_empty() { None } else { shard.pop() })
    }

    /// Takes an item out that `wanted` accepts, of those that are there now. Pushes the others that it met again, and
    /// passes to `refuse` what may not stay, as `push` does.
    pub(crate) fn pop_if(
        &self,
        thread: usize,
        wanted: impl Fn(&T) -> bool,
        mut refuse: impl FnMut(Box<T>),
    ) -> Option<Box<T>> {
        let mut others = Vec::new();
        let found = self.shards_from(thread).find_map(|shard| {
            for _ in 0..shard.len() {
                let item = shard.pop()?;
                if wanted(&item) {
                    return Some(item);
                }
                others.push(item);
            }
            None
        });
        others.into_iter().for_each(|item| self.push(item, thread, &mut refuse));
        found
    }

    /// Takes out each item that is there now, and puts it back if `keep` says so, in the same order. Passes the others,
    /// and items that may not stay, to `refuse`. If `keep` panics, the item that it was given is dropped.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&mut T) -> bool, refuse: impl FnMut(Box<T>)) {
        struct Ends<'a, T, F: FnMut(Box<T>)>(&'a Idle<T>, F);
        impl<T, F: FnMut(Box<T>)> Drop for Ends<'_, T, F> {
            fn drop(&mut self) {
                // Also after a panic: items were put back.
                self.0.fence_and_drain_if_closed(&mut self.1);
            }
        }
        let mut ends = Ends(self, refuse);
        let refuse = &mut ends.1;
        for (thread, shard) in self.shards.iter().enumerate() {
            if let Some(mut item) = shard.slot.take() {
                if !keep(&mut item) {
                    refuse(item);
                } else if let Err(item) = shard.slot.put(item) {
                    self.push_elsewhere(item, thread, &mut *refuse);
                }
            }
            for _ in 0..shard.queue.len() {
                let Some(mut item) = shard.queue.pop() else { break };
                if !keep(&mut item) {
                    refuse(item);
                } else if let Err(item) = shard.queue.push(item) {
                    self.push_elsewhere(item, thread, &mut *refuse);
                }
            }
        }
    }

    /// Sets the closed bit. The caller then drains.
    pub(crate) fn close(&self) {
        // Release: pairs with the loads of the bit, so that who finds it set sees what was published before (I6). The
        // fence below orders it before the pops.
        self.closed.store(true, Ordering::Release);
        // SeqCst: pairs with the SeqCst operations of `push`.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release of `close` (I6).
        self.closed.load(Ordering::Acquire)
    }

    /// The room for items: that of all queues.
    pub(crate) fn capacity(&self) -> usize {
        self.shards.iter().map(|shard| shard.queue.capacity()).sum()
    }

    /// Whether it has room for `capacity` items, and is bounded if it must be.
    pub(crate) fn fits(&self, capacity: usize, bounded: bool) -> bool {
        self.capacity() >= capacity && (self.bounded || !bounded)
    }

    /// How many more items have room. May be momentarily off under load.
    pub(crate) fn room(&self) -> usize {
        self.capacity().saturating_sub(self.len())
    }

    /// Whether it is empty. May be momentarily off under load.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(Shard::is_empty)
    }

    /// How many items are there. May be momentarily off under load.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::Idle;

    fn pop(idle: &Idle<u32>, thread: usize) -> Option<u32> {
        idle.pop(thread).map(|item| *item)
    }

    fn push(idle: &Idle<u32>, item: u32, thread: usize) -> Vec<u32> {
        let mut refused = Vec::new();
        idle.push(Box::new(item), thread, |item| refused.push(*item));
        refused
    }

    #[test]
    fn is_fifo_and_refuses_what_exceeds_its_bound() {
        let idle = Idle::new(2, 1, true);
        assert_eq!([push(&idle, 1, 0), push(&idle, 2, 7), push(&idle, 3, 0)], [vec![], vec![], vec![3]]);
        assert_eq!([pop(&idle, 3), pop(&idle, 0), pop(&idle, 0)], [Some(1), Some(2), None]);
    }

    #[test]
    fn stays_fifo_when_items_pass_from_the_queue_to_the_slot() {
        let idle = Idle::new(4, 1, false);
        (0..3).for_each(|item| assert!(push(&idle, item, 0).is_empty()));
        let mut popped = Vec::new();
        for item in 3..12 {
            popped.extend(pop(&idle, 0));
            push(&idle, item, 0);
            if item % 4 == 0 {
                popped.extend([pop(&idle, 0), pop(&idle, 0)].into_iter().flatten());
            }
        }
        popped.extend(std::iter::from_fn(|| pop(&idle, 0)));
        assert_eq!(popped, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn shards_share_the_capacity() {
        for (capacity, shards, count) in [(1, 8, 1), (3, 8, 1), (4, 8, 2), (10, 8, 4), (10, 2, 2), (33, 16, 16)] {
            let idle = Idle::<u32>::new(capacity, shards, false);
            assert_eq!((idle.shards.len(), idle.capacity()), (count, capacity), "{capacity} over {shards}");
        }
    }

    #[test]
    fn an_item_without_room_near_goes_elsewhere_and_is_found_from_everywhere() {
        for thread in 0..5 {
            let idle = Idle::new(8, 4, true);
            for item in 0..8 {
                assert!(push(&idle, item, thread).is_empty());
            }
            assert_eq!((push(&idle, 8, thread), idle.len(), idle.room()), (vec![8], 8, 0));
            assert_eq!([pop(&idle, thread), pop(&idle, thread)], [Some(0), Some(1)], "its own first");
            let mut rest: Vec<_> = std::iter::from_fn(|| pop(&idle, thread + 1)).collect();
            rest.sort_unstable();
            assert_eq!((rest, idle.is_empty()), (vec![2, 3, 4, 5, 6, 7], true));
        }
    }

    #[test]
    fn pop_if_finds_an_item_behind_others_and_in_another_shard() {
        for thread in 0..4 {
            let idle = Idle::new(8, 4, false);
            (0..8).for_each(|item| assert!(push(&idle, item, item as usize % 2).is_empty()));
            for wanted in [5, 6, 0] {
                let popped = idle.pop_if(thread, |&item| item == wanted, |item| panic!("{item} was refused"));
                assert_eq!(popped.as_deref(), Some(&wanted), "from {thread}");
            }
            assert_eq!(idle.pop_if(thread, |&item| item == 5, |item| panic!("{item} was refused")), None);
            assert_eq!(idle.len(), 5);
        }
    }

    #[test]
    fn retain_sees_each_item_once_and_keeps_the_order() {
        let idle = Idle::new(8, 4, false);
        for item in 0..8 {
            push(&idle, item, item as usize % 2);
        }
        let (mut seen, mut refused) = (Vec::new(), Vec::new());
        let keep = |&mut item: &mut u32| {
            seen.push(item);
            item != 2
        };
        idle.retain(keep, |item| refused.push(*item));
        seen.sort_unstable();
        assert_eq!((seen, refused), ((0..8).collect(), vec![2]));
        assert_eq!([pop(&idle, 1), pop(&idle, 1), pop(&idle, 0), pop(&idle, 0)], [Some(1), Some(3), Some(0), Some(4)]);
    }

    #[test]
    fn nothing_stays_where_a_look_closes_it_and_panics() {
        let idle = Idle::new(4, 1, false);
        (0..3).for_each(|item| assert!(push(&idle, item, 0).is_empty()));
        let mut refused = Vec::new();
        let panics = |item: &mut u32| {
            idle.close();
            *item == 0 || panic!("the look panics")
        };
        let retain = AssertUnwindSafe(|| idle.retain(panics, |item| refused.push(*item)));
        catch_unwind(retain).expect_err("it panics");
        assert_eq!((idle.len(), refused), (0, vec![0, 2]));
    }

    #[test]
    fn nothing_stays_once_it_is_closed() {
        let idle = Idle::new(4, 2, false);
        assert!(push(&idle, 1, 0).is_empty());
        assert!(push(&idle, 2, 1).is_empty());
        idle.close();
        assert_eq!(push(&idle, 3, 0), [1, 3, 2]);
        assert!(idle.is_closed() && idle.is_empty());
    }
}
