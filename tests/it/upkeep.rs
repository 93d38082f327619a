//! What is too old is closed, the idle time is told right, and the tasks end with the pool.

use std::collections::BTreeSet;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedError};
use connring::{AcquireError, PooledConn};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{Rig, open, settle};

/// The steps of the coarse time.
const TICK: Duration = Duration::from_millis(100);
/// How long after its time a connection is closed at the latest: a look at all idle ones each second, and a tick.
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
async fn an_idle_connection_is_closed_at_its_timeout() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    open(&rig, 3).await.into_iter().for_each(PooledConn::release);
    sleep(secs(60) - TICK).await;
    assert_eq!(open_now(&rig), 3);
    sleep(TICK + LATE).await;
    assert_eq!(open_now(&rig), 0);
}

#[tokio::test(start_paused = true)]
async fn upkeep_that_panicked_goes_on_with_the_next_caller() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    let mut held = open(&rig, 2).await;
    held.remove(0).release();
    sleep(secs(30)).await;
    held.remove(0).release();
    rig.connector.set_drop_panics("a:1", true);
    sleep(secs(30) + LATE).await;
    assert_eq!(open_now(&rig), 1, "it panicked with the first");
    rig.connector.set_drop_panics("a:1", false);
    rig.pool.acquire().await.expect("the other is idle").release();
    sleep(secs(60) + LATE).await;
    assert_eq!((open_now(&rig), rig.connector.total_counts().attempts), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_used_in_between_is_not_idle() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    open(&rig, 1).await.into_iter().for_each(PooledConn::release);
    for _ in 0..10 {
        sleep(secs(40)).await;
        rig.pool.try_acquire().expect("it is idle").release();
    }
    assert_eq!(rig.connector.total_counts().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn without_upkeep_an_idle_timeout_is_found_at_the_hand_out() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)).maintenance(false));
    open(&rig, 1).await.into_iter().for_each(PooledConn::release);
    sleep(secs(59)).await;
    let conn = rig.pool.acquire().await.expect("it is idle");
    assert_eq!(conn.id(), 1);
    conn.release();
    sleep(secs(61)).await;
    assert_eq!(open_now(&rig), 1, "nobody has looked");
    let conn = rig.pool.acquire().await.expect("dials succeed");
    assert_eq!((conn.id(), open_now(&rig)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn without_upkeep_a_lifetime_is_found_at_the_hand_out() {
    let lifetime = |builder: connring::Builder<_>| builder.max_lifetime(secs(60)).max_lifetime_jitter_ratio(0.0);
    let rig = Rig::paused(|builder| lifetime(builder).server("a:1").maintenance(false));
    open(&rig, 1).await.into_iter().for_each(PooledConn::release);
    sleep(secs(59)).await;
    rig.pool.try_acquire().expect("its time is not over").release();
    sleep(secs(1)).await;
    let conn = rig.pool.acquire().await.expect("dials succeed");
    assert_eq!((conn.id(), open_now(&rig)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_drawn_once_and_lie_within_the_jitter() {
    const COUNT: usize = 64;
    let rig = Rig::paused(|builder| {
        let builder = builder.server("a:1").max_conns_per_server(COUNT as u32).idle_timeout(None);
        builder.max_lifetime(secs(1_000)).max_lifetime_jitter_ratio(0.4)
    });
    open(&rig, COUNT).await.into_iter().for_each(PooledConn::release);
    // When connections ended, in whole seconds.
    let mut ends = Vec::new();
    for second in 0..1_002 {
        while ends.len() + (open_now(&rig) as usize) < COUNT {
            ends.push(second);
        }
        sleep(secs(1)).await;
    }
    assert_eq!(ends.len(), COUNT, "{ends:?}");
    assert!(ends[0] >= 600, "none before 60 % of the lifetime: {ends:?}");
    // Of 64 drawn from 400 s, none in the first or the last quarter: once in 10⁸ runs. Drawn anew at each look,
    // none would live to the last.
    assert!(ends[0] < 700 && ends[COUNT - 1] > 900, "over the whole range: {ends:?}");
    let distinct: BTreeSet<_> = ends.iter().collect();
    assert!(distinct.len() > COUNT / 3, "not together: {ends:?}");
}

#[tokio::test(start_paused = true)]
async fn without_jitter_a_lifetime_is_exact() {
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
async fn a_busy_connection_is_not_cut() {
    let rig = Rig::paused(|builder| builder.server("a:1").max_lifetime(secs(60)).idle_timeout(secs(30)));
    let conns = open(&rig, 2).await;
    sleep(secs(600)).await;
    assert_eq!(open_now(&rig), 2);
    conns.into_iter().for_each(PooledConn::release);
    sleep(LATE).await;
    assert_eq!(open_now(&rig), 0, "past its lifetime it ends as soon as it is idle");
}

#[tokio::test(start_paused = true)]
async fn the_idle_time_told_is_right_within_a_tick() {
    for upkeep in [true, false] {
        let rig =
            Rig::paused(|builder| builder.server("a:1").maintenance(upkeep).idle_timeout(None).max_lifetime(None));
        rig.pool.acquire().await.expect("dials succeed").release();
        for ms in [0, 1, 37, 99, 100, 101, 150, 250, 999, 1_000, 12_345, 600_001] {
            let idle = Duration::from_millis(ms);
            sleep(idle).await;
            let conn = rig.pool.try_acquire().expect("it is idle");
            let told = conn.last_idle().expect("it was asked about");
            let tolerance = if upkeep { TICK } else { Duration::ZERO };
            assert!(told.abs_diff(idle) <= tolerance, "upkeep {upkeep}: idle {idle:?}, told {told:?}");
            // Not in step with the ticks.
            sleep(Duration::from_millis(13)).await;
            conn.release();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn order_survives_the_look_at_all_idle_ones() {
    let rig = Rig::paused(|builder| builder.server("a:1").idle_timeout(secs(60)));
    let conns = open(&rig, 4).await;
    let ids: Vec<_> = conns.iter().map(|conn| conn.id()).collect();
    conns.into_iter().for_each(PooledConn::release);
    sleep(secs(30)).await;
    let conns = open(&rig, 4).await;
    assert_eq!(conns.iter().map(|conn| conn.id()).collect::<Vec<_>>(), ids);
}

/// A pool with all its tasks: upkeep, one that watches for a caller, dials.
async fn with_all_tasks() -> (Rig, JoinHandle<Result<(), AcquireError<ScriptedError>>>) {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).wait_timeout(None));
    rig.connector.set_default(Connect::Never);
    let pool = rig.pool.clone();
    let caller = tokio::spawn(async move { pool.acquire().await.map(drop) });
    sleep(Duration::from_millis(150)).await;
    // The caller, upkeep, the watch, a dial and its hedge.
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 5);
    (rig, caller)
}

#[tokio::test(start_paused = true)]
async fn all_tasks_end_when_the_pool_is_closed() {
    let (rig, caller) = with_all_tasks().await;
    rig.pool.close().await;
    assert!(matches!(caller.await.expect("no panic"), Err(AcquireError::Closed)));
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_tasks_end_when_the_pool_is_dropped() {
    let (rig, caller) = with_all_tasks().await;
    caller.abort();
    caller.await.expect_err("it was aborted");
    drop(rig.pool);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(rig.connector.total_counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_by_itself_when_nobody_waits() {
    let rig = Rig::paused(|builder| builder.server("a:1").maintenance(false));
    rig.pool.acquire().await.expect("dials succeed").release();
    settle().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    sleep(secs(3)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks - 1);
}

#[tokio::test(start_paused = true)]
async fn without_callers_nothing_is_probed() {
    let rig = Rig::paused(|builder| builder.server("a:1"));
    rig.connector.set_default(Connect::Refuse);
    rig.pool.acquire_timeout(Duration::from_millis(1)).await.expect_err("dials are refused");
    assert_eq!(rig.connector.total_counts().attempts, 1);
    sleep(secs(3_600)).await;
    assert_eq!(rig.connector.total_counts().attempts, 1);
}
