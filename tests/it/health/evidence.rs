//! Which connect faults take a server down: overload leaves it up, a server that answers nothing goes down.

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);

/// One server, with a short connect timeout.
fn single(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    steady(b).connect_timeout(TIMEOUT).hedge_delay(MINUTE)
}

/// Lets one more attempt run, for a caller that waits.
async fn attempted(rig: &Rig, connect: Connect) -> JoinHandle<PooledConn<ScriptedConnector>> {
    rig.connector.on_connect("a", connect);
    let waiter = waiting(rig);
    settle().await;
    waiter
}

#[tokio::test]
async fn refused_attempt_leaves_up_a_server_whose_connections_have_answered() {
    for in_use in [false, true] {
        let rig = Rig::manual(single);
        acquired(&rig).await.release();
        let first = acquired(&rig).await;
        let waiter = attempted(&rig, Connect::Refuse).await;
        let mut held = Some(first);
        if !in_use {
            // The waiter gets it, and gives it back.
            held.take().into_iter().for_each(PooledConn::release);
            waiter.await.expect("the caller was served").release();
        }
        let server = rig.pool.status().servers.remove(0);
        assert_eq!((server.state, server.connecting_paused), (ServerState::Up, Some(MINUTE)), "in use: {in_use}");
    }
}

#[tokio::test]
async fn refused_attempt_takes_down_a_server_whose_connections_have_not_answered() {
    let rig = Rig::manual(single);
    let _held = acquired(&rig).await;
    let waiter = attempted(&rig, Connect::Refuse).await;
    assert_eq!(state(&rig), down(1, MINUTE));
    waiter.abort();
}

#[tokio::test]
async fn refused_attempt_takes_down_a_server_whose_connections_have_answered_before_a_reset_or_a_move_only() {
    for (change, answers) in
        [("reset", false), ("update", false), ("update", true), ("removal", false), ("removal", true)]
    {
        let rig = Rig::manual(single);
        acquired(&rig).await.release();
        let mut held = acquired(&rig).await;
        let moved = Server::named("a", "b");
        match change {
            "reset" => rig.pool.reset(),
            "update" => rig.pool.update(moved).expect("it is registered"),
            _ => {
                rig.pool.deregister("a").expect("it is registered");
                rig.pool.register(moved).expect("it was removed");
            }
        }
        if answers {
            // The old address does.
            held.report_success();
        }
        for address in ["a", "b"] {
            rig.connector.on_connect(address, Connect::Refuse);
        }
        let waiter = waiting(&rig);
        settle().await;
        assert_eq!(state(&rig), down(1, MINUTE), "{change}, answers: {answers}");
        waiter.abort();
    }
}

#[tokio::test]
async fn refused_attempt_leaves_up_a_server_one_of_whose_connections_came_back_well_since_a_reset() {
    let rig = Rig::manual(single);
    let [first, mut second] = [acquired(&rig).await, acquired(&rig).await];
    rig.pool.reset();
    first.release();
    assert_eq!(rig.pool.status().servers[0].open, 1, "it is of before the reset");
    second.report_success();
    let waiter = attempted(&rig, Connect::Refuse).await;
    assert_eq!(state(&rig), ServerState::Up);
    waiter.abort();
}

#[tokio::test]
async fn refused_attempt_takes_down_a_server_whose_idle_connections_are_dead() {
    let rig = Rig::manual(|b| single(b).server(Server::new("b").max_conns(1)));
    // Both come back well. Then the server dies, and one more is asked of it.
    let [of_a, of_b] = acquired_of_each(&rig, 1).await;
    of_a.into_iter().for_each(PooledConn::release);
    rig.connector.kill_connections("a");
    rig.connector.on_connect("a", Connect::SlowRefuse(SECOND));
    let waiter = waiting(&rig);
    settle().await;
    pass(&rig, SECOND * 2, async || {}).await;
    assert!(matches!(state(&rig), ServerState::Down { failures: 1, .. }), "{:?}", state(&rig));
    drop(of_b);
    waiter.abort();
}

#[tokio::test]
async fn timed_out_attempt_leaves_up_a_server_that_answered_meanwhile() {
    let rig = Rig::manual(single);
    let held = acquired(&rig).await;
    let first = attempted(&rig, Connect::Never).await;
    advance_smoothly(&rig, TIMEOUT / 2).await;
    held.release();
    let held = first.await.expect("the released connection serves");
    let second = waiting(&rig);
    settle().await;
    advance_smoothly(&rig, TIMEOUT / 2).await;
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.state, server.connecting_paused), (ServerState::Up, Some(MINUTE)));
    assert!(server.connect_error.is_some_and(|error| error.contains("timed out after 2s")));
    held.release();
    second.await.expect("connections that are open serve on").release();
}

#[tokio::test]
async fn timed_out_attempt_takes_down_a_server_that_answered_only_before() {
    let rig = Rig::manual(single);
    acquired(&rig).await.release();
    let _held = acquired(&rig).await;
    advance_smoothly(&rig, SECOND).await;
    let waiter = attempted(&rig, Connect::Never).await;
    advance_smoothly(&rig, TIMEOUT).await;
    assert_eq!(state(&rig), down(1, MINUTE), "a power cut: the connection in use hangs, too");
    waiter.abort();
}

/// Its good connections serve on, and connecting to it pauses.
#[tokio::test]
async fn server_at_its_limit_keeps_serving() {
    let rig = Rig::manual(|b| single(b).backoff(SECOND / 10, SECOND));
    rig.connector.on_connect("a", Connect::Refuse);
    rig.connector.next_connects("a", [Connect::Ok, Connect::Ok]);
    let held = [acquired(&rig).await, acquired(&rig).await];
    held.into_iter().for_each(PooledConn::release);
    let mut waiters = JoinSet::new();
    for _ in 0..50 {
        let (pool, clock) = (rig.pool.clone(), rig.clock.clone());
        waiters.spawn(async move {
            let conn = pool.acquire().await.expect("there is no timeout");
            clock.sleep_until(clock.now() + SECOND).await;
            conn.release();
        });
    }
    pass(&rig, SECOND * 30, async || assert_eq!(state(&rig), ServerState::Up)).await;
    assert!(
        waiters.is_empty() || {
            while waiters.try_join_next().is_some() {}
            waiters.is_empty()
        }
    );
    assert_eq!(rig.connector.counts("a").connected, 2);
}

#[tokio::test]
async fn down_server_whose_connections_answer_is_up_again_when_it_refuses_another() {
    let rig = Rig::manual(single);
    let held = acquired(&rig).await;
    let waiter = attempted(&rig, Connect::Refuse).await;
    assert_eq!(state(&rig), down(1, MINUTE));
    held.release();
    let held = waiter.await.expect("the last resort serves");
    held.release();
    assert_eq!(rig.pool.status().servers[0].idle, 1);
    let held = acquired(&rig).await;
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up, "it is overloaded, not dead");
    held.release();
    waiter.await.expect("its connection serves").release();
}

#[tokio::test]
async fn ejected_server_whose_connections_answer_is_up_when_its_probe_is_refused() {
    for late in [Duration::ZERO, SECOND] {
        let rig = Rig::manual(|b| ejects_at_once(single(b).server("b"), MINUTE));
        let [mut of_a, _of_b] = acquired_of_each(&rig, 2).await;
        of_a.remove(0).fail_for("come back later", MINUTE);
        of_a[0].report_success();
        rig.connector.on_connect("a", Connect::Refuse);
        pass(&rig, MINUTE + late, async || {}).await;
        assert_eq!((ejected_for(&rig), rig.connector.counts("a").attempts), (Some(Duration::ZERO), 2));
        assert!(rig.pool.try_acquire().is_err());
        settle().await;
        assert_eq!((state(&rig), rig.connector.counts("a").attempts), (ServerState::Up, 3), "{late:?} late");
    }
}

#[tokio::test]
async fn second_good_return_in_a_tick_counts_as_an_answer_where_the_server_went_down_between_them() {
    let rig = Rig::manual(|b| ejects_at_once(single(b).server("b"), MINUTE).max_conns_per_server(2));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 2).await;
    settle().await;
    of_a.remove(0).release();
    let again = acquired(&rig).await;
    assert_eq!((again.address(), PooledConn::info(&again).uses()), ("a", 1));
    of_a.remove(0).fail_for("come back later", MINUTE);
    let id = again.id();
    again.release();
    // Server "b" is full: the connections that have answered since the ejection serve.
    assert_eq!(rig.pool.try_acquire().expect("it is one").id(), id);
}

#[tokio::test]
async fn failure_that_was_reported_takes_back_what_its_connection_proved_until_it_comes_back_well() {
    for good_returns in [0, 1] {
        let rig = Rig::manual(single);
        acquired(&rig).await.release();
        let mut conn = acquired(&rig).await;
        conn.report_failure("no answer");
        conn.release();
        // In the same tick, so that only the failure makes the first of these returns one to be looked at.
        for _ in 0..good_returns {
            acquired(&rig).await.release();
        }
        let _held = acquired(&rig).await;
        assert_eq!(rig.connector.counts("a").connected, 1);
        let waiter = attempted(&rig, Connect::Refuse).await;
        let expected = if good_returns == 0 { down(1, MINUTE) } else { ServerState::Up };
        assert_eq!(state(&rig), expected, "after {good_returns}");
        waiter.abort();
    }
}

/// A server that accepts and closes at once, as one at its limit or a port forwarder without a target.
#[tokio::test]
async fn connection_refused_by_check_right_after_its_connect_counts_as_failed_connect() {
    for (age, is_failure) in [(Duration::ZERO, true), (SECOND * 2, false)] {
        let rig = Rig::manual(single);
        // Nobody waits for it: it goes to the idle queue unused.
        assert!(rig.pool.try_acquire().is_err());
        settle().await;
        assert_eq!(rig.pool.status().servers[0].idle, 1);
        rig.clock.advance(age);
        rig.connector.kill_connections("a");
        assert!(rig.pool.try_acquire().is_err());
        let is_down = matches!(state(&rig), ServerState::Down { failures: 1, .. });
        assert_eq!(is_down, is_failure, "after {age:?}: {:?}", state(&rig));
    }
}

#[tokio::test]
async fn connection_that_was_used_does_not_count_as_refused_at_once() {
    let rig = Rig::manual(single);
    acquired(&rig).await.release();
    rig.connector.kill_connections("a");
    rig.connector.on_connect("a", Connect::Never);
    assert!(rig.pool.try_acquire().is_err());
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn timed_out_attempt_of_an_older_outage_says_nothing_about_the_present_one() {
    let rig = Rig::manual(single);
    let mut held = acquired(&rig).await;
    advance_smoothly(&rig, SECOND).await;
    let first = attempted(&rig, Connect::Never).await;
    advance_smoothly(&rig, SECOND / 2).await;
    held.report_success();
    held.discard();
    // Nothing answers any more, and another attempt is refused.
    let second = attempted(&rig, Connect::Refuse).await;
    assert_eq!(state(&rig), down(1, MINUTE));
    // The first attempt times out. The server answered after it had begun, and before it went down.
    advance_smoothly(&rig, TIMEOUT).await;
    assert_eq!(rig.connector.counts("a").in_flight, 0);
    assert!(matches!(state(&rig), ServerState::Down { failures: 1, .. }), "{:?}", state(&rig));
    [first, second].iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn failed_attempt_of_an_older_outage_closes_no_connection_that_answers() {
    let rig = Rig::manual(single);
    let held = acquired(&rig).await;
    advance_smoothly(&rig, SECOND).await;
    let slow = attempted(&rig, Connect::Never).await;
    let refused = attempted(&rig, Connect::Refuse).await;
    assert!(matches!(state(&rig), ServerState::Down { .. }));
    [slow, refused].iter().for_each(JoinHandle::abort);
    settle().await;
    held.release();
    assert_eq!(rig.pool.status().servers[0].idle, 1, "it has answered in this outage");
    advance_smoothly(&rig, TIMEOUT + SECOND).await;
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((rig.connector.counts("a").in_flight, server.idle), (0, 1), "{server:?}");
}

/// The sweep finds it before a caller does.
#[tokio::test]
async fn new_connection_that_a_sweep_finds_refused_counts_as_failed_connect() {
    let rig = Rig::manual(|b| single(b).idle_timeout(SECOND));
    assert!(rig.pool.try_acquire().is_err());
    settle().await;
    rig.connector.kill_connections("a");
    advance_smoothly(&rig, SECOND / 2).await;
    let server = rig.pool.status().servers.remove(0);
    assert!(matches!(server.state, ServerState::Down { failures: 1, .. }), "{server:?}");
}

/// Its other connections answer again before the ejection is over, and the probes are refused.
#[tokio::test]
async fn ejected_server_at_its_limit_is_up_when_the_ejection_is_over() {
    let rig = Rig::manual(|b| two(b).backoff(SECOND, SECOND * 5));
    let [mut of_a, of_b] = acquired_of_each(&rig, 2).await;
    rig.connector.on_connect("a", Connect::Refuse);
    of_a.remove(0).fail_for("overloaded", SECOND * 10);
    of_a.into_iter().chain(of_b).for_each(PooledConn::release);
    let busy = async || rig.pool.try_acquire().map_or((), PooledConn::release);
    pass(&rig, Duration::from_millis(9_500), busy).await;
    assert_eq!(ejected_for(&rig), Some(SECOND / 2));
    pass(&rig, SECOND * 2, busy).await;
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (ServerState::Up, 1));
}

#[tokio::test]
async fn connections_of_an_older_outage_close_when_others_answer() {
    let rig = Rig::manual(|b| single(b).server(Server::new("b").max_conns(1)));
    let [mut of_a, of_b] = acquired_of_each(&rig, 1).await;
    // Two attempts whose callers leave: one brings a connection that is idle unused, the other takes the server down.
    rig.connector.next_connects("a", [Connect::Slow(SECOND), Connect::Never]);
    let waiters = [waiting(&rig), waiting(&rig)];
    settle().await;
    waiters.iter().for_each(JoinHandle::abort);
    advance_smoothly(&rig, TIMEOUT).await;
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (down(1, MINUTE), 1));
    let works = of_a.remove(0);
    let id = works.id();
    works.release();
    of_b.into_iter().for_each(PooledConn::release);
    rig.connector.on_connect("a", Connect::Refuse);
    let busy = async || {
        let conn = rig.pool.try_acquire().expect("the other server serves");
        assert!(conn.address() == "b" || conn.id() == id, "it died with the server, for all that is known");
        conn.release();
    };
    pass(&rig, MINUTE + SECOND, busy).await;
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (ServerState::Up, 1));
}
