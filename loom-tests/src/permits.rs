//! Models of the permits.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::Permits;

/// Property: the permits in use never exceed the maximum, running attempts never exceed their limit (I1), and no permit
/// is lost (I2).
/// Threads: three begin an attempt, and one of them connects; there are two permits, and one attempt may run at a time.
/// Mutation that fails it: `begin` adds without a CAS (a load, then a `fetch_add`).
pub fn never_more_than_the_maximum() {
    check(3, || {
        let permits = Arc::new(Permits::new(2));
        let open = Arc::new(AtomicUsize::new(0));
        let connecting = Arc::new(AtomicUsize::new(0));
        let connect = |permits: &Permits, open: &AtomicUsize, connecting: &AtomicUsize, connects: bool| {
            if !permits.begin(1) {
                return;
            }
            assert!(open.fetch_add(1, Ordering::Relaxed) < 2, "more permits are in use than the maximum");
            assert_eq!(connecting.fetch_add(1, Ordering::Relaxed), 0, "two attempts run");
            connecting.fetch_sub(1, Ordering::Relaxed);
            if connects {
                permits.connected();
                open.fetch_sub(1, Ordering::Relaxed);
                permits.release();
            } else {
                open.fetch_sub(1, Ordering::Relaxed);
                permits.failed();
            }
        };
        let others = [true, false].map(|connects| {
            let (permits, open, connecting) = (Arc::clone(&permits), Arc::clone(&open), Arc::clone(&connecting));
            thread::spawn(move || connect(&permits, &open, &connecting, connects))
        });
        connect(&permits, &open, &connecting, true);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!((permits.counts().open(), permits.counts().connecting()), (0, 0));
        assert!(permits.begin(2) && permits.begin(2) && !permits.begin(3));
    });
}

/// Property: the counts stay exact while attempts connect or fail and connections are released (I2).
/// Threads: one attempt connects, one fails, a connection is released; the main thread begins another attempt.
/// Mutation that fails it: `connected` is a load and a store.
pub fn the_counts_are_kept() {
    check(3, || {
        let permits = Arc::new(Permits::new(4));
        for _ in 0..3 {
            assert!(permits.begin(3));
        }
        permits.connected();
        let changes: [fn(&Permits); 3] = [Permits::connected, Permits::failed, Permits::release];
        let changes = changes.map(|change| {
            let permits = Arc::clone(&permits);
            thread::spawn(move || change(&permits))
        });
        let begun = permits.begin(3);
        assert!(begun, "a permit is free at each moment");
        changes.into_iter().for_each(|change| change.join().unwrap());
        assert_eq!((permits.counts().open(), permits.counts().connecting()), (2, 1));
    });
}

/// Property: a change of the maximum loses no concurrent change of the counts (I2), and later attempts respect the new
/// maximum (I1).
/// Threads: one begins an attempt, one releases, the main thread lowers the maximum.
/// Mutation that fails it: `set_max` stores without a CAS.
pub fn a_changed_maximum_loses_none() {
    check(3, || {
        let permits = Arc::new(Permits::new(3));
        assert!(permits.begin(2));
        permits.connected();
        let begins = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.begin(2))
        };
        let releases = {
            let permits = Arc::clone(&permits);
            thread::spawn(move || permits.release())
        };
        permits.set_max(1);
        let begun = begins.join().unwrap();
        releases.join().unwrap();
        let counts = permits.counts();
        assert_eq!((counts.open(), counts.connecting(), counts.max()), (u32::from(begun), u32::from(begun), 1));
        assert_eq!(permits.begin(2), !begun);
    });
}

/// Property: all actions of a permit's last holder happen before those of its next holder, even if the maximum changes
/// in between.
/// Threads: two write the same cell while they hold the only permit; one of them connects, the other fails. The main
/// thread changes the maximum.
/// Mutation that fails it: the release of a permit is not a Release operation, or `begin` is not an Acquire.
pub fn a_permit_carries_what_its_last_holder_did() {
    check(3, || {
        let permits = Arc::new(Permits::new(1));
        let cell = Arc::new(UnsafeCell::new(()));
        let writers = [true, false].map(|connects| {
            let (permits, cell) = (Arc::clone(&permits), Arc::clone(&cell));
            thread::spawn(move || {
                if !permits.begin(1) {
                    return;
                }
                // Loom reports two unordered accesses.
                if connects {
                    permits.connected();
                    cell.with_mut(|_| {});
                    permits.release();
                } else {
                    cell.with_mut(|_| {});
                    permits.failed();
                }
            })
        });
        permits.set_max(1);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}
