//! Pools that are closed.

use std::pin::pin;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, PooledConn, ServerError, TryAcquireError};

use super::{MS, acquiring, is_pending, soon};
use crate::support::{Rig, server_of, settle};

#[tokio::test(start_paused = true)]
async fn close_ends_with_the_last_connection() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(2).wait_timeout(None));
    let mut conns = Vec::new();
    for _ in 0..4 {
        conns.push(rig.pool.acquire().await.expect("dials succeed"));
    }
    let waiting = acquiring(&rig.pool);
    settle().await;
    conns.pop().expect("four were acquired").detach();
    let conn = soon(waiting).await.expect("no panic").expect("dials succeed");
    conn.release();
    let waiting = {
        rig.connector.set_default(Connect::Never);
        // The idle one, then a dial that never ends, then the line.
        conns.push(rig.pool.try_acquire().expect("one is idle"));
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
    for waiting in waiting {
        assert!(matches!(soon(waiting).await, Ok(Err(AcquireError::Closed))));
    }
    settle().await;
    assert_eq!(rig.connector.total_counts().in_flight, 0, "dials are ended");
    assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::Closed)));
    assert_eq!(rig.pool.register("c:1"), Err(ServerError::Closed));
    assert_eq!(rig.pool.deregister("a:1"), Err(ServerError::Closed));
    assert_eq!(rig.pool.set_servers(["a:1"]), Err(ServerError::Closed));
    // Each way of giving back counts.
    let ways: [fn(PooledConn<ScriptedConnector>); 3] =
        [PooledConn::release, PooledConn::discard, |conn| conn.fail("broken")];
    let mut ways = ways.into_iter();
    while let Some(conn) = conns.pop() {
        assert!(is_pending(close.as_mut()).await, "{} are out", conns.len() + 1);
        ways.next().expect("three are out")(conn);
    }
    soon(close).await;
    assert_eq!(rig.connector.total_counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_at_once() {
    let rig = Rig::paused(|builder| builder.server("a:1"));
    let conns = [rig.pool.acquire().await.unwrap(), rig.pool.acquire().await.unwrap()];
    conns.into_iter().for_each(PooledConn::release);
    let close = rig.pool.close();
    assert_eq!(rig.connector.total_counts().open, 2, "a future does nothing until it is polled");
    soon(close).await;
    assert_eq!(rig.connector.total_counts().open, 0);
}

#[tokio::test(start_paused = true)]
async fn close_timeout_says_how_many_are_out() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]));
    let conns = [rig.pool.acquire().await.unwrap(), rig.pool.acquire().await.unwrap()];
    let third = rig.pool.acquire().await.expect("dials succeed");
    // One of a server that was removed before is out as well.
    rig.pool.deregister(&server_of(&third)).expect("it is there");
    let error = rig.pool.close_timeout(250 * MS).await.expect_err("three are out");
    assert_eq!((error.waited, error.open), (250 * MS, 3));
    assert!(error.to_string().contains("250ms") && error.to_string().contains('3'), "{error}");
    drop(conns);
    assert_eq!(rig.pool.close_timeout(Duration::ZERO).await.expect_err("one is out").open, 1);
    drop(third);
    rig.pool.close_timeout(Duration::ZERO).await.expect("none is out");
}
