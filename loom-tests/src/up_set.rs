//! Models of the up set, whose bits follow facts in other words.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::ServerSet;

/// The number of a server, in the middle of a word of the bitmap.
const NUMBER: usize = 5;

/// Property: after two changes of the fact, the bit equals the last one (I1).
/// Threads: one makes the fact true, the main thread makes it false; each then calls `refresh`.
/// Mutation that fails it: `refresh` does not check the fact again; the bits are written by Relaxed operations.
pub fn the_bit_ends_as_the_fact() {
    check(3, || {
        let (set, fact) = (Arc::new(ServerSet::new(1)), Arc::new(AtomicBool::new(true)));
        let change = |set: &ServerSet, fact: &AtomicBool, to: bool| {
            fact.store(to, Ordering::Relaxed);
            set.refresh(NUMBER, || fact.load(Ordering::Relaxed));
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
        let (set, fact) = (Arc::new(ServerSet::new(1)), Arc::new(AtomicUsize::new(0)));
        let change = |set: &ServerSet, fact: &AtomicUsize| {
            // The fact is true while the number is even.
            fact.fetch_add(1, Ordering::Relaxed);
            set.refresh(NUMBER, || fact.load(Ordering::Relaxed).is_multiple_of(2));
        };
        let others = [(); 2].map(|()| {
            let (set, fact) = (Arc::clone(&set), Arc::clone(&fact));
            thread::spawn(move || change(&set, &fact))
        });
        set.refresh(NUMBER + 1, || true);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(set.iter_from(0).collect::<Vec<_>>(), [NUMBER, NUMBER + 1]);
    });
}

/// Property: a bit is not lost when a larger bitmap replaces this one: restates `Servers::refresh` and the
/// publication of a list (I1).
/// Threads: one changes the fact, and refreshes the bitmap that it finds; the main one publishes the other bitmap
/// and refreshes it.
/// Mutation that fails it: no fence in `refresh`.
pub fn a_bit_is_set_in_a_larger_bitmap() {
    check(3, || {
        let sets = Arc::new([ServerSet::new(1), ServerSet::new(65)]);
        let (published, fact) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let changes = {
            let (sets, published, fact) = (Arc::clone(&sets), Arc::clone(&published), Arc::clone(&fact));
            thread::spawn(move || {
                fact.store(true, Ordering::Relaxed);
                loop {
                    let found = published.load(Ordering::Relaxed);
                    sets[found].refresh(NUMBER, || fact.load(Ordering::Relaxed));
                    if published.load(Ordering::Relaxed) == found {
                        break;
                    }
                }
            })
        };
        published.store(1, Ordering::Relaxed);
        sets[1].refresh(NUMBER, || fact.load(Ordering::Relaxed));
        changes.join().unwrap();
        assert!(sets[1].contains(NUMBER), "the bit is set only in the earlier bitmap");
    });
}
