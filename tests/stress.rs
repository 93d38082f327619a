//! The handshakes of `src/raw` on the real types and real threads, which loom's stand-ins cannot show.
//!
//! Each round has an idle set, or one and a wait queue, of its own, on which all threads start at once. The tests find
//! a pusher that does not look at the closed bit, a pusher that refuses though there is room, and a pop that does not
//! look into all shards; rarer races only in some runs. On x86 they do not find a missing fence: the loom models do.

#![allow(dead_code, unused_imports, reason = "the kernel's files are compiled as they are, and not all is used")]

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

/// Runs each of `parts` on a thread of its own, round by round, all at once. Returns what they returned, by round.
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

/// Returns the items that may not stay.
fn push(idle: &Idle<u32>, item: u32, near: usize) -> Vec<u32> {
    let mut refused = Vec::new();
    idle.push(Box::new(item), near, |item| refused.push(*item));
    refused
}

/// Takes an item near one shard and puts it back near another. Returns the items that may not stay.
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

/// For each round, of which there are fewer with many shards: shards with room for two items, filled from the first on
/// with the items from 0 to `items`.
fn sharded(shards: usize, items: u32, bounded: bool) -> Vec<Idle<u32>> {
    let filled = |_| {
        let idle = Idle::new(2 * shards, shards, bounded);
        (0..items).for_each(|item| assert!(push(&idle, item, 0).is_empty()));
        idle
    };
    (0..ROUNDS * 4 / shards.max(4)).map(filled).collect()
}

/// Each item from 0 to `items` was closed or is there, once.
fn assert_each_once(idle: &Idle<u32>, closed: Vec<u32>, items: u32) {
    let mut seen = [closed, drain(idle)].concat();
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..items));
}

#[test]
fn nothing_stays_behind_the_closed_bit() {
    // Where there are two shards or more, the first is full, and what is pushed near it goes elsewhere.
    for (shards, items) in [(1, 0), (2, 2), (4, 2)] {
        let rounds = sharded(shards, items, false);
        let results = race(&rounds, [&|idle| push(idle, items, 0), &|idle| push(idle, items + 1, 1), &close]);
        for (idle, closed) in rounds.iter().zip(results) {
            assert_eq!(idle.len(), 0, "left behind in one of {shards} shards");
            assert_each_once(idle, closed.concat(), items + 2);
        }
    }
}

#[test]
fn an_item_that_moves_between_shards_is_reused_or_closed_once() {
    for shards in [2, 4] {
        let items = 2 * shards as u32;
        let rounds = sharded(shards, items, false);
        let results = race(&rounds, [&|idle| carry(idle, 0, 1), &|idle| carry(idle, 1, shards), &close]);
        for (idle, closed) in rounds.iter().zip(results) {
            assert_eq!(idle.len(), 0, "left behind in one of {shards} shards");
            assert_each_once(idle, closed.concat(), items);
        }
    }
}

#[test]
fn nothing_is_refused_while_there_is_room() {
    for shards in [2, 3, 4] {
        // As many items as slots.
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
fn one_item_that_moves_makes_no_pusher_refuse() {
    // With many shards the item often moves while the pusher is between the first and the last.
    for shards in [2, 4, 16, 64] {
        let last = 2 * shards as u32 - 1;
        let rounds = sharded(shards, last, true);
        // The pusher may refuse what it twice finds no room for, but one move cannot make it find that.
        let results = race(&rounds, [&|idle| push(idle, last, 0), &|idle| carry(idle, 0, shards - 1)]);
        for (idle, refused) in rounds.iter().zip(results) {
            assert_eq!(refused.concat(), [], "with {shards} shards");
            assert_each_once(idle, Vec::new(), last + 1);
        }
    }
}

#[test]
fn an_item_in_another_shard_is_found() {
    for shards in [2, 4] {
        // One more than are ever out at a time.
        let rounds = sharded(shards, 3, false);
        let moves = |idle: &Idle<u32>| (carry(idle, 0, 0), true);
        let finds = |idle: &Idle<u32>| {
            let found = idle.pop(1).map(|item| *item);
            (found.map_or(Vec::new(), |item| push(idle, item, 0)), found.is_some())
        };
        let results = race(&rounds, [&moves, &finds, &finds]);
        for (idle, results) in rounds.iter().zip(results) {
            assert!(results.into_iter().all(|(refused, found)| refused.is_empty() && found));
            assert_each_once(idle, Vec::new(), 3);
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    type Post = (Idle<u32>, WaitQueue<u32>, Arc<Signals>);
    for shards in [1, 2, 4] {
        let post = |idle| {
            let signals = Arc::new(Signals::new());
            (idle, WaitQueue::new(Arc::clone(&signals)), signals)
        };
        let rounds: Vec<Post> = sharded(shards, 0, false).into_iter().map(post).collect();
        let wait = |(idle, queue, _): &Post| {
            let mut ticket = queue.join(2, true).expect("there is room");
            queue.serve(|| idle.pop(0).map(|item| *item));
            let item = queue.poll(&mut ticket, Waker::noop());
            (Some(ticket), item)
        };
        let release = |(idle, queue, signals): &Post| {
            let near = shards - 1;
            assert!(push(idle, 7, near).is_empty());
            if signals.waiters() > 0 {
                queue.serve(|| idle.pop(near).map(|item| *item));
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
