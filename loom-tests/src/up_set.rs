//! Models of the up set, whose bits follow facts in other words.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::{Health, UpSet};
use crate::raw_slot::Slot;

/// The number of a server, in the middle of a word of the bitmap.
const NUMBER: usize = 5;

/// Property: after two changes of the fact, the bit equals the last one (I1).
/// Threads: one makes the fact true, the main thread makes it false; each then calls `follow`.
/// Mutation that fails it: `follow` does not check the fact again; the bits are written by Relaxed operations.
pub fn the_bit_ends_as_the_fact() {
    check(3, || {
        let (set, fact) = (Arc::new(UpSet::new(1)), Arc::new(AtomicBool::new(true)));
        let change = |set: &UpSet, fact: &AtomicBool, to: bool| {
            fact.store(to, Ordering::Relaxed);
            set.follow(NUMBER, || fact.load(Ordering::Relaxed));
        };
        let other = {
            let (set, fact) = (Arc::clone(&set), Arc::clone(&fact));
            thread::spawn(move || change(&set, &fact, true))
        };
        change(&set, &fact, false);
        other.join().unwrap();
        assert_eq!(!set.is_empty(), fact.load(Ordering::Relaxed), "the bit is stale");
    });
}

/// Property: the same with a third thread, and every bit of a word ends as its own fact (I1).
/// Threads: two change the same fact; the main thread makes the fact of another bit true.
/// Mutation that fails it: the bits are written by Relaxed operations, or by a load and a store.
pub fn the_bits_of_one_word_end_as_their_facts() {
    check(3, || {
        let (set, fact) = (Arc::new(UpSet::new(1)), Arc::new(AtomicUsize::new(0)));
        let change = |set: &UpSet, fact: &AtomicUsize| {
            // The fact is true while the number is even.
            fact.fetch_add(1, Ordering::Relaxed);
            set.follow(NUMBER, || fact.load(Ordering::Relaxed).is_multiple_of(2));
        };
        let others = [(); 2].map(|()| {
            let (set, fact) = (Arc::clone(&set), Arc::clone(&fact));
            thread::spawn(move || change(&set, &fact))
        });
        set.follow(NUMBER + 1, || true);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(set.iter_from(0).collect::<Vec<_>>(), [NUMBER, NUMBER + 1]);
    });
}

/// Property: an idle connection of a down server is found as a last resort. The thread that takes the server down sees
/// the connection, or the thread that returns it sees that the server is down, and updates the bit (I1). The returning
/// thread reads the health by a SeqCst load directly after the push, without a fence.
/// Threads: one returns a connection; the main thread takes the server down.
/// Mutation that fails it: no fence in `follow`; the load of `Health::snapshot_after_push` is Relaxed; the CAS of
/// `Slot::put` is only Release.
pub fn an_idle_connection_of_a_down_server_is_a_last_resort() {
    check(3, || {
        let (health, slot) = (Arc::new(Health::new()), Arc::new(Slot::new()));
        let last_resort = Arc::new(UpSet::new(1));
        let follow = |last_resort: &UpSet, health: &Health, slot: &Slot<u32>| {
            last_resort.follow(NUMBER, || !health.snapshot().is_up() && !slot.is_empty());
        };
        let returns = {
            let (health, slot, last_resort) = (Arc::clone(&health), Arc::clone(&slot), Arc::clone(&last_resort));
            thread::spawn(move || {
                slot.put(Box::new(7)).expect("the slot is empty");
                if !health.snapshot_after_push().is_up() {
                    follow(&last_resort, &health, &slot);
                }
            })
        };
        health.connect_failed(health.snapshot().outage(), |_| 0).expect("the server is up");
        follow(&last_resort, &health, &slot);
        returns.join().unwrap();
        assert_eq!(last_resort.next_from(0), Some(NUMBER), "callers do not find the connection");
    });
}
