//! The task that watches the time forgets nobody who waits, and does nothing when nobody does. Each of these was found
//! by the simulation in `tests/sim`; before, the callers waited until the task's longest sleep of a second was over.

use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{PooledConn, Server, ServerState};

use crate::support::{Rig, server_of, settle};

/// tokio's timers tick in milliseconds.
const TICK: Duration = Duration::from_millis(2);
const BACKOFF: Duration = Duration::from_millis(200);
/// Of 20 a second.
const INTERVAL: Duration = Duration::from_millis(50);

type Conn = PooledConn<ScriptedConnector>;

async fn acquire(rig: &Rig) -> Conn {
    rig.pool.acquire().await.expect("it is served")
}

/// Time goes on from `since` to `after` and a tick at most.
#[track_caller]
fn assert_took(rig: &Rig, since: Duration, after: Duration) {
    let took = rig.clock.now() - since;
    assert!(took >= after && took <= after + TICK, "{took:?} instead of {after:?}");
}

/// The task sleeps for a second on behalf of a caller that has been served since. Returns that one's connection.
async fn asleep_behind_an_empty_line(rig: &Rig) -> Conn {
    let held = acquire(rig).await;
    let pool = rig.pool.clone();
    let waits = tokio::spawn(async move { pool.acquire().await.expect("it is served") });
    tokio::time::sleep(2 * INTERVAL).await;
    assert_eq!(rig.pool.status().waiters, 1);
    held.release();
    let served = waits.await.expect("the task ends");
    assert_eq!(rig.pool.status().waiters, 0);
    served
}

#[tokio::test(start_paused = true)]
async fn who_joins_an_empty_line_is_served_at_the_end_of_a_backoff() {
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(1).backoff(BACKOFF, BACKOFF).backoff_spread_ratio(0.0)
    });
    asleep_behind_an_empty_line(&rig).await.fail("broken");
    let failed = rig.clock.now();
    acquire(&rig).await.release();
    assert_took(&rig, failed, BACKOFF);
}

#[tokio::test(start_paused = true)]
async fn who_joins_an_empty_line_is_served_when_a_token_comes() {
    let rig = Rig::paused(|builder| builder.server(Server::new("a").max_conns(1).max_rps(20.0).burst(1)));
    asleep_behind_an_empty_line(&rig).await.release();
    let taken = rig.clock.now();
    acquire(&rig).await.release();
    assert_took(&rig, taken, INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn the_last_resort_is_handed_out_when_a_token_comes() {
    let rig = Rig::paused(|builder| {
        let builder = builder.server(Server::new("a").max_conns(2).max_rps(20.0).burst(1));
        builder.backoff(100 * BACKOFF, 100 * BACKOFF)
    });
    let [good, bad] = [acquire(&rig).await, acquire(&rig).await];
    let taken = rig.clock.now();
    good.release();
    bad.fail("broken");
    acquire(&rig).await.release();
    assert_took(&rig, taken, INTERVAL);
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Down { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_makes_room_starts_the_probe_that_had_none() {
    let rig = Rig::paused(|builder| {
        let builder = builder.servers([Server::new("a").max_conns(2), Server::new("b").max_conns(1)]);
        builder.backoff(BACKOFF, BACKOFF).backoff_spread_ratio(0.0)
    });
    let held = [acquire(&rig).await, acquire(&rig).await, acquire(&rig).await];
    let (mut to_a, _to_b): (Vec<_>, Vec<_>) = held.into_iter().partition(|conn| server_of(conn) == "a");
    assert_eq!(to_a.len(), 2);
    to_a.remove(0).fail("broken");
    let servers = [Server::new("a").max_conns(1), Server::new("b").max_conns(1)];
    rig.pool.set_servers(servers).expect("the limits are in range");
    let pool = rig.pool.clone();
    let waits = tokio::spawn(async move { pool.acquire().await.expect("it is served") });
    // The retry is due, and the only permit is out.
    tokio::time::sleep(2 * BACKOFF).await;
    assert_eq!((rig.pool.status().waiters, rig.connector.counts("a").attempts), (1, 2));
    let released = rig.clock.now();
    to_a.remove(0).release();
    assert_eq!(waits.await.expect("the task ends").address(), "a");
    assert_took(&rig, released, Duration::ZERO);
    assert_eq!(rig.connector.counts("a").attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn when_the_last_server_that_is_up_is_removed_the_others_are_the_last_resort() {
    let rig = Rig::paused(|builder| {
        let builder = builder.servers([Server::new("a").max_conns(2), Server::new("b").max_conns(1)]);
        builder.backoff(100 * BACKOFF, 100 * BACKOFF)
    });
    let held = [acquire(&rig).await, acquire(&rig).await, acquire(&rig).await];
    let (mut to_a, _to_b): (Vec<_>, Vec<_>) = held.into_iter().partition(|conn| server_of(conn) == "a");
    to_a.remove(0).release();
    to_a.remove(0).fail("broken");
    let pool = rig.pool.clone();
    let waits = tokio::spawn(async move { pool.acquire().await.expect("it is served") });
    tokio::time::sleep(BACKOFF).await;
    assert_eq!((rig.pool.status().waiters, rig.pool.status().servers[0].idle), (1, 1));
    let removed = rig.clock.now();
    rig.pool.deregister("b").expect("it is listed");
    assert_eq!(waits.await.expect("the task ends").address(), "a");
    assert_took(&rig, removed, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn without_callers_nothing_is_probed() {
    let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(1).backoff(BACKOFF, BACKOFF));
    let conn = asleep_behind_an_empty_line(&rig).await;
    conn.fail("broken");
    settle().await;
    tokio::time::sleep(100 * BACKOFF).await;
    assert_eq!(rig.connector.counts("a").attempts, 1);
}
