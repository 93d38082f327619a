//! `acquire_owned`.

use connring::{AcquireError, TryAcquireError};

use super::*;

#[tokio::test]
async fn owned_acquire_is_a_future_without_a_lifetime() {
    fn is_static<F: Future + Send + 'static>(future: F) -> F {
        future
    }
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(1));
    let first = is_static(rig.pool.acquire_owned()).await.expect("a accepts");
    let waiter = tokio::spawn(rig.pool.acquire_owned());
    settle().await;
    assert_eq!(rig.pool.status().waiters, 1);
    first.release();
    waiter.await.expect("the task does not panic").expect("it is served in turn").release();
}

#[tokio::test]
async fn owned_acquire_keeps_the_pool_open() {
    let Rig { pool, connector, .. } = Rig::manual(|builder| builder.server("a"));
    let acquire = pool.acquire_owned();
    drop(pool);
    let conn = acquire.await.expect("the pool is open until the acquire ends");
    conn.release();
    assert_eq!(connector.total_counts().open, 0, "the last handle is gone");
}

#[tokio::test]
async fn owned_acquire_of_closed_pool_is_refused() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let acquire = rig.pool.acquire_owned();
    rig.pool.close().await;
    assert!(matches!(acquire.await, Err(AcquireError::Closed)));
    assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::Closed)));
}
