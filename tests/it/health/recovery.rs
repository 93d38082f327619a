//! Recovery: the probe's connection serves alone, until the first good return or an interval without a failure.

use super::*;

/// A server that was refused once and recovers, with its probe's connection in use.
async fn recovering(interval: Duration) -> (Rig, PooledConn<ScriptedConnector>) {
    let rig = Rig::manual(|b| steady(b).backoff(interval, interval));
    refuse_one(&rig, "a").await;
    let waiter = waiting(&rig);
    pass(&rig, interval + SECOND / 2, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!(state(&rig), ServerState::Recovering);
    (rig, probed)
}

#[tokio::test]
async fn no_further_attempt_starts_while_recovering() {
    let (rig, probed) = recovering(MINUTE).await;
    let waiters = [(); 5].map(|()| waiting(&rig));
    pass(&rig, SECOND * 30, async || assert!(rig.pool.try_acquire().is_err())).await;
    assert_eq!(rig.connector.counts("a").attempts, 2);
    probed.release();
    settle().await;
    assert!(rig.connector.counts("a").attempts > 2);
    waiters.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn good_return_ends_recovery() {
    let (rig, probed) = recovering(MINUTE).await;
    probed.release();
    assert_eq!(state(&rig), ServerState::Up);
    let (rig, mut probed) = recovering(MINUTE).await;
    probed.report_success();
    assert_eq!(state(&rig), ServerState::Up);
    probed.discard();
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn good_return_of_connection_from_before_outage_ends_recovery() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(2));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 2).await;
    of_a.remove(0).fail_for("broken", MINUTE);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!((probed.address(), state(&rig)), ("a", ServerState::Recovering));
    of_a.remove(0).release();
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (ServerState::Up, 1), "it works, and stays");
}

/// Such a future may never be polled again.
#[tokio::test]
async fn probes_connection_that_its_waiter_does_not_take_prolongs_no_recovery() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(1));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 1).await;
    of_a.remove(0).fail_for("broken", MINUTE);
    let mut waiter = std::pin::pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await, "it waits");
    pass(&rig, MINUTE + SECOND, async || {}).await;
    assert_eq!((state(&rig), rig.pool.status().servers[0].in_use), (ServerState::Recovering, 1));
    pass(&rig, MINUTE, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up, "one interval has passed without a failure");
}

/// Connections that end without a verdict: the server is up after one interval without a failure.
#[tokio::test]
async fn interval_without_failure_ends_recovery() {
    let (rig, probed) = recovering(MINUTE).await;
    probed.discard();
    assert_eq!(state(&rig), ServerState::Recovering);
    pass(&rig, MINUTE - SECOND, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering);
    pass(&rig, SECOND * 2, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.connecting_paused, server.connect_error), (None, None), "failures are cleared");
}

type Conns = Vec<PooledConn<ScriptedConnector>>;

/// A pool of two servers, one of which recovers from an ejection, the connection of its probe, and nine of those that
/// were in use when it was ejected.
async fn recovering_from_an_ejection() -> (Rig, PooledConn<ScriptedConnector>, Conns) {
    let rig = Rig::manual(|b| two(b).backoff(SECOND, SECOND));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 10).await;
    of_a.remove(0).fail_for("broken", MINUTE);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!((probed.address(), state(&rig)), ("a", ServerState::Recovering));
    (rig, probed, of_a)
}

#[tokio::test]
async fn recovery_from_an_ejection_goes_on_while_the_connection_of_the_probe_is_in_use() {
    let (rig, probed, _older) = recovering_from_an_ejection().await;
    // The interval is over, and the request runs still: it may hang.
    pass(&rig, SECOND * 20, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering);
    probed.discard();
    pass(&rig, SECOND, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn recovery_from_an_ejection_ends_after_thirty_seconds_though_a_connection_is_in_use() {
    let (rig, _probed, older) = recovering_from_an_ejection().await;
    older.into_iter().for_each(PooledConn::discard);
    pass(&rig, SECOND * 29, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering);
    pass(&rig, SECOND * 4, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
}

/// A caller keeps a connection for long, as a subscriber does. It tells nothing of how the server is now.
#[tokio::test]
async fn connection_in_use_since_before_an_ejection_does_not_delay_the_end_of_the_recovery() {
    let rig = Rig::manual(|b| two(b).backoff(SECOND, SECOND));
    let [mut of_a, of_b] = acquired_of_each(&rig, 2).await;
    of_a.remove(0).fail_for("broken", MINUTE);
    pass(&rig, MINUTE, async || {}).await;
    // A caller has the server probed, and leaves. The probe's connection rests.
    assert!(rig.pool.try_acquire().is_err());
    settle().await;
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (ServerState::Recovering, 1));
    pass(&rig, SECOND * 2, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
    drop((of_a, of_b));
}

#[tokio::test]
async fn long_first_use_after_a_failed_connect_delays_others_for_one_interval() {
    let (rig, _probed) = recovering(SECOND).await;
    pass(&rig, SECOND * 2, async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn failure_while_recovering_ejects_whatever_the_threshold() {
    let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(100)));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 10).await;
    of_a.remove(0).fail_for("broken", MINUTE);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!((probed.address(), state(&rig)), ("a", ServerState::Recovering));
    probed.fail("one is enough");
    assert!(ejected_for(&rig).is_some());
}

#[tokio::test]
async fn idle_connections_of_older_outages_are_closed_and_working_ones_serve() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(3));
    let [mut of_a, of_b] = acquired_of_each(&rig, 3).await;
    of_a.remove(0).release();
    of_a.remove(0).fail_for("broken", MINUTE);
    let works = of_a.remove(0);
    let id = works.id();
    works.release();
    assert_eq!(rig.pool.status().servers[0].idle, 2);
    // Server "b" is full: the connection that has answered in this outage serves, the other one does not.
    let serves = rig.pool.try_acquire().expect("it has answered since the ejection");
    assert_eq!(serves.id(), id);
    assert!(rig.pool.try_acquire().is_err());
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!(probed.address(), "a");
    serves.release();
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (ServerState::Up, 1), "the old one was closed");
    assert_eq!(rig.pool.try_acquire().expect("it stays").id(), id);
    drop((probed, of_b));
}

/// Whatever the probe's connection ended by, the server has none then.
#[tokio::test]
async fn server_that_recovers_without_a_connection_is_connected_to_once_more() {
    let ends: [fn(PooledConn<ScriptedConnector>); 3] =
        [PooledConn::discard, |conn| conn.broken("reset by peer"), |conn| conn.fail("no answer")];
    for end in ends {
        let (rig, probed) = recovering(MINUTE).await;
        end(probed);
        assert_eq!(state(&rig), ServerState::Recovering);
        let waiters = [(); 5].map(|()| waiting(&rig));
        let served = acquired(&rig).await;
        assert_eq!((rig.connector.counts("a").attempts, state(&rig)), (3, ServerState::Recovering));
        drop(served);
        waiters.iter().for_each(JoinHandle::abort);
        let (rig, probed) = recovering(MINUTE).await;
        rig.connector.on_connect("a", Connect::Refuse);
        end(probed);
        assert!(rig.pool.acquire_now().await.is_err());
        assert!(matches!(state(&rig), ServerState::Down { failures: 2, .. }), "{:?}", state(&rig));
    }
}

#[tokio::test]
async fn errors_of_a_server_that_recovers_name_the_cause_and_when_connecting_resumes() {
    let (rig, _probed) = recovering(MINUTE).await;
    let error = rig.pool.acquire_now().await.expect_err("its one connection is in use");
    let AcquireError::Unavailable(unavailable) = &error else { panic!("{error:?}") };
    let Reason::Paused { cause: Some(cause), retry_after, .. } = &unavailable.servers()[0].reason else {
        panic!("{unavailable:?}")
    };
    assert_eq!(cause.source().expect("a connect failed").to_string(), "a refused the connection, as scripted");
    assert!((MINUTE - SECOND..=MINUTE).contains(retry_after), "{retry_after:?}");
    assert_eq!(error.retry_after(), Some(*retry_after));
    let error = rig.pool.try_acquire().expect_err("its one connection is in use");
    assert_eq!(error.retry_after(), Some(*retry_after));
}

#[tokio::test]
async fn connection_that_a_waiter_has_not_taken_since_before_the_ejection_does_not_end_the_recovery() {
    let rig = Rig::manual(|b| two(b).backoff(SECOND, SECOND).max_conns_per_server(2));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 2).await;
    let mut never_polled_again = std::pin::pin!(rig.pool.acquire());
    assert!(poll_once(never_polled_again.as_mut()).await, "both servers are full");
    of_a.remove(0).release();
    assert_eq!(rig.pool.status().servers[0].idle, 0, "it is the waiter's");
    of_a.remove(0).fail_for("broken", MINUTE);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE, async || {}).await;
    let _probed = waiter.await.expect("the caller was served");
    pass(&rig, SECOND * 20, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering, "the connection of its probe is in use");
}
