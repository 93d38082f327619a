//! Pools that outlive their runtime, and tasks that share a runtime.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{Clock, Pool, PooledConn};
use tokio::task::yield_now;

use super::{MS, Owned, acquiring, runtime, soon};
use crate::support::{Rig, settle};

/// Whether a future was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Built {
    Outside,
    Inside,
    WithHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Acquire,
    AcquireNow,
    TryAcquire,
}

/// Uses one pool on three runtimes in turn. Each is dropped before the next is made. If `rested`, three seconds pass
/// before the drop, so that the background task has slept and swept since the last call.
fn in_turn(maintenance: bool, rested: bool, built: Built, first: First) {
    let clock = Clock::manual();
    let (owned, connector, alive) = Owned::new(&clock);
    let mut builder =
        Some(Pool::builder(owned).server("a:1").max_conns_per_server(3).maintenance(maintenance).clock(clock.clone()));
    let mut build = |handle: Option<tokio::runtime::Handle>| {
        let builder = builder.take().expect("the pool is built once");
        let builder = match handle {
            Some(handle) => builder.runtime(handle),
            None => builder,
        };
        builder.build().expect("the settings are in range")
    };
    let mut pool = (built == Built::Outside).then(|| build(None));
    let mut held = None;
    let mut last_id = 0;
    for turn in 0..3 {
        let runtime = runtime();
        if built == Built::WithHandle && pool.is_none() {
            pool = Some(build(Some(runtime.handle().clone())));
        }
        runtime.block_on(async {
            let pool = &*pool.get_or_insert_with(|| build(None));
            let case =
                format!("turn {turn}, maintenance {maintenance}, rested {rested}, built {built:?}, first {first:?}");
            let is_new = |conn: &PooledConn<Owned>| {
                assert!(conn.id() > last_id, "a connection of a dead runtime was checked out: {case}");
            };
            match first {
                First::Acquire => is_new(&soon(pool.acquire()).await.expect("the server accepts")),
                First::AcquireNow => is_new(&soon(pool.acquire_now()).await.expect("the server accepts")),
                First::TryAcquire => {
                    if let Ok(conn) = pool.try_acquire() {
                        is_new(&conn);
                    }
                    settle().await;
                    is_new(&pool.try_acquire().expect("an attempt has connected"));
                }
            }
            // Nor is a connection reused that was in use when its runtime was dropped.
            if let Some(conn) = held.take() {
                PooledConn::release(conn);
            }
            let mut conns = Vec::new();
            for _ in 0..3 {
                conns.push(soon(pool.acquire()).await.expect("the server accepts"));
                is_new(&conns[conns.len() - 1]);
            }
            assert_eq!(connector.total_counts().open, 3, "the connections of dead runtimes are closed: {case}");
            held = conns.pop();
            conns.into_iter().for_each(PooledConn::release);
            settle().await;
            let attempts = connector.total_counts().attempts - last_id;
            assert!((3..=6).contains(&attempts), "{attempts} attempts: {case}");
            last_id += attempts;
            if rested {
                for _ in 0..30 {
                    clock.advance(100 * MS);
                    settle().await;
                }
            }
        });
    }
    drop((pool, held));
    assert_eq!((connector.total_counts().open, alive.strong_count()), (0, 0));
}

#[test]
fn pool_serves_runtimes_in_turn() {
    for built in [Built::Outside, Built::Inside, Built::WithHandle] {
        for first in [First::Acquire, First::AcquireNow, First::TryAcquire] {
            in_turn(true, false, built, first);
            in_turn(true, true, built, first);
        }
    }
}

#[test]
fn pool_without_maintenance_serves_runtimes_in_turn() {
    for built in [Built::Outside, Built::Inside, Built::WithHandle] {
        for first in [First::Acquire, First::AcquireNow, First::TryAcquire] {
            in_turn(false, false, built, first);
            in_turn(false, true, built, first);
        }
    }
}

#[test]
fn try_acquire_drops_connections_of_dead_runtime() {
    for maintenance in [true, false] {
        let clock = Clock::manual();
        let connector = ScriptedConnector::new(clock.clone());
        let builder = Pool::builder(connector.clone()).server("a:1").maintenance(maintenance).clock(clock);
        let pool = builder.build().expect("the settings are in range");
        for turn in 1..=3 {
            runtime().block_on(async {
                assert!(pool.try_acquire().is_err(), "the idle connection is of the previous runtime: turn {turn}");
                settle().await;
                let conn = pool.try_acquire().expect("an attempt has connected");
                assert_eq!((conn.id(), connector.total_counts().open), (turn, 1));
                conn.release();
            });
        }
    }
}

#[test]
fn static_pool_serves_runtimes_in_turn() {
    static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::manual);
    static CONNECTOR: LazyLock<ScriptedConnector> = LazyLock::new(|| ScriptedConnector::new(CLOCK.clone()));
    static POOL: LazyLock<Pool<ScriptedConnector>> = LazyLock::new(|| {
        let builder = Pool::builder(CONNECTOR.clone()).servers(["a:1", "b:1"]).clock(CLOCK.clone());
        builder.max_conns_per_server(1).build().expect("the settings are in range")
    });
    for turn in 1..=3 {
        runtime().block_on(async {
            let conns = [soon(POOL.acquire()).await.unwrap(), soon(POOL.acquire()).await.unwrap()];
            assert_eq!(CONNECTOR.total_counts().connected, 2 * turn);
            // Another caller is in the wait queue when its runtime is dropped.
            let waiter = acquiring(&POOL);
            settle().await;
            assert_eq!(POOL.status().waiters, 1);
            conns.into_iter().for_each(PooledConn::release);
            drop(waiter);
        });
    }
    runtime().block_on(POOL.close());
    assert_eq!(CONNECTOR.total_counts().open, 0);
}

#[test]
fn waiter_on_other_runtime_takes_over_dead_pool_runtime() {
    for maintenance in [true, false] {
        let clock = Clock::manual();
        let connector = ScriptedConnector::new(clock.clone());
        let (pools, callers) = (runtime(), runtime());
        let builder = Pool::builder(connector.clone()).server("a:1").maintenance(maintenance).clock(clock);
        let pool = builder.runtime(pools.handle().clone()).build().expect("the settings are in range");
        connector.next_connects("a:1", [Connect::Never]);
        let mut acquire = Box::pin(pool.acquire());
        let woken = Arc::new(Woken::default());
        {
            let _callers = callers.enter();
            let waker = Waker::from(Arc::clone(&woken));
            assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        pools.block_on(settle());
        assert_eq!(connector.total_counts().in_flight, 1, "attempts run on the pool's runtime");
        assert!(!woken.0.load(Ordering::Relaxed));
        drop(pools);
        // The waiter is woken, and its runtime takes over.
        assert!(woken.0.load(Ordering::Relaxed));
        let conn = callers.block_on(soon(acquire)).expect("the second attempt succeeds");
        assert_eq!((connector.total_counts().attempts, connector.total_counts().open), (2, 1));
        conn.release();
    }
}

#[test]
fn pool_built_outside_runtime_starts_maintenance_with_first_caller() {
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    let builder = Pool::builder(connector.clone()).server("a:1").clock(clock.clone());
    let pool = builder.idle_timeout(Duration::from_secs(1)).build().expect("the settings are in range");
    assert!(pool.try_acquire().is_err(), "outside a runtime no attempt starts");
    assert_eq!(connector.total_counts().attempts, 0);
    let runtime = runtime();
    runtime.block_on(async {
        soon(pool.acquire()).await.expect("the server accepts").release();
        for _ in 0..30 {
            clock.advance(100 * MS);
            settle().await;
        }
    });
    assert_eq!(connector.total_counts().open, 0, "maintenance has closed the connection");
}

#[tokio::test]
async fn acquire_yields_to_other_tasks() {
    let rig = Rig::manual(|builder| builder.server("a:1"));
    soon(rig.pool.acquire()).await.expect("the server accepts").release();
    let (turns, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let other = tokio::spawn({
        let (turns, stop) = (Arc::clone(&turns), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }
    });
    for _ in 0..100_000 {
        rig.pool.acquire().await.expect("the connection is idle").release();
    }
    stop.store(true, Ordering::Relaxed);
    other.await.expect("the task does not panic");
    assert_eq!(rig.connector.total_counts().attempts, 1);
    // tokio's cooperative budget is 128 steps.
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= 100_000 / 256, "{turns} turns");
}

#[tokio::test]
async fn futures_and_connections_are_send() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let rig = Rig::manual(|builder| builder.server("a:1"));
    let conn = assert_send(soon(assert_send(rig.pool.acquire())).await.expect("the server accepts"));
    let released = std::thread::spawn(move || conn.release()).join();
    released.expect("a release needs no runtime");
    soon(assert_send(rig.pool.acquire_now())).await.expect("the connection is idle").release();
    soon(assert_send(rig.pool.acquire_timeout(MS))).await.expect("the connection is idle").release();
    assert_eq!(rig.connector.total_counts().attempts, 1);
    soon(assert_send(rig.pool.close_timeout(MS))).await.expect("no connection is in use");
    soon(assert_send(rig.pool.close())).await;
}
