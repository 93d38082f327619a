//! Expiry of connections, the reported idle time, and the pool's tasks.

mod checks;
mod lifetimes;
mod refill;
mod shrink;

use std::collections::BTreeSet;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedError};
use connring::{AcquireError, PooledConn};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{Rig, advance_smoothly, open, settle};

/// The step of the coarse time.
const TICK: Duration = Duration::from_millis(100);
/// The most by which a connection outlives its time: the sweep runs once a second, and time is coarse to a tick.
const LATE: Duration = Duration::from_millis(1_100);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn open_now(rig: &Rig) -> u32 {
    let open = rig.connector.total_counts().open;
    assert_eq!(open, rig.pool.status().servers[0].open, "a permit for each connection");
    open
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_at_idle_timeout() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    open(&rig, 3).await.into_iter().for_each(PooledConn::release);
    sleep(secs(60) - TICK).await;
    assert_eq!(open_now(&rig), 3);
    sleep(TICK + LATE).await;
    assert_eq!(open_now(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn background_task_goes_on_after_a_panic_without_a_caller() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    let mut held = open(&rig, 2).await;
    held.remove(0).release();
    sleep(secs(30)).await;
    held.remove(0).release();
    rig.connector.set_drop_panics("a:1", true);
    sleep(secs(30) + LATE).await;
    assert_eq!(open_now(&rig), 1, "the background task panicked with the first connection");
    rig.connector.set_drop_panics("a:1", false);
    sleep(secs(30) + LATE).await;
    assert_eq!(open_now(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn use_restarts_idle_time() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    open(&rig, 1).await.into_iter().for_each(PooledConn::release);
    for _ in 0..10 {
        sleep(secs(40)).await;
        rig.pool.try_acquire().expect("the connection is idle").release();
    }
    assert_eq!(rig.connector.total_counts().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn without_maintenance_checkout_closes_connection_past_idle_timeout() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)).maintenance(false));
    open(&rig, 1).await.into_iter().for_each(PooledConn::release);
    sleep(secs(59)).await;
    let conn = rig.pool.acquire().await.expect("the connection is idle");
    assert_eq!(conn.id(), 1);
    conn.release();
    sleep(secs(61)).await;
    assert_eq!(open_now(&rig), 1, "no checkout has found it yet");
    let conn = rig.pool.acquire().await.expect("the server accepts");
    assert_eq!((conn.id(), open_now(&rig)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn without_maintenance_checkout_closes_connection_past_lifetime() {
    let lifetime = |builder: connring::Builder<_>| builder.max_lifetime(secs(60)).max_lifetime_jitter_ratio(0.0);
    let rig = Rig::paused(|builder| lifetime(builder).server("a:1").maintenance(false));
    open(&rig, 1).await.into_iter().for_each(PooledConn::release);
    sleep(secs(59)).await;
    rig.pool.try_acquire().expect("the lifetime is not over").release();
    sleep(secs(1)).await;
    let conn = rig.pool.acquire().await.expect("the server accepts");
    assert_eq!((conn.id(), open_now(&rig)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn each_lifetime_is_drawn_once_within_jitter() {
    const COUNT: usize = 64;
    let rig = Rig::paused(|builder| {
        let builder = builder.server("a:1").max_conns_per_server(COUNT as u32).idle_timeout(None);
        builder.max_lifetime(secs(1_000)).max_lifetime_jitter_ratio(0.4)
    });
    open(&rig, COUNT).await.into_iter().for_each(PooledConn::release);
    // The times at which connections were closed, in whole seconds.
    let mut ends = Vec::new();
    for second in 0..1_002 {
        while ends.len() + (open_now(&rig) as usize) < COUNT {
            ends.push(second);
        }
        sleep(secs(1)).await;
    }
    assert_eq!(ends.len(), COUNT, "{ends:?}");
    assert!(ends[0] >= 600, "no lifetime is below 60 %: {ends:?}");
    // Of 64 drawn from 400 s, none in the first or the last quarter: once in 10⁸ runs. If each sweep drew
    // anew, none would live into the last quarter.
    assert!(ends[0] < 700 && ends[COUNT - 1] > 900, "lifetimes span the range: {ends:?}");
    let distinct: BTreeSet<_> = ends.iter().collect();
    assert!(distinct.len() > COUNT / 3, "lifetimes differ: {ends:?}");
}

#[tokio::test(start_paused = true)]
async fn lifetime_is_exact_without_jitter() {
    let rig = Rig::paused(|builder| {
        builder.server("a:1").idle_timeout(None).max_lifetime(secs(1_000)).max_lifetime_jitter_ratio(0.0)
    });
    open(&rig, 5).await.into_iter().for_each(PooledConn::release);
    sleep(secs(1_000) - TICK).await;
    assert_eq!(open_now(&rig), 5);
    sleep(TICK + LATE).await;
    assert_eq!(open_now(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn connection_in_use_outlives_its_lifetime() {
    let rig = Rig::paused(|builder| builder.server("a:1").max_lifetime(secs(60)).idle_timeout(secs(30)));
    let conns = open(&rig, 2).await;
    sleep(secs(600)).await;
    assert_eq!(open_now(&rig), 2);
    conns.into_iter().for_each(PooledConn::release);
    sleep(LATE).await;
    assert_eq!(open_now(&rig), 0, "past its lifetime a connection is closed as soon as it is idle");
}

#[tokio::test(start_paused = true)]
async fn reported_idle_time_is_exact_to_a_tick() {
    for maintenance in [true, false] {
        let rig =
            Rig::paused(|builder| builder.server("a:1").maintenance(maintenance).idle_timeout(None).max_lifetime(None));
        rig.pool.acquire().await.expect("the server accepts").release();
        for ms in [0, 1, 37, 99, 100, 101, 150, 250, 999, 1_000, 12_345, 600_001] {
            let idle = Duration::from_millis(ms);
            sleep(idle).await;
            let conn = rig.pool.try_acquire().expect("the connection is idle");
            let reported = conn.last_idle().expect("is_reusable was called");
            let tolerance = if maintenance { TICK } else { Duration::ZERO };
            assert!(
                reported.abs_diff(idle) <= tolerance,
                "maintenance {maintenance}: idle {idle:?}, reported {reported:?}"
            );
            // Keeps the steps out of phase with the ticks.
            sleep(Duration::from_millis(13)).await;
            conn.release();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn expiry_sweep_keeps_fifo_order() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    let conns = open(&rig, 4).await;
    let ids: Vec<_> = conns.iter().map(|conn| conn.id()).collect();
    conns.into_iter().for_each(PooledConn::release);
    sleep(secs(30)).await;
    let conns = open(&rig, 4).await;
    assert_eq!(conns.iter().map(|conn| conn.id()).collect::<Vec<_>>(), ids);
}

/// Returns a pool that runs its background task and two attempts, and the task of a caller that waits.
async fn with_all_tasks() -> (Rig, JoinHandle<Result<(), AcquireError<ScriptedError>>>) {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).wait_timeout(None));
    rig.connector.set_default(Connect::Never);
    let pool = rig.pool.clone();
    let caller = tokio::spawn(async move { pool.acquire().await.map(drop) });
    sleep(Duration::from_millis(150)).await;
    // The caller, the background task, an attempt and its hedge.
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 4);
    (rig, caller)
}

#[tokio::test(start_paused = true)]
async fn close_ends_all_tasks() {
    let (rig, caller) = with_all_tasks().await;
    rig.pool.close().await;
    assert!(matches!(caller.await.expect("the task does not panic"), Err(AcquireError::Closed)));
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn drop_ends_all_tasks() {
    let (rig, caller) = with_all_tasks().await;
    caller.abort();
    caller.await.expect_err("the task was aborted");
    drop(rig.pool);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(rig.connector.total_counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn pool_runs_one_background_task() {
    for maintenance in [true, false] {
        let rig = Rig::paused(|builder| builder.server("a:1").max_conns_per_server(1).maintenance(maintenance));
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let held = rig.pool.acquire().await.expect("the server accepts");
        settle().await;
        assert_eq!(tasks(), 1);
        rig.pool.acquire_timeout(Duration::from_secs(3)).await.expect_err("the only connection is in use");
        assert_eq!(tasks(), 1);
        held.release();
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_refused_is_not_probed_without_callers() {
    let rig = Rig::paused(|builder| builder.server("a:1"));
    rig.connector.set_default(Connect::Refuse);
    rig.pool.acquire_timeout(Duration::from_millis(1)).await.expect_err("the server refuses");
    assert_eq!(rig.connector.total_counts().attempts, 1);
    sleep(secs(3_600)).await;
    assert_eq!(rig.connector.total_counts().attempts, 1);
}

/// One look of the background task does not pass over all of them.
#[tokio::test]
async fn sweep_reaches_more_than_a_thousand_servers() {
    const SERVERS: usize = 1_100;
    let names = (0..SERVERS).map(|number| number.to_string());
    let rig = Rig::manual(|builder| builder.servers(names).idle_timeout(secs(4)).max_lifetime(None));
    assert!(rig.pool.warm_up(secs(1)).await.is_complete());
    assert_eq!(rig.connector.total_counts().open, SERVERS as u32);
    advance_smoothly(&rig, secs(4) + 2 * LATE).await;
    assert_eq!(rig.connector.total_counts().open, 0);
}
