//! Tests of the checker: histories with a known verdict, and a comparison with the search without shortcuts.

use crate::checker::{check, check_slowly};
use crate::history::Action::{self, Checkout, Discard, Fail, Refused, Release};
use crate::history::{Guarantees, History, Operation, Order};
use crate::rng::Rng;

const FIFO: Guarantees = Guarantees { order: Order::Fifo, fail_ejects: false };
const OVERLAP: Guarantees = Guarantees { order: Order::FifoUpToOverlap, fail_ejects: false };
const SHARDS: Guarantees = Guarantees { order: Order::Any, fail_ejects: false };
const EJECTS: Guarantees = Guarantees { order: Order::Fifo, fail_ejects: true };

/// Returns a history of the given actions and intervals, each on its own thread.
fn history(guarantees: Guarantees, server_of: &[usize], idle: &[usize], operations: &[(u64, u64, Action)]) -> History {
    let recorded = |(thread, &(invoked, returned, action))| Operation { thread, invoked, returned, action };
    History {
        guarantees,
        servers: server_of.iter().max().map_or(1, |last| last + 1),
        all_down: false,
        server_of: server_of.to_vec(),
        idle: idle.to_vec(),
        operations: operations.iter().enumerate().map(recorded).collect(),
    }
}

#[track_caller]
fn accepts(guarantees: Guarantees, server_of: &[usize], idle: &[usize], operations: &[(u64, u64, Action)]) {
    let history = history(guarantees, server_of, idle, operations);
    assert_eq!(check(&history), Ok(()), "{history}");
}

#[track_caller]
fn rejects(guarantees: Guarantees, server_of: &[usize], idle: &[usize], operations: &[(u64, u64, Action)]) {
    let history = history(guarantees, server_of, idle, operations);
    assert!(check(&history).is_err(), "{history}");
}

#[test]
fn rejects_connection_checked_out_twice() {
    for guarantees in [FIFO, OVERLAP, SHARDS, EJECTS] {
        rejects(guarantees, &[0], &[0], &[(0, 2, Checkout(0)), (1, 3, Checkout(0))]);
        // The release begins after the second checkout has ended.
        rejects(guarantees, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, Checkout(0)), (4, 5, Release(0))]);
        accepts(guarantees, &[0], &[0], &[(0, 1, Checkout(0)), (3, 6, Checkout(0)), (4, 5, Release(0))]);
    }
}

#[test]
fn rejects_lost_connection() {
    for guarantees in [FIFO, OVERLAP, SHARDS, EJECTS] {
        let released = [(0, 1, Checkout(0)), (2, 4, Release(0)), (5, 6, Refused)];
        rejects(guarantees, &[0], &[0], &released);
        // Two refusals begin after the release has ended, and the connection is idle.
        rejects(guarantees, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, Release(0)), (4, 6, Refused), (5, 7, Refused)]);
        // Both refusals overlap the release, and a later checkout returns the connection.
        let found = [(0, 1, Checkout(0)), (2, 6, Release(0)), (3, 4, Refused), (5, 8, Refused), (9, 10, Checkout(0))];
        accepts(guarantees, &[0], &[0], &found);
        // The refusal begins after a checkout has already seen the release.
        let too_late =
            [(0, 1, Checkout(0)), (2, 9, Release(0)), (3, 4, Checkout(0)), (5, 6, Release(0)), (7, 8, Refused)];
        rejects(guarantees, &[0], &[0], &too_late);
    }
}

#[test]
fn rejects_checkouts_out_of_order() {
    let swapped = [(0, 1, Checkout(1)), (2, 3, Checkout(0))];
    rejects(FIFO, &[0, 0], &[0, 1], &swapped);
    rejects(OVERLAP, &[0, 0], &[0, 1], &swapped);
    accepts(SHARDS, &[0, 0], &[0, 1], &swapped);
    accepts(FIFO, &[0, 0], &[1, 0], &swapped);
    // FIFO order holds within a server, not across servers.
    accepts(FIFO, &[0, 1], &[0, 1], &swapped);
    // Overlapping checkouts may take effect in either order, and so may overlapping releases.
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
    // In `within` both releases fall into the interval of the checkout, one after the other.
    let takes = [(0, 1, Checkout(0)), (2, 3, Checkout(1))];
    let within = [(4, 9, Checkout(1)), (5, 6, Release(0)), (7, 8, Release(1)), (10, 11, Checkout(0))];
    let before = [(4, 5, Release(0)), (6, 9, Checkout(1)), (7, 8, Release(1)), (10, 11, Checkout(0))];
    for (guarantees, accepted) in [(FIFO, [false, false]), (OVERLAP, [true, false]), (SHARDS, [true, true])] {
        for (rest, accepted) in [within, before].iter().zip(accepted) {
            let verdict = if accepted { accepts } else { rejects };
            verdict(guarantees, &[0, 0], &[0, 1], &[&takes[..], rest].concat());
        }
    }
}

#[test]
fn rejects_checkout_of_closed_connection() {
    for end in [Discard(0), Fail(0)] {
        for guarantees in [FIFO, OVERLAP, SHARDS, EJECTS] {
            rejects(guarantees, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, end), (4, 5, Checkout(0))]);
            rejects(guarantees, &[0], &[0], &[(0, 1, Checkout(0)), (2, 5, end), (3, 4, Checkout(0))]);
            accepts(guarantees, &[0], &[0], &[(0, 1, Checkout(0)), (2, 3, end), (4, 5, Refused)]);
        }
    }
}

#[test]
fn rejects_checkout_before_release_begins() {
    for guarantees in [FIFO, OVERLAP, SHARDS, EJECTS] {
        rejects(guarantees, &[0], &[], &[(0, 1, Checkout(0)), (2, 3, Release(0))]);
        accepts(guarantees, &[0], &[], &[(0, 2, Checkout(0)), (1, 3, Release(0))]);
    }
}

#[test]
fn refusal_is_atomic_only_over_one_queue() {
    // Throughout the refusal one of the two connections is idle, but not the same one.
    let passing = [(0, 1, Checkout(0)), (2, 9, Refused), (3, 4, Release(0)), (5, 6, Checkout(1))];
    rejects(FIFO, &[0, 0], &[0, 1], &passing);
    accepts(SHARDS, &[0, 0], &[0, 1], &passing);
    accepts(FIFO, &[0, 1], &[0, 1], &passing);
    // Connection 1 is idle throughout.
    let idle = [(0, 1, Checkout(0)), (2, 9, Refused), (3, 4, Release(0)), (5, 6, Checkout(0))];
    for (guarantees, server_of) in [(FIFO, [0, 1]), (SHARDS, [0, 0]), (SHARDS, [0, 1]), (EJECTS, [0, 1])] {
        rejects(guarantees, &server_of, &[0, 1], &idle);
    }
}

#[test]
fn ejected_server_serves_no_caller() {
    let ejected = [(0, 1, Checkout(0)), (2, 3, Fail(0))];
    let then = |operations: &[_]| [&ejected[..], operations].concat();
    // Connections 0 and 1 belong to server 0, connections 2 and 3 to server 1.
    let server_of = [0, 0, 1, 1];
    rejects(EJECTS, &server_of, &[0, 1, 2, 3], &then(&[(4, 5, Checkout(1))]));
    accepts(FIFO, &server_of, &[0, 1, 2, 3], &then(&[(4, 5, Checkout(1))]));
    let others = then(&[(4, 5, Checkout(2)), (6, 7, Checkout(3))]);
    accepts(EJECTS, &server_of, &[0, 1, 2, 3], &[&others[..], &[(8, 9, Refused)]].concat());
    rejects(EJECTS, &server_of, &[0, 1, 2, 3], &[&others[..], &[(8, 9, Checkout(1))]].concat());
    // While the server is being ejected, a caller may pass over it or use it.
    let during =
        [(0, 1, Checkout(0)), (2, 3, Checkout(2)), (4, 5, Checkout(1)), (6, 7, Checkout(3)), (8, 9, Release(1))];
    for last in [Refused, Checkout(1)] {
        accepts(EJECTS, &server_of, &[0, 2, 1, 3], &[&during[..], &[(10, 13, Fail(0)), (11, 12, last)]].concat());
    }
}

#[test]
fn last_server_is_not_ejected() {
    let both = [(0, 1, Checkout(0)), (2, 3, Fail(0)), (4, 5, Checkout(2)), (6, 7, Fail(2))];
    let then = |last| [&both[..], &[(8, 9, last)]].concat();
    let server_of = [0, 0, 1, 1];
    accepts(EJECTS, &server_of, &[0, 1, 2, 3], &then(Checkout(3)));
    rejects(EJECTS, &server_of, &[0, 1, 2, 3], &then(Refused));
    accepts(EJECTS, &[0, 0], &[0, 1], &[(0, 1, Checkout(0)), (2, 3, Fail(0)), (4, 5, Checkout(1))]);
    // Of two failures at the same time one ejects its server, whichever.
    let together = [(0, 1, Checkout(0)), (2, 3, Checkout(2)), (4, 7, Fail(0)), (5, 6, Fail(2))];
    for (conn, other) in [(1, 3), (3, 1)] {
        accepts(
            EJECTS,
            &server_of,
            &[0, 2, 1, 3],
            &[&together[..], &[(8, 9, Checkout(conn)), (10, 11, Refused)]].concat(),
        );
        rejects(
            EJECTS,
            &server_of,
            &[0, 2, 1, 3],
            &[&together[..], &[(8, 9, Checkout(conn)), (10, 11, Checkout(other))]].concat(),
        );
    }
}

#[test]
fn connection_that_came_back_to_an_ejected_server_serves_callers_that_find_nothing_else() {
    let before = [(0, 1, Checkout(0)), (2, 3, Checkout(1)), (4, 5, Fail(0)), (6, 7, Release(1))];
    let then = |operations: &[_]| [&before[..], operations].concat();
    let server_of = [0, 0, 1];
    rejects(EJECTS, &server_of, &[0, 1, 2], &then(&[(8, 9, Checkout(1))]));
    accepts(EJECTS, &server_of, &[0, 1, 2], &then(&[(8, 9, Checkout(2)), (10, 11, Checkout(1)), (12, 13, Refused)]));
    rejects(EJECTS, &server_of, &[0, 1, 2], &then(&[(8, 9, Checkout(2)), (10, 11, Refused)]));
    // A search of the ejected server's connections takes them out for a moment.
    accepts(EJECTS, &server_of, &[0, 1, 2], &then(&[(8, 9, Checkout(2)), (10, 13, Refused), (11, 12, Checkout(1))]));
    // It may have come back before the ejection or after it.
    let overlapping = [(0, 1, Checkout(0)), (2, 3, Checkout(1)), (4, 7, Fail(0)), (5, 6, Release(1))];
    for last in [Refused, Checkout(1)] {
        accepts(EJECTS, &server_of, &[0, 1, 2], &[&overlapping[..], &[(8, 9, Checkout(2)), (10, 11, last)]].concat());
    }
}

#[test]
fn violation_names_step_and_history_shows_intervals() {
    let history = history(FIFO, &[0, 0], &[0, 1], &[(0, 3, Checkout(1)), (4, 6, Checkout(0))]);
    let violation = check(&history).expect_err("the checkouts are out of order");
    assert!(violation.contains("places 0 of 2 steps"), "{violation}");
    assert!(violation.contains("thread 0, checkout -> 1: Take { conn: 1, past: [] }"), "{violation}");
    let table = history.to_string();
    assert!(table.contains("\n     0  checkout -> 1     |--|\n     1  checkout -> 0         |-|\n"), "{table}");
}

/// Compares the verdicts on random operations with random intervals. Both verdicts occur often.
#[test]
fn search_agrees_with_search_without_shortcuts() {
    let mut verdicts = [0, 0];
    for seed in 0..4_000 {
        let mut rng = Rng::new(seed, 0);
        let rng = &mut rng;
        let count = rng.within(2..=6);
        let mut stamps: Vec<_> = (0..2 * count).collect();
        // Swaps only neighbouring stamps, so that some operations overlap and others do not.
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
        let guarantees = Guarantees { order, fail_ejects: rng.chance(30) };
        let history = history(guarantees, &server_of, &idle, &operations);
        let verdict = check(&history).is_ok();
        assert_eq!(verdict, check_slowly(&history), "seed {seed}\n{history}");
        verdicts[usize::from(verdict)] += 1;
    }
    assert!(verdicts.iter().all(|&count| count > 400), "{verdicts:?}");
}
