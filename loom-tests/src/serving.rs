//! Models of the number of servers that serve, by the transitions of `health` that keep it.

use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;

use crate::check;
use crate::health::Tier;
use crate::raw::{Ejected, Time};

/// Property: concurrent ejections keep the bound (I1).
/// Threads: three eject one of three servers each; one of them may be ejected.
/// Mutation that fails it: `lower_within` subtracts without a CAS, or `eject` counts out regardless of the bound.
pub fn ejections_keep_the_bound() {
    check(3, || {
        let tier = Tier::<3>::new();
        let eject = |tier: &Tier<3>, at| match tier.eject(at, tier.outage(at), 0.5) {
            Ejected::Down(_) => 1,
            Ejected::Refused => 0,
            Ejected::Ignored => panic!("the server is up"),
        };
        let others = [1, 2].map(|at| {
            let tier = Arc::clone(&tier);
            thread::spawn(move || eject(&tier, at))
        });
        let here = eject(&tier, 0);
        assert_eq!(here + others.map(|other| other.join().unwrap()).iter().sum::<usize>(), 1);
        assert_eq!(tier.serving.serving(), 2);
        tier.assert_counted();
    });
}

/// Property: a server that is seen down is counted out, so that the last one is not ejected (I1).
/// Threads: a connect of one server fails; another thread that sees this ejects the other server.
/// Mutation that fails it: a transition counts the server out after its CAS.
pub fn the_last_server_is_not_ejected() {
    check(3, || {
        let tier = Tier::<2>::new();
        let fails = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || assert!(tier.connect_fails(0, tier.outage(0))))
        };
        let sees = tier.health[0].snapshot().is_down();
        // Pairs with the CAS of the transition.
        fence(Ordering::Acquire);
        let ejected = tier.eject(1, tier.outage(1), 1.0);
        assert!(!sees || ejected == Ejected::Refused, "no server is left");
        fails.join().unwrap();
        tier.assert_counted();
    });
}

/// Property: several threads that stop one server at the same time count it out once (I2), and the only server that
/// serves is not ejected (I1).
/// Threads: one disables a server and one removes it; the main thread ejects it.
/// Mutation that fails it: `lower_within` does not ask whether another server serves, or a transition does not hold the
/// lock.
pub fn the_only_server_that_serves_is_not_ejected() {
    check(3, || {
        let tier = Tier::<2>::new();
        assert!(tier.connect_fails(1, tier.outage(1)));
        let outage = tier.outage(0);
        let changes = [Change::Disabled(true), Change::Removed(true)].map(|other| {
            let tier = Arc::clone(&tier);
            thread::spawn(move || change(&tier, 0, other))
        });
        assert!(!matches!(tier.eject(0, outage, 1.0), Ejected::Down(_)));
        changes.into_iter().for_each(|change| change.join().unwrap());
        assert_eq!(tier.serving.serving(), 0);
        tier.assert_counted();
    });
}

/// Property: a server counts as serving only once it serves, and the thread that ejects another sees it serve (I1).
/// Threads: the trial of a down server succeeds; the main thread ejects the other server.
/// Mutation that fails it: a transition counts the server in before its CAS; `raise` or `lower_within` is Relaxed in
/// the word for all.
pub fn a_server_counts_once_it_serves() {
    check(3, || {
        let tier = Tier::<2>::new();
        assert!(tier.connect_fails(0, tier.outage(0)));
        let outage = tier.outage(0);
        let recovers = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || assert!(tier.health[0].begin_recovery(&tier.serving, outage, Time::ZERO).is_some()))
        };
        let ejected = tier.eject(1, tier.outage(1), 1.0);
        assert!(ejected == Ejected::Refused || tier.health[0].snapshot().serves(), "no server is seen to serve");
        recovers.join().unwrap();
        tier.assert_counted();
    });
}

/// A change of a server that others may race with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    ConnectFails,
    Ejected,
    Recovers,
    Answers,
    Removed(bool),
    Disabled(bool),
    /// Moves to that tier, as in the pool: counted as registered in both meanwhile.
    MovesTo(usize),
}

fn change(tier: &Tier<2>, at: usize, change: Change) {
    let (health, serving) = (&tier.health[at], &tier.serving);
    let outage = health.snapshot().outage();
    match change {
        Change::ConnectFails => drop(tier.connect_fails(at, outage)),
        Change::Ejected => drop(tier.eject(at, outage, 1.0)),
        Change::Recovers => drop(health.begin_recovery(serving, outage, Time::ZERO)),
        Change::Answers => drop(health.come_up(serving, outage, Time::ZERO)),
        Change::Removed(is) => {
            // As in the pool: registered before it may serve, and removed after it served.
            if !is {
                serving.register(health.snapshot().tier());
            }
            assert!(health.set_removed(serving, is, Time::ZERO));
            if is {
                serving.remove(health.snapshot().tier());
            }
        }
        Change::Disabled(is) => assert!(health.set_disabled(serving, is, Time::ZERO)),
        Change::MovesTo(to) => {
            let from = health.snapshot().tier();
            serving.register(to);
            assert!(health.set_tier(serving, to, Time::ZERO));
            serving.remove(from);
        }
    }
}

/// Property: when no change is under way, the count is the number of servers that serve (I2).
/// Threads: each of three makes a change of one server, for several sets of three, from each state of the server.
/// Mutation that fails it: a transition counts a server in that it did not count out, or in its old tier.
pub fn the_count_ends_as_the_truth() {
    use Change::{Answers, ConnectFails, Disabled, Ejected, MovesTo, Recovers, Removed};
    for (first, changes) in [
        (None, [ConnectFails, Ejected, Removed(true)]),
        (None, [ConnectFails, Disabled(true), Removed(true)]),
        (Some(ConnectFails), [Recovers, Disabled(true), ConnectFails]),
        (Some(ConnectFails), [Recovers, Answers, Removed(true)]),
        (Some(Removed(true)), [Removed(false), ConnectFails, Ejected]),
        (Some(Disabled(true)), [Disabled(false), Removed(true), Ejected]),
        (None, [ConnectFails, MovesTo(1), Ejected]),
        (Some(ConnectFails), [Recovers, MovesTo(1), Answers]),
    ] {
        check(2, move || {
            let tier = Tier::<2>::new();
            if let Some(first) = first {
                change(&tier, 0, first);
            }
            let others = [changes[0], changes[1]].map(|other| {
                let tier = Arc::clone(&tier);
                thread::spawn(move || change(&tier, 0, other))
            });
            change(&tier, 0, changes[2]);
            for other in others {
                other.join().unwrap();
            }
            tier.assert_counted();
        });
    }
}

/// Property: a fault of one server, the ejection of another and the return of a third keep the bound, and the count
/// ends as the truth (I1, I2).
/// Threads: a connect of a server fails, and a down one recovers; the main thread ejects the third server. If both
/// others were down the ejection is refused.
/// Mutation that fails it: a transition counts the server out after its CAS, or in before it.
pub fn the_bound_holds_beside_other_changes() {
    check(3, || {
        let tier = Tier::<3>::new();
        assert!(tier.connect_fails(0, tier.outage(0)));
        let recovers = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || {
                assert!(tier.health[0].begin_recovery(&tier.serving, tier.outage(0), Time::ZERO).is_some())
            })
        };
        let fails = {
            let tier = Arc::clone(&tier);
            thread::spawn(move || assert!(tier.connect_fails(1, tier.outage(1))))
        };
        let sees = tier.health[1].snapshot().is_down();
        // Pairs with the CAS of the transition.
        fence(Ordering::Acquire);
        let ejected = tier.eject(2, tier.outage(2), 2.0 / 3.0);
        let serves = tier.health[0].snapshot().serves();
        assert!(!sees || ejected == Ejected::Refused || serves, "no server is seen to serve");
        recovers.join().unwrap();
        fails.join().unwrap();
        tier.assert_counted();
    });
}

/// Property: of several tiers with one server each, concurrent ejections leave one that serves (I1), and the last tier
/// keeps the part that the bound says.
/// Threads: each of three ejects the server of one tier, with a bound that the last server of a tier passes.
/// Mutation that fails it: `lower_within` counts a server out of its tier alone, or among all without a CAS.
pub fn ejections_leave_a_server_of_some_tier() {
    check(2, || {
        let tier = Tier::<3>::of([0, 1, 2]);
        let others = [1, 2].map(|at| {
            let tier = Arc::clone(&tier);
            thread::spawn(move || matches!(tier.eject(at, tier.outage(at), 1.0), Ejected::Down(_)))
        });
        let here = matches!(tier.eject(0, tier.outage(0), 1.0), Ejected::Down(_));
        let ejected = others.map(|other| other.join().unwrap());
        let count = usize::from(here) + ejected.iter().filter(|&&ejected| ejected).count();
        assert_eq!((count, tier.serving.serving()), (2, 1));
        tier.assert_counted();
    });
}
