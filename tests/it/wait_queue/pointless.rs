//! Waits that nothing can end are refused at once.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// One server that is down, with a backoff of an hour.
async fn down(outage_retry: Option<Duration>) -> Rig {
    let rig = Rig::paused(|builder| {
        builder.server("a").backoff(HOUR, HOUR).backoff_spread_ratio(0.0).outage_retry(outage_retry)
    });
    refuse_one(&rig, "a").await;
    rig
}

#[tokio::test(start_paused = true)]
async fn wait_that_ends_before_the_next_retry_is_refused_at_once() {
    let rig = down(None).await;
    let started = rig.clock.now();
    for timeout in [Duration::ZERO, SECOND, HOUR - SECOND] {
        let error = rig.pool.acquire_timeout(timeout).await.expect_err("the server is down");
        assert!(matches!(error, AcquireError::Unavailable(_)), "{error:?}");
        assert!(error.retry_after().is_some_and(|after| after > HOUR - SECOND), "{error:?}");
    }
    assert!(rig.pool.acquire().await.is_err(), "the default is 30 s");
    assert_eq!((rig.clock.now(), rig.pool.status().waiters), (started, 0));
    // Longer waits are none of these.
    rig.pool.acquire_timeout(HOUR + SECOND).await.expect("the probe succeeds").release();
}

#[tokio::test(start_paused = true)]
async fn retry_ahead_of_its_time_counts_as_the_next() {
    let rig = down(Some(SECOND)).await;
    let failed = rig.clock.now();
    let error = rig.pool.acquire_timeout(SECOND / 2).await.expect_err("the server is down");
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error:?}");
    assert_eq!(rig.clock.now(), failed);
    rig.connector.on_connect("a", Connect::Refuse);
    let error = rig.pool.acquire_timeout(SECOND + 2 * TICK).await.expect_err("it is refused again");
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    assert_eq!(rig.connector.counts("a").attempts, 2);
    // Without waiters none is made. The next caller's is due, however short its wait.
    tokio::time::sleep(10 * SECOND).await;
    rig.connector.on_connect("a", Connect::Ok);
    rig.pool.acquire_timeout(TICK).await.expect("it is tried at once").release();
}

#[tokio::test(start_paused = true)]
async fn wait_with_anything_to_wait_for_is_not_pointless() {
    // A connection in use may come back.
    let rig = Rig::paused(|b| b.server("a").backoff(HOUR, HOUR).backoff_spread_ratio(0.0).outage_retry(None));
    let conn = open(&rig, 1).await.remove(0);
    refuse_one(&rig, "a").await;
    let mut caller = Caller::joined(&rig);
    conn.release();
    caller.served().discard();
    // An attempt may succeed.
    let rig = down(Some(SECOND)).await;
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    let waiter = Caller::joined(&rig);
    tokio::time::sleep(SECOND * 3 / 2).await;
    assert_eq!(rig.connector.counts("a").in_flight, 1);
    drop(waiter);
    rig.pool.acquire_timeout(SECOND * 3 / 4).await.expect("the probe succeeds").release();
    // A server that is full serves when a connection comes back.
    let rig = super::rig(1);
    let _held = open(&rig, 1).await;
    let error = rig.pool.acquire_timeout(SECOND).await.expect_err("it is full");
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_ahead_of_its_time_counts_beside_a_server_that_is_disabled() {
    let rig = down(Some(SECOND)).await;
    rig.pool.register("b").expect("it is not registered");
    rig.pool.disable("b", None).expect("it is registered");
    let conn = rig.pool.acquire_timeout(SECOND * 3).await.expect("the other one is probed");
    assert_eq!(conn.address(), "a");
}
