//! Many threads on one pool, and many pools on one thread: the shards, and the thread-local cache of the server list.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use connring::{Builder, Connector, Pool, Server, TryAcquireError, connect_fn};

use crate::support::server_of;

/// A pool whose connections are copies of the server's settings.
fn builder() -> Builder<impl Connector<Conn = Server, Error = Infallible>> {
    Pool::builder(connect_fn(|server: Server| async { Ok::<_, Infallible>(server) }))
}

/// Opens as many connections as the pool allows, and releases them.
async fn fill<C: Connector>(pool: &Pool<C>) {
    let count: u32 = pool.status().servers.iter().map(|server| server.max_conns).sum();
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.acquire().await.expect("all servers accept"));
    }
    held.into_iter().for_each(connring::PooledConn::release);
}

/// Runs `work` on each of `count` threads at once.
fn on_threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        let run = |index| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(index)
            })
        };
        let threads: Vec<_> = (0..count).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

#[tokio::test]
async fn connection_released_on_one_thread_is_found_on_others() {
    let pool = builder().max_conns_per_server(8).server("a").build().expect("the settings are in range");
    fill(&pool).await;
    for _ in 0..20 {
        let held =
            on_threads(1, |_| (0..8).map(|_| pool.try_acquire().expect("8 connections are idle")).collect::<Vec<_>>())
                .pop();
        assert!(pool.try_acquire().is_err());
        thread::scope(|scope| {
            scope.spawn(|| held.into_iter().flatten().for_each(connring::PooledConn::release)).join()
        })
        .expect("the task does not panic");
        assert_eq!(pool.status().servers[0].idle, 8);
    }
}

#[tokio::test]
async fn no_connection_is_closed_while_idle_queue_has_room() {
    // There are as many slots as connections: a release to a full shard must find room in another shard.
    for max_conns in [2, 3, 4, 7, 8] {
        let pool = builder().max_conns_per_server(max_conns).server("a").build().expect("the settings are in range");
        fill(&pool).await;
        on_threads(max_conns as usize, |index| {
            for round in 0..5_000 {
                let held: Vec<_> = (0..=(index + round) % 3).filter_map(|_| pool.try_acquire().ok()).collect();
                held.into_iter().for_each(connring::PooledConn::release);
            }
        });
        let server = pool.status().servers.remove(0);
        assert_eq!((server.open, server.idle), (max_conns, max_conns as usize));
    }
}

#[tokio::test]
async fn threads_rotate_evenly() {
    const TURNS: usize = 20_000;
    let pool = builder()
        .max_conns_per_server(16)
        .servers(["a", "b", "c", "d", "e"])
        .build()
        .expect("the settings are in range");
    fill(&pool).await;
    let served = on_threads(4, |_| {
        let mut served = BTreeMap::<_, usize>::new();
        for _ in 0..TURNS {
            let conn = pool.try_acquire().expect("there are more connections than threads");
            *served.entry(server_of(&conn)).or_default() += 1;
            conn.release();
        }
        served
    });
    for address in ["a", "b", "c", "d", "e"] {
        let share: usize = served.iter().map(|served| served.get(address).copied().unwrap_or_default()).sum();
        let fair = 4 * TURNS / 5;
        assert!(share.abs_diff(fair) <= fair / 100, "{address}: {share} of {fair}");
    }
}

#[tokio::test]
async fn threads_begin_rotation_at_different_servers() {
    let pool =
        builder().max_conns_per_server(32).servers(["a", "b", "c", "d"]).build().expect("the settings are in range");
    fill(&pool).await;
    let held = on_threads(16, |_| pool.try_acquire().expect("there are more connections than threads"));
    let mut served = BTreeMap::<_, usize>::new();
    held.iter().for_each(|conn| *served.entry(server_of(conn)).or_default() += 1);
    // Threads of other tests have numbers too, so the numbers of these threads are not quite consecutive.
    assert!(served.len() == 4 && served.values().all(|&count| count <= 8), "{served:?}");
}

#[tokio::test]
async fn thread_cache_distinguishes_pools() {
    let mut pools = Vec::new();
    for index in 0..30 {
        let pool = builder()
            .max_conns_per_server(1)
            .server(format!("server-{index}"))
            .build()
            .expect("the settings are in range");
        fill(&pool).await;
        pools.push(pool);
    }
    for _ in 0..3 {
        for (index, pool) in pools.iter().enumerate() {
            let conn = pool.try_acquire().expect("a connection is idle");
            assert_eq!(server_of(&conn), format!("server-{index}"));
            conn.release();
        }
    }
}

#[tokio::test]
async fn thread_cache_of_server_list_is_invalidated_by_change() {
    let pool = builder().max_conns_per_server(2).servers(["a", "b"]).build().expect("the settings are in range");
    fill(&pool).await;
    let next = || pool.try_acquire().map(|conn| server_of(&conn));
    assert!(next().is_ok(), "the list is cached");
    thread::scope(|scope| scope.spawn(|| pool.deregister("a")).join().expect("the task does not panic"))
        .expect("the server is registered");
    for _ in 0..10 {
        let conn = pool.try_acquire().expect("b has two idle connections");
        assert_eq!(server_of(&conn), "b");
        conn.release();
    }
    pool.set_servers([Server::new("b").max_rps(1e-3).burst(1)]).expect("the settings are in range");
    assert!(next().is_ok(), "the burst of the new rate");
    assert!(matches!(next(), Err(TryAcquireError::Unavailable(counts)) if counts.limited == 1));
    pool.deregister("b").expect("the server is registered");
    assert_eq!(next(), Err(TryAcquireError::NoServers));
}

#[tokio::test]
async fn thread_cache_does_not_keep_dropped_pool_alive() {
    let witness = Arc::new(());
    let (of_connector, of_conns) = (Arc::clone(&witness), Arc::clone(&witness));
    let connector = connect_fn(move |_| {
        let (_connector, conn) = (&of_connector, Arc::clone(&of_conns));
        async { Ok::<_, Infallible>(conn) }
    });
    let pool = Pool::builder(connector).max_conns_per_server(3).server("a").build().expect("the settings are in range");
    fill(&pool).await;
    pool.try_acquire().expect("three connections are idle").release();
    drop(pool);
    // The background task ends at its next turn.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Arc::strong_count(&witness), 1, "the connector or a connection is still alive");
}

/// A connector whose `is_reusable` acquires from its own pool.
struct Nested {
    pool: Arc<OnceLock<WeakPool>>,
}

type WeakPool = Weak<Pool<Nested>>;

impl Connector for Nested {
    type Conn = ();
    type Error = Infallible;

    async fn connect(&self, _server: &connring::Server) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_reusable(&self, (): &mut (), info: &connring::ConnInfo) -> bool {
        if let Some(pool) = self.pool.get().and_then(Weak::upgrade) {
            // A nested call changes the list and takes another connection while the first is being checked.
            if info.idle() < Duration::from_secs(3_600) && pool.register("b").is_ok() {
                pool.try_acquire().expect("another connection is idle").release();
                pool.deregister("b").expect("the server is registered");
            }
        }
        true
    }
}

#[tokio::test]
async fn reuse_check_may_call_the_pool() {
    let known = Arc::new(OnceLock::new());
    let connector = Nested { pool: Arc::clone(&known) };
    let pool = Arc::new(
        Pool::builder(connector).max_conns_per_server(4).server("a").build().expect("the settings are in range"),
    );
    fill(&pool).await;
    known.set(Arc::downgrade(&pool)).expect("set once");
    for _ in 0..10 {
        pool.try_acquire().expect("four connections are idle").release();
    }
}

#[tokio::test]
async fn servers_stay_usable_while_the_list_grows() {
    let names = |range: std::ops::Range<usize>| range.map(|number| number.to_string());
    for _ in 0..5 {
        let pool = builder().max_conns_per_server(1).servers(names(0..64)).build().expect("the settings are in range");
        fill(&pool).await;
        let is_done = AtomicBool::new(false);
        on_threads(2, |index| {
            if index == 0 {
                names(64..2_048).for_each(|name| pool.register(name).expect("its name is new"));
                is_done.store(true, Ordering::Relaxed);
            }
            while !is_done.load(Ordering::Relaxed) {
                pool.try_acquire().expect("64 connections are idle").release();
            }
        });
    }
}
