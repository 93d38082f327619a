//! Closing a pool.

use std::pin::pin;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, PooledConn, ServerError, TryAcquireError};

use super::{MS, acquiring, is_pending, soon};
use crate::support::{Rig, server_of, settle};

#[tokio::test(start_paused = true)]
async fn close_waits_for_last_connection() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(2).wait_timeout(None));
    let mut conns = Vec::new();
    for _ in 0..4 {
        conns.push(rig.pool.acquire().await.expect("the server accepts"));
    }
    let waiter = acquiring(&rig.pool);
    settle().await;
    conns.pop().expect("four connections were acquired").detach();
    let conn = soon(waiter).await.expect("the task does not panic").expect("the server accepts");
    conn.release();
    let waiter = {
        rig.connector.set_default(Connect::Never);
        // Checks out the idle connection. Then one attempt hangs, and two callers wait.
        conns.push(rig.pool.try_acquire().expect("a connection is idle"));
        [(); 2].map(|()| acquiring(&rig.pool))
    };
    settle().await;
    drop(conns.pop());
    settle().await;
    let counts = rig.connector.total_counts();
    assert_eq!((counts.in_flight, rig.pool.status().waiters), (1, 2));

    let mut close = pin!(rig.pool.close());
    assert!(is_pending(close.as_mut()).await);
    assert!(rig.pool.status().closed);
    for waiter in waiter {
        assert!(matches!(soon(waiter).await, Ok(Err(AcquireError::Closed))));
    }
    settle().await;
    assert_eq!(rig.connector.total_counts().in_flight, 0, "close ends attempts");
    assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::Closed)));
    assert_eq!(rig.pool.register("c:1"), Err(ServerError::Closed));
    assert_eq!(rig.pool.deregister("a:1"), Err(ServerError::Closed));
    assert_eq!(rig.pool.set_servers(["a:1"]), Err(ServerError::Closed));
    // `close` counts a connection as ended however it ends.
    let ways_to_end: [fn(PooledConn<ScriptedConnector>); 3] =
        [PooledConn::release, PooledConn::discard, |conn| conn.fail("broken")];
    let mut ways_to_end = ways_to_end.into_iter();
    while let Some(conn) = conns.pop() {
        assert!(is_pending(close.as_mut()).await, "{} connections are in use", conns.len() + 1);
        ways_to_end.next().expect("three connections are in use")(conn);
    }
    soon(close).await;
    assert_eq!(rig.connector.total_counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn close_closes_idle_connections_immediately() {
    let rig = Rig::paused(|builder| builder.server("a:1"));
    let conns = [rig.pool.acquire().await.unwrap(), rig.pool.acquire().await.unwrap()];
    conns.into_iter().for_each(PooledConn::release);
    let close = rig.pool.close();
    assert_eq!(rig.connector.total_counts().open, 2, "the future of close does nothing until it is polled");
    soon(close).await;
    assert_eq!(rig.connector.total_counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn close_timeout_reports_connections_in_use() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]));
    let conns = [rig.pool.acquire().await.unwrap(), rig.pool.acquire().await.unwrap()];
    let third = rig.pool.acquire().await.expect("the server accepts");
    // A connection in use of a removed server counts as well.
    rig.pool.deregister(&server_of(&third)).expect("the server is registered");
    let error = rig.pool.close_timeout(250 * MS).await.expect_err("three connections are in use");
    assert_eq!((error.waited, error.open), (250 * MS, 3));
    let servers: Vec<_> = error.servers.iter().map(|(name, open)| (&**name, *open)).collect();
    assert_eq!(servers, [("a:1", 2), ("b:1", 1)]);
    assert_eq!(error.to_string(), "connections still open after 250ms: 3 (a:1: 2, b:1: 1)");
    drop(conns);
    assert_eq!(rig.pool.close_timeout(Duration::ZERO).await.expect_err("one connection is in use").open, 1);
    drop(third);
    rig.pool.close_timeout(Duration::ZERO).await.expect("no connection is in use");
}
