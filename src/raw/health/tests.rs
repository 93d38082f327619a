use core::time::Duration;

use super::{Ejected, Health, HealthState, Outage, Serving, Time};

fn at(seconds: u64) -> Time {
    Time::ZERO.after(Duration::from_secs(seconds))
}

fn servers(count: u32) -> (Serving, Vec<Health>) {
    let serving = Serving::default();
    let health = (0..count).map(|_| {
        serving.register();
        serving.raise();
        Health::default()
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
