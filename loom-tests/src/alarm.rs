//! The alarm: the handshake of the task that watches with whoever changes something.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::check;
use crate::raw::{Alarm, Line};

/// Property: a change is seen by the task's look, or rings (I1).
/// Threads: two change something each, the main one looks and goes to sleep.
/// Mutation that fails it: no fence in `look`, or none in `must_ring`.
pub fn a_change_is_seen_or_rings() {
    check(Some(3), || {
        let alarm = Arc::new(Alarm::new());
        // It sleeps, but not beyond the time of the changes, then looks, then sleeps beyond it.
        alarm.sleep(100);
        let changes = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let changers = changes.clone().map(|change| {
            let alarm = Arc::clone(&alarm);
            thread::spawn(move || {
                change.store(true, Ordering::Relaxed);
                alarm.must_ring(500)
            })
        });
        alarm.look();
        let seen = changes.clone().map(|change| change.load(Ordering::Relaxed));
        alarm.sleep(1_000);
        let rung = changers.map(|changer| changer.join().unwrap());
        for (seen, rung) in seen.into_iter().zip(rung) {
            assert!(seen || rung, "the task sleeps through a change");
        }
    });
}

/// Property: a caller that joins the line is seen by the task that ends, or starts the next (I2); one starts it (I3).
/// Threads: two join, the main one ends its watch.
/// Mutation that fails it: no fence in `dismiss`, or none in `Line::join`; for I3: `engage` is a load and a store.
pub fn who_joins_is_watched() {
    check(Some(3), || {
        let alarm = Arc::new(Alarm::new());
        let line = Arc::new(Line::<()>::new());
        let watching = Arc::new(AtomicUsize::new(1));
        assert!(alarm.engage());
        let engage = |alarm: &Alarm, watching: &AtomicUsize| {
            if !alarm.is_watched() && alarm.engage() {
                assert_eq!(watching.fetch_add(1, Ordering::Relaxed), 0, "two watch");
            }
        };
        let callers = [(); 2].map(|()| {
            let (alarm, line, watching) = (Arc::clone(&alarm), Arc::clone(&line), Arc::clone(&watching));
            thread::spawn(move || {
                let place = line.join(2).expect("there is room");
                engage(&alarm, &watching);
                place
            })
        });
        watching.fetch_sub(1, Ordering::Relaxed);
        alarm.dismiss();
        if line.waiting() > 0 {
            engage(&alarm, &watching);
        }
        for caller in callers {
            line.leave(&mut caller.join().unwrap());
        }
        assert_eq!(watching.load(Ordering::Relaxed), 1, "callers wait and nobody watches");
    });
}
