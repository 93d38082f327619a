//! Resets: every connection that exists closes, and the servers stay.

use std::time::Duration;

use connring::test_util::Connect;
use connring::{PooledConn, ServerError, ServerState};

use super::{acquiring, soon};
use crate::support::{Rig, open, refuse_one, server_of, settle};

#[tokio::test(start_paused = true)]
async fn reset_closes_idle_connections_now_and_others_on_return() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(2));
    let mut held = open(&rig, 4).await;
    held.remove(0).release();
    held.remove(0).release();
    rig.pool.reset();
    let counts = rig.connector.total_counts();
    assert_eq!((counts.open, rig.pool.status().servers.len()), (2, 2));
    held.into_iter().for_each(PooledConn::release);
    assert_eq!(rig.connector.total_counts().open, 0);
    let conn = rig.pool.acquire().await.expect("the servers accept");
    assert_eq!(conn.id(), 5);
    conn.release();
    rig.pool.try_acquire().expect("a connection from after the reset stays").release();
}

#[tokio::test(start_paused = true)]
async fn reset_of_one_server_leaves_the_others() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(2));
    open(&rig, 4).await.into_iter().for_each(PooledConn::release);
    rig.pool.reset_server("a:1").expect("it is registered");
    assert_eq!(["a:1", "b:1"].map(|server| rig.connector.counts(server).open), [0, 2]);
    assert_eq!(rig.pool.reset_server("c:1"), Err(ServerError::Unknown { name: "c:1".into() }));
    rig.pool.close().await;
    assert_eq!(rig.pool.reset_server("a:1"), Err(ServerError::Closed));
    rig.pool.reset();
}

#[tokio::test(start_paused = true)]
async fn reset_keeps_state_and_limits() {
    let hour = Duration::from_secs(3_600);
    let rig = Rig::paused(|builder| builder.server("a:1").backoff(hour, hour).backoff_spread_ratio(0.0));
    refuse_one(&rig, "a:1").await;
    rig.pool.reset();
    let server = rig.pool.status().servers.remove(0);
    assert_eq!(server.state, ServerState::Down { failures: 1, retry_after: hour });
}

/// An attempt that began before the reset ends, and another one serves its caller.
#[tokio::test(start_paused = true)]
async fn reset_during_an_attempt_serves_its_caller_with_a_new_connection() {
    let rig = Rig::paused(|builder| builder.server("a:1"));
    rig.connector.next_connects("a:1", [Connect::Never]);
    let waiter = acquiring(&rig.pool);
    settle().await;
    assert_eq!(rig.connector.counts("a:1").in_flight, 1);
    rig.pool.reset();
    let conn = soon(waiter).await.expect("no panic").expect("another attempt succeeds");
    assert_eq!((server_of(&conn), rig.connector.counts("a:1").attempts), ("a:1".to_owned(), 2));
}

#[tokio::test(start_paused = true)]
async fn reset_while_waiting_for_a_connection_in_use_opens_another() {
    let rig = Rig::paused(|builder| builder.server("a:1").max_conns_per_server(1));
    let conn = open(&rig, 1).await.remove(0);
    let old = conn.id();
    let waiter = acquiring(&rig.pool);
    settle().await;
    rig.pool.reset();
    conn.release();
    let conn = soon(waiter).await.expect("no panic").expect("its permit is free");
    assert_ne!(conn.id(), old);
}
