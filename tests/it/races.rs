//! Races and timing cases found by adversarial review.

mod ends;

use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, Clock, Connector, Pool, PooledConn, Server, ServerState};

use crate::support::{Rig, ejects_at_once, poll_once, refuse_one, server_of, settle};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

type Conn = PooledConn<ScriptedConnector>;

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
    refuse_one(&rig, "a").await;
    let failed = rig.clock.now();
    rig.pool.acquire().await.expect("the probe succeeds").release();
    assert_at(rig.clock.now(), failed + backoff + ms(5));
}

#[tokio::test(start_paused = true)]
async fn token_of_last_resort_is_on_time() {
    let hour = Duration::from_secs(3_600);
    let rig = Rig::paused(|builder| {
        let server = Server::new("a").max_rps(10.0).burst(2);
        builder.server(server).backoff(hour, hour).backoff_spread_ratio(0.0).outage_retry(None)
    });
    let first = rig.pool.acquire().await.expect("the server accepts");
    refuse_one(&rig, "a").await;
    first.release();
    rig.pool.acquire().await.expect("a last-resort connection is idle").release();
    let taken = rig.clock.now();
    rig.pool.acquire().await.expect("a last-resort connection is idle").release();
    assert_at(rig.clock.now(), taken + ms(100));
}

/// One connection of "a" in the idle queue, and "a" ejected since. The others of "a" and those of "b" are in use.
async fn with_a_ejected(rig: &Rig, to_a: usize, time: Duration) -> (Vec<Conn>, Vec<Conn>) {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    while of_a.len() < to_a || of_b.is_empty() {
        let conn = rig.pool.acquire().await.expect("both servers accept");
        if server_of(&conn) == "a" { of_a.push(conn) } else { of_b.push(conn) }
    }
    of_a.remove(0).release();
    of_a.remove(0).fail_for("broken", time);
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Ejected { .. }));
    (of_a, of_b)
}

#[tokio::test(start_paused = true)]
async fn last_resort_is_available_when_last_up_server_is_removed() {
    let hour = Duration::from_secs(3_600);
    let servers = [Server::new("a").max_conns(2), Server::new("b").max_conns(1)];
    let rig = Rig::paused(|builder| ejects_at_once(builder.servers(servers), hour));
    let (_, _of_b) = with_a_ejected(&rig, 2, hour).await;
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    settle().await;
    rig.pool.deregister("b").expect("the server is registered");
    let removed = rig.clock.now();
    assert_eq!(waiter.await.expect("a last-resort connection is idle").address(), "a");
    assert_eq!(rig.clock.now(), removed);
}

/// A connection that comes back well to a server that is down serves a waiter that finds nothing else. Closed, it makes
/// room for the probe that is due.
#[tokio::test(start_paused = true)]
async fn end_of_use_at_down_server_serves_waiter() {
    for end in [PooledConn::release, PooledConn::discard] {
        let servers = [Server::new("a").max_conns(3), Server::new("b").max_conns(1)];
        let rig = Rig::paused(|builder| ejects_at_once(builder.servers(servers), ms(100)));
        let (mut of_a, _of_b) = with_a_ejected(&rig, 3, ms(100)).await;
        // Server "a" is full again: the idle connection is closed.
        rig.pool
            .set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1)))
            .expect("the settings are in range");
        let mut waiter = Box::pin(rig.pool.acquire());
        assert!(poll_once(waiter.as_mut()).await);
        tokio::time::sleep(ms(250)).await;
        assert!(poll_once(waiter.as_mut()).await, "the probe is due, but has no permit");
        let ended = rig.clock.now();
        end(of_a.remove(0));
        assert_eq!(waiter.await.expect("a serves").address(), "a");
        assert_eq!(rig.clock.now(), ended);
    }
}

/// The grant of a waiter that leaves goes back to a server whose probe found no free permit meanwhile.
#[tokio::test(start_paused = true)]
async fn waiter_that_leaves_with_grant_does_not_lose_probe() {
    let servers = [Server::new("a").max_conns(3), Server::new("b").max_conns(1)];
    let rig = Rig::paused(|builder| ejects_at_once(builder.servers(servers), ms(100)));
    let (mut of_a, of_b) = with_a_ejected(&rig, 3, ms(100)).await;
    rig.pool
        .set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1)))
        .expect("the settings are in range");
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    // The waiter is served, but not polled. Only its connection could make room for the probe.
    of_a.remove(0).release();
    tokio::time::sleep(ms(250)).await;
    assert!(rig.pool.try_acquire().is_err(), "a is due, but has no free permit");
    settle().await;
    let state = || rig.pool.status().servers[0].state;
    assert!(matches!(state(), ServerState::Ejected { .. }), "{:?}", state());
    drop(waiter);
    of_b.into_iter().for_each(PooledConn::release);
    for _ in 0..3 {
        rig.pool.acquire().await.expect("b serves").release();
        tokio::time::sleep(SECOND).await;
    }
    assert!(matches!(state(), ServerState::Recovering | ServerState::Up), "{:?}", state());
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
    // In steps so short that the timeout does not take the client for stalled.
    for _ in 0..40 {
        if pool.status().servers[0].state != ServerState::Up {
            break;
        }
        tokio::time::advance(ms(50)).await;
        settle().await;
    }
    let state = pool.status().servers[0].state;
    assert!(matches!(state, ServerState::Down { failures: 1, .. } | ServerState::Probing { failures: 1 }), "{state:?}");
}
