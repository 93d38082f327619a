//! The checker on histories whose verdict is known, and against a search without its shortcuts.

use crate::checker::{check, check_slowly};
use crate::history::Action::{self, Checkout, Discard, Fail, Refused, Release};
use crate::history::{History, Operation, Order, Promises};
use crate::rng::Rng;

const FIFO: Promises = Promises { order: Order::Fifo, fail_takes_down: false };
const OVERLAP: Promises = Promises { order: Order::FifoUpToOverlap, fail_takes_down: false };
const SHARDS: Promises = Promises { order: Order::Any, fail_takes_down: false };
const DOWN: Promises = Promises { order: Order::Fifo, fail_takes_down: true };

/// A history in which each operation, of a thread of its own, has the given interval.
fn history(promises: Promises, server_of: &[usize], idle: &[usize], operations: &[(u64, u64, Action)]) -> History {
    let recorded = |(thread, &(invoked, returned, action))| Operation { thread, invoked, returned, action };
    History {
        promises,
        servers: server_of.iter().max().map_or(1, |last| last + 1),
        server_of: server_of.to_vec(),
        idle: idle.to_vec(),
        operations: operations.iter().enumerate().map(recorded).collect(),
    }
}

#[track_caller]
fn accepts(promises: Promises, server_of: &[usize], idle: &[usize], operations: &[(u64, u64, Action)]) {
    let history = history(promises, server_of, idle, operations);
    assert_eq!(check(&history), Ok(()), "{history}");
}

#[track_caller]
fn rejects(promises: Promises, server_of: &[usize], idle: &[usize], operations: &[(u64, u64, Action)]) {
    let history = history(promises, server_of, idle, operations);
    assert!(check(&history).is_err(), "{history}");
}

#[test]
fn rejects_connection_held_twice() {
    for promises in [FIFO, OVERLAP, SHARDS, DOWN] {
        rejects(promises, &[0], &[0], &[(0, 2, Checkout(0)), (1, 3, Checkout(0))]);
        // The release of the first holder comes too late for the second.
        rejects(promises, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, Checkout(0)), (4, 5, Release(0))]);
        accepts(promises, &[0], &[0], &[(0, 1, Checkout(0)), (3, 6, Checkout(0)), (4, 5, Release(0))]);
    }
}

#[test]
fn rejects_lost_connection() {
    for promises in [FIFO, OVERLAP, SHARDS, DOWN] {
        let released = [(0, 1, Checkout(0)), (2, 4, Release(0)), (5, 6, Refused)];
        rejects(promises, &[0], &[0], &released);
        // Two refusals after a release that ended, and the connection is in no hand.
        rejects(promises, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, Release(0)), (4, 6, Refused), (5, 7, Refused)]);
        // The refusals overlap the release: the connection is found by the next checkout.
        let found = [(0, 1, Checkout(0)), (2, 6, Release(0)), (3, 4, Refused), (5, 8, Refused), (9, 10, Checkout(0))];
        accepts(promises, &[0], &[0], &found);
        // Refused, although a checkout that found the connection released had ended before.
        let too_late =
            [(0, 1, Checkout(0)), (2, 9, Release(0)), (3, 4, Checkout(0)), (5, 6, Release(0)), (7, 8, Refused)];
        rejects(promises, &[0], &[0], &too_late);
    }
}

#[test]
fn rejects_swapped_order() {
    let swapped = [(0, 1, Checkout(1)), (2, 3, Checkout(0))];
    rejects(FIFO, &[0, 0], &[0, 1], &swapped);
    rejects(OVERLAP, &[0, 0], &[0, 1], &swapped);
    accepts(SHARDS, &[0, 0], &[0, 1], &swapped);
    accepts(FIFO, &[0, 0], &[1, 0], &swapped);
    // The order holds within each server alone.
    accepts(FIFO, &[0, 1], &[0, 1], &swapped);
    // Overlapping checkouts take effect in either order; so do overlapping releases.
    accepts(FIFO, &[0, 0], &[0, 1], &[(0, 3, Checkout(1)), (1, 2, Checkout(0))]);
    let takes = [(0, 1, Checkout(0)), (2, 3, Checkout(1))];
    let rest = [(8, 9, Checkout(1)), (10, 11, Checkout(0))];
    let [apart, overlapping] = [(5, 6), (6, 5)]
        .map(|(first, second)| [&takes[..], &[(4, first, Release(0)), (second, 7, Release(1))], &rest].concat());
    rejects(FIFO, &[0, 0], &[0, 1], &apart);
    accepts(FIFO, &[0, 0], &[0, 1], &overlapping);
}

#[test]
fn checkout_passes_over_connections_whose_release_overlaps_it() {
    // Both releases fall into the checkout, one after the other.
    let takes = [(0, 1, Checkout(0)), (2, 3, Checkout(1))];
    let within = [(4, 9, Checkout(1)), (5, 6, Release(0)), (7, 8, Release(1)), (10, 11, Checkout(0))];
    let before = [(4, 5, Release(0)), (6, 9, Checkout(1)), (7, 8, Release(1)), (10, 11, Checkout(0))];
    for (promises, accepted) in [(FIFO, [false, false]), (OVERLAP, [true, false]), (SHARDS, [true, true])] {
        for (rest, accepted) in [within, before].iter().zip(accepted) {
            let verdict = if accepted { accepts } else { rejects };
            verdict(promises, &[0, 0], &[0, 1], &[&takes[..], rest].concat());
        }
    }
}

#[test]
fn rejects_connection_that_comes_back_after_its_end() {
    for end in [Discard(0), Fail(0)] {
        for promises in [FIFO, OVERLAP, SHARDS, DOWN] {
            rejects(promises, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, end), (4, 5, Checkout(0))]);
            rejects(promises, &[0], &[0], &[(0, 1, Checkout(0)), (2, 5, end), (3, 4, Checkout(0))]);
            accepts(promises, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, end), (4, 5, Refused)]);
        }
    }
}

#[test]
fn rejects_checkout_before_release_begins() {
    for promises in [FIFO, OVERLAP, SHARDS, DOWN] {
        rejects(promises, &[0], &[], &[(0, 1, Checkout(0)), (2, 3, Release(0))]);
        accepts(promises, &[0], &[], &[(0, 2, Checkout(0)), (1, 3, Release(0))]);
    }
}

#[test]
fn refusal_is_one_moment_in_one_queue_and_several_in_many() {
    // One of two connections is idle at each moment of the refusal; neither is all the time.
    let passing = [(0, 1, Checkout(0)), (2, 9, Refused), (3, 4, Release(0)), (5, 6, Checkout(1))];
    rejects(FIFO, &[0, 0], &[0, 1], &passing);
    accepts(SHARDS, &[0, 0], &[0, 1], &passing);
    accepts(FIFO, &[0, 1], &[0, 1], &passing);
    // Connection 1 is idle all the time.
    let idle = [(0, 1, Checkout(0)), (2, 9, Refused), (3, 4, Release(0)), (5, 6, Checkout(0))];
    for (promises, server_of) in [(FIFO, [0, 1]), (SHARDS, [0, 0]), (SHARDS, [0, 1]), (DOWN, [0, 1])] {
        rejects(promises, &server_of, &[0, 1], &idle);
    }
}

#[test]
fn down_server_serves_as_last_resort_only() {
    let down = [(0, 1, Checkout(0)), (2, 3, Fail(0))];
    let then = |operations: &[_]| [&down[..], operations].concat();
    // Connections 0 and 1 go to server 0, connections 2 and 3 to server 1.
    let server_of = [0, 0, 1, 1];
    rejects(DOWN, &server_of, &[0, 1, 2, 3], &then(&[(4, 5, Checkout(1))]));
    accepts(FIFO, &server_of, &[0, 1, 2, 3], &then(&[(4, 5, Checkout(1))]));
    accepts(DOWN, &server_of, &[0, 1, 2, 3], &then(&[(4, 5, Checkout(2)), (6, 7, Checkout(3)), (8, 9, Refused)]));
    let both = then(&[(4, 5, Checkout(2)), (6, 7, Fail(2))]);
    accepts(DOWN, &server_of, &[0, 1, 2, 3], &[&both[..], &[(8, 9, Checkout(1)), (10, 11, Checkout(3))]].concat());
    rejects(DOWN, &server_of, &[0, 1, 2, 3], &[&both[..], &[(8, 9, Refused)]].concat());
    // While a server goes down, a refusal may take the last resort for a server that another one stands in for.
    accepts(DOWN, &server_of, &[0, 1, 2, 3], &then(&[(4, 5, Checkout(2)), (6, 9, Fail(2)), (7, 8, Refused)]));
}

#[test]
fn failure_shows_history() {
    let history = history(FIFO, &[0, 0], &[0, 1], &[(0, 3, Checkout(1)), (4, 6, Checkout(0))]);
    let why = check(&history).expect_err("the order is swapped");
    assert!(
        why.contains("places 0 of 2 steps") && why.contains("thread 0, checkout -> 1: Take { conn: 1, past: [] }"),
        "{why}"
    );
    let table = history.to_string();
    assert!(table.contains("\n     0  checkout -> 1     |--|\n     1  checkout -> 0         |-|\n"), "{table}");
}

/// Random operations on random intervals: some are linearizable, some are not.
#[test]
fn search_agrees_with_one_without_shortcuts() {
    let mut verdicts = [0, 0];
    for seed in 0..4_000 {
        let mut rng = Rng::new(seed, 0);
        let rng = &mut rng;
        let count = rng.within(2..=6);
        let mut stamps: Vec<_> = (0..2 * count).collect();
        // Pairs of stamps that are near each other, so that some operations overlap and others do not.
        for at in 0..stamps.len() - 1 {
            if rng.chance(40) {
                stamps.swap(at, at + 1);
            }
        }
        let conns = rng.within(1..=3) as usize;
        let server_of: Vec<_> = (0..conns).map(|_| rng.within(0..=1) as usize).collect();
        let idle: Vec<_> = (0..conns).filter(|_| rng.chance(70)).collect();
        let operations: Vec<_> = stamps
            .chunks(2)
            .map(|pair| {
                let conn = rng.within(0..=conns as u64 - 1) as usize;
                let kinds = [Checkout(conn), Checkout(conn), Release(conn), Refused, Refused, Fail(conn)];
                (pair[0].min(pair[1]), pair[0].max(pair[1]), rng.pick(&kinds))
            })
            .collect();
        let order = rng.pick(&[Order::Any, Order::Fifo, Order::FifoUpToOverlap]);
        let promises = Promises { order, fail_takes_down: rng.chance(30) };
        let history = history(promises, &server_of, &idle, &operations);
        let verdict = check(&history).is_ok();
        assert_eq!(verdict, check_slowly(&history), "seed {seed}\n{history}");
        verdicts[usize::from(verdict)] += 1;
    }
    assert!(verdicts.iter().all(|&count| count > 400), "{verdicts:?}");
}
