//! Models of the health word.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Health, HealthState, Probe, ProbeOwner, Reported, Snapshot, Time};

/// A retry time that the word can distinguish from 0.
const RETRY: u64 = 1_000_000;

#[derive(Clone)]
struct Owner(Arc<Health>);

impl ProbeOwner for Owner {
    fn health(&self) -> &Health {
        &self.0
    }

    fn retry_at_after_drop(&self) -> Time {
        Time::ZERO
    }

    fn probe_dropped(&self, down: Snapshot) {
        assert_eq!(down.state(), HealthState::Down);
    }
}

fn down() -> Owner {
    let health = Health::new();
    health.connect_failed(health.snapshot().outage(), |_| RETRY).expect("the server goes down");
    Owner(Arc::new(health))
}

/// Property: of the callers that find a retry due, exactly one begins the probe (I1).
/// Threads: three begin a probe.
/// Mutation that fails it: `begin` does not check the state.
pub fn one_caller_probes() {
    check(3, || {
        let owner = down();
        let begin = |owner: &Owner| Probe::begin(owner.clone(), RETRY);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let owner = owner.clone();
                thread::spawn(move || begin(&owner))
            })
            .collect();
        let mut probes: Vec<_> = others.into_iter().filter_map(|other| other.join().unwrap()).collect();
        probes.extend(begin(&owner));
        assert_eq!(probes.len(), 1);
        assert_eq!(owner.0.snapshot().state(), HealthState::Probing);
        probes.remove(0).succeeded();
        assert_eq!(owner.0.snapshot().state(), HealthState::Recovering);
    });
}

/// Property: failures of one outage count once (I3).
/// Threads: two attempts fail, and a caller reports a failure.
/// Mutation that fails it: `connect_failed` does not check the state.
pub fn failures_of_one_outage_count_once() {
    check(3, || {
        let health = Arc::new(Health::new());
        let outage = health.snapshot().outage();
        let attempts: Vec<_> = (0..2)
            .map(|_| {
                let health = Arc::clone(&health);
                thread::spawn(move || usize::from(health.connect_failed(outage, |_| RETRY).is_some()))
            })
            .collect();
        let reported = health.reported(outage, 1, |_| RETRY);
        let by_attempts: usize = attempts.into_iter().map(|attempt| attempt.join().unwrap()).sum();
        assert_eq!(by_attempts + usize::from(matches!(reported, Reported::Down(_))), 1);
        let health = health.snapshot();
        assert_eq!((health.state(), health.failures()), (HealthState::Down, 1));
    });
}

/// Property: a dropped probe allows the next one and counts no failure (I2, I4).
/// Threads: two begin a probe and drop it; the main thread begins one and fails it.
/// Mutation that fails it: the drop of `Probe` does nothing.
pub fn a_dropped_probe_allows_the_next() {
    check(2, || {
        let owner = down();
        let droppers: Vec<_> = (0..2)
            .map(|_| {
                let owner = owner.clone();
                thread::spawn(move || drop(Probe::begin(owner, Time::NEVER)))
            })
            .collect();
        let failed = Probe::begin(owner.clone(), Time::NEVER).map(|probe| probe.failed(|_| Time::ZERO));
        for dropper in droppers {
            dropper.join().unwrap();
        }
        let health = owner.0.snapshot();
        assert_eq!((health.state(), health.failures()), (HealthState::Down, 1 + u32::from(failed.is_some())));
        assert!(Probe::begin(owner, Time::NEVER).is_some());
    });
}

/// Property: while a server is recovering, a release, a report and a failed attempt race to a state that the protocol
/// allows. A failure after the release starts counting from zero, a failure before it continues the count, and no
/// release brings a down server up (I3, I4).
/// Threads: one releases, one reports, and the attempt of the main thread fails.
/// Mutation that fails it: `released` does not check the state.
pub fn a_recovery_ends_by_the_protocol() {
    check(3, || {
        let owner = down();
        let probe = Probe::begin(owner.clone(), RETRY).expect("the probe is due");
        let outage = probe.outage();
        probe.succeeded();
        let release = {
            let health = Arc::clone(&owner.0);
            thread::spawn(move || health.released(outage))
        };
        let report = {
            let health = Arc::clone(&owner.0);
            thread::spawn(move || health.reported(outage, 1, |_| LATER))
        };
        let failed = owner.0.connect_failed(outage, |_| LATER);
        let released = release.join().unwrap();
        let reported = report.join().unwrap();
        let health = owner.0.snapshot();
        assert_eq!(health.state(), HealthState::Down);
        assert_eq!(health.failures(), if released { 1 } else { 2 });
        assert_ne!(failed.is_some(), matches!(reported, Reported::Down(_)), "exactly one takes the server down");
    });
}

/// Property: strikes of several callers add up, and each counts once: of as many reports as the threshold, exactly one
/// takes the server down (I3).
/// Threads: three report.
/// Mutation that fails it: `transition` stores instead of a CAS, so that a strike is lost.
pub fn strikes_add_up() {
    check(3, || {
        let health = Arc::new(Health::new());
        let outage = health.snapshot().outage();
        let report = move |health: &Health| matches!(health.reported(outage, 3, |_| RETRY), Reported::Down(_));
        let reports: Vec<_> = (0..2)
            .map(|_| {
                let health = Arc::clone(&health);
                thread::spawn(move || report(&health))
            })
            .collect();
        let here = usize::from(report(&health));
        let downs = reports.into_iter().map(|report| usize::from(report.join().unwrap())).sum::<usize>() + here;
        assert_eq!(downs, 1);
    });
}
