//! The token bucket.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Bucket, Rate, Time};

fn bucket(burst: u32) -> Arc<Bucket> {
    Arc::new(Bucket::new(Rate::new(1.0, burst).expect("a rate within the fixed point")))
}

/// Tokens that are still there at time 0.
fn left(bucket: &Bucket) -> usize {
    (0..8).take_while(|_| bucket.take(Time::ZERO).is_some()).count()
}

/// Property: concurrent takes grant no more than the quota, and no less (I1).
/// Threads: three take, one token fewer is there.
/// Mutation that fails it: `take_seen` stores `left` without a CAS, or does not compare the word that it found with
/// `latest` when it lost a race.
pub fn concurrent_takes_grant_the_quota() {
    check(3, || {
        let bucket = bucket(2);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let bucket = Arc::clone(&bucket);
                thread::spawn(move || usize::from(bucket.take(Time::ZERO).is_some()))
            })
            .collect();
        let here = usize::from(bucket.take(Time::ZERO).is_some());
        let granted = takers.into_iter().map(|taker| taker.join().unwrap()).sum::<usize>() + here;
        assert_eq!(granted, 2);
    });
}

/// Property: a token that was seen is granted only within the quota, also if other takes came first, and so is one that
/// an undo brought back (I1, I2).
/// Threads: the main one and two others have all seen the same two tokens; one of them undoes its take.
/// Mutation that fails it: a `take_seen` that lost a race does not compare the word that it found with `latest`.
pub fn a_token_that_was_seen_may_be_gone() {
    check(3, || {
        let bucket = bucket(2);
        let [mine, its, theirs] = std::array::from_fn(|_| bucket.look(Time::ZERO).expect("none was taken yet"));
        let takes = {
            let bucket = Arc::clone(&bucket);
            thread::spawn(move || usize::from(bucket.take_seen(its).is_some()))
        };
        let undoes = {
            let bucket = Arc::clone(&bucket);
            // Tokens forfeit.
            thread::spawn(move || bucket.take_seen(theirs).map_or(0, |receipt| usize::from(!bucket.undo(receipt))))
        };
        let here = usize::from(bucket.take_seen(mine).is_some());
        let used = here + takes.join().unwrap() + undoes.join().unwrap();
        assert_eq!(used + left(&bucket), 2);
    });
}

/// Property: an undo restores exactly its own token, or none (I2): grants, forfeit tokens and tokens that are left are
/// the quota.
/// Threads: two take and undo, a third takes.
/// Mutation that fails it: `undo` stores `found` without a CAS.
pub fn an_undo_is_exact_or_nothing() {
    check(3, || {
        let bucket = bucket(2);
        let undoers: Vec<_> = (0..2)
            .map(|_| {
                let bucket = Arc::clone(&bucket);
                // Tokens forfeit.
                thread::spawn(move || match bucket.take(Time::ZERO) {
                    Some(receipt) => usize::from(!bucket.undo(receipt)),
                    None => 0,
                })
            })
            .collect();
        let kept = usize::from(bucket.take(Time::ZERO).is_some());
        let mut forfeit = 0;
        for undoer in undoers {
            forfeit += undoer.join().unwrap();
        }
        assert_eq!(kept + forfeit + left(&bucket), 2);
    });
}

/// Property: a bucket and its successor together grant no more than the quota: a take either counts in what the
/// successor inherits, or finds the word retired (I1).
/// Threads: two take from the old bucket while the main one retires it.
/// Mutation that fails it: `successor` loads the word instead of swapping it.
pub fn a_successor_inherits_the_tokens_that_are_left() {
    check(3, || {
        let old = bucket(2);
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let old = Arc::clone(&old);
                thread::spawn(move || usize::from(old.take(Time::ZERO).is_some()))
            })
            .collect();
        let new = old.successor(Rate::new(2.0, 2).expect("a rate within the fixed point"), Time::ZERO);
        let granted: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(granted + left(&new), 2);
        assert_eq!(left(&old), 0);
    });
}
