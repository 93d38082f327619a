//! Checks of idle connections.

use std::sync::{Arc, Mutex};

use connring::test_util::{RoundTrip, ScriptedConnector};
use connring::{Builder, Clock, Connector, Ejection, Observer, Pool, Server, ServerState, StateChange};
use tokio::sync::Semaphore;

use super::*;
use crate::support::poll_once;

fn checked(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    b.server("a").idle_check_interval(secs(30)).idle_timeout(None).max_lifetime(None)
}

fn checks(rig: &Rig) -> u64 {
    rig.connector.total_counts().checks
}

#[tokio::test]
async fn idle_connection_is_checked_after_each_interval_and_not_when_used() {
    let rig = Rig::manual(checked);
    rig.pool.acquire().await.expect("the server accepts").release();
    advance_smoothly(&rig, secs(29)).await;
    assert_eq!(checks(&rig), 0);
    advance_smoothly(&rig, LATE).await;
    assert_eq!(checks(&rig), 1);
    advance_smoothly(&rig, secs(31)).await;
    assert_eq!(checks(&rig), 2);
    for _ in 0..10 {
        advance_smoothly(&rig, secs(20)).await;
        rig.pool.try_acquire().expect("the connection is idle").release();
    }
    assert_eq!((checks(&rig), rig.connector.total_counts().attempts), (2, 1));
}

#[tokio::test]
async fn idle_connections_of_a_server_that_is_down_are_not_checked() {
    let rig = Rig::manual(|b| {
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0);
        checked(b).server("b").ejection(ejection)
    });
    let mut conns = open(&rig, 6).await;
    conns.retain(|conn| conn.address() == "a");
    conns.pop().expect("three").fail_for("come back later", secs(600));
    // They come back well.
    conns.into_iter().for_each(PooledConn::release);
    advance_smoothly(&rig, secs(40)).await;
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.idle, rig.connector.counts("a").checks), (2, 0), "{server:?}");
}

#[tokio::test]
async fn check_does_not_prolong_idle_time() {
    let rig = Rig::manual(|b| checked(b).idle_timeout(secs(70)));
    rig.pool.acquire().await.expect("the server accepts").release();
    advance_smoothly(&rig, secs(65)).await;
    assert_eq!((checks(&rig), open_now(&rig)), (2, 1));
    let conn = rig.pool.try_acquire().expect("the connection is idle");
    assert!(PooledConn::info(&conn).idle() > secs(64));
    conn.release();
    advance_smoothly(&rig, secs(70) + LATE).await;
    assert_eq!(open_now(&rig), 0);
}

#[tokio::test]
async fn failed_check_closes_those_idle_as_long_without_blame() {
    let rig = Rig::manual(|b| {
        checked(b).ejection(Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0)).server("b")
    });
    let mut conns = open(&rig, 8).await;
    conns.retain(|conn| conn.address() == "a");
    assert_eq!(conns.len(), 4);
    let last = conns.pop().expect("four");
    conns.into_iter().for_each(PooledConn::release);
    advance_smoothly(&rig, secs(20)).await;
    last.release();
    rig.connector.set_check("a", RoundTrip::Fail);
    advance_smoothly(&rig, secs(10) + LATE).await;
    let server = rig.pool.status().servers.remove(0);
    // One was checked; the two that had been idle for as long are closed with it.
    assert_eq!((rig.connector.counts("a").checks, server.open, server.idle, server.state), (1, 1, 1, ServerState::Up));
}

/// The causes of changes of state.
#[derive(Default)]
struct Causes(Mutex<Vec<String>>);

impl Observer for Causes {
    fn state_changed(&self, _: &Server, change: &StateChange<'_>) {
        self.0.lock().expect("no holder panicked").extend(change.cause.map(|cause| cause.to_string()));
    }
}

#[tokio::test]
async fn hung_server_is_found_without_traffic() {
    let causes = Arc::new(Causes::default());
    let rig = Rig::manual(|b| {
        checked(b).server("b").connect_timeout(secs(2)).min_idle_per_server(8).observer(Arc::clone(&causes))
    });
    advance_smoothly(&rig, TICK).await;
    rig.connector.set_check("a", RoundTrip::Never);
    let mut found = None;
    for second in 0..60 {
        advance_smoothly(&rig, secs(1)).await;
        if found.is_none() && rig.pool.status().servers[0].state != ServerState::Up {
            found = Some(second);
        }
    }
    // Checked from 30 s on, two at a time, each for 2 s: the fifth timeout is the third round's.
    assert!(found.is_some_and(|second| (35..42).contains(&second)), "{found:?}");
    assert_eq!(causes.0.lock().expect("no holder panicked")[0], "check of an idle connection timed out after 2s");
    assert_eq!(rig.pool.status().servers[1].state, ServerState::Up);
}

#[tokio::test]
async fn check_that_times_out_closes_its_connection() {
    let rig = Rig::manual(|b| checked(b).connect_timeout(secs(2)));
    rig.connector.set_check("a", RoundTrip::Never);
    rig.pool.acquire().await.expect("the server accepts").release();
    advance_smoothly(&rig, secs(31)).await;
    assert_eq!((checks(&rig), open_now(&rig)), (1, 1));
    advance_smoothly(&rig, secs(2)).await;
    assert_eq!(open_now(&rig), 0);
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Up, "one timeout ejects nothing");
}

#[tokio::test]
async fn a_quarter_of_the_idle_connections_is_checked_at_once() {
    for (count, at_once) in [(1, 1), (7, 1), (8, 2), (40, 10)] {
        let rig = Rig::manual(|b| checked(b).max_conns_per_server(40).connect_timeout(secs(60)));
        open(&rig, count).await.into_iter().for_each(PooledConn::release);
        rig.connector.set_check("a", RoundTrip::Never);
        advance_smoothly(&rig, secs(40)).await;
        let server = rig.pool.status().servers.remove(0);
        assert_eq!((checks(&rig), server.idle, server.open), (at_once, count - at_once as usize, count as u32));
    }
}

#[tokio::test]
async fn panic_of_check_closes_its_connection_alone() {
    let rig = Rig::manual(checked);
    open(&rig, 2).await.into_iter().for_each(PooledConn::release);
    rig.connector.set_check("a", RoundTrip::Panic);
    advance_smoothly(&rig, secs(30) + TICK).await;
    assert_eq!((checks(&rig), open_now(&rig)), (1, 1));
    rig.connector.set_check("a", RoundTrip::Ok);
    advance_smoothly(&rig, secs(2)).await;
    assert_eq!((checks(&rig), open_now(&rig)), (2, 1));
}

#[tokio::test]
async fn reset_ends_checks() {
    let rig = Rig::manual(checked);
    rig.pool.acquire().await.expect("the server accepts").release();
    rig.connector.set_check("a", RoundTrip::Never);
    advance_smoothly(&rig, secs(31)).await;
    assert_eq!((checks(&rig), open_now(&rig)), (1, 1));
    rig.pool.reset();
    settle().await;
    assert_eq!(open_now(&rig), 0);
}

/// Answers a check when the test lets it.
#[derive(Clone)]
struct Gated(Arc<Semaphore>);

impl Connector for Gated {
    type Conn = ();
    type Error = std::io::Error;

    async fn connect(&self, _server: &Server) -> Result<(), std::io::Error> {
        Ok(())
    }

    async fn check(&self, _conn: &mut ()) -> Result<(), std::io::Error> {
        self.0.acquire().await.expect("it is never closed").forget();
        Ok(())
    }
}

#[tokio::test]
async fn callers_wait_for_a_connection_that_is_checked() {
    let (clock, gate) = (Clock::manual(), Arc::new(Semaphore::new(0)));
    let builder = Pool::builder(Gated(Arc::clone(&gate))).clock(clock.clone()).server("a").max_conns_per_server(1);
    let pool = builder.idle_check_interval(secs(10)).build().expect("in range");
    pool.acquire().await.expect("the server accepts").release();
    for _ in 0..11 {
        clock.advance(secs(1));
        settle().await;
    }
    assert!(pool.try_acquire().is_err(), "the connection is away");
    {
        let mut now = std::pin::pin!(pool.acquire_now());
        assert!(poll_once(now.as_mut()).await, "it waits as for an attempt");
        settle().await;
        assert!(poll_once(now.as_mut()).await);
        gate.add_permits(1);
        let conn = now.await.expect("the check has passed");
        assert_eq!(PooledConn::info(&conn).uses(), 1);
    }
}
