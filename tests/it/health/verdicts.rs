//! How a checkout ends: success, failure or neither, once.

use super::*;

/// One report ejects "a". Each test ends a connection to it.
async fn of_a(rig: &Rig) -> PooledConn<ScriptedConnector> {
    acquired_of_each(rig, 1).await[0].remove(0)
}

#[tokio::test]
async fn first_verdict_of_a_checkout_stands() {
    let rig = Rig::manual(two);
    let mut conn = of_a(&rig).await;
    conn.report_success();
    conn.report_failure("too late");
    conn.fail("too late as well");
    assert_eq!(state(&rig), ServerState::Up);
    let rig = Rig::manual(two);
    let mut conn = of_a(&rig).await;
    conn.report_failure("no answer");
    let ejected = ejected_for(&rig).expect("one report ejects it");
    conn.report_success();
    conn.release();
    assert_eq!(ejected_for(&rig), Some(ejected));
}

#[tokio::test]
async fn reported_failure_counts_once_for_a_checkout() {
    let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(2)));
    let mut conn = of_a(&rig).await;
    conn.report_failure("no answer");
    conn.report_failure("no answer");
    conn.fail("no answer");
    assert_eq!(state(&rig), ServerState::Up, "it was one request");
    of_a(&rig).await.fail("no answer");
    assert!(ejected_for(&rig).is_some(), "it was the second");
}

#[tokio::test]
async fn next_checkout_of_a_connection_has_a_verdict_of_its_own() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(1));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 1).await;
    let mut conn = of_a.remove(0);
    let id = conn.id();
    conn.report_success();
    conn.release();
    let mut conn = acquired(&rig).await;
    assert_eq!(conn.id(), id);
    conn.report_failure("no answer");
    assert!(ejected_for(&rig).is_some());
}

#[tokio::test]
async fn second_good_return_in_a_tick_clears_reported_failures_too() {
    let rig = Rig::manual(|b| {
        let ejection = Ejection::new().consecutive_failures(2);
        steady(b).server("b").ejection(ejection).max_conns_per_server(3)
    });
    let [mut of_a, _of_b] = acquired_of_each(&rig, 3).await;
    settle().await;
    of_a.remove(0).release();
    let again = acquired(&rig).await;
    assert_eq!((again.address(), PooledConn::info(&again).uses()), ("a", 1));
    of_a.remove(0).fail("no answer");
    again.release();
    of_a.remove(0).fail("no answer");
    assert_eq!(state(&rig), ServerState::Up, "the failures were not in a row");
}

#[tokio::test]
async fn reported_success_clears_reported_failures() {
    let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(2)));
    of_a(&rig).await.fail("no answer");
    let mut conn = of_a(&rig).await;
    conn.report_success();
    conn.discard();
    of_a(&rig).await.fail("no answer");
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn neutral_ends_say_nothing_about_the_server() {
    let ends: [fn(PooledConn<ScriptedConnector>); 4] =
        [PooledConn::discard, |conn| conn.broken("reset by peer"), |conn| drop(conn.detach()), drop];
    for end in ends {
        let rig = Rig::manual(two);
        for _ in 0..5 {
            end(of_a(&rig).await);
        }
        assert_eq!(state(&rig), ServerState::Up);
        // Nor do they clear failures.
        let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(2)));
        of_a(&rig).await.fail("no answer");
        end(of_a(&rig).await);
        of_a(&rig).await.fail("no answer");
        assert!(ejected_for(&rig).is_some());
    }
}

#[tokio::test]
async fn drop_after_a_long_use_without_an_answer_counts_as_failure() {
    for (used_ms, is_failure) in [(250, false), (299, false), (400, true)] {
        let rig = Rig::manual(two);
        let conn = of_a(&rig).await;
        advance_smoothly(&rig, MILLISECOND * used_ms).await;
        drop(conn);
        assert_eq!(ejected_for(&rig).is_some(), is_failure, "after {used_ms} ms");
    }
}

#[tokio::test]
async fn drop_after_a_long_use_is_neutral_where_the_server_answered_meanwhile() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(2));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 2).await;
    let slow = of_a.remove(0);
    advance_smoothly(&rig, SECOND).await;
    of_a.remove(0).release();
    advance_smoothly(&rig, SECOND).await;
    drop(slow);
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn drop_after_a_long_use_is_neutral_where_it_is_switched_off_or_has_a_verdict() {
    let rig = Rig::manual(|b| two(b).abandoned_after(None));
    let conn = of_a(&rig).await;
    advance_smoothly(&rig, MINUTE).await;
    drop(conn);
    assert_eq!(state(&rig), ServerState::Up);
    let rig = Rig::manual(two);
    let mut conn = of_a(&rig).await;
    conn.report_success();
    advance_smoothly(&rig, SECOND).await;
    drop(conn);
    assert_eq!(state(&rig), ServerState::Up);
    // An explicit discard says nothing, however long the use was.
    let conn = of_a(&rig).await;
    advance_smoothly(&rig, SECOND).await;
    conn.discard();
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn broken_closes_those_that_have_been_idle_as_long() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(10));
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(acquired(&rig).await);
    }
    let ids: Vec<_> = held.iter().map(|conn| conn.id()).collect();
    // They rest for 10, 8, 6, 4, 2 and 0 seconds.
    for conn in held {
        conn.release();
        advance_smoothly(&rig, SECOND * 2).await;
    }
    let [first, second] = [acquired(&rig).await, acquired(&rig).await];
    assert_eq!([first.id(), second.id()], ids[..2]);
    first.release();
    // The second one rested longer than those behind it, but less than the first, which has worked since.
    second.broken("reset by peer");
    assert_eq!((rig.pool.status().servers[0].idle, state(&rig)), (5, ServerState::Up));
    let rested = [acquired(&rig).await, acquired(&rig).await, acquired(&rig).await];
    let [third, fourth, fifth] = rested;
    assert_eq!(fifth.id(), ids[4]);
    third.discard();
    fourth.discard();
    // The server restarted: those that rest since before the fifth was released are dead, the others were used since.
    let [sixth, first] = [acquired(&rig).await, acquired(&rig).await];
    assert_eq!([sixth.id(), first.id()], [ids[5], ids[0]]);
    drop((sixth, first, fifth));
}

/// One silent restart costs one failed request.
#[tokio::test]
async fn silent_restart_costs_one_request() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(16));
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(acquired(&rig).await);
    }
    held.into_iter().for_each(PooledConn::release);
    let opened_before = 16;
    let mut failed = 0;
    for _ in 0..600 {
        let conn = acquired(&rig).await;
        match conn.id() <= opened_before {
            true => {
                failed += 1;
                conn.broken("reset by peer");
            }
            false => conn.release(),
        }
    }
    assert_eq!((failed, state(&rig)), (1, ServerState::Up));
}

#[tokio::test]
async fn broken_closes_connections_that_moved_since_the_checkout() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(10));
    let [first, second] = [acquired(&rig).await, acquired(&rig).await];
    first.release();
    second.release();
    advance_smoothly(&rig, SECOND).await;
    let conn = acquired(&rig).await;
    rig.pool.update(Server::new("a").max_conns(20)).expect("in range");
    assert_eq!(rig.pool.status().servers[0].idle, 1);
    conn.broken("reset by peer");
    assert_eq!(rig.pool.status().servers[0].idle, 0);
}

#[tokio::test]
async fn broken_closes_no_other_where_the_connection_was_new() {
    let rig = Rig::manual(steady);
    let rested = acquired(&rig).await;
    let new = acquired(&rig).await;
    rested.release();
    new.broken("reset by peer");
    assert_eq!(rig.pool.status().servers[0].idle, 1);
    // One that rested unused tells as much as one that was used.
    let in_use = acquired(&rig).await;
    assert!(rig.pool.try_acquire().is_err(), "this caller has another one opened");
    settle().await;
    in_use.release();
    rig.clock.advance(SECOND);
    settle().await;
    let unused = acquired(&rig).await;
    assert_eq!(PooledConn::info(&unused).uses(), 0);
    unused.broken("reset by peer");
    assert_eq!(rig.pool.status().servers[0].idle, 0);
}
