//! Models of what becomes of a server that goes down. They restate a few lines of `src/core`, with one server that has
//! one permit.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::health::Tier;
use crate::raw::{Breaker, BreakerState, HealthSnapshot, Permits, ServerSet, Signals, Time};
use crate::raw_slot::Slot;

/// Property: a due attempt gets a permit, or the thread that releases the permit sees the server down and wakes the
/// background task, which tries again.
/// Threads: one takes the server down, updates its bit and begins an attempt; the other releases the only permit.
/// Mutation that fails it: no fence in `ServerSet::refresh`, or none in `Signals::waiters_after_change`.
pub fn a_due_attempt_finds_a_permit_or_is_woken() {
    check(3, || {
        let (tier, permits) = (Tier::<1>::new(), Arc::new(Permits::new(1)));
        let (up, signals) = (ServerSet::new(1), Signals::new());
        up.refresh(0, || tier.health[0].snapshot().serves());
        assert!(permits.begin(1));
        permits.connected();
        let releases = {
            let (tier, permits) = (Arc::clone(&tier), Arc::clone(&permits));
            thread::spawn(move || {
                permits.release();
                signals.waiters_after_change() > 0 || tier.health[0].snapshot().is_down()
            })
        };
        assert!(tier.connect_fails(0, tier.outage(0)));
        up.refresh(0, || tier.health[0].snapshot().serves());
        let begins = permits.begin(1);
        let wakes = releases.join().unwrap();
        assert!(begins || wakes, "a permit is free, but nothing retries the server");
    });
}

/// Property: an attempt that is due and finds no permit finds the idle connection that makes room, or the thread that
/// returns the connection sees that the server is down and wakes the background task. The returning thread looks at the
/// health by a SeqCst load right behind the push, without a fence. Threads: one returns a connection, the main one
/// takes the server down and looks for an idle connection. Mutation that fails it: no fence in `ServerSet::refresh`;
/// the load of `Health::snapshot_after_push` is Relaxed; the CAS of `Slot::put` only releases.
pub fn a_due_attempt_finds_an_idle_connection_or_is_woken() {
    check(3, || {
        let (tier, slot) = (Tier::<1>::new(), Arc::new(Slot::new()));
        let up = ServerSet::new(1);
        let returns = {
            let (tier, slot) = (Arc::clone(&tier), Arc::clone(&slot));
            thread::spawn(move || {
                slot.put(Box::new(7)).expect("it is empty");
                tier.health[0].snapshot_after_push().is_down()
            })
        };
        assert!(tier.connect_fails(0, tier.outage(0)));
        up.refresh(0, || tier.health[0].snapshot().serves());
        let finds = slot.take().is_some();
        let wakes = returns.join().unwrap();
        assert!(finds || wakes, "a connection is idle, and nothing tries the server again");
    });
}

/// Property: a server that goes down while its trial connects, which began while it was up, is tried again: the thread
/// that connected sees that it is down, or the look at its due time sees that no trial runs.
/// Threads: one connects; the main one takes the server down, updates its bit and looks.
/// Mutation that fails it: no fence in `Breaker::succeeded`, or none in `ServerSet::refresh`.
pub fn a_server_that_goes_down_during_its_trial_is_tried_again() {
    check(3, || {
        let (tier, breaker) = (Tier::<1>::new(), Arc::new(Breaker::new()));
        let up = ServerSet::new(1);
        breaker.failed(breaker.pass(), |_| Time::ZERO).expect("the first failure pauses");
        let trial = breaker.begin(Time::NEVER).expect("the pause is over");
        let connects = {
            let (tier, breaker) = (Arc::clone(&tier), Arc::clone(&breaker));
            thread::spawn(move || {
                breaker.succeeded(trial);
                tier.health[0].snapshot().is_down()
            })
        };
        assert!(tier.connect_fails(0, tier.outage(0)));
        up.refresh(0, || tier.health[0].snapshot().serves());
        let is_tried = breaker.snapshot().state() != BreakerState::Trying;
        assert!(connects.join().unwrap() || is_tried, "nothing tries the server again");
    });
}

/// Property: a connection of an older outage that is returned while its server recovers does not stay idle: the thread
/// that returns it sees the newer outage, or the thread that ends the outage finds it. Threads: one returns a
/// connection; the main one closes the idle ones, lets the server recover, updates its bit, and closes them again.
/// Mutation that fails it: no fence in `ServerSet::refresh`; the load of `Health::snapshot_after_push` is Relaxed; the
/// CAS of `Slot::put` only releases.
pub fn no_connection_of_an_older_outage_stays_idle() {
    check(3, || {
        let (tier, slot) = (Tier::<1>::new(), Arc::new(Slot::new()));
        let up = ServerSet::new(1);
        let older = tier.outage(0);
        assert!(tier.connect_fails(0, older));
        let outage = tier.outage(0);
        let returns = {
            let (tier, slot) = (Arc::clone(&tier), Arc::clone(&slot));
            thread::spawn(move || {
                let is_outdated = |health: HealthSnapshot| !health.is_down() && health.outage() != older;
                if is_outdated(tier.health[0].snapshot()) {
                    return;
                }
                slot.put(Box::new(7)).expect("it is empty");
                if is_outdated(tier.health[0].snapshot_after_push()) {
                    drop(slot.take());
                }
            })
        };
        drop(slot.take());
        tier.health[0].begin_recovery(&tier.serving, outage, Time::ZERO).expect("it is down");
        up.refresh(0, || tier.health[0].snapshot().serves());
        drop(slot.take());
        returns.join().unwrap();
        assert!(slot.is_empty(), "a connection of the older outage is idle");
    });
}
