//! The up set: bits that cache conditions.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::UpSet;

/// A number in the middle of a word.
const NUMBER: usize = 5;

/// Property: of two changes of the condition the bit ends as the last one (I1).
/// Threads: one makes it true, the main one false; each refreshes.
/// Mutation that fails it: `refresh` does not read again; the bits are written by Relaxed operations.
pub fn the_bit_ends_as_the_condition() {
    check(3, || {
        let (set, condition) = (Arc::new(UpSet::new(1)), Arc::new(AtomicBool::new(true)));
        let change = |set: &UpSet, condition: &AtomicBool, to: bool| {
            condition.store(to, Ordering::Relaxed);
            set.refresh(NUMBER, || condition.load(Ordering::Relaxed));
        };
        let other = {
            let (set, condition) = (Arc::clone(&set), Arc::clone(&condition));
            thread::spawn(move || change(&set, &condition, true))
        };
        change(&set, &condition, false);
        other.join().unwrap();
        assert_eq!(!set.is_empty(), condition.load(Ordering::Relaxed), "an outdated bit");
    });
}

/// Property: the same with a third thread, and each bit of one word ends as its own condition (I1).
/// Threads: two change the same condition, the main one makes the condition of another bit true.
/// Mutation that fails it: the bits are written by Relaxed operations, or by a load and a store.
pub fn the_bits_of_one_word_end_as_their_conditions() {
    check(3, || {
        let (set, condition) = (Arc::new(UpSet::new(1)), Arc::new(AtomicUsize::new(0)));
        let change = |set: &UpSet, condition: &AtomicUsize| {
            // Even: it is true.
            condition.fetch_add(1, Ordering::Relaxed);
            set.refresh(NUMBER, || condition.load(Ordering::Relaxed).is_multiple_of(2));
        };
        let others = [(); 2].map(|()| {
            let (set, condition) = (Arc::clone(&set), Arc::clone(&condition));
            thread::spawn(move || change(&set, &condition))
        });
        set.refresh(NUMBER + 1, || true);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(set.iter_from(0).collect::<Vec<_>>(), [NUMBER, NUMBER + 1]);
    });
}

/// Property: a bit is not lost when a larger bitmap replaces this one: restates `Servers::refresh` and the
/// publication of a list (I1).
/// Threads: one changes the condition, and refreshes the bitmap that it finds; the main one publishes the other bitmap
/// and refreshes it.
/// Mutation that fails it: no fence in `refresh`.
pub fn a_bit_is_set_in_a_larger_bitmap() {
    check(3, || {
        let sets = Arc::new([UpSet::new(1), UpSet::new(65)]);
        let (published, condition) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let changes = {
            let (sets, published, condition) = (Arc::clone(&sets), Arc::clone(&published), Arc::clone(&condition));
            thread::spawn(move || {
                condition.store(true, Ordering::Relaxed);
                loop {
                    let found = published.load(Ordering::Relaxed);
                    sets[found].refresh(NUMBER, || condition.load(Ordering::Relaxed));
                    if published.load(Ordering::Relaxed) == found {
                        break;
                    }
                }
            })
        };
        published.store(1, Ordering::Relaxed);
        sets[1].refresh(NUMBER, || condition.load(Ordering::Relaxed));
        changes.join().unwrap();
        assert!(sets[1].contains(NUMBER), "the bit is set only in the earlier bitmap");
    });
}
