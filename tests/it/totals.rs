//! The totals of the status against what callers counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connring::{CloseReason, Pool, PooledConn, Server, Totals, connect_fn};

/// How the uses of the callers ended.
#[derive(Default)]
struct Counted {
    uses: AtomicU64,
    good: AtomicU64,
    failed: AtomicU64,
    discarded: AtomicU64,
    dropped: AtomicU64,
    detached: AtomicU64,
}

impl Counted {
    /// Ends a use in one of several ways. One in 64 closes its connection.
    fn end<C: connring::Connector>(&self, mut conn: PooledConn<C>, turn: u64) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        count(&self.uses);
        match turn % 320 {
            0 => {
                count(&self.failed);
                conn.fail("no answer");
            }
            64 => {
                count(&self.discarded);
                conn.discard();
            }
            128 => {
                count(&self.dropped);
                drop(conn);
            }
            192 => {
                count(&self.detached);
                conn.detach();
            }
            256 => {
                count(&self.good);
                count(&self.discarded);
                conn.report_success();
                conn.discard();
            }
            257 => {
                count(&self.failed);
                conn.report_failure("slow");
                conn.release();
            }
            _ => {
                count(&self.good);
                conn.release();
            }
        }
    }
}

/// A second after the last connection was returned.
async fn settled<C: connring::Connector>(pool: &Pool<C>) -> Totals {
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    pool.status().totals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn totals_are_what_callers_counted() {
    const TASKS: u64 = 16;
    const EACH: u64 = 12_500;
    let connector = connect_fn(|server: Server| async { std::io::Result::Ok(server) });
    let builder = Pool::builder(connector).servers(["a", "b", "c"]).max_conns_per_server(4);
    let pool = builder.abandoned_after(None).build().expect("in range");
    let counted = Arc::new(Counted::default());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (pool, counted) = (pool.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                for turn in 0..EACH {
                    let conn = pool.acquire().await.expect("all servers accept");
                    counted.end(conn, turn + 20 * task);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    let totals = settled(&pool).await;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(totals.checkouts, TASKS * EACH);
    assert_eq!((totals.checkouts, totals.successes), (read(&counted.uses), read(&counted.good)));
    assert_eq!(totals.failures, read(&counted.failed));
    let closes = [CloseReason::Discarded, CloseReason::Dropped, CloseReason::Detached].map(|why| totals.closes(why));
    assert_eq!(closes, [&counted.discarded, &counted.dropped, &counted.detached].map(read));
    let status = pool.status();
    let open: u64 = status.servers.iter().map(|server| u64::from(server.open)).sum();
    assert_eq!(totals.connects - totals.closed(), open, "{totals:?}");
    let sum = |of: fn(&Totals) -> u64| status.servers.iter().map(|server| of(&server.totals)).sum::<u64>();
    assert_eq!((sum(|t| t.checkouts), sum(|t| t.connects)), (totals.checkouts, totals.connects));
    assert!(status.waits > 0, "16 tasks share 12 connections");
}

#[tokio::test]
async fn a_removed_server_stays_in_the_totals_of_the_pool() {
    let connector = connect_fn(|server: Server| async { std::io::Result::Ok(server) });
    let pool = Pool::builder(connector).servers(["a", "b"]).build().expect("in range");
    let held = pool.acquire().await.expect("it accepts");
    let name = PooledConn::info(&held).server().name().to_owned();
    pool.deregister(&name).expect("it is registered");
    held.release();
    let status = pool.status();
    assert_eq!((status.totals.checkouts, status.totals.closes(CloseReason::Removed)), (1, 1));
    assert_eq!(status.servers.iter().map(|server| server.totals.checkouts).sum::<u64>(), 0);
}
