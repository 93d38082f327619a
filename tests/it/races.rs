//! Races and timing cases found by adversarial review.

mod ends;

use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, Clock, Connector, Pool, PooledConn, Server, ServerState};

use crate::support::{Rig, poll_once, server_of, settle};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[track_caller]
fn assert_at(at: Duration, expected: Duration) {
    assert!(at >= expected && at <= expected + TICK, "at {at:?} instead of {expected:?}");
}

/// The background task still sleeps until a time that it chose for an earlier waiter.
#[tokio::test(start_paused = true)]
async fn token_is_on_time_for_first_waiter() {
    let rig = Rig::paused(|builder| builder.server(Server::new("a").max_rps(100.0).burst(1)));
    rig.connector.on_connect("a", Connect::Slow(ms(5)));
    rig.pool.acquire().await.expect("the server accepts").release();
    let taken = rig.clock.now();
    rig.pool.acquire().await.expect("a token becomes available").release();
    assert_at(rig.clock.now(), taken + ms(10));
}

#[tokio::test(start_paused = true)]
async fn probe_is_on_time_for_first_waiter() {
    let backoff = ms(100);
    let rig = Rig::paused(|builder| builder.server("a").backoff(backoff, backoff).backoff_spread_ratio(0.0));
    rig.connector.on_connect("a", Connect::Slow(ms(5)));
    rig.pool.acquire().await.expect("the server accepts").fail("broken");
    let failed = rig.clock.now();
    rig.pool.acquire().await.expect("the probe succeeds").release();
    assert_at(rig.clock.now(), failed + backoff + ms(5));
}

#[tokio::test(start_paused = true)]
async fn token_of_last_resort_is_on_time() {
    let hour = Duration::from_secs(3_600);
    let rig = Rig::paused(|builder| {
        let server = Server::new("a").max_rps(10.0).burst(2);
        builder.server(server).backoff(hour, hour).backoff_spread_ratio(0.0)
    });
    let first = rig.pool.acquire().await.expect("the server accepts");
    let second = rig.pool.acquire().await.expect("the server accepts");
    first.release();
    second.fail("broken");
    let taken = rig.clock.now();
    rig.pool.acquire().await.expect("a last-resort connection is idle").release();
    assert_at(rig.clock.now(), taken + ms(100));
}

#[tokio::test(start_paused = true)]
async fn last_resort_is_available_when_last_up_server_is_removed() {
    let hour = Duration::from_secs(3_600);
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(2).backoff(hour, hour).backoff_spread_ratio(0.0)
    });
    let idle = rig.pool.acquire().await.expect("the server accepts");
    rig.pool.acquire().await.expect("the server accepts").fail("broken");
    idle.release();
    rig.pool.register(Server::new("full").max_conns(1)).expect("the server is not registered");
    let full = rig.pool.acquire().await.expect("the server accepts");
    assert_eq!(server_of(&full), "full");
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    settle().await;
    rig.pool.deregister("full").expect("the server is registered");
    let removed = rig.clock.now();
    assert_eq!(waiter.await.expect("a last-resort connection is idle").address(), "a");
    assert_eq!(rig.clock.now(), removed);
}

#[tokio::test(start_paused = true)]
async fn release_that_frees_permit_starts_due_probe_for_waiters() {
    let backoff = ms(100);
    let rig = Rig::paused(|builder| {
        let builder = builder.server(Server::new("a").max_conns(2)).backoff(backoff, backoff);
        builder.backoff_spread_ratio(0.0)
    });
    let broken = rig.pool.acquire().await.expect("the server accepts");
    let whole = rig.pool.acquire().await.expect("the server accepts");
    broken.fail("broken");
    // Server "a" is full again, and down. Server "b" is up, and full.
    rig.pool
        .set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1)))
        .expect("the settings are in range");
    let full = rig.pool.acquire().await.expect("the server accepts");
    assert_eq!(server_of(&full), "b");
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    tokio::time::sleep(2 * backoff).await;
    let released = rig.clock.now();
    whole.release();
    assert_eq!(waiter.await.expect("the probe succeeds").address(), "a");
    assert_eq!(rig.clock.now(), released);
}

/// The grant of a waiter that leaves goes back to a server whose probe found no free permit meanwhile.
#[tokio::test(start_paused = true)]
async fn waiter_that_leaves_with_grant_does_not_lose_probe() {
    let backoff = ms(100);
    let rig = Rig::paused(|builder| {
        let builder = builder.servers(["a", "b"]).backoff(backoff, backoff).backoff_spread_ratio(0.0);
        builder.idle_timeout(None).max_lifetime(None)
    });
    let mut to_a = Vec::new();
    let mut to_b = Vec::new();
    for _ in 0..4 {
        let conn = rig.pool.acquire().await.expect("both servers accept");
        if server_of(&conn) == "a" { to_a.push(conn) } else { to_b.push(conn) }
    }
    to_a.pop().expect("two connections are to this server").fail("broken");
    // Server "a" is full again, and down.
    rig.pool.set_servers([Server::new("a").max_conns(1), Server::new("b")]).expect("the settings are in range");
    tokio::time::sleep(backoff / 2).await;
    to_b.drain(..).for_each(|conn| conn.fail("broken"));
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    // The waiter is served with a last-resort connection, but not polled. Only this connection could make room for the
    // probe.
    to_a.remove(0).release();
    tokio::time::sleep(backoff).await;
    assert!(rig.pool.try_acquire().is_err(), "a is due, but has no free permit; b is probed");
    settle().await;
    let states = || rig.pool.status().servers.iter().map(|server| server.state).collect::<Vec<_>>();
    assert!(matches!(states()[..], [ServerState::Down { .. }, ServerState::Recovering { .. }]), "{:?}", states());
    drop(waiter);
    for _ in 0..10 {
        rig.pool.acquire().await.expect("b serves").release();
        tokio::time::sleep(SECOND).await;
    }
    assert!(matches!(states()[0], ServerState::Recovering { .. } | ServerState::Up), "{:?}", states());
}

/// A connector that is always ready to run, as one that reads an endless greeting.
#[derive(Debug)]
struct Chatty;

impl Connector for Chatty {
    type Conn = ();
    type Error = std::io::Error;

    async fn connect(&self, _server: &connring::Server) -> Result<(), std::io::Error> {
        loop {
            tokio::task::coop::consume_budget().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_ends_attempt_that_exhausts_task_budget() {
    let pool = Pool::builder(Chatty).clock(Clock::tokio()).server("a").connect_timeout(SECOND).build();
    let pool = pool.expect("the settings are in range");
    let mut waiter = Box::pin(pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    settle().await;
    tokio::time::advance(2 * SECOND).await;
    settle().await;
    let state = pool.status().servers[0].state;
    assert!(matches!(state, ServerState::Down { failures: 1, .. }), "{state:?}");
}
