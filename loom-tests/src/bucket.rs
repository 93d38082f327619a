//! Models of the token bucket.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Bucket, Rate, Time};

fn bucket(burst: u32) -> Arc<Bucket> {
    Arc::new(Bucket::new(Rate::new(1.0, burst).expect("a rate within the fixed point")))
}

/// Takes and counts the tokens that remain at time 0.
fn left(bucket: &Bucket) -> usize {
    (0..8).take_while(|_| bucket.take(Time::ZERO).is_some()).count()
}

/// Property: concurrent takes together grant exactly the tokens of the bucket (I1).
/// Threads: three take a token; the bucket has two.
/// Mutation that fails it: `take_seen` stores `left` without a CAS, or does not compare the found word with `latest`
/// after a CAS failure.
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

/// Property: a token that a thread has seen is granted only within the quota, even if other threads take tokens or undo
/// takes first (I1, I2).
/// Threads: the main thread and two others have all seen the same two tokens; one of them undoes its take.
/// Mutation that fails it: `take_seen` does not compare the found word with `latest` after a CAS failure.
pub fn a_token_that_was_seen_may_be_gone() {
    check(3, || {
        let bucket = bucket(2);
        let [mine, its, theirs] = std::array::from_fn(|_| bucket.look(0).expect("the bucket is full"));
        let takes = {
            let bucket = Arc::clone(&bucket);
            thread::spawn(move || usize::from(bucket.take_seen(its).is_some()))
        };
        let undoes = {
            let bucket = Arc::clone(&bucket);
            // Returns the number of forfeited tokens.
            thread::spawn(move || bucket.take_seen(theirs).map_or(0, |receipt| usize::from(!bucket.undo(receipt))))
        };
        let here = usize::from(bucket.take_seen(mine).is_some());
        let used = here + takes.join().unwrap() + undoes.join().unwrap();
        assert_eq!(used + left(&bucket), 2);
    });
}

/// Property: an undo restores exactly the token of its take, or nothing (I2). The grants, the forfeited tokens and the
/// remaining tokens add up to the quota.
/// Threads: two take and undo, a third takes.
/// Mutation that fails it: `undo` stores `found` without a CAS.
pub fn an_undo_is_exact_or_nothing() {
    check(3, || {
        let bucket = bucket(2);
        let undoers: Vec<_> = (0..2)
            .map(|_| {
                let bucket = Arc::clone(&bucket);
                // Returns the number of forfeited tokens.
                thread::spawn(move || match bucket.take(0) {
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

/// Property: a bucket and its successor together grant no more than the quota: a take either reduces the tokens that
/// the successor inherits, or finds the word retired (I1).
/// Threads: two take from the old bucket while the main thread retires it.
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
