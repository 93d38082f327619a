//! `drain`.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use connring::test_util::Connect;
use connring::{Clock, ServerError, ServerState};

use super::*;
use crate::support::{open, poll_once};

const DISABLED: ServerState = ServerState::Disabled { ends_in: None };

#[tokio::test]
async fn drain_waits_for_connections_in_use_and_ends_attempts() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(4).wait_timeout(None));
    let mut held = open(&rig, 3).await;
    held.pop().expect("there are three").release();
    rig.connector.set_default(Connect::Never);
    held.push(rig.pool.acquire().await.expect("one is idle"));
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    settle().await;
    held.pop().expect("there are three").release();
    drop(waiter);
    assert_eq!(rig.connector.counts("a").in_flight, 1);
    let mut drain = pin!(rig.pool.drain("a", 10 * SECOND));
    assert!(poll_once(drain.as_mut()).await);
    settle().await;
    assert_eq!(state(&rig, 0), DISABLED);
    assert_eq!((rig.connector.counts("a").in_flight, rig.connector.counts("a").open), (0, 2));
    rig.clock.advance(SECOND);
    held.pop().expect("two are left").release();
    assert!(poll_once(drain.as_mut()).await);
    held.pop().expect("one is left").discard();
    let report = drain.await.expect("it is registered");
    assert!(report.is_drained());
    assert_eq!((report.open, report.waited), (0, SECOND));
    assert_eq!((rig.connector.counts("a").open, state(&rig, 0)), (0, DISABLED));
}

#[tokio::test]
async fn drain_reports_what_is_in_use_at_its_deadline() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let held = open(&rig, 2).await;
    let mut drain = pin!(rig.pool.drain("a", SECOND));
    assert!(poll_once(drain.as_mut()).await);
    rig.clock.advance(SECOND);
    let report = drain.await.expect("it is registered");
    assert!(!report.is_drained());
    assert_eq!((report.open, report.waited), (2, SECOND));
    assert_eq!(state(&rig, 0), DISABLED);
    held.into_iter().for_each(PooledConn::release);
    assert_eq!(rig.connector.counts("a").open, 0, "they close when they come back");
    assert!(rig.pool.drain("a", Duration::ZERO).await.expect("it is registered").is_drained());
}

#[tokio::test]
async fn dropped_drain_leaves_server_disabled() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    fill(&rig).await;
    drop(rig.pool.drain("a", SECOND));
    assert_eq!(state(&rig, 0), ServerState::Up, "nothing happens before the first poll");
    let held = acquire_of(&rig, "a").await;
    {
        let mut drain = pin!(rig.pool.drain("a", SECOND));
        assert!(poll_once(drain.as_mut()).await);
    }
    held.release();
    assert_eq!((state(&rig, 0), rig.connector.counts("a").open), (DISABLED, 0));
    assert_eq!(served_by(&rig.pool, 3).await, ["b"; 3]);
}

#[tokio::test]
async fn drain_ends_when_the_server_is_enabled() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    fill(&rig).await;
    let held = acquire_of(&rig, "a").await;
    let mut drain = pin!(rig.pool.drain("a", Duration::MAX));
    assert!(poll_once(drain.as_mut()).await);
    rig.pool.enable("a").expect("it is registered");
    assert!(!drain.await.expect("it is registered").is_drained());
    held.release();
}

#[tokio::test]
async fn drain_of_removed_server_ends_when_its_connections_are_gone() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let mut held = open(&rig, 2).await;
    let mut drain = pin!(rig.pool.drain("a", SECOND));
    assert!(poll_once(drain.as_mut()).await);
    rig.pool.deregister("a").expect("it is registered");
    assert!(poll_once(drain.as_mut()).await);
    held.pop().expect("there are two").release();
    assert!(poll_once(drain.as_mut()).await, "one is left");
    held.pop().expect("one is left").release();
    assert!(drain.await.expect("it was registered").is_drained());
}

#[tokio::test]
async fn drain_of_removed_server_ends_when_it_is_registered_again() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let held = open(&rig, 1).await;
    let pool = rig.pool.clone();
    let drain = tokio::spawn(async move { pool.drain("a", Duration::MAX).await });
    settle().await;
    rig.pool.deregister("a").expect("it is registered");
    settle().await;
    assert!(!drain.is_finished());
    rig.pool.register("a").expect("it is not registered");
    settle().await;
    assert!(drain.is_finished(), "the registration wakes it");
    assert_eq!(drain.await.expect("no panic").expect("it was registered").open, 1);
    held.into_iter().for_each(PooledConn::release);
}

#[tokio::test]
async fn unknown_names_and_closed_pools_are_refused() {
    let rig = Rig::manual(|builder| builder.server("a"));
    assert_eq!(rig.pool.drain("x", SECOND).await, Err(ServerError::Unknown { name: "x".into() }));
    rig.pool.close().await;
    assert_eq!(rig.pool.drain("a", SECOND).await, Err(ServerError::Closed));
}

/// 64 tasks use three servers, of which one is drained: no request fails, and none starts there afterwards.
#[test]
fn no_request_fails_and_none_starts_at_drained_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
    runtime.expect("a runtime can be built").block_on(async {
        for _ in 0..5 {
            drain_under_load().await;
        }
    });
}

async fn drain_under_load() {
    let connector = ScriptedConnector::new(Clock::system());
    let builder = Pool::builder(connector.clone()).servers(["a", "b", "c"]).max_conns_per_server(8);
    let pool = builder.wait_timeout(None).build().expect("the settings are in range");
    let (is_drained, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let served = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|index| {
            let (pool, is_drained, is_over) = (pool.clone(), Arc::clone(&is_drained), Arc::clone(&is_over));
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                let mut round = index;
                while !is_over.load(Ordering::Acquire) {
                    let was_drained = is_drained.load(Ordering::Acquire);
                    let conn = pool.acquire().await.expect("no request fails");
                    assert!(!(was_drained && server_of(&conn) == "a"), "it is drained");
                    round += 1;
                    if round % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    conn.release();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    while served.load(Ordering::Relaxed) < 5_000 {
        tokio::task::yield_now().await;
    }
    let report = pool.drain("a", 60 * SECOND).await.expect("it is registered");
    is_drained.store(true, Ordering::Release);
    let (before, attempts) = (served.load(Ordering::Relaxed), connector.counts("a").attempts);
    assert!(report.is_drained() && connector.counts("a").open == 0, "{report:?}");
    while served.load(Ordering::Relaxed) < before + 5_000 {
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Release);
    for task in tasks {
        task.await.expect("no request fails or starts at the drained server");
    }
    assert_eq!(connector.counts("a").attempts, attempts);
}
