//! Cases that an adversary thought of.

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

/// The task that watches still sleeps for a line of before.
#[tokio::test(start_paused = true)]
async fn a_token_is_on_time_for_who_joins_a_line_that_was_empty() {
    let rig = Rig::paused(|builder| builder.server(Server::new("a").max_rps(100.0).burst(1)));
    rig.connector.on_connect("a", Connect::Slow(ms(5)));
    rig.pool.acquire().await.expect("the server accepts").release();
    let taken = rig.clock.now();
    rig.pool.acquire().await.expect("a token comes").release();
    assert_at(rig.clock.now(), taken + ms(10));
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_on_time_for_who_joins_a_line_that_was_empty() {
    let backoff = ms(100);
    let rig = Rig::paused(|builder| builder.server("a").backoff(backoff, backoff).backoff_spread_ratio(0.0));
    rig.connector.on_connect("a", Connect::Slow(ms(5)));
    rig.pool.acquire().await.expect("the server accepts").fail("broken");
    let failed = rig.clock.now();
    rig.pool.acquire().await.expect("the probe succeeds").release();
    assert_at(rig.clock.now(), failed + backoff + ms(5));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_last_resort_is_on_time() {
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
    rig.pool.acquire().await.expect("there is one of the last resort").release();
    assert_at(rig.clock.now(), taken + ms(100));
}

#[tokio::test(start_paused = true)]
async fn the_last_resort_is_there_at_once_when_the_last_server_that_is_up_goes() {
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
    assert_eq!(waiter.await.expect("it is the last resort").address(), "a");
    assert_eq!(rig.clock.now(), removed);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_makes_room_for_a_probe_starts_it_for_those_who_wait() {
    let backoff = ms(100);
    let rig = Rig::paused(|builder| {
        let builder = builder.server(Server::new("a").max_conns(2)).backoff(backoff, backoff);
        builder.backoff_spread_ratio(0.0)
    });
    let broken = rig.pool.acquire().await.expect("the server accepts");
    let whole = rig.pool.acquire().await.expect("the server accepts");
    broken.fail("broken");
    // Full again, and down; the other is up, and full.
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

/// What a caller left goes back to a server whose probe found no room meanwhile.
#[tokio::test(start_paused = true)]
async fn who_leaves_with_a_grant_loses_no_probe() {
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
    to_a.pop().expect("there are two").fail("broken");
    // Full again, and down.
    rig.pool.set_servers([Server::new("a").max_conns(1), Server::new("b")]).expect("the settings are in range");
    tokio::time::sleep(backoff / 2).await;
    to_b.drain(..).for_each(|conn| conn.fail("broken"));
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    // It is served as a last resort, but does not look. Its connection is the one that would make room for the probe.
    to_a.remove(0).release();
    tokio::time::sleep(backoff).await;
    assert!(rig.pool.try_acquire().is_err(), "a is due, but has no room; b is probed");
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

/// Always has something to do, as one that reads a greeting without end.
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
async fn the_connect_timeout_bounds_a_dial_that_uses_up_its_budget() {
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
