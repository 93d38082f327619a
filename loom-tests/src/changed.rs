//! Models of the flag of changes.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::Changed;

/// Property: the last look sees each change (I1).
/// Threads: two change something and note it, the main one takes and looks.
/// Mutation that fails it: `note` stores instead of a swap; a Relaxed swap in `note` or `take`.
pub fn the_last_look_sees_each_change() {
    check(3, || {
        let (changed, things) = (Arc::new(Changed::default()), Arc::new([(); 2].map(|()| AtomicUsize::new(0))));
        let look = || [0, 1].map(|thing| things[thing].load(Ordering::Relaxed));
        let threads = [0, 1].map(|thing| {
            let (changed, things) = (Arc::clone(&changed), Arc::clone(&things));
            thread::spawn(move || {
                things[thing].store(1, Ordering::Relaxed);
                changed.note();
            })
        });
        let mut seen = if changed.take() { look() } else { [0, 0] };
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        if changed.take() {
            seen = look();
        }
        assert_eq!(seen, [1, 1]);
    });
}

/// Property: of two threads that note a change each, the later one sees what the other one changed (I2).
/// Threads: two change something, note it and look.
/// Mutation that fails it: a Relaxed swap in `note`, or a store.
pub fn the_later_note_sees_the_other_change() {
    check(3, || {
        let (changed, things) = (Arc::new(Changed::default()), Arc::new([(); 2].map(|()| AtomicUsize::new(0))));
        let note_and_look = |changed: &Changed, things: &[AtomicUsize; 2], thing: usize| {
            things[thing].store(1, Ordering::Relaxed);
            changed.note();
            things[1 - thing].load(Ordering::Relaxed)
        };
        let other = {
            let (changed, things) = (Arc::clone(&changed), Arc::clone(&things));
            thread::spawn(move || note_and_look(&changed, &things, 1))
        };
        let here = note_and_look(&changed, &things, 0);
        assert!(here + other.join().unwrap() > 0, "neither saw the other");
    });
}
