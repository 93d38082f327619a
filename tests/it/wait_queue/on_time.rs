//! Waiters are served as soon as a token, a retry or a permit allows it.

use super::*;

/// Returns a pool's only connection, which a waiter has just received. The queue is empty, and the background task's
/// next wake-up is the one that it chose for that waiter.
async fn handed_over_moments_ago(server: Server, backoff: Duration) -> (Rig, Conn) {
    let rig = Rig::paused(|builder| {
        builder.server(server).max_conns_per_server(1).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    let mut held = open(&rig, 1).await;
    let mut waiter = Caller::joined(&rig);
    settle().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    held.remove(0).release();
    let conn = waiter.served();
    (rig, conn)
}

#[tokio::test(start_paused = true)]
async fn first_waiter_gets_its_token_on_time() {
    let (rig, conn) = handed_over_moments_ago(Server::new("a").max_rps(50.0).burst(2), SECOND).await;
    conn.release();
    let started = rig.clock.now();
    rig.pool.acquire().await.expect("a token becomes available").release();
    let took = rig.clock.now() - started;
    assert!(took <= Duration::from_millis(20) + TICK && took > Duration::from_millis(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn first_waiter_is_served_on_time_after_backoff() {
    let backoff = Duration::from_millis(50);
    let (rig, conn) = handed_over_moments_ago(Server::new("a"), backoff).await;
    let failed = rig.clock.now();
    conn.discard();
    refuse_one(&rig, "a").await;
    rig.pool.acquire().await.expect("the probe succeeds").release();
    let took = rig.clock.now() - failed;
    assert!(took <= backoff + TICK && took >= backoff, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn waiter_that_rejoins_is_served_on_time_after_backoff() {
    let backoff = Duration::from_millis(50);
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(1).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    let mut held = open(&rig, 1).await;
    let mut caller = Caller::joined(&rig);
    settle().await;
    // The caller is served with a dead connection. Another is refused.
    rig.connector.kill_connections("a");
    held.remove(0).release();
    rig.connector.next_connects("a", [Connect::Refuse]);
    caller.assert_waits();
    settle().await;
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Down { .. }));
    let failed = rig.clock.now();
    while caller.wakes() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(rig.clock.now() - failed <= backoff + TICK);
    }
    caller.served().release();
}
