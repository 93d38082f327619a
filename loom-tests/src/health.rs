//! Models of the health word. Those of its count of serving servers are in `serving`.

use std::cell::Cell;

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Ejected, Health, HealthState, Outage, Serving, Time};

fn time(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// Servers that are up, of the first tier.
pub(crate) struct Tier<const N: usize> {
    pub(crate) serving: Serving,
    pub(crate) health: [Health; N],
}

impl<const N: usize> Tier<N> {
    pub(crate) fn new() -> Arc<Self> {
        Self::of([0; N])
    }

    /// Servers that are up, of these tiers.
    pub(crate) fn of(tiers: [usize; N]) -> Arc<Self> {
        let serving = Serving::default();
        let health = tiers.map(|tier| {
            let health = Health::new(tier);
            serving.register(tier);
            assert!(health.set_removed(&serving, false, Time::ZERO));
            health
        });
        Arc::new(Self { serving, health })
    }

    pub(crate) fn outage(&self, at: usize) -> Outage {
        self.health[at].snapshot().outage()
    }

    pub(crate) fn connect_fails(&self, at: usize, outage: Outage) -> bool {
        self.health[at].connect_failed(&self.serving, outage, time(1)).is_some()
    }

    pub(crate) fn eject(&self, at: usize, outage: Outage, ratio: f64) -> Ejected {
        self.health[at].eject(&self.serving, outage, ratio, time(1), |_| time(2))
    }

    /// Asserts that the counts are the numbers of servers that serve, in all and in the first tiers.
    pub(crate) fn assert_counted(&self) {
        let serving = || self.health.iter().map(Health::snapshot).filter(|health| health.serves());
        assert_eq!(self.serving.serving() as usize, serving().count(), "{:?}", self.health);
        for tier in 0..3 {
            let serves = serving().any(|health| health.tier() == tier);
            assert_eq!(self.serving.has_serving(tier), serves, "tier {tier}: {:?}", self.health);
        }
    }
}

/// Property: failures of one outage take the server down once (I1).
/// Threads: two connects fail, and a third thread ejects.
/// Mutation that fails it: `connect_failed` checks nothing.
pub fn failures_of_one_outage_take_the_server_down_once() {
    check(3, || {
        let tier = Tier::<2>::new();
        let outage = tier.outage(0);
        let attempts = [(); 2].map(|()| {
            let tier = Arc::clone(&tier);
            thread::spawn(move || tier.connect_fails(0, outage))
        });
        let ejected = matches!(tier.eject(0, outage, 0.5), Ejected::Down(_));
        let downs = attempts.map(|attempt| attempt.join().unwrap()).iter().filter(|&&down| down).count();
        assert_eq!(downs + usize::from(ejected), 1);
        let health = tier.health[0].snapshot();
        let until = tier.health[0].ejected_until();
        assert_eq!((health.state(), until), (HealthState::Down, ejected.then_some(time(2))));
        tier.assert_counted();
    });
}

/// Property: a failure of an older outage counts nothing, before, while and after the server recovers (I1).
/// Threads: the trial succeeds, a connect of the older outage fails, and a third thread ejects by failures of it.
/// Mutation that fails it: `connect_failed` or `eject` does not compare outage numbers.
pub fn a_failure_of_an_older_outage_counts_nothing() {
    check(3, || {
        let tier = Tier::<2>::new();
        let older = tier.outage(0);
        assert!(tier.connect_fails(0, older));
        let outage = tier.outage(0);
        let recovers = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || tier.health[0].begin_recovery(&tier.serving, outage, time(2)).is_some())
        };
        let fails = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || tier.connect_fails(0, older))
        };
        assert_eq!(tier.eject(0, older, 0.5), Ejected::Ignored);
        assert!(!fails.join().unwrap() && recovers.join().unwrap());
        assert_eq!(tier.health[0].snapshot().state(), HealthState::Recovering);
        tier.assert_counted();
    });
}

/// Property: while a server is recovering, a good return, an ejection and a failed connect race to a state that the
/// protocol allows: one failure takes it down, and no return brings it up again (I1).
/// Threads: one returns, one ejects, and the connect of the main thread fails.
/// Mutation that fails it: `end_recovery` checks neither that the server recovers nor the outage number.
pub fn a_recovery_ends_by_the_protocol() {
    check(3, || {
        let tier = Tier::<2>::new();
        assert!(tier.connect_fails(0, tier.outage(0)));
        let outage = tier.outage(0);
        tier.health[0].begin_recovery(&tier.serving, outage, time(2)).expect("it is down");
        let returns = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || tier.health[0].end_recovery(outage))
        };
        let ejects = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || matches!(tier.eject(0, outage, 0.5), Ejected::Down(_)))
        };
        let failed = tier.connect_fails(0, outage);
        returns.join().unwrap();
        assert_ne!(failed, ejects.join().unwrap(), "exactly one takes the server down");
        assert!(tier.health[0].snapshot().is_down());
        assert!(!tier.health[0].end_recovery(outage));
        tier.assert_counted();
    });
}

/// Property: once connections begin anew, what fails by the older ones counts nothing (I1).
/// Threads: at a reset, a connect from before it fails, and a third thread ejects by older failures.
/// Mutation that fails it: `begin_anew` does not hold the lock, or keeps the outage number.
pub fn failures_from_before_a_reset_count_nothing() {
    check(3, || {
        let tier = Tier::<2>::new();
        let older = tier.outage(0);
        let fails = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || tier.connect_fails(0, older))
        };
        let ejects = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || matches!(tier.eject(0, older, 0.5), Ejected::Down(_)))
        };
        tier.health[0].begin_anew(time(1));
        let is_down = tier.health[0].snapshot().is_down();
        let went_down = fails.join().unwrap() | ejects.join().unwrap();
        assert_eq!((went_down, tier.health[0].snapshot().is_down()), (is_down, is_down), "it went down later");
        tier.assert_counted();
    });
}

/// Property: a transition under the lock keeps what one without it did meanwhile.
/// Threads: one ends the recovery, or the ejection; the main thread disables the server.
/// Mutation that fails it: `set` stores instead of a CAS.
pub fn an_order_keeps_the_state() {
    for is_ejected in [false, true] {
        check(3, move || {
            let tier = Tier::<2>::new();
            assert!(matches!(tier.eject(0, tier.outage(0), 0.5), Ejected::Down(_)));
            let outage = tier.outage(0);
            if !is_ejected {
                tier.health[0].begin_recovery(&tier.serving, outage, time(1)).expect("it is down");
            }
            let ends = {
                let tier = Arc::clone(&tier);
                thread::spawn(move || match is_ejected {
                    true => assert!(tier.health[0].end_ejection()),
                    false => assert!(tier.health[0].end_recovery(outage)),
                })
            };
            assert!(tier.health[0].set_disabled(&tier.serving, true, time(1)));
            ends.join().unwrap();
            let health = tier.health[0].snapshot();
            let state = if is_ejected { HealthState::Down } else { HealthState::Up };
            assert_eq!((health.state(), health.is_ejected(), health.is_disabled()), (state, false, true));
            tier.assert_counted();
        });
    }
}

/// Property: an outage is ended once, by its trial or because connections answer, and an ejection is ended by neither
/// an answer nor twice (I1).
/// Threads: the trial succeeds; connections answer; a third thread ends the ejection, if the server is ejected.
/// Mutation that fails it: `come_up` does not check whether the server is ejected; `come_back` does not check the
/// state.
pub fn an_outage_is_ended_once() {
    for is_ejected in [false, true] {
        check(3, move || {
            let tier = Tier::<2>::new();
            if is_ejected {
                assert!(matches!(tier.eject(0, tier.outage(0), 0.5), Ejected::Down(_)));
            } else {
                assert!(tier.connect_fails(0, tier.outage(0)));
            }
            let outage = tier.outage(0);
            let recovers = {
                let tier = Arc::clone(&tier);
                thread::spawn(move || tier.health[0].begin_recovery(&tier.serving, outage, time(1)).is_some())
            };
            let ends = {
                let tier = Arc::clone(&tier);
                thread::spawn(move || tier.health[0].end_ejection())
            };
            let answers = tier.health[0].come_up(&tier.serving, outage, time(1));
            let (recovers, ends) = (recovers.join().unwrap(), ends.join().unwrap());
            assert_ne!(recovers, answers, "exactly one ends the outage");
            assert!(!(is_ejected && answers && !ends), "an answer ended the ejection");
            let state = if recovers { HealthState::Recovering } else { HealthState::Up };
            let health = tier.health[0].snapshot();
            assert_eq!((health.state(), health.outage(), health.is_ejected()), (state, outage, false));
            tier.assert_counted();
        });
    }
}

/// Property: an ejection that is seen has its own end, or that of a later one (I3).
/// Threads: one ejects, recovers and ejects again for longer; one reports a failure of the first outage, late; the main
/// one looks.
/// Mutation that fails it: `eject` writes the end although the server is ejected already, or the load or the CAS of the
/// word is Relaxed.
pub fn an_ejection_that_is_seen_has_its_end() {
    check(3, || {
        let tier = Tier::<2>::new();
        let first = tier.outage(0);
        let fails_for = |tier: &Tier<2>, outage, until| {
            matches!(tier.health[0].eject(&tier.serving, outage, 0.5, time(1), |_| time(until)), Ejected::Down(_))
        };
        let ejects = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || {
                if fails_for(&tier, first, 2) {
                    let outage = tier.outage(0);
                    tier.health[0].begin_recovery(&tier.serving, outage, time(2)).expect("it is down");
                    assert!(fails_for(&tier, outage, 3));
                    assert_eq!(tier.health[0].ejected_until(), Some(time(3)));
                }
            })
        };
        let late = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || fails_for(&tier, first, 9))
        };
        let seen = tier.health[0].ejected_until();
        assert!(seen.is_none_or(|until| [2, 3, 9].map(time).contains(&until)), "{seen:?}");
        ejects.join().unwrap();
        let until = if late.join().unwrap() { 9 } else { 3 };
        assert_eq!(tier.health[0].ejected_until(), Some(time(until)));
    });
}

/// Property: the time served is that between the changes that began and ended it, in the order in which they happened.
/// Threads: one enables a server that was ejected twice in a row, and a connect of it fails. Then it is disabled before
/// it recovers; a later ejection is the third in a row, since it has not served.
/// Mutation that fails it: `set_bits` notes the change only after another one, with the lock taken anew.
pub fn time_out_of_rotation_is_not_served() {
    check(3, || {
        let tier = Tier::<2>::new();
        let eject = |now| {
            let ejections = Cell::new(0);
            let until = |in_a_row| {
                ejections.set(in_a_row);
                time(now)
            };
            let ejected = tier.health[0].eject(&tier.serving, tier.outage(0), 1.0, time(now), until);
            assert!(matches!(ejected, Ejected::Down(_)));
            ejections.get()
        };
        let recover = || tier.health[0].begin_recovery(&tier.serving, tier.outage(0), time(1)).expect("it is down");
        for in_a_row in [1, 2] {
            assert_eq!(eject(1), in_a_row);
            recover();
        }
        assert!(tier.health[0].set_disabled(&tier.serving, true, time(1)));
        let enables = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || assert!(tier.health[0].set_disabled(&tier.serving, false, time(1))))
        };
        assert!(tier.connect_fails(0, tier.outage(0)));
        enables.join().unwrap();
        assert!(tier.health[0].set_disabled(&tier.serving, true, time(1)));
        recover();
        assert_eq!(eject(60_000), 3);
        tier.assert_counted();
    });
}
