use core::time::Duration;

use super::{Ejected, Health, HealthState, Outage, Serving, Time};

fn at(seconds: u64) -> Time {
    Time::ZERO.after(Duration::from_secs(seconds))
}

fn servers(count: u32) -> (Serving, Vec<Health>) {
    let serving = Serving::default();
    let health = (0..count).map(|_| {
        let health = Health::new(0);
        serving.register(0);
        assert!(!health.snapshot().serves() && health.set_removed(&serving, false));
        health
    });
    let health = health.collect();
    (serving, health)
}

#[test]
fn goes_down_recovers_and_is_up() {
    let (serving, health) = servers(1);
    let first = health[0].snapshot().outage();
    let down = health[0].connect_failed(&serving, first, at(1)).expect("it goes down");
    assert_eq!((down.state(), down.serves(), serving.serving()), (HealthState::Down, false, 0));
    assert_eq!(health[0].connect_failed(&serving, first, at(2)), None, "failures of one outage count once");
    let second = down.outage();
    assert_ne!(first, second);
    assert_eq!(health[0].recover(&serving, first), None, "another outage");
    assert_eq!(health[0].recover(&serving, second).map(|left| left.state()), Some(HealthState::Recovering));
    assert_eq!(serving.serving(), 1);
    assert!(!health[0].recovered(&serving, first));
    assert!(health[0].recovered(&serving, second) && !health[0].recovered(&serving, second));
    assert!(health[0].snapshot().is_plainly_up());
}

#[test]
fn ejections_grow_and_are_forgiven_and_end_early() {
    let (serving, health) = servers(2);
    let health = &health[0];
    let until = |now: u64| move |ejections: u32| at(now + u64::from(ejections));
    let eject = |now| match health.eject(&serving, health.snapshot().outage(), 0.5, at(now), until(now)) {
        Ejected::Down(down) => down,
        not => panic!("{not:?}"),
    };
    let down = eject(1);
    assert_eq!((down.ejected_until(), serving.serving()), (Some(at(2)), 1));
    assert_eq!(health.eject(&serving, down.outage(), 0.5, at(1), until(1)), Ejected::Ignored);
    health.recover(&serving, down.outage()).expect("it is down");
    assert_eq!(health.snapshot().ejected_until(), None);
    let down = eject(3);
    assert_eq!(down.ejected_until(), Some(at(5)), "the second in a row");
    assert!(health.end_ejection(&serving) && !health.end_ejection(&serving));
    assert!(health.snapshot().is_down());
    health.recover(&serving, down.outage()).expect("it is down");
    assert_eq!(eject(26).ejected_until(), Some(at(27)), "two were forgiven");
}

#[test]
fn a_connect_fault_keeps_what_was_forgiven() {
    let (serving, health) = servers(2);
    let health = &health[0];
    let eject = |now: u64| {
        let until = |ejections: u32| at(now + u64::from(ejections));
        let Ejected::Down(down) = health.eject(&serving, health.snapshot().outage(), 0.5, at(now), until) else {
            panic!("it is up");
        };
        health.recover(&serving, down.outage()).expect("it is down");
        until(down.ejections())
    };
    assert_eq!((eject(1), eject(3)), (at(2), at(5)));
    let down = health.connect_failed(&serving, health.snapshot().outage(), at(40)).expect("it is up");
    health.recover(&serving, down.outage()).expect("it is down");
    assert_eq!(eject(41), at(42), "it served for 35 s before the connect fault");
}

#[test]
fn an_ejection_without_end_leaves_numbers_for_later_outages() {
    let (serving, health) = servers(2);
    let health = &health[0];
    let fail = |outage| health.connect_failed(&serving, outage, at(1));
    health.eject(&serving, health.snapshot().outage(), 0.5, at(1), |_| Time::NEVER);
    let ejected = health.snapshot().outage();
    assert!(health.end_ejection(&serving) && health.recover(&serving, ejected).is_some());
    let down = fail(ejected).expect("it is up");
    health.recover(&serving, down.outage()).expect("it is down");
    assert_eq!(fail(ejected), None, "a failure of an older outage");
}

#[test]
fn an_ejection_that_leaves_too_few_is_refused() {
    let (serving, health) = servers(2);
    let eject = |health: &Health| health.eject(&serving, health.snapshot().outage(), 0.5, at(1), |_| at(2));
    assert!(matches!(eject(&health[0]), Ejected::Down(_)));
    assert_eq!((eject(&health[1]), serving.serving()), (Ejected::Refused, 1));
    assert!(health[1].snapshot().is_plainly_up());
}

#[test]
fn a_removed_server_counts_no_more_and_keeps_its_state() {
    let (serving, health) = servers(1);
    assert!(health[0].set_removed(&serving, true) && !health[0].set_removed(&serving, true));
    assert_eq!(serving.serving(), 0);
    let down = health[0].connect_failed(&serving, health[0].snapshot().outage(), at(1)).expect("it goes down");
    assert_eq!(serving.serving(), 0);
    health[0].set_removed(&serving, false);
    assert_eq!((health[0].snapshot().state(), serving.serving()), (HealthState::Down, 0));
    assert!(health[0].answers(&serving, down.outage()));
    assert_eq!(serving.serving(), 1);
}

#[test]
fn each_outage_has_a_number_of_its_own_whatever_the_clock_says() {
    let (serving, health) = servers(1);
    let mut last = Outage::NONE;
    for _ in 0..1_000 {
        let down = health[0].connect_failed(&serving, health[0].snapshot().outage(), at(0)).expect("it goes down");
        assert_ne!(down.outage(), last);
        last = down.outage();
        health[0].recover(&serving, last).expect("it is down");
    }
    assert_eq!(format!("{:?}", health[0].snapshot()), "Recovering(outage 1000, ejections 0)");
}

#[test]
fn a_removed_server_is_not_ejected() {
    let (serving, health) = servers(3);
    health[0].set_removed(&serving, true);
    let outage = health[0].snapshot().outage();
    assert_eq!(health[0].eject(&serving, outage, 1.0, at(1), |_| at(2)), Ejected::Ignored);
    health[0].set_removed(&serving, false);
    assert!(matches!(health[0].eject(&serving, outage, 1.0, at(1), |_| at(2)), Ejected::Down(_)));
}

#[test]
fn a_changed_tier_moves_a_server_that_serves() {
    let (serving, health) = servers(2);
    serving.register(3);
    assert!(health[0].set_tier(&serving, 3) && !health[0].set_tier(&serving, 3));
    serving.remove(0);
    assert_eq!((health[0].snapshot().tier(), serving.has_serving(3), serving.has_serving(0)), (3, true, true));
    let down = health[0].connect_failed(&serving, health[0].snapshot().outage(), at(1)).expect("it goes down");
    assert_eq!((down.tier(), serving.has_serving(3), serving.serving()), (3, false, 1), "each transition keeps it");
    // While it is down it counts in no tier.
    serving.register(15);
    assert!(health[0].set_tier(&serving, 15));
    assert!(health[0].recover(&serving, down.outage()).is_some() && serving.has_serving(15));
    let outage = health[0].snapshot().outage();
    assert!(matches!(health[0].eject(&serving, outage, 1.0, at(1), |_| at(2)), Ejected::Down(_)));
    assert_eq!((health[0].snapshot().tier(), serving.has_serving(15)), (15, false));
    assert_eq!(format!("{:?}", health[1].snapshot()), "Up(outage 0, ejections 0)");
}
