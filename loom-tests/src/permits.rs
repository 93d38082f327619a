//! The permits.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::Permits;

/// Property: permits held never exceed the maximum (I1), none is lost (I2).
/// Threads: three take and give back, of one permit fewer.
/// Mutation that fails it: `take` adds without a CAS (a load, then a `fetch_add`).
pub fn never_more_than_the_maximum() {
    check(Some(3), || {
        let permits = Arc::new(Permits::new(2));
        let held = Arc::new(AtomicUsize::new(0));
        let hold = |permits: &Permits, held: &AtomicUsize| {
            if permits.take() {
                assert!(held.fetch_add(1, Ordering::Relaxed) < 2, "more are held than the maximum");
                held.fetch_sub(1, Ordering::Relaxed);
                permits.give_back();
            }
        };
        let holders: Vec<_> = (0..2)
            .map(|_| {
                let (permits, held) = (Arc::clone(&permits), Arc::clone(&held));
                thread::spawn(move || hold(&permits, &held))
            })
            .collect();
        hold(&permits, &held);
        for holder in holders {
            holder.join().unwrap();
        }
        assert_eq!(permits.open(), 0);
        assert!(permits.take() && permits.take() && !permits.take());
    });
}

/// Property: a change of the maximum loses no permit taken or given back meanwhile (I2), and what is taken after it
/// keeps to it (I1).
/// Threads: one takes, one gives back, the main one lowers the maximum.
/// Mutation that fails it: `set_max` stores without a CAS.
pub fn a_changed_maximum_loses_none() {
    check(None, || {
        let permits = Arc::new(Permits::new(3));
        assert!(permits.take());
        let taker = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.take())
        };
        let giver = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.give_back())
        };
        permits.set_max(1);
        let taken = taker.join().unwrap();
        giver.join().unwrap();
        assert_eq!((permits.open(), permits.max()), (u32::from(taken), 1));
        assert_eq!(permits.take(), !taken);
    });
}

/// Property: what the last holder did happens before what the next does.
/// Threads: two, each writing the same cell with a permit held, of which there is one; the main one writes too.
/// Mutation that fails it: `give_back` without Release, or `take` without Acquire.
pub fn a_permit_carries_what_its_last_holder_did() {
    check(Some(3), || {
        let permits = Arc::new(Permits::new(1));
        let cell = Arc::new(loom::cell::UnsafeCell::new(0));
        let write = |permits: &Permits, cell: &loom::cell::UnsafeCell<i32>| {
            if permits.take() {
                // Loom complains if two such accesses are not ordered.
                cell.with_mut(|_| {});
                permits.give_back();
            }
        };
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let (permits, cell) = (Arc::clone(&permits), Arc::clone(&cell));
                thread::spawn(move || write(&permits, &cell))
            })
            .collect();
        write(&permits, &cell);
        for writer in writers {
            writer.join().unwrap();
        }
    });
}
