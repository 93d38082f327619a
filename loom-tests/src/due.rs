//! A model of the connect attempt to a down server, which needs a permit. It restates the few lines of `src/core` that
//! start the attempt, with one server that has one permit.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Health, Permits, Signals, UpSet};

/// Property: a due attempt gets a permit, or the thread that releases the permit sees the server down and wakes the
/// background task, which tries again.
/// Threads: one takes the server down, updates its bit and begins an attempt; the other releases the only permit.
/// Mutation that fails it: no fence in `UpSet::follow`, or none in `Signals::waiters_after_change`.
pub fn a_due_attempt_finds_a_permit_or_is_woken() {
    check(3, || {
        let (health, permits) = (Arc::new(Health::new()), Arc::new(Permits::new(1)));
        let (up, signals) = (UpSet::new(1), Signals::new());
        up.follow(0, || health.snapshot().is_up());
        assert!(permits.begin(1));
        permits.connected();
        let releases = {
            let (health, permits) = (Arc::clone(&health), Arc::clone(&permits));
            thread::spawn(move || {
                permits.release();
                signals.waiters_after_change() > 0 || !health.snapshot().is_up()
            })
        };
        health.connect_failed(health.snapshot().outage(), |_| 0).expect("the server is up");
        up.follow(0, || health.snapshot().is_up());
        let begins = permits.begin(1);
        let wakes = releases.join().unwrap();
        assert!(begins || wakes, "a permit is free, but nothing retries the server");
    });
}
