//! Backoff and health: the pauses between attempts at a down server, its probes, and its recovery.

mod events;
mod probes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, Builder, Pool, PooledConn, Reason, Server, ServerState};
use tokio::runtime;
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::limits::poll_at_most;
use crate::support::{Rig, settle};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The times of the attempts at a server that always fails: at intervals of 60, 90, 135, 202.5, 300 and 300 seconds.
const ATTEMPTS_MS: [u64; 7] = [0, 60_000, 150_000, 285_000, 487_500, 787_500, 1_087_500];

/// One server, with a backoff of one to five minutes and no spread.
fn steady(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    b.server("a")
        .backoff(MINUTE, MINUTE * 5)
        .backoff_spread_ratio(0.0)
        .wait_timeout(None)
        .idle_timeout(None)
        .max_lifetime(None)
}

fn expected_attempts() -> Vec<Duration> {
    ATTEMPTS_MS.map(Duration::from_millis).to_vec()
}

fn state(rig: &Rig) -> ServerState {
    rig.pool.status().servers[0].state
}

fn down(failures: u32, retry_after: Duration) -> ServerState {
    ServerState::Down { failures, retry_after }
}

/// Advances a manual clock in steps of half a second, and runs the other tasks after each.
async fn pass(rig: &Rig, time: Duration, mut each_step: impl AsyncFnMut()) {
    for _ in 0..time.as_millis() / 500 {
        each_step().await;
        settle().await;
        rig.clock.advance(MILLISECOND * 500);
        settle().await;
    }
}

/// Spawns a caller that waits without a timeout.
fn waiting(rig: &Rig) -> JoinHandle<PooledConn<ScriptedConnector>> {
    let pool = rig.pool.clone();
    tokio::spawn(async move { pool.acquire().await.expect("the wait has no timeout") })
}

/// Acquires an idle or a new connection without advancing the clock.
async fn acquired(rig: &Rig) -> PooledConn<ScriptedConnector> {
    poll_at_most(64, rig.pool.acquire()).await.expect("the server serves")
}

/// Takes the server down by one failure, at the present time.
async fn downed(rig: &Rig) {
    acquired(rig).await.fail("broken");
    assert_eq!(state(rig), down(1, MINUTE));
}

#[tokio::test]
async fn backoff_applies_with_permanent_waiter() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 19, async || {}).await;
    assert_eq!(rig.connector.connect_times("a"), expected_attempts());
    waiter.abort();
}

#[tokio::test]
async fn backoff_applies_with_try_acquire() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    pass(&rig, MINUTE * 19, async || assert!(rig.pool.try_acquire().is_err())).await;
    assert_eq!(rig.connector.connect_times("a"), expected_attempts());
}

#[tokio::test]
async fn backoff_applies_with_acquire_now() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    pass(&rig, MINUTE * 19, async || assert!(rig.pool.acquire_now().await.is_err())).await;
    assert_eq!(rig.connector.connect_times("a"), expected_attempts());
}

#[tokio::test(start_paused = true)]
async fn backoff_applies_on_tokio_clock() {
    let rig = Rig::paused(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    let waiter = waiting(&rig);
    tokio::time::sleep(MINUTE * 19).await;
    let attempts = rig.connector.connect_times("a");
    assert_eq!(attempts.len(), 7);
    for (attempts, expected_ms) in attempts.windows(2).zip([60_000, 90_000, 135_000, 202_500, 300_000, 300_000]) {
        let expected = Duration::from_millis(expected_ms);
        let interval = attempts[1] - attempts[0];
        assert!((expected..expected + MILLISECOND * 5).contains(&interval), "{interval:?} is not {expected:?}");
    }
    waiter.abort();
}

#[tokio::test]
async fn backoff_applies_to_panicking_connector() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Panic);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 19, async || {}).await;
    assert_eq!(rig.connector.connect_times("a"), expected_attempts());
    assert_eq!(rig.pool.status().servers[0].open, 0);
    // The server recovers once its attempts succeed.
    rig.connector.on_connect("a", Connect::Ok);
    pass(&rig, MINUTE * 5, async || {}).await;
    waiter.await.expect("the caller was served").release();
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn backoff_grows_for_server_that_accepts_then_fails() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(8));
    for _ in 0..8 {
        let pool = rig.pool.clone();
        tokio::spawn(async move {
            while let Ok(conn) = pool.acquire().await {
                yield_now().await;
                conn.fail("the server accepts and then fails");
            }
        });
    }
    pass(&rig, MINUTE * 19, async || {}).await;
    let mut attempts = rig.connector.connect_times("a");
    assert!(attempts.len() > 20, "attempts start for waiters while the server is recovering");
    attempts.dedup();
    assert_eq!(attempts, expected_attempts());
    rig.pool.close().await;
}

#[tokio::test]
async fn spread_covers_its_range() {
    let addresses = || (0..500).map(|index| index.to_string());
    let rig = Rig::manual(|b| b.servers(addresses()).backoff(MINUTE, MINUTE * 5));
    rig.connector.set_default(Connect::Refuse);
    for _ in 0..2_000 {
        let _ = rig.pool.try_acquire();
        yield_now().await;
    }
    let retries = rig.pool.status().servers.into_iter().map(|server| match server.state {
        ServerState::Down { failures: 1, retry_after } => retry_after.as_secs_f64() / 60.0,
        state => panic!("{state:?}"),
    });
    let (least, most) = retries.fold((2.0_f64, 0.0_f64), |(least, most), ratio| (least.min(ratio), most.max(ratio)));
    assert!((0.5..0.6).contains(&least) && (1.4..1.5001).contains(&most), "{least} to {most}");
}

#[tokio::test]
async fn only_release_of_connection_opened_since_outage_resets_backoff() {
    let rig = Rig::manual(steady);
    let old = [acquired(&rig).await, acquired(&rig).await];
    downed(&rig).await;
    rig.connector.next_connects("a", [Connect::Refuse]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE + SECOND, async || {}).await;
    assert_eq!(state(&rig), down(2, MINUTE * 3 / 2 - SECOND), "the probe was refused");
    pass(&rig, MINUTE * 3 / 2, async || {}).await;
    let recovering = ServerState::Recovering { failures: 2 };
    assert_eq!(state(&rig), recovering);
    for conn in old {
        conn.release();
        assert_eq!(state(&rig), recovering, "released, but opened before the outage");
    }
    let probed = waiter.await.expect("the caller was served");
    drop(probed);
    assert_eq!(state(&rig), recovering, "opened since the outage, but not released");
    let [_first, _second, opened_since] = [acquired(&rig).await, acquired(&rig).await, acquired(&rig).await];
    opened_since.release();
    assert_eq!(state(&rig), ServerState::Up);
    acquired(&rig).await.fail("once more");
    assert_eq!(state(&rig), down(1, MINUTE), "the backoff starts again");
}

#[tokio::test]
async fn failure_while_recovering_continues_backoff() {
    let rig = Rig::manual(|b| steady(b).fail_threshold(3));
    rig.connector.next_connects("a", [Connect::Refuse, Connect::Refuse]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 3, async || {}).await;
    let probed = waiter.await.expect("the caller was served");
    assert_eq!(state(&rig), ServerState::Recovering { failures: 2 });
    probed.fail("one failure is enough, regardless of the threshold");
    assert_eq!(state(&rig), down(3, Duration::from_secs(135)));
}

#[tokio::test]
async fn concurrent_failed_attempts_count_once() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(8));
    rig.connector.on_connect("a", Connect::SlowRefuse(SECOND));
    let waiters: Vec<_> = (0..8).map(|_| waiting(&rig)).collect();
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 8);
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!((rig.connector.counts("a").attempts, state(&rig)), (8, down(1, MINUTE)));
    waiters.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn failures_of_connections_from_before_outage_are_ignored() {
    let rig = Rig::manual(steady);
    let mut stale = [acquired(&rig).await, acquired(&rig).await, acquired(&rig).await].into_iter();
    let mut fail_one = || stale.next().expect("three connections were in use").fail("stale");
    downed(&rig).await;
    fail_one();
    assert_eq!(state(&rig), down(1, MINUTE), "the server stays down");
    rig.connector.next_connects("a", [Connect::Slow(SECOND)]);
    pass(&rig, MINUTE + SECOND / 2, async || assert!(rig.pool.try_acquire().is_err())).await;
    assert_eq!(state(&rig), ServerState::Probing { failures: 1 });
    fail_one();
    assert_eq!(state(&rig), ServerState::Probing { failures: 1 });
    pass(&rig, SECOND, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering { failures: 1 });
    let new = acquired(&rig).await;
    fail_one();
    assert_eq!(state(&rig), ServerState::Recovering { failures: 1 });
    new.release();
    assert_eq!(state(&rig), ServerState::Up);
    assert_eq!(rig.connector.counts("a").open, 1, "failed connections were closed");
}

#[tokio::test]
async fn failed_attempt_from_before_outage_is_ignored() {
    let rig = Rig::manual(|b| steady(b).connect_timeout(MINUTE * 10).hedge_delay(MINUTE * 10));
    let conn = acquired(&rig).await;
    rig.connector.next_connects("a", [Connect::SlowRefuse(MINUTE * 2)]);
    assert!(rig.pool.try_acquire().is_err(), "the call starts a slow attempt");
    settle().await;
    conn.fail("broken");
    pass(&rig, MINUTE * 3 / 2, async || drop(rig.pool.try_acquire())).await;
    acquired(&rig).await.release();
    assert_eq!(state(&rig), ServerState::Up, "the probe succeeded");
    pass(&rig, MINUTE, async || {}).await;
    assert_eq!((rig.connector.counts("a").in_flight, state(&rig)), (0, ServerState::Up));
}

#[tokio::test]
async fn threshold_counts_consecutive_failures() {
    let rig = Rig::manual(|b| steady(b).fail_threshold(3));
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(acquired(&rig).await);
    }
    let mut next = || held.pop().expect("six connections were in use");
    next().fail("first");
    next().fail("second");
    next().release();
    next().fail("first again");
    next().fail("second again");
    assert_eq!(state(&rig), ServerState::Up);
    next().fail("third");
    assert_eq!(state(&rig), down(1, MINUTE));
}

#[tokio::test]
async fn failed_attempt_takes_server_down_regardless_of_threshold() {
    let rig = Rig::manual(|b| steady(b).fail_threshold(255));
    rig.connector.on_connect("a", Connect::Refuse);
    assert!(rig.pool.acquire_now().await.is_err());
    assert_eq!(state(&rig), down(1, MINUTE));
}

#[tokio::test]
async fn connect_timeout_counts_as_failure() {
    let rig = Rig::manual(|b| steady(b).connect_timeout(SECOND * 5).hedge_delay(MINUTE));
    rig.connector.on_connect("a", Connect::Never);
    let waiter = waiting(&rig);
    pass(&rig, Duration::from_millis(4_500), async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
    pass(&rig, SECOND / 2, async || {}).await;
    assert_eq!((state(&rig), rig.connector.counts("a").open), (down(1, MINUTE), 0));
    pass(&rig, MINUTE + SECOND * 5, async || {}).await;
    assert_eq!(state(&rig), down(2, MINUTE * 3 / 2), "a probe times out as well");
    waiter.abort();
}

#[tokio::test]
async fn client_fault_pauses_attempts_and_leaves_server_up() {
    for waits in [true, false] {
        let rig = Rig::manual(|b| steady(b).server("b"));
        rig.connector.set_default(Connect::LocalFault);
        let waiter = waits.then(|| waiting(&rig));
        let up = || rig.pool.status().servers.iter().all(|server| server.state == ServerState::Up);
        pass(&rig, MINUTE * 19, async || {
            assert!(up());
            if !waits {
                assert!(rig.pool.acquire_now().await.is_err());
            }
        })
        .await;
        for address in ["a", "b"] {
            assert_eq!(rig.connector.connect_times(address), expected_attempts(), "{address}");
        }
        waiter.inspect(JoinHandle::abort);
    }
}

#[tokio::test]
async fn successful_attempt_resets_pause() {
    let rig = Rig::manual(steady);
    rig.connector.next_connects("a", [Connect::LocalFault, Connect::LocalFault, Connect::Ok, Connect::LocalFault]);
    let first = waiting(&rig);
    pass(&rig, MINUTE * 3, async || {}).await;
    let first = first.await.expect("the caller was served");
    let second = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    let seconds: Vec<_> = rig.connector.connect_times("a").iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 60, 150, 180, 240]);
    drop((first, second.await.expect("the caller was served")));
}

#[tokio::test]
async fn retry_after_is_later_of_backoff_and_pause() {
    let rig = Rig::manual(steady);
    downed(&rig).await;
    rig.connector.next_connects("a", [Connect::LocalFault, Connect::LocalFault]);
    let waiter = waiting(&rig);
    // The probes at 60 s and 120 s fail. The backoff of the second ends at 180 s, its pause at 210 s.
    pass(&rig, MINUTE * 2 + SECOND, async || {}).await;
    let left = SECOND * 89;
    assert_eq!(state(&rig), down(1, left));
    let error = rig.pool.acquire_now().await.expect_err("no attempt runs");
    let AcquireError::Unavailable(unavailable) = error else { panic!("{error:?}") };
    let Reason::Down { retry_after, .. } = unavailable.servers()[0].reason else { panic!("{unavailable:?}") };
    assert_eq!((unavailable.retry_after(), retry_after), (Some(left), left));
    waiter.abort();
}

#[tokio::test]
async fn client_fault_in_probe_is_not_counted() {
    let rig = Rig::manual(steady);
    downed(&rig).await;
    rig.connector.next_connects("a", [Connect::LocalFault, Connect::LocalFault, Connect::LocalFault]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE + SECOND / 2, async || {}).await;
    assert!(matches!(state(&rig), ServerState::Down { failures: 1, .. }));
    pass(&rig, MINUTE * 10, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering { failures: 1 });
    let seconds: Vec<_> = rig.connector.connect_times("a").iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 60, 120, 210, 345], "the pause has its own backoff");
    waiter.await.expect("the caller was served").release();
    assert_eq!(state(&rig), ServerState::Up);
}
