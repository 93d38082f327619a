use super::*;

const TTL: Duration = Duration::from_secs(20);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy() -> Policy {
    let times = Times {
        min_interval: seconds(8),
        max_interval: seconds(60),
        keep_absent: seconds(30),
        keep_empty: Some(seconds(300)),
    };
    Policy::new("db.test", times)
}

fn endpoints(addresses: &[&str]) -> Vec<Endpoint> {
    let one = |address: &&str| Endpoint {
        address: address.parse().expect("an address"),
        host: "db.test".into(),
        priority: 0,
        weight: 1,
    };
    addresses.iter().map(one).collect()
}

fn found(addresses: &[&str]) -> Answer {
    Answer { endpoints: endpoints(addresses), ttl: TTL, ..Answer::EMPTY }
}

/// A look-up that failed, with what it found all the same.
fn failed(addresses: &[&str]) -> Answer {
    Answer { failure: Some("timeout".into()), failed_hosts: vec!["db.test".into()], ..found(addresses) }
}

fn addresses(step: &Step) -> Option<Vec<&str>> {
    step.set.as_ref().map(|set| set.iter().map(Server::address).collect())
}

const A: &str = "10.0.0.1:1";
const B: &str = "10.0.0.2:1";
const C: &str = "10.0.0.3:1";

#[test]
fn a_set_comes_with_the_first_answer_and_with_each_change() {
    let mut policy = policy();
    let step = policy.hear(found(&[B, A]), seconds(0));
    assert_eq!(addresses(&step), Some(vec![A, B]));
    assert_eq!(addresses(&policy.hear(found(&[A, B]), seconds(20))), None, "the order is no change");
    assert_eq!(addresses(&policy.hear(found(&[A, B, C]), seconds(40))), Some(vec![A, B, C]));
}

#[test]
fn the_pause_is_the_ttl_within_its_bounds() {
    let mut policy = policy();
    for (ttl, delay) in [(0, 8), (8, 8), (20, 20), (60, 60), (61, 60), (u32::MAX.into(), 60)] {
        let answer = Answer { ttl: seconds(ttl), ..found(&[A]) };
        assert_eq!(policy.hear(answer, seconds(0)).delay, seconds(delay), "TTL {ttl}");
    }
}

#[test]
fn an_address_goes_after_the_time_and_not_before() {
    let mut policy = policy();
    policy.hear(found(&[A, B]), seconds(0));
    for now in [20, 49] {
        assert_eq!(policy.hear(found(&[A]), seconds(now)).set, None, "{now} s");
    }
    assert_eq!(addresses(&policy.hear(found(&[A]), seconds(50))), Some(vec![A]));
}

#[test]
fn one_answer_removes_nothing_however_long_ago_the_last_one_was() {
    let mut policy = policy();
    policy.times.keep_absent = Duration::ZERO;
    policy.hear(found(&[A, B]), seconds(0));
    assert_eq!(policy.hear(found(&[A]), seconds(10_000)).set, None);
    assert_eq!(addresses(&policy.hear(found(&[A]), seconds(10_001))), Some(vec![A]));
}

#[test]
fn an_address_that_comes_back_is_absent_anew() {
    let mut policy = policy();
    policy.hear(found(&[A, B]), seconds(0));
    policy.hear(found(&[A]), seconds(20));
    policy.hear(found(&[B]), seconds(45));
    assert_eq!(policy.hear(found(&[A]), seconds(60)).set, None, "B is absent since 60, A was since 45");
}

#[test]
fn answers_that_rotate_through_the_addresses_remove_none() {
    let mut policy = policy();
    policy.hear(found(&[A, B, C]), seconds(0));
    for turn in 1..50 {
        let subset = [[A, B], [B, C], [C, A]][turn as usize % 3];
        assert_eq!(policy.hear(found(&subset), seconds(turn * 20)).set, None);
    }
}

#[test]
fn failed_look_ups_remove_nothing_for_ever_and_are_retried_quickly() {
    let mut policy = policy();
    policy.hear(found(&[A, B]), seconds(0));
    let delays: Vec<_> = (1..100).map(|n| policy.hear(failed(&[]), seconds(n * 1000))).collect();
    assert!(delays.iter().all(|step| step.set.is_none()));
    assert_eq!(delays.iter().map(|step| step.delay.as_secs()).take(5).collect::<Vec<_>>(), [2, 4, 8, 8, 8]);
    assert_eq!(policy.hear(found(&[A, B]), seconds(200_000)).delay, TTL);
    assert_eq!(policy.hear(failed(&[]), seconds(200_020)).delay, seconds(2), "they count from the start again");
}

#[test]
fn failures_between_answers_neither_count_nor_reset() {
    let mut policy = policy();
    policy.hear(found(&[A, B]), seconds(0));
    policy.hear(found(&[A]), seconds(20));
    assert_eq!(policy.hear(failed(&[]), seconds(60)).set, None);
    assert_eq!(addresses(&policy.hear(found(&[A]), seconds(70))), Some(vec![A]));
}

#[test]
fn a_look_up_that_failed_in_part_adds_and_removes_nothing() {
    let mut policy = policy();
    policy.hear(found(&[A]), seconds(0));
    let step = policy.hear(failed(&[B]), seconds(20));
    assert_eq!((addresses(&step), step.delay), (Some(vec![A, B]), seconds(2)));
    assert_eq!(policy.hear(failed(&[B]), seconds(1000)).set, None);
    assert_eq!(policy.hear(failed(&[B]), seconds(2000)).set, None);
}

#[test]
fn a_host_that_fails_keeps_its_addresses_and_no_others() {
    let mut policy = policy();
    let of_host = |address: &str, host: &str| Endpoint { host: host.into(), ..endpoints(&[address])[0].clone() };
    let answer = |endpoints| Answer { endpoints, ..failed(&[]) };
    policy.hear(answer(vec![of_host(A, "a"), of_host(B, "db.test"), of_host(C, "c")]), seconds(0));
    policy.hear(answer(vec![of_host(A, "a")]), seconds(20));
    assert_eq!(addresses(&policy.hear(answer(vec![of_host(A, "a")]), seconds(50))), Some(vec![A, B]));
}

#[test]
fn a_name_without_records_loses_its_servers_after_the_time() {
    let mut policy = policy();
    policy.hear(found(&[A, B]), seconds(0));
    for now in [20, 100, 319] {
        assert_eq!(policy.hear(Answer::EMPTY, seconds(now)), Step { set: None, delay: seconds(8) });
    }
    assert_eq!(addresses(&policy.hear(Answer::EMPTY, seconds(320))), Some(vec![]));
    assert_eq!(policy.hear(Answer::EMPTY, seconds(330)).set, None, "told once");
    assert_eq!(addresses(&policy.hear(found(&[B]), seconds(340))), Some(vec![B]));
}

#[test]
fn a_name_without_records_keeps_its_servers_if_that_is_set() {
    let mut policy = policy();
    policy.times.keep_empty = None;
    policy.hear(found(&[A]), seconds(0));
    for now in 1..100 {
        assert_eq!(policy.hear(Answer::EMPTY, seconds(now * 1000)).set, None);
    }
}

#[test]
fn records_between_empty_answers_start_the_time_again() {
    let mut policy = policy();
    policy.hear(found(&[A]), seconds(0));
    policy.hear(Answer::EMPTY, seconds(20));
    policy.hear(failed(&[A]), seconds(300));
    assert_eq!(policy.hear(Answer::EMPTY, seconds(330)).set, None);
    policy.hear(found(&[A]), seconds(340));
    assert_eq!(policy.hear(Answer::EMPTY, seconds(640)).set, None);
    assert_eq!(policy.hear(Answer::EMPTY, seconds(939)).set, None);
}

#[test]
fn a_failure_does_not_stop_the_time_of_a_name_without_records() {
    let mut policy = policy();
    policy.hear(found(&[A]), seconds(0));
    policy.hear(Answer::EMPTY, seconds(20));
    assert_eq!(policy.hear(failed(&[]), seconds(330)).set, None, "a failure removes nothing");
    assert_eq!(addresses(&policy.hear(Answer::EMPTY, seconds(332))), Some(vec![]));
}

#[test]
fn a_name_that_never_had_records_yields_no_set() {
    let mut policy = policy();
    for now in [0, 400, 800] {
        assert_eq!(policy.hear(Answer::EMPTY, seconds(now)).set, None);
        assert_eq!(policy.hear(failed(&[]), seconds(now + 200)).set, None);
    }
}

#[test]
fn an_absent_server_keeps_its_tier_and_share_among_those_that_are_there() {
    let mut policy = policy();
    let one = |address: &str, priority, weight| Endpoint {
        host: address.into(),
        priority,
        weight,
        ..endpoints(&[address])[0].clone()
    };
    let answer = |endpoints| Answer { endpoints, ..found(&[]) };
    // The weight of 0 scales those beside it.
    policy.hear(answer(vec![one(A, 10, 1), one(B, 20, 0), one(C, 20, 5)]), seconds(0));
    let step = policy.hear(answer(vec![one(B, 20, 5)]), seconds(20));
    let server = |address, tier, weight| Server::new(address).tag("tls_server_name", address).tier(tier).weight(weight);
    assert_eq!(step.set, Some(vec![server(A, 0, 1), server(B, 1, 5), server(C, 1, 5)]));
}
