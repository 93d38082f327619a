//! Backoff and health: the pauses between attempts at a down server, its probes, and its recovery.

mod ejection;
pub(crate) mod events;
mod evidence;
mod outage;
mod probes;
mod ratio;
mod recovery;
mod verdicts;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{
    AcquireError, Builder, CloseReason, Ejection, Pool, PooledConn, Reason, Server, ServerState, StateKind,
};
use tokio::runtime;
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::limits::poll_at_most;
use crate::support::{Rig, advance_smoothly, ejects_at_once, poll_once, refuse_one, settle};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The times of the attempts at a server that always fails: at intervals of 60, 90, 135, 202.5, 300 and 300 seconds.
const ATTEMPTS_MS: [u64; 7] = [0, 60_000, 150_000, 285_000, 487_500, 787_500, 1_087_500];

/// One server, with a backoff of one to five minutes and no spread, also while no server serves.
fn steady(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    b.server("a")
        .backoff(MINUTE, MINUTE * 5)
        .backoff_spread_ratio(0.0)
        .outage_retry(None)
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

/// Takes the only server down by one refused attempt, at the present time.
async fn downed(rig: &Rig) {
    refuse_one(rig, "a").await;
    assert_eq!(state(rig), down(1, MINUTE));
}

/// The servers "a" and "b". One report in a row ejects one of them for a minute, plus or minus a half.
fn two(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    ejects_at_once(steady(b).server("b"), MINUTE)
}

/// Acquires connections to "a" and "b", as many of each.
async fn acquired_of_each(rig: &Rig, count: usize) -> [Vec<PooledConn<ScriptedConnector>>; 2] {
    let [mut of_a, mut of_b] = [Vec::new(), Vec::new()];
    for _ in 0..2 * count {
        let conn = acquired(rig).await;
        if conn.address() == "a" { of_a.push(conn) } else { of_b.push(conn) }
    }
    assert_eq!((of_a.len(), of_b.len()), (count, count));
    [of_a, of_b]
}

/// How long the first server stays ejected.
fn ejected_for(rig: &Rig) -> Option<Duration> {
    match state(rig) {
        ServerState::Ejected { retry_after } => Some(retry_after),
        _ => None,
    }
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
    let mut first = first.await.expect("the caller was served");
    first.report_success();
    let second = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    let seconds: Vec<_> = rig.connector.connect_times("a").iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 60, 150, 180, 240]);
    drop((first, second.await.expect("the caller was served")));
}

#[tokio::test]
async fn connect_timeout_counts_as_failure() {
    let rig = Rig::manual(|b| steady(b).connect_timeout(SECOND * 5).hedge_delay(MINUTE));
    rig.connector.on_connect("a", Connect::Never);
    let waiter = waiting(&rig);
    settle().await;
    advance_smoothly(&rig, Duration::from_millis(4_950)).await;
    assert_eq!(state(&rig), ServerState::Up);
    advance_smoothly(&rig, MILLISECOND * 50).await;
    assert_eq!((state(&rig), rig.connector.counts("a").open), (down(1, MINUTE), 0));
    advance_smoothly(&rig, MINUTE + SECOND * 5).await;
    assert_eq!(state(&rig), down(2, MINUTE * 3 / 2), "a probe times out as well");
    waiter.abort();
}

/// A client that was stalled did not wait for the server.
#[tokio::test]
async fn stall_of_the_client_does_not_count_towards_the_connect_timeout() {
    let rig = Rig::manual(|b| steady(b).connect_timeout(SECOND * 5).hedge_delay(MINUTE));
    rig.connector.on_connect("a", Connect::Slow(MINUTE));
    let waiter = waiting(&rig);
    settle().await;
    for _ in 0..10 {
        rig.clock.advance(SECOND * 3);
        settle().await;
    }
    assert_eq!((state(&rig), rig.connector.counts("a").in_flight), (ServerState::Up, 1));
    rig.clock.advance(MINUTE);
    settle().await;
    waiter.await.expect("the caller was served").release();
}

/// A server that went down and is up again while its first attempt runs, which ends as `first` half a minute later.
async fn up_again_during(first: Connect) -> Rig {
    let build = |b| steady(b).connect_timeout(MINUTE * 10).hedge_delay(MINUTE * 10).max_conns_per_server(2);
    let rig = Rig::manual(build);
    rig.connector.next_connects("a", [first, Connect::Refuse]);
    let waiters = [waiting(&rig), waiting(&rig)];
    settle().await;
    assert_eq!((rig.connector.counts("a").in_flight, state(&rig)), (1, down(1, MINUTE)));
    pass(&rig, MINUTE * 3 / 2, async || {}).await;
    for waiter in waiters {
        waiter.await.expect("the probe's connection serves both").release();
    }
    rig
}

#[tokio::test]
async fn failed_attempt_from_before_outage_is_ignored() {
    let rig = up_again_during(Connect::SlowRefuse(MINUTE * 2)).await;
    assert_eq!(state(&rig), ServerState::Up);
    pass(&rig, MINUTE, async || {}).await;
    assert_eq!((rig.connector.counts("a").in_flight, state(&rig)), (0, ServerState::Up));
    assert_eq!(rig.pool.status().servers[0].connecting_paused, None);
}

#[tokio::test]
async fn connection_of_an_attempt_from_before_an_outage_goes_to_no_waiter() {
    let rig = up_again_during(Connect::Slow(MINUTE * 2)).await;
    let held = acquired(&rig).await;
    let waiter = waiting(&rig);
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 1, "both permits are taken");
    pass(&rig, MINUTE, async || {}).await;
    waiter.await.expect("it gets the next connection").release();
    held.release();
    let totals = &rig.pool.status().servers[0].totals;
    assert_eq!((totals.connects, totals.closes(CloseReason::Outage)), (3, 1));
}

#[tokio::test]
async fn failed_attempt_takes_server_down_whatever_ejections_are_allowed() {
    for ratio in [0.0, 1.0] {
        let rig = Rig::manual(|b| steady(b).ejection(Ejection::new().max_ejected_ratio(ratio)));
        downed(&rig).await;
    }
}

#[tokio::test]
async fn retry_after_is_later_of_ejection_and_pause() {
    let rig = Rig::manual(|b| two(b).connect_timeout(MINUTE * 10).hedge_delay(MINUTE * 10).max_conns_per_server(2));
    let [mut of_a, of_b] = acquired_of_each(&rig, 2).await;
    of_b.into_iter().for_each(PooledConn::release);
    of_a.pop().expect("there are two").discard();
    rig.connector.on_connect("a", Connect::SlowRefuse(SECOND));
    // A caller that was served elsewhere starts an attempt at "a".
    [acquired(&rig).await, acquired(&rig).await].into_iter().for_each(PooledConn::release);
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 1);
    of_a.pop().expect("there are two").fail_for("too many requests", SECOND * 10);
    assert_eq!(ejected_for(&rig), Some(SECOND * 10));
    pass(&rig, SECOND, async || {}).await;
    assert_eq!(ejected_for(&rig), Some(MINUTE), "connecting pauses for longer than the ejection lasts");
}

#[tokio::test]
async fn client_fault_in_probe_keeps_the_cause_of_the_outage() {
    let rig = Rig::manual(steady);
    downed(&rig).await;
    rig.connector.next_connects("a", [Connect::LocalFault, Connect::LocalFault, Connect::LocalFault]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE + SECOND / 2, async || {}).await;
    assert!(matches!(state(&rig), ServerState::Down { failures: 2, .. }));
    let error = rig.pool.acquire_now().await.expect_err("no attempt runs");
    let AcquireError::Unavailable(unavailable) = error else { panic!("{error:?}") };
    let Reason::Down { cause: Some(cause), connect_error: Some(last), failures: 2, .. } =
        &unavailable.servers()[0].reason
    else {
        panic!("{unavailable:?}")
    };
    let texts = [cause, last].map(|failure| failure.source().expect("a connect failed").to_string());
    assert_eq!(texts[0], "a refused the connection, as scripted");
    assert_eq!(texts[1], "out of descriptors when connecting to a, as scripted");
    pass(&rig, MINUTE * 10, async || {}).await;
    let seconds: Vec<_> = rig.connector.connect_times("a").iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 60, 150, 285, 487]);
    waiter.await.expect("the caller was served").release();
    assert_eq!(state(&rig), ServerState::Up);
}

/// While connecting pauses by the client's fault, idle connections serve, and the others learn the cause.
#[tokio::test]
async fn client_fault_is_the_reason_of_a_server_that_is_up() {
    let rig = Rig::manual(steady);
    let held = acquired(&rig).await;
    rig.connector.on_connect("a", Connect::LocalFault);
    let error = rig.pool.acquire_now().await.expect_err("the attempt fails");
    let AcquireError::Unavailable(unavailable) = &error else { panic!("{error:?}") };
    let Reason::Paused { cause: Some(cause), failures: 1, retry_after } = &unavailable.servers()[0].reason else {
        panic!("{unavailable:?}")
    };
    assert_eq!((*retry_after, unavailable.counts().paused, error.retry_after()), (MINUTE, 1, Some(MINUTE)));
    let text = cause.source().expect("a connect failed").to_string();
    assert_eq!(text, "out of descriptors when connecting to a, as scripted");
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.state, server.connecting_paused), (ServerState::Up, Some(MINUTE)));
    assert!(server.connect_error.is_some_and(|error| error.ends_with(&text)));
    held.release();
    rig.pool.try_acquire().expect("the idle connection serves").release();
}
