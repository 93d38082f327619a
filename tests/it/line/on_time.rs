//! Nobody waits longer than what it waits for.

use super::*;

/// A pool with one connection, whose task watched for a caller who was served since, a moment ago.
async fn watched_for_somebody_else(server: Server, backoff: Duration) -> (Rig, Conn) {
    let rig = Rig::paused(|builder| {
        builder.server(server).max_conns_per_server(1).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    let mut held = open(&rig, 1).await;
    let mut somebody = Caller::joined(&rig);
    settle().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    held.remove(0).release();
    let conn = somebody.served();
    (rig, conn)
}

#[tokio::test(start_paused = true)]
async fn who_joins_an_empty_line_that_is_still_watched_gets_its_token_in_time() {
    let (rig, conn) = watched_for_somebody_else(Server::new("a").max_rps(50.0).burst(2), SECOND).await;
    conn.release();
    let started = rig.clock.now();
    rig.pool.acquire().await.expect("the token comes").release();
    let took = rig.clock.now() - started;
    assert!(took <= Duration::from_millis(20) + TICK && took > Duration::from_millis(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_joins_an_empty_line_that_is_still_watched_sees_the_end_of_the_backoff_in_time() {
    let backoff = Duration::from_millis(50);
    let (rig, conn) = watched_for_somebody_else(Server::new("a"), backoff).await;
    let failed = rig.clock.now();
    conn.fail("broken");
    rig.pool.acquire().await.expect("the probe succeeds").release();
    let took = rig.clock.now() - failed;
    assert!(took <= backoff + TICK && took >= backoff, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn whose_check_fails_when_the_line_is_still_watched_is_served_in_time() {
    let backoff = Duration::from_millis(50);
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(2).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    let mut held = open(&rig, 2).await;
    let mut caller = Caller::joined(&rig);
    settle().await;
    // Served, but with a dead one; and before it looks, the server goes down.
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
async fn who_waits_for_a_server_without_room_is_served_as_soon_as_there_is_some() {
    let backoff = Duration::from_millis(50);
    let rig = Rig::paused(|builder| {
        builder.server(Server::new("a").max_conns(2)).server(Server::new("b").max_conns(1)).backoff(backoff, backoff)
    });
    let (mut to_a, _to_b): (Vec<Conn>, Vec<Conn>) =
        open(&rig, 3).await.into_iter().partition(|conn| server_of(conn) == "a");
    // Down, and its retry passes while its only permit is out.
    rig.pool.set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1))).expect("in range");
    to_a.remove(0).fail("broken");
    let mut caller = Caller::joined(&rig);
    tokio::time::sleep(Duration::from_millis(300)).await;
    caller.assert_waits();
    assert_eq!(rig.connector.counts("a").attempts, 2);
    // What comes back is not handed out while server "b" is up, but it makes room for the probe.
    to_a.remove(0).release();
    settle().await;
    assert_eq!(rig.connector.counts("a").attempts, 3);
    assert_eq!(caller.served().address(), "a");
}
