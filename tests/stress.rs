//! The protocols of `src/raw` under real threads and the real `ArrayQueue`, which loom replaces by a stand-in.
//!
//! Each round has its own idle set, some also their own wait queue, and all threads start on it at the same time. The
//! tests reliably detect three mutations: a push that does not load the closed bit, a push that refuses an item despite
//! free room, and a pop that searches only its own shard. Narrower races show up only in some runs. On x86 a missing
//! fence goes undetected; the loom models in `loom-tests/` cover it.

#![allow(dead_code, unused_imports, reason = "the files of src/raw are compiled whole, and only parts are used")]

#[path = "../src/raw/mod.rs"]
mod raw;
#[path = "../src/sync.rs"]
mod sync;

use std::sync::Barrier;
use std::task::Waker;
use std::thread;

use crate::raw::{Idle, Signals, WaitQueue};
use crate::sync::Arc;

const ROUNDS: usize = 20_000;

type Part<'a, S, T> = &'a (dyn Fn(&S) -> T + Sync);

/// Runs each of `parts` on its own thread, in step, once a round. Returns the results of each round.
fn race<'a, S: Sync, T: Send, const N: usize>(rounds: &'a [S], parts: [Part<'a, S, T>; N]) -> Vec<[T; N]> {
    let start = Barrier::new(N);
    let mut results = thread::scope(|scope| {
        let run = |part: Part<'a, S, T>| {
            let start = &start;
            scope.spawn(move || {
                let mut results = Vec::with_capacity(rounds.len());
                for round in rounds {
                    start.wait();
                    results.push(part(round));
                }
                results
            })
        };
        parts.map(run).map(|thread| thread.join().expect("no part panics").into_iter())
    });
    let round = |_: &S| std::array::from_fn(|part| results[part].next().expect("a result for each round"));
    rounds.iter().map(round).collect()
}

/// Pushes an item. Returns the items that the push refused.
fn push(idle: &Idle<u32>, item: u32, shard: usize) -> Vec<u32> {
    let mut refused = Vec::new();
    idle.push(Box::new(item), shard, |item| refused.push(*item));
    refused
}

/// Pops an item near one shard and pushes it near another. Returns the items that the push refused.
fn carry(idle: &Idle<u32>, from: usize, to: usize) -> Vec<u32> {
    idle.pop(from).map_or(Vec::new(), |item| push(idle, *item, to))
}

fn close(idle: &Idle<u32>) -> Vec<u32> {
    idle.close();
    drain(idle)
}

fn drain(idle: &Idle<u32>) -> Vec<u32> {
    std::iter::from_fn(|| idle.pop(0)).map(|item| *item).collect()
}

/// Returns an idle set for each round, with room for two items a shard and the items `0..items` in the first shards.
/// Sets with many shards get fewer rounds.
fn sharded(shards: usize, items: u32, bounded: bool) -> Vec<Idle<u32>> {
    let filled = |_| {
        let idle = Idle::new(2 * shards, shards, bounded);
        (0..items).for_each(|item| assert!(push(&idle, item, 0).is_empty()));
        idle
    };
    (0..ROUNDS * 4 / shards.max(4)).map(filled).collect()
}

/// Asserts that each of the items `0..items` was either closed or is still in the set, and only once.
fn assert_each_once(idle: &Idle<u32>, closed: Vec<u32>, items: u32) {
    let mut seen = [closed, drain(idle)].concat();
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..items));
}

#[test]
fn closed_set_keeps_no_item() {
    // With two shards or more the first one is full, so the push near it goes to another shard.
    for (shards, items) in [(1, 0), (2, 2), (4, 2)] {
        let rounds = sharded(shards, items, false);
        let results = race(&rounds, [&|idle| push(idle, items, 0), &|idle| push(idle, items + 1, 1), &close]);
        for (idle, closed) in rounds.iter().zip(results) {
            assert_eq!(idle.len(), 0, "an item is left in one of {shards} shards");
            assert_each_once(idle, closed.concat(), items + 2);
        }
    }
}

#[test]
fn item_moving_between_shards_is_reused_or_closed_once() {
    for shards in [2, 4] {
        let items = 2 * shards as u32;
        let rounds = sharded(shards, items, false);
        let results = race(&rounds, [&|idle| carry(idle, 0, 1), &|idle| carry(idle, 1, shards), &close]);
        for (idle, closed) in rounds.iter().zip(results) {
            assert_eq!(idle.len(), 0, "an item is left in one of {shards} shards");
            assert_each_once(idle, closed.concat(), items);
        }
    }
}

#[test]
fn push_refuses_no_item_while_set_has_room() {
    for shards in [2, 3, 4] {
        // As many items as the set has room for.
        let items = 2 * shards as u32;
        let rounds = sharded(shards, items, false);
        let carries = |from: usize| {
            move |idle: &Idle<u32>| {
                (0..4).flat_map(|step| carry(idle, from + step, from + step + 1)).collect::<Vec<_>>()
            }
        };
        let results = race(&rounds, [&carries(0), &carries(1), &carries(shards - 1)]);
        for (idle, refused) in rounds.iter().zip(results) {
            assert_eq!(refused.concat(), [], "with {shards} shards");
            assert_each_once(idle, Vec::new(), items);
        }
    }
}

#[test]
fn one_moving_item_causes_no_refusal() {
    // With many shards the item often moves while the push is between the first shard and the last.
    for shards in [2, 4, 16, 64] {
        let last = 2 * shards as u32 - 1;
        let rounds = sharded(shards, last, true);
        // A bounded push refuses an item after it has found every shard full twice. One move cannot cause that.
        let results = race(&rounds, [&|idle| push(idle, last, 0), &|idle| carry(idle, 0, shards - 1)]);
        for (idle, refused) in rounds.iter().zip(results) {
            assert_eq!(refused.concat(), [], "with {shards} shards");
            assert_each_once(idle, Vec::new(), last + 1);
        }
    }
}

#[test]
fn pop_finds_item_in_another_shard() {
    for shards in [2, 4] {
        // One item for each thread, so that every pop has one to find.
        let rounds = sharded(shards, 3, false);
        let cycle = |idle: &Idle<u32>| (carry(idle, 0, 0), true);
        let find = |idle: &Idle<u32>| {
            let found = idle.pop(1).map(|item| *item);
            (found.map_or(Vec::new(), |item| push(idle, item, 0)), found.is_some())
        };
        let results = race(&rounds, [&cycle, &find, &find]);
        for (idle, results) in rounds.iter().zip(results) {
            assert!(results.into_iter().all(|(refused, found)| refused.is_empty() && found));
            assert_each_once(idle, Vec::new(), 3);
        }
    }
}

#[test]
fn waiter_receives_released_item() {
    type Round = (Idle<u32>, WaitQueue<u32>, Arc<Signals>);
    for shards in [1, 2, 4] {
        let with_queue = |idle| {
            let signals = Arc::new(Signals::new());
            (idle, WaitQueue::new(Arc::clone(&signals)), signals)
        };
        let rounds: Vec<Round> = sharded(shards, 0, false).into_iter().map(with_queue).collect();
        let wait = |(idle, queue, _): &Round| {
            let mut ticket = queue.join(2, true, None, None).expect("the queue has room for both waiters");
            queue.serve(|_| idle.pop(0).map(|item| *item));
            let item = queue.poll(&mut ticket, Waker::noop());
            (Some(ticket), item)
        };
        let release = |(idle, queue, signals): &Round| {
            let shard = shards - 1;
            assert!(push(idle, 7, shard).is_empty());
            if signals.waiters() > 0 {
                queue.serve(|_| idle.pop(shard).map(|item| *item));
            }
            (None, None)
        };
        let results = race(&rounds, [&wait, &wait, &release]);
        for ((idle, queue, signals), callers) in rounds.iter().zip(results) {
            let served = callers.into_iter().filter_map(|(ticket, item)| {
                let ticket = &mut ticket?;
                item.or_else(|| queue.leave(ticket))
            });
            assert_eq!((served.collect::<Vec<_>>(), idle.len(), signals.waiters()), (vec![7], 0, 0));
        }
    }
}
