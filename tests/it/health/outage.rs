//! No server serves: retries ahead of their time, and what callers get meanwhile.

use connring::AcquireOptions;

use super::*;
use crate::calls::acquire_of;

/// Servers with a backoff of an hour.
fn hour(b: Builder<ScriptedConnector>, servers: usize) -> Builder<ScriptedConnector> {
    let names = (0..servers).map(|number| number.to_string());
    b.servers(names).backoff(MINUTE * 60, MINUTE * 60).wait_timeout(None).idle_timeout(None).max_lifetime(None)
}

/// Takes all servers down, and returns a caller that waits.
async fn all_down(rig: &Rig) -> JoinHandle<PooledConn<ScriptedConnector>> {
    rig.connector.set_default(Connect::Refuse);
    let waiter = waiting(rig);
    for _ in 0..4 {
        settle().await;
    }
    let servers = rig.pool.status().servers;
    assert!(servers.iter().all(|server| matches!(server.state, ServerState::Down { .. })), "{servers:?}");
    waiter
}

#[tokio::test]
async fn each_server_is_tried_within_outage_retry_while_callers_wait() {
    for maintenance in [true, false] {
        let rig = Rig::manual(|b| hour(b, 4).maintenance(maintenance));
        let waiter = all_down(&rig).await;
        advance_smoothly(&rig, SECOND * 10).await;
        for server in ["0", "1", "2", "3"] {
            let times = rig.connector.connect_times(server);
            assert!((10..=12).contains(&times.len()), "{server}: {times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= SECOND * 11 / 10), "{server}: {times:?}");
        }
        rig.connector.set_default(Connect::Ok);
        advance_smoothly(&rig, SECOND / 2).await;
        waiter.await.expect("the caller was served").release();
    }
}

#[tokio::test]
async fn retries_are_spread_evenly_over_outage_retry() {
    let rig = Rig::manual(|b| hour(b, 4));
    let waiter = all_down(&rig).await;
    advance_smoothly(&rig, SECOND * 3).await;
    let mut times: Vec<_> = (0..4).flat_map(|server| rig.connector.connect_times(&server.to_string())).collect();
    times.sort_unstable();
    let retries = &times[4..];
    assert!(retries.len() >= 10, "{retries:?}");
    assert!(retries.windows(2).all(|pair| pair[1] - pair[0] >= SECOND / 5), "{retries:?}");
    waiter.abort();
}

#[tokio::test]
async fn first_waiter_after_a_while_wakes_the_retries() {
    for maintenance in [true, false] {
        let rig = Rig::manual(|b| hour(b, 1).maintenance(maintenance));
        all_down(&rig).await.abort();
        settle().await;
        rig.clock.advance(MINUTE);
        settle().await;
        rig.connector.set_default(Connect::Ok);
        let waiter = waiting(&rig);
        settle().await;
        advance_smoothly(&rig, SECOND).await;
        assert!(waiter.is_finished(), "maintenance {maintenance}");
    }
}

#[tokio::test]
async fn servers_rest_for_their_backoff_without_waiters() {
    let rig = Rig::manual(|b| hour(b, 2));
    all_down(&rig).await.abort();
    settle().await;
    let before = rig.connector.total_counts().attempts;
    pass(&rig, MINUTE, async || assert!(rig.pool.try_acquire().is_err())).await;
    assert_eq!(rig.connector.total_counts().attempts, before);
}

#[tokio::test]
async fn order_that_takes_all_servers_out_does_not_end_the_outage() {
    let rig = Rig::manual(|b| hour(b, 2));
    all_down(&rig).await.abort();
    settle().await;
    let before = rig.connector.total_counts().attempts;
    for name in ["0", "1"] {
        rig.pool.disable(name, None).expect("it is registered");
    }
    advance_smoothly(&rig, SECOND / 10).await;
    for name in ["0", "1"] {
        rig.pool.enable(name).expect("it is registered");
    }
    advance_smoothly(&rig, SECOND * 2).await;
    assert_eq!(rig.connector.total_counts().attempts, before, "no caller waits");
}

#[tokio::test]
async fn servers_that_are_enabled_together_are_not_tried_at_once() {
    let backoff = Duration::from_millis(50);
    let rig = Rig::manual(|b| hour(b, 2).backoff(backoff, backoff));
    let waiter = all_down(&rig).await;
    for name in ["0", "1"] {
        rig.pool.disable(name, SECOND.into()).expect("it is registered");
    }
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(rig.connector.total_counts().attempts, 3, "one of the two");
    waiter.abort();
}

#[tokio::test]
async fn outage_of_many_servers_costs_at_most_a_hundred_attempts_a_second() {
    let rig = Rig::manual(|b| hour(b, 500));
    let waiter = all_down(&rig).await;
    let before = rig.connector.total_counts().attempts;
    for _ in 0..400 {
        rig.clock.advance(MILLISECOND * 5);
        settle().await;
    }
    let attempts = rig.connector.total_counts().attempts - before;
    assert!((150..=201).contains(&attempts), "{attempts} in 2 s");
    waiter.abort();
}

#[tokio::test]
async fn first_server_that_comes_back_pulls_the_others() {
    let rig = Rig::manual(|b| hour(b, 4));
    let waiter = all_down(&rig).await;
    rig.connector.set_default(Connect::Ok);
    advance_smoothly(&rig, SECOND * 3 / 2).await;
    waiter.await.expect("the caller was served").release();
    let servers = rig.pool.status().servers;
    let serves = |state| matches!(state, ServerState::Up | ServerState::Recovering);
    assert!(servers.iter().all(|server| serves(server.state)), "{servers:?}");
}

#[tokio::test]
async fn without_outage_retry_the_backoff_holds() {
    let rig = Rig::manual(|b| hour(b, 2).outage_retry(None));
    let waiter = all_down(&rig).await;
    pass(&rig, MINUTE * 20, async || {}).await;
    assert_eq!(rig.connector.total_counts().attempts, 2);
    waiter.abort();
}

#[tokio::test]
async fn fail_fast_ends_waits_when_the_last_server_goes_down() {
    let rig = Rig::manual(|b| hour(b, 2).fail_fast_when_down(true));
    rig.connector.set_default(Connect::SlowRefuse(SECOND));
    let callers = [(); 3].map(|()| {
        let pool = rig.pool.clone();
        tokio::spawn(async move { pool.acquire().await.map(drop) })
    });
    settle().await;
    pass(&rig, SECOND * 3, async || {}).await;
    for caller in callers {
        let ended = caller.await.expect("no panic");
        assert!(matches!(&ended, Err(AcquireError::Unavailable(reason)) if reason.counts().down == 2), "{ended:?}");
    }
    // Later ones get it at once.
    let error = poll_at_most(2, rig.pool.acquire()).await;
    assert!(error.is_none());
    let error = rig.pool.acquire().await.expect_err("all are down");
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn retry_after_is_never_zero() {
    let rig = Rig::manual(|b| b.server("a").backoff(SECOND, SECOND).backoff_spread_ratio(0.0).outage_retry(None));
    rig.connector.on_connect("a", Connect::Refuse);
    assert!(rig.pool.acquire_now().await.is_err());
    let mut least = MINUTE;
    rig.connector.on_connect("a", Connect::Never);
    // During the pause, when it is over, and while the probe runs.
    for _ in 0..40 {
        let error = rig.pool.try_acquire().expect_err("the server does not serve");
        least = least.min(error.retry_after().expect("a time is known"));
        settle().await;
        rig.clock.advance(SECOND / 20);
        settle().await;
    }
    assert!(matches!(state(&rig), ServerState::Probing { .. }));
    assert_eq!(least, MILLISECOND);
}

/// The others are tried, or back: the time of their turns is not another turn of the one that is left.
#[tokio::test]
async fn server_that_alone_can_be_tried_is_tried_once_in_outage_retry() {
    let rig = Rig::manual(|b| hour(b, 20).connect_timeout(MINUTE));
    let waiter = all_down(&rig).await;
    rig.connector.set_default(Connect::Never);
    rig.connector.on_connect("0", Connect::Refuse);
    let before = rig.connector.counts("0").attempts;
    advance_smoothly(&rig, SECOND * 4).await;
    let attempts = rig.connector.counts("0").attempts - before;
    assert!((3..=6).contains(&attempts), "{attempts} attempts in 4 s");
    assert_eq!(rig.connector.total_counts().in_flight, 19);
    waiter.abort();
}

/// The outage ends after this time with servers that are registered. Those from before are retried for some time yet.
async fn healed_by(rig: &Rig, time: Duration, names: &[&str]) {
    let waiter = all_down(rig).await;
    advance_smoothly(rig, time).await;
    waiter.abort();
    settle().await;
    for name in names {
        rig.connector.on_connect(name, Connect::Ok);
        rig.pool.register(*name).expect("it is not registered");
    }
    settle().await;
}

/// Connecting to each server that serves pauses from now on.
async fn refused_by(rig: &Rig, names: &[&str]) {
    for name in names {
        rig.connector.on_connect(name, Connect::Refuse);
    }
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire_with(AcquireOptions::new().fresh()).await });
    settle().await;
    let servers = rig.pool.status().servers;
    let paused = servers.iter().filter(|server| names.contains(&&*server.name) && server.connecting_paused.is_some());
    assert_eq!(paused.count(), names.len(), "{servers:?}");
    waiter.abort();
    settle().await;
}

#[tokio::test]
async fn server_that_is_up_while_connecting_pauses_keeps_no_other_from_its_retry() {
    let rig = Rig::manual(|b| hour(b, 2));
    healed_by(&rig, SECOND * 5 / 4, &["c"]).await;
    acquired(&rig).await.release();
    let _held = acquired(&rig).await;
    refused_by(&rig, &["c"]).await;
    rig.connector.set_default(Connect::Ok);
    advance_smoothly(&rig, SECOND).await;
    let states: Vec<_> = rig.pool.status().servers.iter().map(|server| server.state.kind()).collect();
    assert!(!states.contains(&StateKind::Down), "{states:?}");
}

#[tokio::test]
async fn ejected_server_is_not_retried_ahead_of_its_time() {
    let rig = Rig::manual(|b| ejects_at_once(hour(b, 1), MINUTE).outage_retry(SECOND * 2));
    healed_by(&rig, SECOND * 5 / 2, &["c", "d"]).await;
    for name in ["c", "d"] {
        acquire_of(&rig, name).await.release();
    }
    let [of_c, _of_d] = [acquire_of(&rig, "c").await, acquire_of(&rig, "d").await];
    refused_by(&rig, &["c", "d"]).await;
    of_c.fail_for("come back later", MINUTE);
    let attempts = [rig.connector.counts("c").attempts, rig.connector.counts("0").attempts];
    advance_smoothly(&rig, SECOND * 7 / 4).await;
    assert_eq!(rig.connector.counts("c").attempts, attempts[0]);
    assert!(rig.connector.counts("0").attempts > attempts[1], "the server that was down before is");
}

/// A caller of `acquire_now`.
fn acquiring_now(rig: &Rig) -> JoinHandle<bool> {
    let pool = rig.pool.clone();
    tokio::spawn(async move { pool.acquire_now().await.is_ok() })
}

#[tokio::test]
async fn acquire_now_waits_for_one_probe_that_is_due() {
    let rig = Rig::manual(|b| steady(b).server("b").backoff(MINUTE, MINUTE));
    all_down(&rig).await.abort();
    settle().await;
    rig.clock.advance(MINUTE);
    settle().await;
    let first = acquiring_now(&rig);
    settle().await;
    assert_eq!(rig.connector.total_counts().attempts, 3, "the probe of the other server waits for its turn");
    assert!(first.is_finished(), "its probe was refused");
    assert!(!first.await.expect("no panic"));
    let second = acquiring_now(&rig);
    settle().await;
    assert!(!second.is_finished(), "its probe is to come");
    rig.connector.set_default(Connect::Ok);
    rig.clock.advance(MILLISECOND * 10);
    settle().await;
    assert!(second.is_finished() && second.await.expect("no panic"));
}
