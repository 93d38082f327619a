//! The handshakes of the kernel on the real types and real threads: what loom's stand-ins cannot show.
//!
//! Each round has a queue, or a queue and a line, of its own, on which all threads start at once. It finds a pusher
//! that does not look at the closed bit. On x86 it does not find a missing fence: that is for loom.

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

/// Runs each of `parts` on a thread of its own, round by round, all at once. Returns what they returned, by round.
fn race<S: Sync, T: Send, const N: usize>(rounds: &[S], parts: [fn(&S) -> T; N]) -> Vec<[T; N]> {
    let start = Barrier::new(N);
    let mut results = thread::scope(|scope| {
        let run = |part: fn(&S) -> T| {
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

fn push(idle: &Idle<u32>, item: u32) -> Vec<u32> {
    let mut refused = Vec::new();
    idle.push(item, |item| refused.push(item));
    refused
}

#[test]
fn nothing_stays_behind_the_closed_bit() {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| Idle::new(2)).collect();
    let close = |idle: &Idle<u32>| {
        idle.close();
        std::iter::from_fn(|| idle.pop()).collect()
    };
    let results = race(&rounds, [|idle| push(idle, 1), |idle| push(idle, 2), close]);
    for (idle, closed) in rounds.iter().zip(results) {
        let mut closed = closed.concat();
        closed.sort_unstable();
        assert_eq!((closed, idle.pop()), (vec![1, 2], None));
    }
}

#[test]
fn no_wake_up_is_lost() {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (Idle::new(1), Line::new())).collect();
    type Post = (Idle<u32>, Line<u32>);
    let wait = |(idle, line): &Post| {
        let mut place = line.join(2).expect("there is room");
        line.serve(|| idle.pop());
        let item = line.poll(&mut place, Waker::noop());
        (Some(place), item)
    };
    let release = |(idle, line): &Post| {
        assert_eq!(push(idle, 7), []);
        if line.waiting() > 0 {
            line.serve(|| idle.pop());
        }
        (None, None)
    };
    let results = race(&rounds, [wait, wait, release]);
    for ((idle, line), callers) in rounds.iter().zip(results) {
        let served = callers.into_iter().filter_map(|(place, item)| {
            let place = &mut place?;
            item.or_else(|| line.leave(place))
        });
        assert_eq!((served.collect::<Vec<_>>(), idle.pop(), line.waiting()), (vec![7], None, 0));
    }
}
