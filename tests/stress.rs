//! The handshakes of the kernel on the real types and real threads: what loom's stand-ins cannot show.
//!
//! Each round has idle connections, or those and a line, of its own, on which all threads start at once. It finds a
//! pusher that does not look at the closed bit, or refuses though there is room, and a pop that does not look into all
//! stripes; what takes a rarer race, only in some runs. On x86 it does not find a missing fence: that is for loom.

#![allow(dead_code, unused_imports, reason = "the kernel's files are compiled as they are, and not all is used")]

#[path = "../src/raw/mod.rs"]
mod raw;
#[path = "../src/sync.rs"]
mod sync;

use std::sync::Barrier;
use std::task::Waker;
use std::thread;

use crate::raw::{Idle, Line};

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

/// Returns what may not stay.
fn push(idle: &Idle<u32>, item: u32, near: usize, may_be_full: bool) -> Vec<u32> {
    let mut refused = Vec::new();
    idle.push(item, near, || may_be_full, |item| refused.push(item));
    refused
}

/// Takes an item near one stripe and puts it back near another. Returns what may not stay.
fn carry(idle: &Idle<u32>, from: usize, to: usize) -> Vec<u32> {
    idle.pop(from).map_or(Vec::new(), |item| push(idle, item, to, false))
}

fn close(idle: &Idle<u32>) -> Vec<u32> {
    idle.close();
    drain(idle)
}

fn drain(idle: &Idle<u32>) -> Vec<u32> {
    std::iter::from_fn(|| idle.pop(0)).collect()
}

/// For each round, of which there are fewer with many stripes: stripes of two slots, filled from the first on with the
/// items from 0 to `items`.
fn striped(stripes: usize, items: u32) -> Vec<Idle<u32>> {
    let filled = |_| {
        let idle = Idle::new(2 * stripes, stripes);
        (0..items).for_each(|item| assert_eq!(push(&idle, item, 0, false), []));
        idle
    };
    (0..ROUNDS * 4 / stripes.max(4)).map(filled).collect()
}

/// Each item from 0 to `items` was closed or is there, once.
fn assert_each_once(idle: &Idle<u32>, closed: Vec<u32>, items: u32) {
    let mut seen = [closed, drain(idle)].concat();
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..items));
}

#[test]
fn nothing_stays_behind_the_closed_bit() {
    // Where there are two stripes or more, the first is full, and what is pushed near it goes elsewhere.
    for (stripes, items) in [(1, 0), (2, 2), (4, 2)] {
        let rounds = striped(stripes, items);
        let results =
            race(&rounds, [&|idle| push(idle, items, 0, false), &|idle| push(idle, items + 1, 1, false), &close]);
        for (idle, closed) in rounds.iter().zip(results) {
            assert_eq!(idle.len(), 0, "left behind in one of {stripes} stripes");
            assert_each_once(idle, closed.concat(), items + 2);
        }
    }
}

#[test]
fn what_moves_between_stripes_is_reused_or_closed_once() {
    for stripes in [2, 4] {
        let items = 2 * stripes as u32;
        let rounds = striped(stripes, items);
        let results = race(&rounds, [&|idle| carry(idle, 0, 1), &|idle| carry(idle, 1, stripes), &close]);
        for (idle, closed) in rounds.iter().zip(results) {
            assert_eq!(idle.len(), 0, "left behind in one of {stripes} stripes");
            assert_each_once(idle, closed.concat(), items);
        }
    }
}

#[test]
fn nothing_is_refused_while_there_is_room() {
    for stripes in [2, 3, 4] {
        // As many items as slots.
        let items = 2 * stripes as u32;
        let rounds = striped(stripes, items);
        let carries = |from: usize| {
            move |idle: &Idle<u32>| {
                (0..4).flat_map(|step| carry(idle, from + step, from + step + 1)).collect::<Vec<_>>()
            }
        };
        let results = race(&rounds, [&carries(0), &carries(1), &carries(stripes - 1)]);
        for (idle, refused) in rounds.iter().zip(results) {
            assert_eq!(refused.concat(), [], "with {stripes} stripes");
            assert_each_once(idle, Vec::new(), items);
        }
    }
}

#[test]
fn one_item_that_moves_makes_nobody_refuse() {
    // With many stripes the item often moves while the pusher is between the first and the last.
    for stripes in [2, 4, 16, 64] {
        let last = 2 * stripes as u32 - 1;
        let rounds = striped(stripes, last);
        // The pusher may refuse what it twice finds no room for, but one move cannot make it find that.
        let results = race(&rounds, [&|idle| push(idle, last, 0, true), &|idle| carry(idle, 0, stripes - 1)]);
        for (idle, refused) in rounds.iter().zip(results) {
            assert_eq!(refused.concat(), [], "with {stripes} stripes");
            assert_each_once(idle, Vec::new(), last + 1);
        }
    }
}

#[test]
fn what_stays_elsewhere_is_found() {
    for stripes in [2, 4] {
        // One more than are ever out at a time.
        let rounds = striped(stripes, 3);
        let moves = |idle: &Idle<u32>| (carry(idle, 0, 0), true);
        let finds = |idle: &Idle<u32>| {
            let found = idle.pop(1);
            (found.map_or(Vec::new(), |item| push(idle, item, 0, false)), found.is_some())
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
    type Post = (Idle<u32>, Line<u32>);
    for stripes in [1, 2, 4] {
        let rounds: Vec<Post> = striped(stripes, 0).into_iter().map(|idle| (idle, Line::new())).collect();
        let wait = |(idle, line): &Post| {
            let mut place = line.join(2).expect("there is room");
            line.serve(|| idle.pop(0));
            let item = line.poll(&mut place, Waker::noop());
            (Some(place), item)
        };
        let release = |(idle, line): &Post| {
            let near = stripes - 1;
            assert_eq!(push(idle, 7, near, false), []);
            if line.waiters() > 0 {
                line.serve(|| idle.pop(near));
            }
            (None, None)
        };
        let results = race(&rounds, [&wait, &wait, &release]);
        for ((idle, line), callers) in rounds.iter().zip(results) {
            let served = callers.into_iter().filter_map(|(place, item)| {
                let place = &mut place?;
                item.or_else(|| line.leave(place))
            });
            assert_eq!((served.collect::<Vec<_>>(), idle.len(), line.waiters()), (vec![7], 0, 0));
        }
    }
}
