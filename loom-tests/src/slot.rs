//! Models of the slot, and of its handshake with a word that another thread stores.
//!
//! No box is freed before its execution ends, because loom does not model the reuse of addresses by an allocator. The
//! model of a reused address puts the same box twice.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicU32, Ordering as StdOrdering};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Signals, WaitQueue};
use crate::raw_slot::Slot;

/// An item whose drops are counted. Loom reports two unordered accesses to `written`.
struct Item {
    number: usize,
    written: UnsafeCell<usize>,
    drops: Drops,
}

/// Counts of drops. Loom runs one thread at a time, so the counters need no loom types.
type Drops = StdArc<[AtomicU32; 2]>;

impl Item {
    fn new(number: usize, drops: &Drops) -> Box<Self> {
        Box::new(Self { number, written: UnsafeCell::new(0), drops: StdArc::clone(drops) })
    }

    fn write(&self, value: usize) {
        self.written.with_mut(|written| {
            // SAFETY: the caller owns the item, and loom reports any concurrent access.
            unsafe { *written = value };
        });
    }

    fn read(&self) -> usize {
        self.written.with(|written| {
            // SAFETY: as in `write`.
            unsafe { *written }
        })
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        assert_eq!(self.drops[self.number].fetch_add(1, StdOrdering::Relaxed), 0, "freed twice");
    }
}

fn drops(drops: &Drops) -> [u32; 2] {
    [0, 1].map(|number: usize| drops[number].load(StdOrdering::Relaxed))
}

/// Spawns a thread that writes into an item and puts it. It returns the item if the slot is full.
fn puts(slot: &Arc<Slot<Item>>, item: Box<Item>) -> thread::JoinHandle<Option<Box<Item>>> {
    let slot = Arc::clone(slot);
    thread::spawn(move || {
        let number = item.number;
        item.write(number + 1);
        let back = slot.put(item).err();
        assert!(back.as_ref().is_none_or(|item| item.number == number && item.read() == number + 1));
        back
    })
}

fn takes(slot: &Slot<Item>) -> Option<Box<Item>> {
    let item = slot.take()?;
    assert_eq!(item.read(), item.number + 1, "the write before the put is visible");
    Some(item)
}

/// Property: of two items that are put concurrently, each has one owner: the slot, the thread that put it, or the
/// thread that took it (I1). The taker sees all writes before the put.
/// Threads: two put an item; the main thread takes twice.
/// Mutation that fails it: `put` stores the pointer without a CAS, or is not a Release; `take` is not an Acquire.
pub fn an_item_is_owned_once() {
    check(3, || {
        let counts = Drops::default();
        let slot = Arc::new(Slot::new());
        let putters = [0, 1].map(|number| puts(&slot, Item::new(number, &counts)));
        let taken = [takes(&slot), takes(&slot)];
        let back = putters.map(|putter| putter.join().unwrap());
        assert!(slot.is_empty() || taken.iter().chain(&back).flatten().count() == 1, "one item is in the slot");
        assert_eq!(drops(&counts), [0, 0], "an item was dropped");
        drop((taken, back));
        drop(slot);
        assert_eq!(drops(&counts), [1, 1], "an item was lost");
    });
}

/// Property: if two threads take the only item, one of them gets it (I1).
/// Threads: one puts; another one and the main thread take.
/// Mutation that fails it: `take` stores null without a CAS.
pub fn an_item_is_taken_once() {
    check(3, || {
        let counts = Drops::default();
        let slot = Arc::new(Slot::new());
        let puts = puts(&slot, Item::new(0, &counts));
        let taker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || takes(&slot))
        };
        let here = takes(&slot);
        assert!(puts.join().unwrap().is_none(), "the slot was empty");
        let there = taker.join().unwrap();
        assert!(!(here.is_some() && there.is_some()));
        assert_eq!(slot.is_empty(), here.is_some() || there.is_some());
        drop((here, there));
        drop(slot);
        assert_eq!(drops(&counts)[0], 1);
    });
}

/// Property: a thread that has loaded an address takes the item that the slot holds at its CAS, even if that address
/// left the slot and was put again in between (ABA, I2). It sees the writes made in between.
/// Threads: one takes the item and puts it again with another value; another one and the main thread take it.
/// Mutation that fails it: `take` is not an Acquire; `take` stores null without a CAS.
pub fn an_address_that_comes_back_is_a_new_item() {
    check(3, || {
        let counts = Drops::default();
        let slot = Arc::new(Slot::new());
        let item = Item::new(0, &counts);
        item.write(1);
        assert!(slot.put(item).is_ok());
        // The value is read as soon as the item is taken.
        let take = |slot: &Slot<Item>| slot.take().map(|item| (item.read(), item));
        let returns = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                let (value, item) = take(&slot)?;
                item.write(value + 1);
                slot.put(item).err().map(|item| (value + 1, item))
            })
        };
        let taker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || take(&slot))
        };
        let here = take(&slot);
        let items = [here, taker.join().unwrap(), returns.join().unwrap(), take(&slot)];
        let values: Vec<_> = items.iter().flatten().map(|(value, _)| *value).collect();
        assert!(values == [1] || values == [2], "{values:?}");
    });
}

/// Property: a waiter that joins during a put is served with the item or finds it, without a fence between the put and
/// the load of the number of waiters (the section Orderings in `slot.rs`).
/// Threads: two join and then check the slot; the main thread puts and then loads the number of waiters.
/// Mutation that fails it: the CAS of `put` is only Release; the load of `Signals::waiters` is Relaxed; no fence in
/// `WaitQueue::join`.
pub fn a_waiter_is_served_or_finds_the_item() {
    check(3, || {
        let counts = Drops::default();
        let slot = Arc::new(Slot::new());
        let signals = crate::sync::Arc::new(Signals::new());
        let queue = Arc::new(WaitQueue::<_, ()>::new(crate::sync::Arc::clone(&signals)));
        let joiners = [(); 2].map(|()| {
            let (slot, queue) = (Arc::clone(&slot), Arc::clone(&queue));
            thread::spawn(move || {
                let ticket = queue.join(2, true, None, None).expect("the queue has room");
                queue.serve(|_| slot.take());
                ticket
            })
        });
        assert!(slot.put(Item::new(0, &counts)).is_ok());
        if signals.waiters() > 0 {
            queue.serve(|_| slot.take());
        }
        let tickets = joiners.map(|joiner| joiner.join().unwrap());
        let served = tickets.map(|mut ticket| queue.leave(&mut ticket));
        assert_eq!(
            (served.iter().flatten().count(), slot.is_empty()),
            (1, true),
            "the item is in the slot although a caller waits"
        );
    });
}
