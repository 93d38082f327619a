//! The background task: its sleep, its end, and the start of the next one.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdAtomicUsize, Ordering as StdOrdering};
use std::task::{Wake, Waker};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::check;
use crate::raw::{Signals, Time, WaitQueue, WakeAt};

fn at(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}

/// Property: a change is seen by the task's look, or wakes the task (I1).
/// Threads: two change something each, the main one looks and goes to sleep.
/// Mutation that fails it: no fence in `look`, or none in `must_wake`.
pub fn a_change_is_seen_or_wakes() {
    check(3, || {
        let wake_at = Arc::new(WakeAt::new());
        // The task sleeps, but not beyond the time of the changes, then looks, then sleeps beyond it.
        wake_at.sleep(at(100));
        let changes = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let changers = changes.clone().map(|change| {
            let wake_at = Arc::clone(&wake_at);
            thread::spawn(move || {
                change.store(true, Ordering::Relaxed);
                wake_at.must_wake(at(500))
            })
        });
        wake_at.look();
        let seen = changes.clone().map(|change| change.load(Ordering::Relaxed));
        wake_at.sleep(at(1_000));
        let woken = changers.map(|changer| changer.join().unwrap());
        for (seen, woken) in seen.into_iter().zip(woken) {
            assert!(seen || woken, "the task sleeps through a change");
        }
    });
}

/// Property: a caller that joins the wait queue for a token that comes before the task's next look is seen by the task,
/// or wakes it (I1).
/// Threads: two join, the main one looks and goes to sleep; only with waiters does it regard the time of the token.
/// Mutation that fails it: no fence in `look`.
pub fn a_waiter_is_seen_or_wakes() {
    check(3, || {
        let wake_at = Arc::new(WakeAt::new());
        let signals = Arc::new(Signals::new());
        let queue = Arc::new(WaitQueue::<(), ()>::new(Arc::clone(&signals)));
        // It has slept until the time of an earlier token.
        wake_at.sleep(at(100));
        let joiners = [(); 2].map(|()| {
            let (wake_at, queue) = (Arc::clone(&wake_at), Arc::clone(&queue));
            thread::spawn(move || {
                let ticket = queue.join(2, true, None, None).expect("there is room");
                (ticket, wake_at.must_wake(at(500)))
            })
        });
        wake_at.look();
        let seen = signals.waiters();
        wake_at.sleep(at(if seen > 0 { 500 } else { 1_000 }));
        let joined = joiners.map(|joiner| joiner.join().unwrap());
        let woken = joined.map(|(mut ticket, wakes)| {
            queue.leave(&mut ticket);
            wakes
        });
        assert!(seen > 0 || woken == [true, true], "a waiter waits for a token, and the task sleeps beyond it");
    });
}

#[derive(Default)]
struct Wakes(StdAtomicUsize);

impl Wake for Wakes {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

/// Property: a waiter that joins while the task ends sees it and starts the next one, or is woken to look again. At
/// most one task runs, and what the last one did happens before what the next does (I2 of the signals).
/// Threads: two join, poll and look, the main one ends the task and wakes all waiters.
/// Mutation that fails it: `begin_run` is a load and a store; `end_run` does not release, or `begin_run` not acquire;
/// `wake_all` wakes no patient waiter.
pub fn a_waiter_sees_the_task_end_or_is_woken() {
    check(3, || {
        let signals = Arc::new(Signals::new());
        let queue = Arc::new(WaitQueue::<(), ()>::new(Arc::clone(&signals)));
        // Written by the task that runs: loom complains of two that may run at once.
        let task = Arc::new(UnsafeCell::new(()));
        assert!(signals.begin_run());
        let joiners = [(); 2].map(|()| {
            let (signals, queue, task) = (Arc::clone(&signals), Arc::clone(&queue), Arc::clone(&task));
            let wakes = StdArc::new(Wakes::default());
            thread::spawn(move || {
                let mut ticket = queue.join(2, true, None, None).expect("there is room");
                assert!(queue.poll(&mut ticket, &Waker::from(StdArc::clone(&wakes))).is_none());
                let starts = !signals.is_running() && signals.begin_run();
                if starts {
                    task.with_mut(|_| {});
                }
                (ticket, wakes, starts)
            })
        });
        task.with_mut(|_| {});
        signals.end_run();
        queue.wake_all();
        let joined = joiners.map(|joiner| joiner.join().unwrap());
        assert!(joined.iter().filter(|(.., starts)| *starts).count() <= 1, "two tasks");
        let is_running = signals.is_running();
        for (mut ticket, wakes, _) in joined {
            let is_woken = wakes.0.load(StdOrdering::Relaxed) > 0;
            assert!(is_running || is_woken, "a waiter waits, and no task runs");
            assert!(queue.leave(&mut ticket).is_none());
        }
    });
}
