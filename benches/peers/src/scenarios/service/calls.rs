//! Draining a server under load, and totals, on threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use connring::{CloseReason, Pool, PooledConn, Server, connect_fn};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("the settings are valid")
}

pub struct Drained {
    pub failed: u64,
    /// Requests that started at the drained server after the call returned.
    pub started_after: u64,
}

/// 64 tasks use 4 servers; one of these is drained.
pub fn drain() -> Drained {
    const TASKS: u32 = 64;
    runtime().block_on(async {
        let connector = connect_fn(|server: Server| async { std::io::Result::Ok(server) });
        let pool = Pool::builder(connector).servers(["a", "b", "c", "d"]).build().expect("in range");
        let [failed, after, served] = [(); 3].map(|()| Arc::<AtomicU64>::default());
        let [is_drained, is_over] = [(); 2].map(|()| Arc::<AtomicBool>::default());
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (pool, failed, after, served) = (pool.clone(), failed.clone(), after.clone(), served.clone());
                let (is_drained, is_over) = (is_drained.clone(), is_over.clone());
                tokio::spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        let was_drained = is_drained.load(Ordering::Acquire);
                        match pool.acquire().await {
                            Ok(conn) => {
                                if was_drained && conn.address() == "a" {
                                    after.fetch_add(1, Ordering::Relaxed);
                                }
                                tokio::task::yield_now().await;
                                conn.release();
                                served.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(_) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        sleep(Duration::from_millis(200)).await;
        let report = pool.drain("a", Duration::from_secs(5)).await.expect("it is registered");
        is_drained.store(true, Ordering::Release);
        assert!(report.is_drained(), "{report:?}");
        sleep(Duration::from_millis(200)).await;
        is_over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("no task panics");
        }
        assert!(served.load(Ordering::Relaxed) > 1_000, "there was load");
        Drained { failed: failed.load(Ordering::Relaxed), started_after: after.load(Ordering::Relaxed) }
    })
}

/// 16 tasks end a million uses in several ways. Returns how many totals differ from what the tasks counted, once all
/// connections are returned and a second has passed.
pub fn totals() -> usize {
    const TASKS: u64 = 16;
    const EACH: u64 = 62_500;
    runtime().block_on(async {
        let connector = connect_fn(|server: Server| async { std::io::Result::Ok(server) });
        let builder = Pool::builder(connector).servers(["a", "b", "c"]).abandoned_after(None);
        let pool = builder.build().expect("in range");
        let [discarded, dropped, failed] = [(); 3].map(|()| Arc::<AtomicU64>::default());
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (pool, discarded) = (pool.clone(), discarded.clone());
                let (dropped, failed) = (dropped.clone(), failed.clone());
                tokio::spawn(async move {
                    for turn in 0..EACH {
                        let conn = pool.acquire().await.expect("all accept");
                        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
                        match (turn + 7 * task) % 100 {
                            0 => {
                                count(&discarded);
                                conn.discard();
                            }
                            33 => {
                                count(&dropped);
                                drop(conn);
                            }
                            66 => {
                                count(&failed);
                                conn.fail("no answer");
                            }
                            _ => PooledConn::release(conn),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
        sleep(Duration::from_millis(1_200)).await;
        let totals = pool.status().totals;
        let [discarded, dropped, failed] = [discarded, dropped, failed].map(|count| count.load(Ordering::Relaxed));
        let uses = TASKS * EACH;
        let open: u64 = pool.status().servers.iter().map(|server| u64::from(server.open)).sum();
        let counted = [
            (totals.checkouts, uses),
            (totals.successes, uses - discarded - dropped - failed),
            (totals.failures, failed),
            (totals.closes(CloseReason::Discarded), discarded),
            (totals.closes(CloseReason::Dropped), dropped),
            (totals.closes(CloseReason::Failed), failed),
            (totals.connects, totals.closed() + open),
        ];
        counted.into_iter().filter(|(total, counted)| total != counted).count()
    })
}
