//! `warm_up`.

use std::pin::pin;

use connring::test_util::{Connect, RoundTrip};

use super::*;
use crate::support::{advance_smoothly, poll_once};

#[tokio::test]
async fn warm_up_connects_to_all_servers_at_once() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b", "c"]));
    rig.connector.set_default(Connect::Slow(10 * MS));
    let mut warm_up = pin!(rig.pool.warm_up(SECOND));
    assert!(poll_once(warm_up.as_mut()).await);
    settle().await;
    assert_eq!(rig.connector.total_counts().in_flight, 3);
    rig.clock.advance(10 * MS);
    settle().await;
    let report = warm_up.await;
    assert!(report.is_complete());
    assert_eq!(report.waited, 10 * MS);
    let servers: Vec<_> = report.servers.iter().map(|server| (&*server.name, server.idle, server.missing)).collect();
    assert_eq!(servers, [("a", 1, 0), ("b", 1, 0), ("c", 1, 0)]);
    rig.pool.try_acquire().expect("a connection is idle").release();
    // What is there is kept.
    assert!(rig.pool.warm_up(Duration::ZERO).await.is_complete());
    assert_eq!(rig.connector.total_counts().attempts, 3);
}

#[tokio::test]
async fn warm_up_ends_when_what_is_missing_has_failed() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).backoff(MS, MS));
    rig.connector.on_connect("a", Connect::Refuse);
    rig.connector.on_connect("b", Connect::Slow(100 * MS));
    let mut warm_up = pin!(rig.pool.warm_up(SECOND));
    assert!(poll_once(warm_up.as_mut()).await);
    settle().await;
    advance_smoothly(&rig, 100 * MS).await;
    let report = warm_up.await;
    assert!(!report.is_complete());
    assert_eq!((report.servers[0].missing, report.servers[1].missing), (1, 0));
    let error = report.servers[0].connect_error.as_deref();
    assert_eq!(error, Some("connect failed: a refused the connection, as scripted"));
    assert_eq!((rig.connector.counts("a").attempts, &report.servers[1].connect_error), (1, &None));
}

#[tokio::test]
async fn warm_up_ends_at_its_timeout_and_its_attempts_go_on() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    rig.connector.on_connect("b", Connect::Slow(200 * MS));
    let mut warm_up = pin!(rig.pool.warm_up(100 * MS));
    assert!(poll_once(warm_up.as_mut()).await);
    settle().await;
    advance_smoothly(&rig, 100 * MS).await;
    let report = warm_up.await;
    assert_eq!((report.waited, report.servers[1].missing), (100 * MS, 1));
    advance_smoothly(&rig, 100 * MS).await;
    assert_eq!(rig.pool.status().servers[1].idle, 1);
}

#[tokio::test]
async fn warm_up_counts_connections_that_callers_took() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let _held = rig.pool.acquire().await.expect("a accepts");
    let report = rig.pool.warm_up(SECOND).await;
    assert!(report.is_complete());
    assert_eq!((report.servers[0].idle, rig.connector.counts("a").attempts), (0, 1));
}

#[tokio::test]
async fn warm_up_passes_over_servers_that_are_disabled_or_removed() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b", "c"]));
    rig.connector.set_default(Connect::Never);
    rig.pool.disable("a", None).expect("it is registered");
    let mut warm_up = pin!(rig.pool.warm_up(SECOND));
    assert!(poll_once(warm_up.as_mut()).await);
    settle().await;
    rig.connector.set_default(Connect::Ok);
    rig.pool.deregister("b").expect("it is registered");
    rig.pool.reset_server("c").expect("it is registered");
    settle().await;
    let report = warm_up.await;
    assert!(report.is_complete(), "a reset server is connected to again: {report:?}");
    assert_eq!(report.servers.iter().map(|server| &*server.name).collect::<Vec<_>>(), ["c"]);
    assert_eq!(rig.connector.counts("a").attempts, 0);
}

#[tokio::test]
async fn dropped_warm_up_leaves_its_attempts_to_the_pool() {
    let rig = Rig::manual(|builder| builder.server("a"));
    drop(rig.pool.warm_up(SECOND));
    settle().await;
    assert_eq!(rig.connector.total_counts().attempts, 0, "nothing happens before the first poll");
    rig.connector.set_default(Connect::Slow(10 * MS));
    {
        let mut warm_up = pin!(rig.pool.warm_up(SECOND));
        assert!(poll_once(warm_up.as_mut()).await);
    }
    settle().await;
    rig.clock.advance(10 * MS);
    settle().await;
    rig.pool.try_acquire().expect("the attempt went on").release();
}

#[tokio::test]
async fn warm_up_of_closed_pool_reports_no_servers() {
    let rig = Rig::manual(|builder| builder.server("a"));
    rig.pool.close().await;
    let report = rig.pool.warm_up(SECOND).await;
    assert!(report.servers.is_empty() && report.is_complete());
}

#[tokio::test]
async fn warm_up_does_not_count_connections_that_say_goodbye() {
    for max_conns in [1, 2] {
        let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(max_conns));
        rig.connector.set_close("a", Some(RoundTrip::Slow(500 * MS)));
        rig.pool.acquire().await.expect("it accepts").release();
        rig.pool.reset();
        settle().await;
        let mut warm_up = pin!(rig.pool.warm_up(SECOND));
        assert!(poll_once(warm_up.as_mut()).await);
        advance_smoothly(&rig, 500 * MS).await;
        let report = warm_up.await;
        assert!(report.is_complete() && report.servers[0].idle == 1, "{report:?}");
    }
}

#[tokio::test]
async fn warm_up_waits_for_the_slowest_attempt_of_a_server() {
    let rig = Rig::manual(|builder| builder.server("a").min_idle_per_server(2));
    rig.connector.next_connects("a", [Connect::Slow(10 * MS), Connect::Slow(50 * MS)]);
    let mut warm_up = pin!(rig.pool.warm_up(SECOND));
    assert!(poll_once(warm_up.as_mut()).await);
    settle().await;
    rig.clock.advance(10 * MS);
    settle().await;
    assert_eq!(rig.pool.status().servers[0].idle, 1);
    assert!(poll_once(warm_up.as_mut()).await);
    rig.clock.advance(40 * MS);
    settle().await;
    assert!(warm_up.await.is_complete());
}

#[tokio::test]
async fn warm_up_ends_where_another_server_took_the_place() {
    let rig = Rig::manual(|builder| builder.server("a"));
    rig.connector.on_connect("a", Connect::Never);
    let mut warm_up = pin!(rig.pool.warm_up(SECOND));
    assert!(poll_once(warm_up.as_mut()).await);
    settle().await;
    rig.pool.set_servers(["b"]).expect("in range");
    settle().await;
    let report = warm_up.await;
    assert!(report.servers.is_empty() && report.waited == Duration::ZERO, "{report:?}");
    assert_eq!(rig.connector.counts("b").attempts, 0);
}
