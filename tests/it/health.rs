//! Backoff and health: when a broken server is left alone, who probes it, and what brings it back.

mod events;
mod probes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{Builder, Pool, PooledConn, Server, ServerState};
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
/// When a server that always fails is dialled: after 60, 90, 135, 202.5, 300 and 300 seconds.
const DIALS_MS: [u64; 7] = [0, 60_000, 150_000, 285_000, 487_500, 787_500, 1_087_500];

/// One server, left alone for a minute after its first failure and for no more than five.
fn steady(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    b.server("a")
        .backoff(MINUTE, MINUTE * 5)
        .backoff_spread_ratio(0.0)
        .wait_timeout(None)
        .idle_timeout(None)
        .max_lifetime(None)
}

fn expected_dials() -> Vec<Duration> {
    DIALS_MS.map(Duration::from_millis).to_vec()
}

fn state(rig: &Rig) -> ServerState {
    rig.pool.status().servers[0].state
}

fn down(failures: u32, retry_after: Duration) -> ServerState {
    ServerState::Down { failures, retry_after }
}

/// Moves a manual clock on, in steps of half a second, and lets everybody do what there is to do after each.
async fn pass(rig: &Rig, time: Duration, mut each_step: impl AsyncFnMut()) {
    for _ in 0..time.as_millis() / 500 {
        each_step().await;
        settle().await;
        rig.clock.advance(MILLISECOND * 500);
        settle().await;
    }
}

/// A caller that waits.
fn waiting(rig: &Rig) -> JoinHandle<PooledConn<ScriptedConnector>> {
    let pool = rig.pool.clone();
    tokio::spawn(async move { pool.acquire().await.expect("the wait has no timeout") })
}

/// A connection that is there, or is dialled without a move of the clock.
async fn acquired(rig: &Rig) -> PooledConn<ScriptedConnector> {
    poll_at_most(64, rig.pool.acquire()).await.expect("the server serves")
}

/// Down after one failure, at the present time.
async fn downed(rig: &Rig) {
    acquired(rig).await.fail("broken");
    assert_eq!(state(rig), down(1, MINUTE));
}

#[tokio::test]
async fn the_backoff_under_a_standing_waiter() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 19, async || {}).await;
    assert_eq!(rig.connector.connect_times("a"), expected_dials());
    waiter.abort();
}

#[tokio::test]
async fn the_backoff_under_callers_that_try() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    pass(&rig, MINUTE * 19, async || assert!(rig.pool.try_acquire().is_err())).await;
    assert_eq!(rig.connector.connect_times("a"), expected_dials());
}

#[tokio::test]
async fn the_backoff_under_callers_in_a_hurry() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    pass(&rig, MINUTE * 19, async || assert!(rig.pool.acquire_now().await.is_err())).await;
    assert_eq!(rig.connector.connect_times("a"), expected_dials());
}

#[tokio::test(start_paused = true)]
async fn the_backoff_on_tokios_clock() {
    let rig = Rig::paused(steady);
    rig.connector.on_connect("a", Connect::Refuse);
    let waiter = waiting(&rig);
    tokio::time::sleep(MINUTE * 19).await;
    let dials = rig.connector.connect_times("a");
    assert_eq!(dials.len(), 7);
    for (dials, expected_ms) in dials.windows(2).zip([60_000, 90_000, 135_000, 202_500, 300_000, 300_000]) {
        let expected = Duration::from_millis(expected_ms);
        let interval = dials[1] - dials[0];
        assert!((expected..expected + MILLISECOND * 5).contains(&interval), "{interval:?} is not {expected:?}");
    }
    waiter.abort();
}

#[tokio::test]
async fn the_backoff_of_a_connector_that_panics() {
    let rig = Rig::manual(steady);
    rig.connector.on_connect("a", Connect::Panic);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 19, async || {}).await;
    assert_eq!(rig.connector.connect_times("a"), expected_dials());
    assert_eq!(rig.pool.status().servers[0].open, 0);
    // It recovers all the same.
    rig.connector.on_connect("a", Connect::Ok);
    pass(&rig, MINUTE * 5, async || {}).await;
    waiter.await.expect("the caller was served").release();
    assert_eq!(state(&rig), ServerState::Up);
}

#[tokio::test]
async fn the_backoff_of_a_server_that_accepts_and_then_fails() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(8));
    for _ in 0..8 {
        let pool = rig.pool.clone();
        tokio::spawn(async move {
            while let Ok(conn) = pool.acquire().await {
                yield_now().await;
                conn.fail("it accepts and then fails");
            }
        });
    }
    pass(&rig, MINUTE * 19, async || {}).await;
    let mut dials = rig.connector.connect_times("a");
    assert!(dials.len() > 20, "callers that wait are dialled for while it is on trial");
    dials.dedup();
    assert_eq!(dials, expected_dials());
    rig.pool.close().await;
}

#[tokio::test]
async fn the_spread_is_drawn_from_all_of_its_range() {
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
async fn nothing_but_a_release_after_a_dial_resets_the_backoff() {
    let rig = Rig::manual(steady);
    let old = [acquired(&rig).await, acquired(&rig).await];
    downed(&rig).await;
    rig.connector.next_connects("a", [Connect::Refuse]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE + SECOND, async || {}).await;
    assert_eq!(state(&rig), down(2, MINUTE * 3 / 2 - SECOND), "the probe was refused");
    pass(&rig, MINUTE * 3 / 2, async || {}).await;
    let trial = ServerState::Recovering { failures: 2 };
    assert_eq!(state(&rig), trial);
    for conn in old {
        conn.release();
        assert_eq!(state(&rig), trial, "released, but dialled before");
    }
    let probed = waiter.await.expect("the caller was served");
    drop(probed);
    assert_eq!(state(&rig), trial, "dialled since, but not released");
    let [_first, _second, dialled_since] = [acquired(&rig).await, acquired(&rig).await, acquired(&rig).await];
    dialled_since.release();
    assert_eq!(state(&rig), ServerState::Up);
    acquired(&rig).await.fail("once more");
    assert_eq!(state(&rig), down(1, MINUTE), "from the beginning");
}

#[tokio::test]
async fn a_failure_on_trial_goes_on_where_the_backoff_was() {
    let rig = Rig::manual(|b| steady(b).fail_threshold(3));
    rig.connector.next_connects("a", [Connect::Refuse, Connect::Refuse]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 3, async || {}).await;
    let on_trial = waiter.await.expect("the caller was served");
    assert_eq!(state(&rig), ServerState::Recovering { failures: 2 });
    on_trial.fail("one is enough, whatever the threshold");
    assert_eq!(state(&rig), down(3, Duration::from_secs(135)));
}

#[tokio::test]
async fn dials_that_fail_together_count_once() {
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
async fn failures_of_connections_from_before_a_restart_count_nothing() {
    let rig = Rig::manual(steady);
    let mut stale = [acquired(&rig).await, acquired(&rig).await, acquired(&rig).await].into_iter();
    let mut fail_one = || stale.next().expect("three were out").fail("stale");
    downed(&rig).await;
    fail_one();
    assert_eq!(state(&rig), down(1, MINUTE), "Down");
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
    assert_eq!(rig.connector.counts("a").open, 1, "those that failed were closed");
}

#[tokio::test]
async fn a_dial_from_before_a_restart_counts_nothing() {
    let rig = Rig::manual(|b| steady(b).connect_timeout(MINUTE * 10).hedge_delay(MINUTE * 10));
    let conn = acquired(&rig).await;
    rig.connector.next_connects("a", [Connect::SlowRefuse(MINUTE * 2)]);
    assert!(rig.pool.try_acquire().is_err(), "it asks for a dial, which takes long");
    settle().await;
    conn.fail("broken");
    pass(&rig, MINUTE * 3 / 2, async || drop(rig.pool.try_acquire())).await;
    acquired(&rig).await.release();
    assert_eq!(state(&rig), ServerState::Up, "the probe succeeded");
    pass(&rig, MINUTE, async || {}).await;
    assert_eq!((rig.connector.counts("a").in_flight, state(&rig)), (0, ServerState::Up));
}

#[tokio::test]
async fn a_threshold_counts_failures_without_a_release_between() {
    let rig = Rig::manual(|b| steady(b).fail_threshold(3));
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(acquired(&rig).await);
    }
    let mut next = || held.pop().expect("six were out");
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
async fn a_failed_dial_takes_a_server_down_whatever_the_threshold() {
    let rig = Rig::manual(|b| steady(b).fail_threshold(255));
    rig.connector.on_connect("a", Connect::Refuse);
    assert!(rig.pool.acquire_now().await.is_err());
    assert_eq!(state(&rig), down(1, MINUTE));
}

#[tokio::test]
async fn a_dial_that_takes_too_long_has_failed() {
    let rig = Rig::manual(|b| steady(b).connect_timeout(SECOND * 5).hedge_delay(MINUTE));
    rig.connector.on_connect("a", Connect::Never);
    let waiter = waiting(&rig);
    pass(&rig, Duration::from_millis(4_500), async || {}).await;
    assert_eq!(state(&rig), ServerState::Up);
    pass(&rig, SECOND / 2, async || {}).await;
    assert_eq!((state(&rig), rig.connector.counts("a").open), (down(1, MINUTE), 0));
    pass(&rig, MINUTE + SECOND * 5, async || {}).await;
    assert_eq!(state(&rig), down(2, MINUTE * 3 / 2), "so has a probe");
    waiter.abort();
}

#[tokio::test]
async fn a_fault_of_the_client_pauses_dials_and_leaves_the_server_up() {
    for standing in [true, false] {
        let rig = Rig::manual(|b| steady(b).server("b"));
        rig.connector.set_default(Connect::LocalFault);
        let waiter = standing.then(|| waiting(&rig));
        let up = || rig.pool.status().servers.iter().all(|server| server.state == ServerState::Up);
        pass(&rig, MINUTE * 19, async || {
            assert!(up());
            if !standing {
                assert!(rig.pool.acquire_now().await.is_err());
            }
        })
        .await;
        for address in ["a", "b"] {
            assert_eq!(rig.connector.connect_times(address), expected_dials(), "{address}");
        }
        waiter.inspect(JoinHandle::abort);
    }
}

#[tokio::test]
async fn a_dial_that_succeeds_ends_the_pauses_growth() {
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
async fn a_fault_of_the_client_in_a_probe_counts_nothing_and_does_not_stick() {
    let rig = Rig::manual(steady);
    downed(&rig).await;
    rig.connector.next_connects("a", [Connect::LocalFault, Connect::LocalFault, Connect::LocalFault]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE + SECOND / 2, async || {}).await;
    assert!(matches!(state(&rig), ServerState::Down { failures: 1, .. }));
    pass(&rig, MINUTE * 10, async || {}).await;
    assert_eq!(state(&rig), ServerState::Recovering { failures: 1 });
    let seconds: Vec<_> = rig.connector.connect_times("a").iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 60, 120, 210, 345], "by the backoff of the pause");
    waiter.await.expect("the caller was served").release();
    assert_eq!(state(&rig), ServerState::Up);
}
