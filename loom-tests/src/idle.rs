//! The idle connections and their closed bit.
//!
//! No box is freed before its execution ends: what an allocator does with its address is nothing that loom explores.

use loom::sync::Arc;
use loom::thread;

use crate::raw::Idle;
use crate::{check, check_large};

type Items = Vec<Box<u32>>;

fn drain(idle: &Idle<u32>, near: usize) -> Items {
    std::iter::from_fn(|| idle.pop(near)).collect()
}

/// Returns the items that may not stay.
fn push(idle: &Idle<u32>, item: Box<u32>, near: usize) -> Items {
    let mut refused = Vec::new();
    idle.push(item, near, |item| refused.push(item));
    refused
}

/// Shards with room for two items each behind the slot, and the items in them.
fn sharded<const N: usize>(shards: [&[u32]; N]) -> Arc<Idle<u32>> {
    let idle = Arc::new(Idle::new(2 * N, N, false));
    for (near, items) in shards.iter().enumerate() {
        items.iter().for_each(|&item| assert!(push(&idle, Box::new(item), near).is_empty()));
    }
    idle
}

fn pushes(idle: &Arc<Idle<u32>>, item: u32, near: usize) -> thread::JoinHandle<Items> {
    let idle = Arc::clone(idle);
    thread::spawn(move || push(&idle, Box::new(item), near))
}

/// Retains what `keep` says, and returns the refused items.
fn retains(idle: &Arc<Idle<u32>>, keep: fn(&u32) -> bool) -> thread::JoinHandle<Items> {
    let idle = Arc::clone(idle);
    thread::spawn(move || {
        let mut refused = Vec::new();
        idle.retain(keep, |item| refused.push(item));
        refused
    })
}

fn sorted(items: &Items) -> Vec<u32> {
    let mut items: Vec<_> = items.iter().map(|item| **item).collect();
    items.sort_unstable();
    items
}

/// Closes, drains, and waits for the others, which return the items that they closed or kept. Each of the items from 1
/// to `items` must be among these, once.
fn close<const N: usize>(idle: &Idle<u32>, others: [thread::JoinHandle<Items>; N], items: u32) {
    idle.close();
    let mut closed = drain(idle, 0);
    closed.extend(others.into_iter().flat_map(|other| other.join().unwrap()));
    assert_eq!(idle.len(), 0, "an item was left behind");
    assert_eq!(sorted(&closed), (1..=items).collect::<Vec<_>>());
}

/// Property: of a push that races with the close, the item is closed by one of the two, exactly once, and none stays
/// (I1, I2). One of the pushes goes into the slot, the other one, if it comes second, into the queue.
/// Threads: two push, the main one closes and drains.
/// Mutation that fails it: the CAS of `Slot::put` only releases; the load of the closed bit is Relaxed; no fence behind
/// a push into the queue; none in `close`; a pusher that sees the bit pops only one item.
pub fn nothing_stays_behind_the_closed_bit() {
    check_large(3, || {
        let idle = sharded([&[]]);
        let pushers = [pushes(&idle, 1, 0), pushes(&idle, 2, 0)];
        close(&idle, pushers, 2);
    });
}

/// Property: the same of a push into the queue behind a full slot (I1, I2).
/// Threads: one pushes, the main one closes and drains.
/// Mutation that fails it: no fence behind a push into the queue, or none in `close`.
pub fn nothing_stays_in_the_queue_behind_the_closed_bit() {
    check(3, || {
        let idle = sharded([&[1]]);
        let pusher = pushes(&idle, 2, 0);
        close(&idle, [pusher], 2);
    });
}

/// Property: the same over two shards: the closer finds what is pushed near any (I1, I2).
/// Threads: two push near different shards, the main one closes and drains.
/// Mutation that fails it: the CAS of `Slot::put` only releases; no fence in `close`; `pop` looks only into the near
/// shard.
pub fn nothing_stays_behind_the_closed_bit_in_any_shard() {
    check_large(3, || {
        let idle = sharded([&[], &[]]);
        let pushers = [pushes(&idle, 1, 0), pushes(&idle, 2, 1)];
        close(&idle, pushers, 2);
    });
}

/// Property: the same of an item that finds its shard full and goes elsewhere (I1, I2).
/// Threads: one pushes near a full shard, the main one closes and drains.
/// Mutation that fails it: no fence in `push_elsewhere`, or none in `close`; a pusher that sees the bit pops only from
/// the near shard.
pub fn nothing_stays_behind_the_closed_bit_elsewhere() {
    check_large(2, || {
        let idle = sharded([&[1, 2, 3], &[4]]);
        let pusher = pushes(&idle, 5, 0);
        close(&idle, [pusher], 5);
    });
}

/// Property: the same of the items that `retain` takes out and puts back (I1, I2).
/// Threads: one retains the items of a slot and its queue, the main one closes and drains.
/// Mutation that fails it: `retain` does not look at the closed bit at its end, or without a fence.
pub fn nothing_stays_behind_the_closed_bit_by_retain() {
    check(3, || {
        let idle = sharded([&[1, 2]]);
        let retains = retains(&idle, |_| true);
        close(&idle, [retains], 2);
    });
}

/// Property: `retain` loses no item to a push or a pop at the same time, and refuses those that it shall (I2).
/// Threads: one retains all but one item, one pops and pushes, the main one pops.
/// Mutation that fails it: `retain` drops an item whose place was taken.
pub fn retain_loses_no_item() {
    check_large(2, || {
        let idle = sharded([&[1, 2]]);
        let retains = retains(&idle, |&item| item != 2);
        let moves = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        assert!(push(&idle, Box::new(3), 0).is_empty());
        let mut items = retains.join().unwrap();
        assert!(items.iter().all(|item| **item == 2));
        assert!(moves.join().unwrap().is_empty());
        items.extend(drain(&idle, 0));
        assert_eq!(sorted(&items), [1, 2, 3]);
    });
}

/// Property: each item is reused or closed, exactly once, whatever is popped, pushed and closed (I2).
/// Threads: one pops and pushes back, one pops and keeps, the main one closes and drains.
/// Mutation that fails it: the CAS of `Slot::put` only releases; the load of the closed bit is Relaxed; no fence in
/// `close`.
pub fn each_item_is_reused_or_closed_once() {
    check(2, || {
        let idle = sharded([&[1, 2]]);
        let returns = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_near(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        let keeps = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || Vec::from_iter(idle.pop_near(0)))
        };
        close(&idle, [returns, keeps], 2);
    });
}

/// Property: with no more items than the capacity no push refuses, though its own shard is full and an item moves (I2,
/// I4).
/// Threads: one pushes near a full shard, the main one moves two items from there to the other shard, of its slot and
/// of its queue.
/// Mutation that fails it: `push` refuses an item that the near shard has no room for.
pub fn nothing_is_refused_while_there_is_room() {
    check(3, || {
        let idle = sharded([&[1, 2, 3], &[]]);
        let pusher = pushes(&idle, 4, 0);
        for _ in 0..2 {
            let item = idle.pop_near(0).expect("no other thread takes one");
            assert!(push(&idle, item, 1).is_empty());
        }
        assert!(pusher.join().unwrap().is_empty());
        assert_eq!(sorted(&drain(&idle, 0)), [1, 2, 3, 4]);
    });
}

/// Property: a bounded set refuses an item only if it is full, and keeps no more than its capacity (I4).
/// Threads: two push near a full shard, with room for one of the items in the other shard.
/// Mutation that fails it: `push` refuses an item that the near shard has no room for; a bounded set uses the slots.
pub fn a_bound_refuses_what_exceeds_it() {
    check(3, || {
        let idle = Arc::new(Idle::new(4, 2, true));
        for (item, near) in [(1, 0), (2, 0), (3, 1)] {
            assert!(push(&idle, Box::new(item), near).is_empty());
        }
        let pushers = [pushes(&idle, 4, 0), pushes(&idle, 5, 0)];
        let mut items: Items = pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()).collect();
        assert_eq!((items.len(), idle.len()), (1, 4), "items that are refused, and that are idle");
        items.extend(drain(&idle, 0));
        assert_eq!(sorted(&items), [1, 2, 3, 4, 5]);
    });
}

/// Property: a pop finds an item that was there before it began and that no other pop takes, in any shard (I5).
/// Threads: two pop near one shard, the items that suffice for both are in the other one; a third moves an item near
/// the first.
/// Mutation that fails it: `pop` looks only into the near shard.
pub fn an_item_elsewhere_is_found() {
    check(3, || {
        let idle = sharded([&[1], &[2, 3]]);
        let pops = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop(0).expect("an item that no other pop takes"))
        };
        let moves = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_near(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        let here = idle.pop(0).expect("an item that no other pop takes");
        let mut seen = vec![here, pops.join().unwrap()];
        assert!(moves.join().unwrap().is_empty());
        seen.extend(drain(&idle, 0));
        assert_eq!(sorted(&seen), [1, 2, 3]);
    });
}
