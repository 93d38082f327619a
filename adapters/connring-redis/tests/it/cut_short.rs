//! Requests that are dropped before their answer has come.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use connring::CloseReason;
use connring_real_servers::redis;
use connring_redis::RedisConnector;
use redis::{ErrorKind, cmd, pipe};
use tokio::time::timeout;

use crate::{over, send, single, until};

/// Polls a future at most so many times, and drops it.
async fn polled<T>(times: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}

/// Pseudo-random numbers: a linear congruential generator.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_belongs_to_its_request_though_others_are_dropped_at_any_point() {
    let servers: Vec<_> = (0..3).map_while(|_| redis()).collect();
    if servers.len() < 3 {
        return;
    }
    // Fewer connections than tasks, so that each is used by many.
    let pool = over(&servers).max_conns_per_server(4).build().unwrap();
    let (answered, dropped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..64_u64)
        .map(|task| {
            let (pool, answered, dropped) = (pool.clone(), Arc::clone(&answered), Arc::clone(&dropped));
            tokio::spawn(async move {
                let mut random = task;
                for round in 0..60 {
                    let mut conn = pool.acquire().await.unwrap();
                    // Some answers come in many pieces.
                    let own = format!("{task}/{round} ").repeat(if round % 3 == 0 { 20_000 } else { 1 });
                    let asking = async {
                        if round % 2 == 0 {
                            cmd("ECHO").arg(&own).query_async::<Vec<String>>(&mut *conn).await
                        } else {
                            let mut two = pipe();
                            two.cmd("ECHO").arg(&own).cmd("ECHO").arg(&own);
                            two.query_async(&mut *conn).await
                        }
                    };
                    match polled(next(&mut random) % 5, asking).await {
                        Some(answers) => {
                            assert!(answers.unwrap().iter().all(|answer| *answer == own), "{task}/{round}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        None => _ = dropped.fetch_add(1, Ordering::Relaxed),
                    }
                    // Whether it is released or dropped makes no difference.
                    if next(&mut random).is_multiple_of(2) {
                        conn.release();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (answered, dropped) = (answered.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed));
    assert!(answered > 500 && dropped > 500, "{answered} answered, {dropped} dropped: this tests little");
    assert!(pool.status().totals.checkouts > pool.status().totals.connects, "none was reused");
}

#[tokio::test]
async fn request_that_was_never_polled_leaves_the_connection_as_it_was() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    drop(cmd("ECHO").arg("never").query_async::<String>(&mut *conn));
    assert_eq!(send::<String>(&mut conn, "ECHO same").await.unwrap(), "same");
    drop(conn);
    assert_eq!(pool.status().totals.closed(), 0);
}

#[tokio::test]
async fn connection_whose_request_was_cut_short_sends_nothing_and_is_closed_even_if_released() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    let id: i64 = send(&mut conn, "CLIENT ID").await.unwrap();
    let waiting = send::<Vec<String>>(&mut conn, "BLPOP queue 0");
    assert!(timeout(Duration::from_millis(20), waiting).await.is_err());
    let next = timeout(Duration::from_secs(5), send::<String>(&mut conn, "ECHO next")).await;
    let error = next.expect("it waits for no answer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("cut short"), "{error}");
    assert!(error.is_connection_dropped(), "what decides on retries asks this");
    conn.release();
    assert_eq!(pool.status().totals.closes(CloseReason::Unfit), 1);

    let mut conn = pool.acquire().await.unwrap();
    assert_ne!(send::<i64>(&mut conn, "CLIENT ID").await.unwrap(), id);
    // The server learns of it, and takes nothing out of the queue for a caller that is gone.
    until("the old connection is gone", async || {
        let clients: String = send(&mut conn, "CLIENT LIST").await.unwrap();
        !clients.contains(&format!("id={id} "))
    })
    .await;
}
