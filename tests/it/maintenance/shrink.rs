//! The idle timeout, and the end of connections that are not needed.

use std::thread::{self, available_parallelism};

use connring::CloseReason;
use connring::test_util::set_shard;

use super::*;

/// Opens `count` connections, each idle.
async fn filled(rig: &Rig, count: usize) {
    open(rig, count).await.into_iter().for_each(PooledConn::release);
}

/// How many were closed for their idle timeout, and how many because they were not needed.
fn closes(rig: &Rig) -> [u64; 2] {
    [CloseReason::IdleTimeout, CloseReason::Surplus].map(|why| rig.pool.status().totals.closes(why))
}

/// One caller a second, so that connections take turns.
async fn low_load(rig: &Rig, seconds: u64) {
    for _ in 0..seconds {
        take_turns(rig, 1).await;
        advance_smoothly(rig, secs(1)).await;
    }
}

/// Uses so many connections of each shard, one after the other.
async fn take_turns(rig: &Rig, count: usize) {
    for shard in 0..available_parallelism().expect("known where tests run").get() {
        let pool = &rig.pool;
        // A thread keeps its shard.
        let uses = move || {
            set_shard(shard);
            (0..count).for_each(|_| pool.try_acquire().expect("a connection is idle").release());
        };
        thread::scope(|scope| scope.spawn(uses).join()).expect("no panic");
    }
}

#[tokio::test]
async fn connections_that_take_turns_are_closed_after_an_idle_timeout() {
    for (minimum, left) in [(0, 1), (3, 3)] {
        let rig = Rig::manual(|b| b.server("a").idle_timeout(secs(60)).max_lifetime(None).min_idle_per_server(minimum));
        settle().await;
        filled(&rig, 10).await;
        low_load(&rig, 58).await;
        assert_eq!(open_now(&rig), 10, "two windows are not over");
        low_load(&rig, 40).await;
        assert_eq!(open_now(&rig), left);
        let attempts = rig.connector.total_counts().attempts;
        low_load(&rig, 300).await;
        assert_eq!((open_now(&rig), rig.connector.total_counts().attempts), (left, attempts), "none is reopened");
    }
}

#[tokio::test]
async fn without_idle_timeout_nothing_is_closed() {
    let rig = Rig::manual(|b| b.server("a").idle_timeout(None).max_lifetime(None));
    filled(&rig, 10).await;
    low_load(&rig, 1_000).await;
    assert_eq!(open_now(&rig), 10);
}

#[tokio::test]
async fn connections_that_were_needed_stay() {
    let rig = Rig::manual(|b| b.server("a").idle_timeout(secs(60)).max_lifetime(None));
    filled(&rig, 10).await;
    for _ in 0..20 {
        low_load(&rig, 8).await;
        let held = open(&rig, 8).await;
        advance_smoothly(&rig, secs(2)).await;
        held.into_iter().for_each(PooledConn::release);
    }
    // Two are never in use, and one of them stays.
    assert_eq!(open_now(&rig), 9);
    assert_eq!(rig.connector.total_counts().attempts, 10);
}

#[tokio::test]
async fn few_connections_are_closed_by_one_sweep_and_longest_idle_first() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(100).idle_timeout(secs(60)).max_lifetime(None));
    filled(&rig, 100).await;
    let (mut open, mut ended) = (100, None);
    for second in 0..130 {
        take_turns(&rig, 10).await;
        advance_smoothly(&rig, secs(1)).await;
        let now = open_now(&rig);
        assert!(open - now <= 9, "{} were closed in second {second}", open - now);
        if now < open && ended.is_none() {
            ended = Some(second);
        }
        open = now;
    }
    assert!(ended.is_some_and(|second| second >= 58), "{ended:?}");
    assert_eq!((open, closes(&rig)), (1, [0, 99]));
}

#[tokio::test]
async fn idle_timeout_stops_at_minimum() {
    let rig = Rig::manual(|b| b.server("a").idle_timeout(secs(60)).max_lifetime(None).min_idle_per_server(4));
    settle().await;
    filled(&rig, 10).await;
    advance_smoothly(&rig, secs(59)).await;
    assert_eq!(open_now(&rig), 10);
    advance_smoothly(&rig, LATE).await;
    assert_eq!((open_now(&rig), closes(&rig)), (4, [6, 0]));
    advance_smoothly(&rig, secs(600)).await;
    assert_eq!(
        (open_now(&rig), rig.connector.total_counts().attempts),
        (4, 10),
        "those that are kept are not reopened"
    );
    let conn = rig.pool.try_acquire().expect("it may be past its idle timeout");
    assert!(PooledConn::info(&conn).idle() > secs(600));
}

#[tokio::test]
async fn idle_timeout_above_minimum_closes_longest_idle() {
    set_shard(1);
    let rig = Rig::manual(|b| b.server("a").idle_timeout(secs(60)).max_lifetime(None).min_idle_per_server(2));
    settle().await;
    let conns = open(&rig, 6).await;
    let ids: Vec<_> = conns.iter().map(|conn| conn.id()).collect();
    for (index, conn) in conns.into_iter().enumerate() {
        // The last ones into the shard that is looked at first.
        let release = || {
            set_shard(usize::from(index < 3));
            conn.release();
        };
        thread::scope(|scope| scope.spawn(release).join()).expect("no panic");
        advance_smoothly(&rig, secs(5)).await;
    }
    advance_smoothly(&rig, secs(60) + LATE).await;
    let left: Vec<_> = open(&rig, 2).await.iter().map(|conn| conn.id()).collect();
    assert_eq!(left, ids[4..], "of {ids:?}");
}
