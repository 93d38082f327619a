//! The limit on open connections, and that a failed checkout spends no token.

mod chaos;
mod tokens;

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use connring::test_util::{Connect, Reuse, ScriptedConnector};
use connring::{
    AcquireError, Clock, Connector, Pool, PooledConn, Server, ServerState, ServerStatus, TcpConnector, TryAcquireError,
    connect_fn,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};

use crate::support::{Rig, advance_smoothly, open, settle};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// A rate so low that no test gets more than the burst. It is a power of two, so that a second is a whole number of the
/// bucket's units: at other rates an idle bucket rounds up, and its last token is a nanosecond late.
const NO_RATE: f64 = 1.0 / 131_072.0;

/// Pseudo-random numbers that are the same in each run: SplitMix64 (Steele, Lea, Flood).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn only_server<C: Connector>(pool: &Pool<C>) -> ServerStatus {
    let mut servers = pool.status().servers;
    assert_eq!(servers.len(), 1);
    servers.remove(0)
}

/// The counts open, idle, in use and connecting.
fn numbers<C: Connector>(pool: &Pool<C>) -> (u32, usize, u32, u32) {
    let ServerStatus { open, idle, in_use, connecting, .. } = only_server(pool);
    (open, idle, in_use, connecting)
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls up to `times` times, then drops the future: a caller that gives up.
pub(crate) async fn poll_at_most<T, E>(times: u64, future: impl Future<Output = Result<T, E>>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return result.ok();
        }
        yield_now().await;
    }
    None
}

/// Acquires `count` new connections without advancing the clock.
async fn acquire_all<C: Connector>(pool: &Pool<C>, count: usize) -> Vec<PooledConn<C>> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(poll_at_most(64, pool.acquire()).await.expect("a permit and a token are free"));
    }
    held
}

#[tokio::test]
async fn attempt_holds_permit_until_it_ends() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(2).connect_timeout(SECOND * 2).wait_timeout(None));
    rig.connector.on_connect("a", Connect::Never);
    let mut waiters: Vec<_> = (0..4).map(|_| Box::pin(rig.pool.acquire())).collect();
    for waiter in &mut waiters {
        assert!(poll_once(waiter.as_mut()).is_pending());
    }
    settle().await;
    assert_eq!((numbers(&rig.pool), rig.connector.counts("a").attempts), ((2, 0, 0, 2), 2));
    // After the hedge delay the attempts no longer count for the waiters, but they still hold permits.
    advance_smoothly(&rig, SECOND).await;
    assert_eq!((numbers(&rig.pool), rig.connector.counts("a").attempts), ((2, 0, 0, 2), 2));
    // The attempts outlive their callers.
    drop(waiters);
    settle().await;
    assert_eq!((numbers(&rig.pool), rig.connector.counts("a").in_flight), ((2, 0, 0, 2), 2));
    advance_smoothly(&rig, SECOND).await;
    assert_eq!((numbers(&rig.pool), rig.connector.counts("a").open), ((0, 0, 0, 0), 0));
}

#[tokio::test]
async fn permit_is_released_if_drop_of_connection_panics() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(1).wait_timeout(SECOND));
    let ways: [fn(PooledConn<ScriptedConnector>); 3] = [drop, PooledConn::discard, |conn| drop(conn.detach())];
    for way in ways {
        let conn = rig.pool.acquire().await.expect("the permit is free");
        rig.connector.set_drop_panics("a", true);
        assert!(catch_unwind(AssertUnwindSafe(|| way(conn))).is_err());
        rig.connector.set_drop_panics("a", false);
        assert_eq!(numbers(&rig.pool), (0, 0, 0, 0));
    }
    assert_eq!(rig.connector.counts("a").max_open, 1);
}

#[tokio::test]
async fn permit_is_released_if_drop_after_fail_panics() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(1));
    let conn = rig.pool.acquire().await.expect("the permit is free");
    rig.connector.set_drop_panics("a", true);
    assert!(catch_unwind(AssertUnwindSafe(|| conn.fail("broken"))).is_err());
    assert_eq!(numbers(&rig.pool), (0, 0, 0, 0));
}

#[tokio::test]
async fn permit_is_released_if_drop_of_expired_connection_panics() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(2).idle_timeout(SECOND).wait_timeout(SECOND));
    acquire_all(&rig.pool, 2).await.into_iter().for_each(PooledConn::release);
    rig.connector.set_drop_panics("a", true);
    // The background task panics with the first connection and still closes the second. The next caller restarts it.
    for _ in 0..20 {
        rig.clock.advance(SECOND / 10);
        settle().await;
    }
    assert_eq!(numbers(&rig.pool), (0, 0, 0, 0));
    rig.connector.set_drop_panics("a", false);
    let held = acquire_all(&rig.pool, 2).await;
    assert_eq!(numbers(&rig.pool), (2, 0, 2, 0));
    assert_eq!(rig.connector.counts("a").connected, 4);
    drop(held);
}

fn ways_to_close<C: Connector>() -> [fn(PooledConn<C>); 3] {
    [drop, PooledConn::discard, |conn| conn.fail("broken")]
}

/// A connection that calls a function while it is dropped.
struct Witness(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(look) = self.0.take() {
            look();
        }
    }
}

#[tokio::test]
async fn permit_is_held_until_drop_has_returned() {
    let connector = connect_fn(|_: Server| async { Ok::<_, Infallible>(Witness(None)) });
    let pool = Pool::builder(connector).clock(Clock::manual()).server("a").max_conns_per_server(1).build();
    let pool = pool.expect("the settings are in range");
    for way in ways_to_close() {
        let mut conn = pool.acquire_timeout(SECOND).await.expect("the permit is free");
        let (seen, witness) = (Arc::new(AtomicU32::new(9)), pool.clone());
        let saw = Arc::clone(&seen);
        conn.0 = Some(Box::new(move || saw.store(only_server(&witness).open, Ordering::SeqCst)));
        way(conn);
        assert_eq!((seen.load(Ordering::SeqCst), only_server(&pool).open), (1, 0));
    }
}

#[tokio::test]
async fn detached_connection_is_not_counted() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(1).wait_timeout(SECOND));
    let detached = rig.pool.acquire().await.expect("a new connection").detach();
    assert_eq!(numbers(&rig.pool), (0, 0, 0, 0));
    let conn = rig.pool.acquire().await.expect("the permit is free");
    assert_eq!(rig.connector.counts("a").open, 2);
    drop(detached);
    assert_eq!((numbers(&rig.pool), rig.connector.counts("a").open), ((1, 0, 1, 0), 1));
    conn.release();
}

#[tokio::test]
async fn lowered_maximum_closes_connections_on_return() {
    let rig = Rig::manual(|b| b.server(Server::new("a").max_conns(5)));
    let mut held = acquire_all(&rig.pool, 5).await;
    rig.pool.set_servers([Server::new("a").max_conns(2)]).expect("the settings are in range");
    assert_eq!((numbers(&rig.pool), only_server(&rig.pool).max_conns), ((5, 0, 5, 0), 2));
    for after in [(4, 0, 4, 0), (3, 0, 3, 0), (2, 0, 2, 0), (2, 1, 1, 0), (2, 2, 0, 0)] {
        held.pop().expect("five connections are in use").release();
        assert_eq!(numbers(&rig.pool), after);
    }
    assert_eq!(rig.connector.counts("a").open, 2);
    assert!(poll_at_most(3, rig.pool.acquire_now()).await.is_some(), "the other connections are reused");
}

#[tokio::test]
async fn lowered_maximum_starts_no_attempt_until_permit_is_free() {
    let rig = Rig::manual(|b| b.server(Server::new("a").max_conns(3)).wait_timeout(None));
    let mut held = acquire_all(&rig.pool, 3).await;
    rig.pool.set_servers([Server::new("a").max_conns(1)]).expect("the settings are in range");
    let mut waiter = pin!(rig.pool.acquire());
    for left in [2, 1] {
        drop(held.pop());
        assert!(poll_once(waiter.as_mut()).is_pending());
        settle().await;
        assert_eq!((numbers(&rig.pool), rig.connector.counts("a").attempts), ((left, 0, left, 0), 3));
    }
    drop(held);
    settle().await;
    assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(rig.connector.counts("a").attempts, 4);
}

#[tokio::test]
async fn raised_maximum_serves_waiters() {
    let rig = Rig::manual(|b| b.server(Server::new("a").max_conns(1)).wait_timeout(None));
    let held = acquire_all(&rig.pool, 1).await;
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).is_pending());
    settle().await;
    assert_eq!(rig.connector.counts("a").attempts, 1);
    rig.pool.set_servers([Server::new("a").max_conns(2)]).expect("the settings are in range");
    settle().await;
    assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(rig.connector.counts("a").max_open, 2);
    drop(held);
}

#[tokio::test]
async fn maximum_spans_registrations() {
    let rig = Rig::manual(|b| b.server(Server::new("a").max_conns(2)).wait_timeout(None));
    let mut held = acquire_all(&rig.pool, 2).await;
    rig.pool.deregister("a").expect("the server is registered");
    let draining = only_server(&rig.pool);
    assert_eq!((draining.state, draining.open, draining.in_use), (ServerState::Draining, 2, 2));
    rig.pool.register(Server::new("a").max_conns(2)).expect("the server is not registered");
    assert_eq!((numbers(&rig.pool), only_server(&rig.pool).state), ((2, 0, 2, 0), ServerState::Up));
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).is_pending());
    settle().await;
    assert_eq!(rig.connector.counts("a").attempts, 2);
    held.pop().expect("two connections are in use").release();
    settle().await;
    assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(_))), "the permit is free for a new connection");
    assert_eq!(rig.connector.counts("a").max_open, 2);
}

#[tokio::test]
async fn status_counts_open_idle_in_use_and_connecting() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(4).wait_timeout(None));
    assert_eq!(numbers(&rig.pool), (0, 0, 0, 0));
    let mut held = acquire_all(&rig.pool, 3).await;
    assert_eq!(numbers(&rig.pool), (3, 0, 3, 0));
    held.pop().expect("three connections are in use").release();
    assert_eq!(numbers(&rig.pool), (3, 1, 2, 0));
    held.push(rig.pool.try_acquire().expect("a connection is idle"));
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    assert!(rig.pool.try_acquire().is_err(), "the call starts a balance attempt");
    assert_eq!(numbers(&rig.pool), (4, 0, 3, 1));
    rig.clock.advance(SECOND);
    settle().await;
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(numbers(&rig.pool), (4, 1, 3, 0));
    held.pop().expect("three connections are in use").discard();
    assert_eq!(numbers(&rig.pool), (3, 1, 2, 0));
    held.into_iter().for_each(PooledConn::release);
    assert_eq!(numbers(&rig.pool), (3, 3, 0, 0));
    assert_eq!(rig.connector.counts("a").open, 3);
}
