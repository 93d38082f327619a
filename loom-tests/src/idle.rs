//! Models of the idle connections and their closed bit.
//!
//! No box is freed before its execution ends, because loom does not model the reuse of addresses by an allocator.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::raw::Idle;
use crate::{check, check_large};

type Items = Vec<Box<u32>>;

fn drain(idle: &Idle<u32>, shard: usize) -> Items {
    std::iter::from_fn(|| idle.pop(shard)).collect()
}

/// Pushes an item. Returns the items that the push refused.
fn push(idle: &Idle<u32>, item: Box<u32>, shard: usize) -> Items {
    let mut refused = Vec::new();
    idle.push(item, shard, |item| refused.push(item));
    refused
}

/// Returns a set whose shards have room for two items each behind the slot, and hold the given items.
fn sharded<const N: usize>(shards: [&[u32]; N]) -> Arc<Idle<u32>> {
    let idle = Arc::new(Idle::new(2 * N, N, false));
    for (shard, items) in shards.iter().enumerate() {
        items.iter().for_each(|&item| assert!(push(&idle, Box::new(item), shard).is_empty()));
    }
    idle
}

fn pushes(idle: &Arc<Idle<u32>>, item: u32, shard: usize) -> thread::JoinHandle<Items> {
    let idle = Arc::clone(idle);
    thread::spawn(move || push(&idle, Box::new(item), shard))
}

/// Spawns a thread that retains the items for which `keep` is true. It returns the refused items.
fn retains(idle: &Arc<Idle<u32>>, keep: fn(&mut u32) -> bool) -> thread::JoinHandle<Items> {
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

/// Closes and drains the set, and joins the other threads, which return the items that they closed or kept. Asserts
/// that each of the items `1..=items` occurs exactly once.
fn close<const N: usize>(idle: &Idle<u32>, others: [thread::JoinHandle<Items>; N], items: u32) {
    idle.close();
    let mut closed = drain(idle, 0);
    closed.extend(others.into_iter().flat_map(|other| other.join().unwrap()));
    assert_eq!(idle.len(), 0, "an item is left in the set");
    assert_eq!(sorted(&closed), (1..=items).collect::<Vec<_>>());
}

/// Property: a pusher that finds the closed bit sees what was published before the close (I6), by a push as by a look.
/// Threads: one pushes and looks; the main thread publishes, closes and drains.
/// Mutation that fails it: the store or the look of the closed bit is Relaxed.
pub fn the_closed_bit_shows_what_was_published() {
    check(3, || {
        let (idle, published) = (sharded([&[]]), Arc::new(AtomicBool::new(false)));
        let pusher = {
            let (idle, published) = (Arc::clone(&idle), Arc::clone(&published));
            thread::spawn(move || {
                let looked = idle.is_closed().then(|| published.load(Ordering::Relaxed));
                let refused = push(&idle, Box::new(1), 0);
                let pushed = (!refused.is_empty()).then(|| published.load(Ordering::Relaxed));
                assert!(looked != Some(false) && pushed != Some(false), "an older list: {looked:?}, {pushed:?}");
                refused
            })
        };
        published.store(true, Ordering::Relaxed);
        close(&idle, [pusher], 1);
    });
}

/// Property: an item whose push races with the close is closed exactly once, by the pusher or the closer, and the set
/// keeps none (I1, I2). The first push uses the slot, the second one the queue.
/// Threads: two push; the main thread closes and drains.
/// Mutation that fails it: the CAS of `Slot::put` is only Release; the load of the closed bit is Relaxed; no fence
/// after a push into the queue; no fence in `close`; a pusher that sees the bit pops only one item.
pub fn nothing_stays_behind_the_closed_bit() {
    check_large(3, || {
        let idle = sharded([&[]]);
        let pushers = [pushes(&idle, 1, 0), pushes(&idle, 2, 0)];
        close(&idle, pushers, 2);
    });
}

/// Property: the same for a push into the queue behind a full slot (I1, I2).
/// Threads: one pushes; the main thread closes and drains.
/// Mutation that fails it: no fence after a push into the queue, or none in `close`.
pub fn nothing_stays_in_the_queue_behind_the_closed_bit() {
    check(3, || {
        let idle = sharded([&[1]]);
        let pusher = pushes(&idle, 2, 0);
        close(&idle, [pusher], 2);
    });
}

/// Property: the same with two shards: the closer also finds an item pushed near the other shard (I1, I2).
/// Threads: two push near different shards; the main thread closes and drains.
/// Mutation that fails it: the CAS of `Slot::put` is only Release; no fence in `close`; `pop` searches only the
/// caller's shard.
pub fn nothing_stays_behind_the_closed_bit_in_any_shard() {
    check_large(3, || {
        let idle = sharded([&[], &[]]);
        let pushers = [pushes(&idle, 1, 0), pushes(&idle, 2, 1)];
        close(&idle, pushers, 2);
    });
}

/// Property: the same for an item that goes to another shard because the caller's is full (I1, I2).
/// Threads: one pushes near a full shard; the main thread closes and drains.
/// Mutation that fails it: no fence in `push_elsewhere`, or none in `close`; a pusher that sees the bit pops only from
/// the caller's shard.
pub fn nothing_stays_behind_the_closed_bit_elsewhere() {
    check_large(2, || {
        let idle = sharded([&[1, 2, 3], &[4]]);
        let pusher = pushes(&idle, 5, 0);
        close(&idle, [pusher], 5);
    });
}

/// Property: the same for the items that `retain` takes out and puts back (I1, I2).
/// Threads: one retains the items of a slot and its queue; the main thread closes and drains.
/// Mutation that fails it: `retain` does not load the closed bit at its end, or loads it without a fence before.
pub fn nothing_stays_behind_the_closed_bit_by_retain() {
    check(3, || {
        let idle = sharded([&[1, 2]]);
        let retains = retains(&idle, |_| true);
        close(&idle, [retains], 2);
    });
}

/// Property: `retain` loses no item to a concurrent push or pop, and refuses the items that it is told to remove (I2).
/// Threads: one retains all but one item, one pops and pushes, the main thread pops.
/// Mutation that fails it: `retain` drops an item if another item has taken its place.
pub fn retain_loses_no_item() {
    check_large(2, || {
        let idle = sharded([&[1, 2]]);
        let retains = retains(&idle, |&mut item| item != 2);
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

/// Property: each item is reused or closed exactly once under concurrent pops, pushes and a close (I2).
/// Threads: one pops and pushes back, one pops and keeps, the main thread closes and drains.
/// Mutation that fails it: the CAS of `Slot::put` is only Release; the load of the closed bit is Relaxed; no fence in
/// `close`.
pub fn each_item_is_reused_or_closed_once() {
    check(2, || {
        let idle = sharded([&[1, 2]]);
        let returns = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_own(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        let keeps = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || Vec::from_iter(idle.pop_own(0)))
        };
        close(&idle, [returns, keeps], 2);
    });
}

/// Property: with no more items than the capacity, no push refuses an item, even if the caller's shard is full and
/// other items move (I2, I4).
/// Threads: one pushes near a full shard; the main thread moves two items from that shard to the other, one from its
/// slot and one from its queue.
/// Mutation that fails it: `push` refuses an item if the caller's shard is full.
pub fn nothing_is_refused_while_there_is_room() {
    check(3, || {
        let idle = sharded([&[1, 2, 3], &[]]);
        let pusher = pushes(&idle, 4, 0);
        for _ in 0..2 {
            let item = idle.pop_own(0).expect("no other thread takes an item");
            assert!(push(&idle, item, 1).is_empty());
        }
        assert!(pusher.join().unwrap().is_empty());
        assert_eq!(sorted(&drain(&idle, 0)), [1, 2, 3, 4]);
    });
}

/// Property: a bounded set refuses an item only if it is full, and holds no more than its capacity (I4).
/// Threads: two push near a full shard; the other shard has room for one item.
/// Mutation that fails it: `push` refuses an item if the caller's shard is full; a bounded set uses the slots.
pub fn a_bound_refuses_what_exceeds_it() {
    check(3, || {
        let idle = Arc::new(Idle::new(4, 2, true));
        for (item, shard) in [(1, 0), (2, 0), (3, 1)] {
            assert!(push(&idle, Box::new(item), shard).is_empty());
        }
        let pushers = [pushes(&idle, 4, 0), pushes(&idle, 5, 0)];
        let mut items: Items = pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()).collect();
        assert_eq!((items.len(), idle.len()), (1, 4), "refused items, idle items");
        items.extend(drain(&idle, 0));
        assert_eq!(sorted(&items), [1, 2, 3, 4, 5]);
    });
}

/// Property: a pop finds an item in any shard that was there before the pop began and that no other pop takes (I5).
/// Threads: two pop near one shard, while two items are in the other shard; a third thread moves an item within the
/// first shard.
/// Mutation that fails it: `pop` searches only the caller's shard.
pub fn an_item_elsewhere_is_found() {
    check(3, || {
        let idle = sharded([&[1], &[2, 3]]);
        let pops = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop(0).expect("an item that no other pop takes"))
        };
        let moves = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_own(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        let here = idle.pop(0).expect("an item that no other pop takes");
        let mut seen = vec![here, pops.join().unwrap()];
        assert!(moves.join().unwrap().is_empty());
        seen.extend(drain(&idle, 0));
        assert_eq!(sorted(&seen), [1, 2, 3]);
    });
}
