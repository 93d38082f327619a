//! The background task wakes in time for each waiter, and starts no probe without callers. The simulation in
//! `tests/sim` found each of these cases: the waiter was served later than possible.

use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{Builder, PooledConn, Server, ServerState};

use crate::support::{Rig, ejects_at_once, refuse_one, server_of};

/// tokio's timers tick in milliseconds.
const TICK: Duration = Duration::from_millis(2);
const BACKOFF: Duration = Duration::from_millis(200);
/// The interval between tokens at 20 a second.
const INTERVAL: Duration = Duration::from_millis(50);

type Conn = PooledConn<ScriptedConnector>;

async fn acquire(rig: &Rig) -> Conn {
    rig.pool.acquire().await.expect("the caller is served")
}

/// Asserts that `after`, and at most a tick more, has passed since `since`.
#[track_caller]
fn assert_took(rig: &Rig, since: Duration, after: Duration) {
    let took = rig.clock.now() - since;
    assert!(took >= after && took <= after + TICK, "{took:?} instead of {after:?}");
}

/// Acquires through the wait queue. Then the queue is empty, and the background task's next wake-up is one that it
/// chose for the served waiter.
async fn acquire_through_wait_queue(rig: &Rig) -> Conn {
    let held = acquire(rig).await;
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire().await.expect("the caller is served") });
    tokio::time::sleep(2 * INTERVAL).await;
    assert_eq!(rig.pool.status().waiters, 1);
    held.release();
    let served = waiter.await.expect("the task does not panic");
    assert_eq!(rig.pool.status().waiters, 0);
    served
}

#[tokio::test(start_paused = true)]
async fn first_waiter_is_served_when_backoff_ends() {
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(1).backoff(BACKOFF, BACKOFF).backoff_spread_ratio(0.0)
    });
    acquire_through_wait_queue(&rig).await.discard();
    refuse_one(&rig, "a").await;
    let failed = rig.clock.now();
    acquire(&rig).await.release();
    assert_took(&rig, failed, BACKOFF);
}

#[tokio::test(start_paused = true)]
async fn first_waiter_is_served_when_token_is_available() {
    let rig = Rig::paused(|builder| builder.server(Server::new("a").max_conns(1).max_rps(20.0).burst(1)));
    acquire_through_wait_queue(&rig).await.release();
    let taken = rig.clock.now();
    acquire(&rig).await.release();
    assert_took(&rig, taken, INTERVAL);
}

/// Server "a" with one idle connection, and ejected since. Server "b" is full.
async fn with_a_ejected(rig: &Rig, time: Duration) -> [Conn; 2] {
    let held = [acquire(rig).await, acquire(rig).await, acquire(rig).await, acquire(rig).await];
    let (mut to_a, mut to_b): (Vec<_>, Vec<_>) = held.into_iter().partition(|conn| server_of(conn) == "a");
    assert_eq!((to_a.len(), to_b.len()), (3, 1));
    to_a.remove(0).release();
    to_a.remove(0).fail_for("broken", time);
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Ejected { .. }));
    [to_a.remove(0), to_b.remove(0)]
}

fn three_and_one(builder: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    let servers = [Server::new("a").max_conns(3), Server::new("b").max_conns(1)];
    ejects_at_once(builder.servers(servers), BACKOFF)
}

#[tokio::test(start_paused = true)]
async fn last_resort_connection_is_checked_out_when_token_is_available() {
    let rig = Rig::paused(|builder| {
        let builder = builder.server(Server::new("a").max_conns(2).max_rps(20.0).burst(2));
        builder.backoff(100 * BACKOFF, 100 * BACKOFF).outage_retry(None)
    });
    let good = acquire(&rig).await;
    refuse_one(&rig, "a").await;
    good.release();
    acquire(&rig).await.release();
    let taken = rig.clock.now();
    acquire(&rig).await.release();
    assert_took(&rig, taken, INTERVAL);
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Down { .. }));
}

#[tokio::test(start_paused = true)]
async fn discard_frees_permit_for_due_probe() {
    let rig = Rig::paused(three_and_one);
    let [of_a, _of_b] = with_a_ejected(&rig, BACKOFF).await;
    let servers = [Server::new("a").max_conns(1), Server::new("b").max_conns(1)];
    rig.pool.set_servers(servers).expect("the limits are in range");
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire().await.expect("the caller is served") });
    // The probe is due, and the only permit is in use.
    tokio::time::sleep(2 * BACKOFF).await;
    assert_eq!((rig.pool.status().waiters, rig.connector.counts("a").attempts), (1, 3));
    let ended = rig.clock.now();
    of_a.discard();
    assert_eq!(waiter.await.expect("the task does not panic").address(), "a");
    assert_took(&rig, ended, Duration::ZERO);
    assert_eq!(rig.connector.counts("a").attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn removing_last_up_server_makes_down_servers_last_resort() {
    let rig = Rig::paused(three_and_one);
    let [_of_a, _of_b] = with_a_ejected(&rig, 100 * BACKOFF).await;
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire().await.expect("the caller is served") });
    tokio::time::sleep(BACKOFF).await;
    assert_eq!((rig.pool.status().waiters, rig.pool.status().servers[0].idle), (1, 1));
    let removed = rig.clock.now();
    rig.pool.deregister("b").expect("the server is registered");
    assert_eq!(waiter.await.expect("the task does not panic").address(), "a");
    assert_took(&rig, removed, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn down_server_is_not_probed_without_callers() {
    let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(1).backoff(BACKOFF, BACKOFF));
    acquire_through_wait_queue(&rig).await.discard();
    refuse_one(&rig, "a").await;
    tokio::time::sleep(100 * BACKOFF).await;
    assert_eq!(rig.connector.counts("a").attempts, 2);
}
