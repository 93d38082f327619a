//! Ejection by reported failures: how many, how long, and of how many servers.

use super::*;
use crate::calls::acquire_of;

fn ejection(b: Builder<ScriptedConnector>, ejection: Ejection) -> Builder<ScriptedConnector> {
    steady(b).server("b").ejection(ejection)
}

#[tokio::test]
async fn consecutive_failures_eject() {
    let rig = Rig::manual(|b| ejection(b, Ejection::new()));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 10).await;
    let mut next = || of_a.pop().expect("ten connections were in use");
    for _ in 0..4 {
        next().fail("one of four");
    }
    next().release();
    for _ in 0..4 {
        next().fail("one of four again");
    }
    assert_eq!(state(&rig), ServerState::Up, "a good return starts the count anew");
    next().fail("the fifth");
    let retry_after = ejected_for(&rig).expect("it is ejected");
    assert!((SECOND / 2..=SECOND * 3 / 2).contains(&retry_after), "{retry_after:?}");
}

#[tokio::test]
async fn failures_further_apart_than_ten_seconds_do_not_add_up() {
    for (distance, is_ejected) in [(5_000, true), (5_001, false), (10_000, false)] {
        let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(3)));
        let [of_a, _of_b] = acquired_of_each(&rig, 3).await;
        for conn in of_a {
            rig.clock.advance(Duration::from_millis(distance));
            conn.fail("now and then");
        }
        assert_eq!(ejected_for(&rig).is_some(), is_ejected, "one each {distance} ms");
    }
}

/// One failure in a thousand, the others end without a verdict.
#[tokio::test]
async fn rare_failures_do_not_add_up() {
    let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(2)));
    for _ in 0..20 {
        acquired(&rig).await.fail("rare");
        acquired(&rig).await.discard();
        rig.clock.advance(SECOND * 11);
        settle().await;
    }
    assert!(rig.pool.status().servers.iter().all(|server| server.state == ServerState::Up));
}

#[tokio::test]
async fn only_server_is_not_ejected() {
    let rig = Rig::manual(|b| ejects_at_once(steady(b), MINUTE));
    for _ in 0..20 {
        acquired(&rig).await.fail("broken");
        acquired(&rig).await.fail_for("come back later", MINUTE);
        assert_eq!(state(&rig), ServerState::Up);
    }
}

#[tokio::test]
async fn ejections_stop_at_the_ratio() {
    for (ratio, most) in [(0.0, 0), (0.25, 1), (0.5, 2), (0.74, 2), (1.0, 3)] {
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(ratio).base(MINUTE).max(MINUTE);
        let rig = Rig::manual(|b| steady(b).servers(["b", "c", "d"]).ejection(ejection.clone()));
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(acquired(&rig).await);
        }
        held.into_iter().for_each(|conn| conn.fail("broken"));
        let servers = rig.pool.status().servers;
        let ejected = servers.iter().filter(|server| matches!(server.state, ServerState::Ejected { .. })).count();
        assert_eq!(ejected, most, "at most {ratio}");
    }
}

#[tokio::test]
async fn disabled_servers_are_ejected_within_the_ratio() {
    for (ratio, is_ejected) in [(0.5, false), (0.67, true)] {
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(ratio).base(MINUTE).max(MINUTE);
        let rig = Rig::manual(|b| steady(b).servers(["b", "c"]).ejection(ejection.clone()));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(acquired(&rig).await);
        }
        held.sort_by(|a, b| a.address().cmp(b.address()));
        held.pop().expect("that of c").fail("broken");
        rig.pool.disable("a", None).expect("it is registered");
        held.remove(0).fail("broken");
        rig.pool.enable("a").expect("it is registered");
        assert_eq!(ejected_for(&rig).is_some(), is_ejected, "two of three would not serve, at most {ratio}");
    }
}

#[tokio::test]
async fn failures_of_connections_from_before_a_reset_eject_nothing() {
    let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(2)));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 3).await;
    let mut fail = || of_a.pop().expect("three").fail("broken");
    fail();
    rig.pool.reset();
    fail();
    assert_eq!(state(&rig), ServerState::Up);
    fail();
    acquire_of(&rig, "a").await.fail("broken");
    assert_eq!(state(&rig), ServerState::Up, "one failure since the reset");
    acquire_of(&rig, "a").await.fail("broken");
    assert!(ejected_for(&rig).is_some());
}

#[tokio::test]
async fn servers_down_by_connecting_use_up_the_ratio_and_are_not_refused() {
    let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(1)));
    let [of_a, of_b] = acquired_of_each(&rig, 1).await;
    rig.connector.on_connect("a", Connect::Refuse);
    rig.connector.on_connect("b", Connect::Refuse);
    let _ = rig.pool.acquire_now().await;
    let _ = rig.pool.acquire_now().await;
    let states = || rig.pool.status().servers.into_iter().map(|server| server.state).collect::<Vec<_>>();
    assert_eq!(states(), [down(1, MINUTE), down(1, MINUTE)], "nothing has answered");
    drop((of_a, of_b));
    let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(1)));
    let [_of_a, of_b] = acquired_of_each(&rig, 1).await;
    rig.connector.next_connects("a", [Connect::Refuse]);
    let waiters = [waiting(&rig), waiting(&rig)];
    settle().await;
    assert_eq!(state(&rig), down(1, MINUTE));
    of_b.into_iter().for_each(|conn| conn.fail("broken"));
    assert_eq!(rig.pool.status().servers[1].state, ServerState::Up, "it is the last that serves");
    waiters.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn fail_for_ejects_at_once_for_its_time() {
    let rig = Rig::manual(|b| ejection(b, Ejection::new()));
    let [mut of_a, mut of_b] = acquired_of_each(&rig, 1).await;
    of_a.remove(0).fail_for("too many requests", SECOND * 7);
    assert_eq!(ejected_for(&rig), Some(SECOND * 7));
    of_b.remove(0).fail_for("too many requests", SECOND * 7);
    assert_eq!(rig.pool.status().servers[1].state, ServerState::Up, "the bound holds");
    // It is probed when the time is over, and not before.
    let busy = async || rig.pool.try_acquire().map_or((), PooledConn::release);
    pass(&rig, Duration::from_millis(6_500), busy).await;
    assert!(ejected_for(&rig).is_some() && rig.connector.counts("a").attempts == 1);
    pass(&rig, SECOND, busy).await;
    assert_eq!(rig.connector.counts("a").attempts, 2);
}

#[tokio::test]
async fn report_failure_for_ejects_at_once_while_the_connection_stays_in_hand() {
    let rig = Rig::manual(|b| ejection(b, Ejection::new()));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 1).await;
    let mut conn = of_a.remove(0);
    conn.report_failure_for("too many requests", SECOND * 7);
    assert_eq!(ejected_for(&rig), Some(SECOND * 7));
    let totals = || rig.pool.status().servers[0].totals;
    assert_eq!((rig.pool.status().servers[0].open, totals().failures, totals().successes), (1, 1, 0));
    // What follows in this use changes nothing.
    conn.report_failure_for("too many requests", MINUTE);
    conn.report_success();
    conn.release();
    assert_eq!((ejected_for(&rig), totals().failures, totals().successes), (Some(SECOND * 7), 1, 0));
}

#[tokio::test]
async fn unenforced_ejection_counts_and_leaves_the_server_up() {
    let (recorder, _guard) = events::record();
    let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(3).enforce(false)));
    let [of_a, _of_b] = acquired_of_each(&rig, 7).await;
    recorder.take();
    for conn in of_a {
        conn.fail("broken");
        assert_eq!(state(&rig), ServerState::Up);
    }
    let events = recorder.take();
    let warnings: Vec<_> =
        events.iter().filter(|event| event.is_warning()).map(|event| event.field("failures")).collect();
    assert_eq!(warnings, ["3", "3"], "the count starts again: {events:?}");
}

#[tokio::test]
async fn each_ejection_in_a_row_is_longer_and_ten_seconds_of_service_forgive_one() {
    let base = Duration::from_secs(4);
    let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(1).base(base).max(base * 2)));
    // A probe of "a" needs a caller, and a recovery ends by the first failure.
    let eject_once = async || {
        let mut others = Vec::new();
        let ejected = loop {
            match acquired(&rig).await {
                conn if conn.address() == "a" => {
                    conn.fail("accepts, then fails");
                    break ejected_for(&rig).expect("it is ejected");
                }
                conn => others.push(conn),
            }
        };
        others.into_iter().for_each(PooledConn::release);
        ejected
    };
    let mut factor = 1.0_f64;
    for _ in 0..6 {
        let ejected = eject_once().await.as_secs_f64() / base.as_secs_f64();
        assert!((factor * 0.499..=factor * 1.501).contains(&ejected), "{ejected} instead of {factor}");
        factor = (factor * 1.5).min(2.0);
        let busy = async || {
            rig.pool
                .try_acquire()
                .map_or((), |conn| if conn.address() == "a" { conn.discard() } else { conn.release() })
        };
        while ejected_for(&rig).is_some() {
            pass(&rig, SECOND / 2, busy).await;
        }
    }
    // It serves for a long time, and all is forgiven.
    pass(&rig, MINUTE * 6, async || rig.pool.try_acquire().map_or((), PooledConn::release)).await;
    assert_eq!(state(&rig), ServerState::Up);
    let ejected = eject_once().await;
    assert!((base / 2..=base * 3 / 2).contains(&ejected), "{ejected:?}");
}

#[tokio::test]
async fn ejections_end_when_no_server_serves() {
    let rig = Rig::manual(two);
    let [of_a, of_b] = acquired_of_each(&rig, 1).await;
    of_a.into_iter().for_each(|conn| conn.fail_for("broken", MINUTE * 100));
    assert!(ejected_for(&rig).is_some());
    rig.connector.next_connects("b", [Connect::Refuse]);
    let waiter = waiting(&rig);
    settle().await;
    assert_eq!(rig.pool.status().servers[1].state, down(1, MINUTE));
    pass(&rig, SECOND, async || {}).await;
    assert_eq!(waiter.await.expect("the caller was served").address(), "a", "it is probed at once");
    drop(of_b);
}

#[tokio::test]
async fn failures_of_connections_from_before_outage_are_ignored() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(4));
    let [of_a, _of_b] = acquired_of_each(&rig, 4).await;
    let mut stale = of_a.into_iter();
    let mut fail_one = || stale.next().expect("four connections were in use").fail_for("stale", MINUTE);
    fail_one();
    pass(&rig, SECOND * 10, async || {}).await;
    fail_one();
    assert_eq!(ejected_for(&rig), Some(SECOND * 50), "the server stays down as it was");
    rig.connector.next_connects("a", [Connect::Slow(SECOND)]);
    let waiter = waiting(&rig);
    pass(&rig, SECOND * 51, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!((probed.address(), state(&rig)), ("a", ServerState::Recovering));
    fail_one();
    assert_eq!(state(&rig), ServerState::Recovering);
    probed.release();
    fail_one();
    assert_eq!(state(&rig), ServerState::Up);
    assert_eq!(rig.connector.counts("a").open, 1, "failed connections were closed");
}

#[tokio::test]
async fn ejection_that_was_ended_early_makes_no_later_one_longer() {
    let rig = Rig::manual(two);
    let [of_a, _of_b] = acquired_of_each(&rig, 1).await;
    of_a.into_iter().for_each(|conn| conn.fail_for("broken", MINUTE * 60));
    rig.connector.next_connects("b", [Connect::Refuse]);
    let waiter = waiting(&rig);
    pass(&rig, SECOND, async || {}).await;
    waiter.await.expect("the caller was served, since no other server serves").release();
    let busy = async || rig.pool.try_acquire().map_or((), PooledConn::release);
    pass(&rig, MINUTE * 2, busy).await;
    assert!(rig.pool.status().servers.iter().all(|server| server.state == ServerState::Up));
    let mut held = Vec::new();
    while ejected_for(&rig).is_none() {
        match acquired(&rig).await {
            conn if conn.address() == "a" => conn.fail_for("too many requests", SECOND),
            conn => held.push(conn),
        }
    }
    assert_eq!(ejected_for(&rig), Some(SECOND));
}

/// Fails a connection to `a`, which ejects it. Returns for how long.
async fn failed(rig: &Rig) -> Duration {
    let mut held = Vec::new();
    let ejected = loop {
        match acquired(rig).await {
            conn if conn.address() == "a" => {
                conn.fail("accepts, then fails");
                break ejected_for(rig).expect("it is ejected");
            }
            conn => held.push(conn),
        }
    };
    held.into_iter().for_each(PooledConn::release);
    ejected
}

#[tokio::test]
async fn only_time_in_service_forgives_ejections() {
    let base = Duration::from_secs(4);
    let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(1).base(base).max(base * 100)));
    let mut ejected = Duration::ZERO;
    for _ in 0..6 {
        ejected = failed(&rig).await;
        // No caller has it probed.
        pass(&rig, MINUTE * 10, async || {}).await;
    }
    assert!(ejected >= base.mul_f64(1.5_f64.powi(5) * 0.499), "{ejected:?} is not that of the sixth in a row");
}

#[tokio::test]
async fn time_while_a_server_is_disabled_forgives_no_ejection() {
    let base = Duration::from_secs(4);
    let rig = Rig::manual(|b| ejection(b, Ejection::new().consecutive_failures(1).base(base).max(base * 100)));
    let busy = async || {
        rig.pool.try_acquire().map_or((), |conn| if conn.address() == "a" { conn.discard() } else { conn.release() })
    };
    let mut ejected = Duration::ZERO;
    for _ in 0..6 {
        ejected = failed(&rig).await;
        while ejected_for(&rig).is_some() {
            pass(&rig, SECOND / 2, busy).await;
        }
        rig.pool.disable("a", None).expect("it is registered");
        pass(&rig, MINUTE * 10, async || {}).await;
        rig.pool.enable("a").expect("it is registered");
    }
    assert!(ejected >= base.mul_f64(1.5_f64.powi(5) * 0.499), "{ejected:?} is not that of the sixth in a row");
}
