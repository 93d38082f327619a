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
        assert!(!health.snapshot().serves() && health.set_removed(&serving, false, Time::ZERO));
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
    assert_eq!(health[0].begin_recovery(&serving, first, at(3)), None, "another outage");
    assert_eq!(
        health[0].begin_recovery(&serving, second, at(3)).map(|left| left.state()),
        Some(HealthState::Recovering)
    );
    assert_eq!(serving.serving(), 1);
    assert!(!health[0].end_recovery(first));
    assert!(health[0].end_recovery(second) && !health[0].end_recovery(second));
    assert!(health[0].snapshot().is_plainly_up());
}

/// Ejects a server at a time, for as many seconds as it is ejections in a row. Returns these.
fn eject(serving: &Serving, health: &Health, now: u64) -> u64 {
    let until = |ejections: u32| at(now + u64::from(ejections));
    let ejected = health.eject(serving, health.snapshot().outage(), 0.5, at(now), until);
    assert_eq!(ejected, Ejected::Down(health.snapshot()));
    health.ejected_until().expect("it is ejected").since(at(now)).as_secs()
}

fn recover(serving: &Serving, health: &Health, now: u64) {
    health.begin_recovery(serving, health.snapshot().outage(), at(now)).expect("it is down");
}

#[test]
fn ejections_grow_and_are_forgiven_by_the_time_served() {
    let (serving, health) = servers(2);
    let health = &health[0];
    assert_eq!((eject(&serving, health, 1), serving.serving()), (1, 1));
    assert_eq!(health.eject(&serving, health.snapshot().outage(), 0.5, at(1), |_| at(2)), Ejected::Ignored);
    recover(&serving, health, 1_000);
    assert_eq!((health.ejected_until(), health.snapshot().is_ejected()), (None, false));
    assert_eq!(eject(&serving, health, 1_009), 2, "it served for 9 s since");
    recover(&serving, health, 2_000);
    // A connect fault between two times of service.
    health.connect_failed(&serving, health.snapshot().outage(), at(2_006)).expect("it is up");
    recover(&serving, health, 3_000);
    assert_eq!(eject(&serving, health, 3_004), 2, "it served for 10 s since");
    recover(&serving, health, 4_000);
    assert_eq!(eject(&serving, health, 4_100), 1, "all were forgiven");
}

#[test]
fn time_while_a_server_is_disabled_or_removed_forgives_no_ejection() {
    for set in [Health::set_disabled, Health::set_removed] {
        let (serving, health) = servers(3);
        let health = &health[0];
        for ejections in 1..=3 {
            assert_eq!(eject(&serving, health, 1), ejections);
            recover(&serving, health, 1);
        }
        // It serves for 4 s before, and for 5 s afterwards.
        assert!(set(health, &serving, true, at(5)) && !set(health, &serving, true, at(6)));
        health.end_recovery(health.snapshot().outage());
        assert!(set(health, &serving, false, at(1_000)));
        assert_eq!(eject(&serving, health, 1_005), 4, "it served for 9 s");
        // Nor does the time count in which it comes out of Down.
        set(health, &serving, true, at(1_005));
        recover(&serving, health, 1_006);
        set(health, &serving, false, at(2_000));
        assert_eq!(eject(&serving, health, 2_010), 4, "it served for 10 s, which forgive one");
    }
}

#[test]
fn ejection_that_was_ended_early_makes_no_later_one_longer() {
    let (serving, health) = servers(2);
    let health = &health[0];
    let fail_for = |now, until| health.eject(&serving, health.snapshot().outage(), 0.5, at(now), |_| until);
    assert!(matches!(fail_for(1, Time::NEVER), Ejected::Down(_)));
    let ejected = health.snapshot().outage();
    assert_eq!(health.ejected_until(), Some(Time::NEVER));
    assert!(health.end_ejection() && !health.end_ejection());
    assert!(health.snapshot().is_down());
    recover(&serving, health, 2);
    assert!(matches!(fail_for(3, at(4)), Ejected::Down(_)));
    assert_eq!(health.ejected_until(), Some(at(4)));
    recover(&serving, health, 5);
    assert_eq!(health.connect_failed(&serving, ejected, at(6)), None, "a failure of an older outage");
}

#[test]
fn answers_end_an_outage_once_its_ejection_is_over() {
    let (serving, health) = servers(2);
    let health = &health[0];
    eject(&serving, health, 1);
    let outage = health.snapshot().outage();
    assert!(!health.come_up(&serving, outage, Time::from_nanos(1_999_999_999)));
    assert!(health.come_up(&serving, outage, at(2)) && health.snapshot().is_plainly_up());
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
    assert!(health[0].set_removed(&serving, true, at(1)) && !health[0].set_removed(&serving, true, at(1)));
    assert_eq!(serving.serving(), 0);
    let down = health[0].connect_failed(&serving, health[0].snapshot().outage(), at(1)).expect("it goes down");
    assert_eq!(serving.serving(), 0);
    health[0].set_removed(&serving, false, at(1));
    assert_eq!((health[0].snapshot().state(), serving.serving()), (HealthState::Down, 0));
    assert!(health[0].come_up(&serving, down.outage(), at(2)));
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
        health[0].begin_recovery(&serving, last, at(0)).expect("it is down");
    }
    assert_eq!(format!("{:?}", health[0].snapshot()), "Recovering(outage 1000)");
}

#[test]
fn a_removed_server_is_not_ejected() {
    let (serving, health) = servers(3);
    health[0].set_removed(&serving, true, at(1));
    let outage = health[0].snapshot().outage();
    assert_eq!(health[0].eject(&serving, outage, 1.0, at(1), |_| at(2)), Ejected::Ignored);
    health[0].set_removed(&serving, false, at(1));
    assert!(matches!(health[0].eject(&serving, outage, 1.0, at(1), |_| at(2)), Ejected::Down(_)));
}

#[test]
fn a_changed_tier_moves_a_server_that_serves() {
    let (serving, health) = servers(2);
    serving.register(3);
    assert!(health[0].set_tier(&serving, 3, Time::ZERO) && !health[0].set_tier(&serving, 3, Time::ZERO));
    serving.remove(0);
    assert_eq!((health[0].snapshot().tier(), serving.has_serving(3), serving.has_serving(0)), (3, true, true));
    let down = health[0].connect_failed(&serving, health[0].snapshot().outage(), at(1)).expect("it goes down");
    assert_eq!((down.tier(), serving.has_serving(3), serving.serving()), (3, false, 1), "each transition keeps it");
    // While it is down it counts in no tier.
    serving.register(15);
    assert!(health[0].set_tier(&serving, 15, Time::ZERO));
    assert!(health[0].begin_recovery(&serving, down.outage(), Time::ZERO).is_some() && serving.has_serving(15));
    let outage = health[0].snapshot().outage();
    assert!(matches!(health[0].eject(&serving, outage, 1.0, at(1), |_| at(2)), Ejected::Down(_)));
    assert_eq!((health[0].snapshot().tier(), serving.has_serving(15)), (15, false));
    assert_eq!(format!("{:?}", health[1].snapshot()), "Up(outage 0)");
}

#[test]
fn to_begin_anew_keeps_the_state_and_forgets_older_failures() {
    let (serving, health) = servers(2);
    let older = health[0].snapshot().outage();
    health[0].begin_anew(at(1));
    assert!(health[0].connect_failed(&serving, older, at(2)).is_none() && health[0].snapshot().is_plainly_up());
    let ejected = health[0].eject(&serving, health[0].snapshot().outage(), 0.5, at(2), |_| at(9));
    assert!(matches!(ejected, Ejected::Down(_)));
    let down = health[0].snapshot();
    health[0].begin_anew(at(2));
    let left = health[0].snapshot();
    assert!(left.is_ejected() && left.outage() != down.outage());
    assert_eq!((health[0].ejected_until(), serving.serving()), (Some(at(9)), 1));
    assert!(health[0].begin_recovery(&serving, down.outage(), at(9)).is_none());
    assert!(health[0].begin_recovery(&serving, left.outage(), at(9)).is_some());
}
