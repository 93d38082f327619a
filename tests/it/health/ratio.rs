//! Ejection by the part of the results of ten seconds that failed.

use super::*;

/// The servers "a" and "b", with many failures in a row allowed.
fn with_ratio(ratio: Option<f64>, build: fn(Ejection) -> Ejection) -> Rig {
    let ejection = Ejection::new().consecutive_failures(1_000).failure_ratio(ratio).base(MINUTE).max(MINUTE);
    Rig::manual(|b| steady(b).server("b").ejection(build(ejection)))
}

/// Uses each server 50 times a second for some seconds. Of a hundred uses of "a", `a` fail, and of "b" one.
async fn busy(rig: &Rig, seconds: u32, a: u32) {
    let mut uses = [0, 0];
    for _ in 0..seconds * 100 {
        let conn = acquired(rig).await;
        let is_a = conn.address() == "a";
        let uses = &mut uses[usize::from(is_a)];
        *uses += 1;
        // Spread evenly, so that few follow each other.
        let failing = if is_a { a } else { 1 };
        match *uses * failing / 100 > (*uses - 1) * failing / 100 {
            true => conn.fail("as scripted"),
            false => conn.release(),
        }
        rig.clock.advance(MILLISECOND * 10);
        settle().await;
    }
}

fn states(rig: &Rig) -> [StateKind; 2] {
    let servers = rig.pool.status().servers;
    [0, 1].map(|index: usize| servers[index].state.kind())
}

#[tokio::test]
async fn server_that_fails_often_is_ejected_and_one_that_fails_seldom_is_not() {
    for (ratio, failing, expected) in
        [(Some(0.3), 40, StateKind::Ejected), (Some(0.3), 20, StateKind::Up), (None, 40, StateKind::Up)]
    {
        let rig = with_ratio(ratio, |ejection| ejection);
        busy(&rig, 4, failing).await;
        assert_eq!(states(&rig), [expected, StateKind::Up], "{failing} % fail, at most {ratio:?}");
    }
}

#[tokio::test]
async fn five_failures_in_a_row_eject_a_server_with_a_ratio_too() {
    let rig = with_ratio(Some(0.9), |ejection| ejection.consecutive_failures(5));
    let [of_a, _of_b] = acquired_of_each(&rig, 5).await;
    of_a.into_iter().for_each(|conn| conn.fail("as scripted"));
    assert_eq!(states(&rig), [StateKind::Ejected, StateKind::Up]);
}

/// So many good and so many failed uses of "a", at one moment.
async fn results(rig: &Rig, good: usize, failed: usize) {
    let [mut of_a, mut of_b] = [Vec::new(), Vec::new()];
    while of_a.len() < good + failed {
        let conn = acquired(rig).await;
        if conn.address() == "a" { of_a.push(conn) } else { of_b.push(conn) }
    }
    for (index, conn) in of_a.into_iter().enumerate() {
        if index < good { conn.release() } else { conn.fail("as scripted") }
    }
    of_b.into_iter().for_each(PooledConn::release);
}

#[tokio::test]
async fn ratio_needs_enough_results() {
    for (good, failed, expected) in [(4, 5, StateKind::Up), (5, 5, StateKind::Ejected), (6, 4, StateKind::Up)] {
        let rig = with_ratio(Some(0.5), |ejection| ejection);
        results(&rig, good, failed).await;
        pass(&rig, SECOND * 3, async || {}).await;
        assert_eq!(states(&rig)[0], expected, "{good} good, {failed} failed");
    }
    let rig = with_ratio(Some(0.5), |ejection| ejection.min_results(9));
    results(&rig, 4, 5).await;
    pass(&rig, SECOND * 3, async || {}).await;
    assert_eq!(states(&rig)[0], StateKind::Ejected);
}

#[tokio::test]
async fn results_older_than_ten_seconds_do_not_count() {
    for (distance, expected) in [(7, StateKind::Ejected), (12, StateKind::Up)] {
        let rig = with_ratio(Some(0.5), |ejection| ejection);
        for _ in 0..2 {
            results(&rig, 0, 5).await;
            pass(&rig, SECOND * distance, async || {}).await;
        }
        assert_eq!(states(&rig)[0], expected, "five failures each {distance} s");
    }
}

#[tokio::test]
async fn ejection_by_ratio_keeps_the_cap_and_the_window_starts_anew() {
    let (recorder, _guard) = events::record();
    let rig = with_ratio(Some(0.5), |ejection| ejection.max_ejected_ratio(0.0));
    recorder.take();
    for _ in 0..2 {
        results(&rig, 0, 10).await;
        pass(&rig, SECOND * 4, async || {}).await;
    }
    let warnings: Vec<_> = recorder.take().into_iter().filter(events::Recorded::is_warning).collect();
    let texts: Vec<_> = warnings.iter().map(|event| (event.field("cause"), event.field("failures"))).collect();
    let cause = "a caller reported a failure: 10 of 10 results failed";
    assert_eq!(texts, [(cause, "10"), (cause, "10")], "one for each ten");
    assert_eq!(states(&rig), [StateKind::Up; 2]);
}

#[tokio::test]
async fn failures_of_an_older_outage_do_not_count_towards_the_ratio() {
    let rig = with_ratio(Some(0.3), |ejection| ejection);
    let [mut of_a, of_b] = acquired_of_each(&rig, 10).await;
    of_b.into_iter().for_each(PooledConn::release);
    of_a.pop().expect("there are ten").fail_for("come back later", SECOND);
    let busy = async || rig.pool.try_acquire().map_or((), PooledConn::release);
    pass(&rig, MINUTE, busy).await;
    assert_eq!(states(&rig)[0], StateKind::Up, "its probe succeeded");
    of_a.into_iter().for_each(|conn| conn.fail("stale"));
    results(&rig, 0, 1).await;
    pass(&rig, SECOND * 3, async || {}).await;
    assert_eq!(states(&rig)[0], StateKind::Up, "one of many failed since");
}

fn kind_of(rig: &Rig, name: &str) -> StateKind {
    let servers = rig.pool.status().servers;
    servers.iter().find(|server| *server.name == *name).expect("it is registered").state.kind()
}

/// Discovery that flaps: the server is gone when the background task looks, and may get another number.
#[tokio::test]
async fn results_outlast_a_removal_as_the_record_does() {
    for gets_another_number in [false, true] {
        let rig = with_ratio(Some(0.5), |ejection| ejection);
        // While a connection is in use the record is kept.
        let [_held, of_b] = acquired_of_each(&rig, 1).await;
        of_b.into_iter().for_each(PooledConn::release);
        for round in 1..=3 {
            results(&rig, 2, 2).await;
            pass(&rig, SECOND * 2, async || {}).await;
            assert_eq!(kind_of(&rig, "a") == StateKind::Ejected, round == 3, "{round} times two of four failed");
            if round < 3 {
                rig.pool.deregister("a").expect("it is registered");
                pass(&rig, SECOND * 2, async || {}).await;
                if gets_another_number && round == 1 {
                    rig.pool.register("c").expect("it is new");
                }
                rig.pool.register("a").expect("it is not registered");
            }
        }
    }
}

#[tokio::test]
async fn results_while_a_server_is_removed_count_unless_they_may_be_too_old() {
    for (gap, expected) in [(3, StateKind::Ejected), (12, StateKind::Up)] {
        let rig = with_ratio(Some(0.5), |ejection| ejection.min_results(5));
        let [mut of_a, _of_b] = acquired_of_each(&rig, 6).await;
        pass(&rig, SECOND * 2, async || {}).await;
        rig.pool.deregister("a").expect("it is registered");
        of_a.drain(1..).for_each(|conn| conn.fail("as scripted"));
        pass(&rig, SECOND * gap, async || {}).await;
        rig.pool.register("a").expect("it is not registered");
        pass(&rig, SECOND * 2, async || {}).await;
        assert_eq!(kind_of(&rig, "a"), expected, "removed for {gap} s");
    }
}

#[tokio::test]
async fn ratio_ejects_after_a_stall_of_the_client_too() {
    let rig = with_ratio(Some(0.5), |ejection| ejection);
    settle().await;
    rig.clock.advance(SECOND * 5);
    settle().await;
    results(&rig, 0, 10).await;
    pass(&rig, SECOND * 3, async || {}).await;
    assert_eq!(states(&rig)[0], StateKind::Ejected);
}
