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
    conn.fail("broken");
    rig.pool.acquire().await.expect("the probe succeeds").release();
    let took = rig.clock.now() - failed;
    assert!(took <= backoff + TICK && took >= backoff, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn waiter_that_rejoins_is_served_on_time_after_backoff() {
    let backoff = Duration::from_millis(50);
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(2).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    let mut held = open(&rig, 2).await;
    let mut caller = Caller::joined(&rig);
    settle().await;
    // The caller is served with a dead connection, and before its next poll the server goes down.
    rig.connector.kill_connections("a");
    held.remove(0).release();
    settle().await;
    held.remove(0).fail("broken");
    let failed = rig.clock.now();
    caller.assert_waits();
    while caller.wakes() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(rig.clock.now() - failed <= backoff + TICK);
    }
    caller.served().release();
}

#[tokio::test(start_paused = true)]
async fn waiter_is_served_as_soon_as_down_server_has_free_permit() {
    let backoff = Duration::from_millis(50);
    let rig = Rig::paused(|builder| {
        builder.server(Server::new("a").max_conns(2)).server(Server::new("b").max_conns(1)).backoff(backoff, backoff)
    });
    let (mut to_a, _to_b): (Vec<Conn>, Vec<Conn>) =
        open(&rig, 3).await.into_iter().partition(|conn| server_of(conn) == "a");
    // Server "a" is down, and its retry becomes due while its only permit is in use.
    rig.pool
        .set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1)))
        .expect("the settings are in range");
    to_a.remove(0).fail("broken");
    let mut caller = Caller::joined(&rig);
    tokio::time::sleep(Duration::from_millis(300)).await;
    caller.assert_waits();
    assert_eq!(rig.connector.counts("a").attempts, 2);
    // While server "b" is up, the returned connection serves no waiter, but it makes room for the probe.
    to_a.remove(0).release();
    settle().await;
    assert_eq!(rig.connector.counts("a").attempts, 3);
    assert_eq!(caller.served().address(), "a");
}
