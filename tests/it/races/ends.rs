//! What ends out of turn: a runtime that goes, a drop that panics, a server that is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use tokio::runtime::{Builder as RuntimeBuilder, Handle};

use super::*;

/// A runtime that has shut down, with which a thread may still be entered.
fn gone() -> Handle {
    let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.handle().clone()
}

/// Runs `call` on a thread of its own. What it takes is known only if it comes to an end.
fn ends(call: impl FnOnce() + Send + 'static) -> bool {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        call();
        let _ = done.send(());
    });
    is_done.recv_timeout(5 * SECOND).is_ok()
}

fn pool_of(addresses: &[&'static str]) -> (Pool<ScriptedConnector>, ScriptedConnector) {
    let connector = ScriptedConnector::new(Clock::manual());
    let builder = Pool::builder(connector.clone()).servers(addresses.iter().copied()).maintenance(false);
    (builder.build().expect("the settings are in range"), connector)
}

#[test]
fn acquire_does_not_spin_in_a_runtime_that_has_gone() {
    let (pool, _connector) = pool_of(&["a"]);
    assert!(ends(move || {
        let runtime = gone();
        let _entered = runtime.enter();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut waiting = Box::pin(pool.acquire_timeout(Duration::MAX));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
    }));
}

#[test]
fn acquire_now_does_not_spin_in_a_runtime_that_has_gone() {
    let (pool, _connector) = pool_of(&["a"]);
    assert!(ends(move || {
        let answer = gone().block_on(pool.acquire_now());
        assert!(matches!(answer, Err(AcquireError::Unavailable(_))), "{answer:?}");
    }));
}

/// Tells when it is dropped.
struct Tells(mpsc::Sender<()>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The same as it comes about: a worker is in the midst of a task when the runtime is shut down.
#[test]
fn a_runtime_shuts_down_while_a_caller_joins() {
    let runtime =
        RuntimeBuilder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built");
    let (pool, _connector) = pool_of(&["a"]);
    let (tells, closing) = mpsc::channel();
    let (running, is_running) = mpsc::channel();
    runtime.spawn(async move {
        let _tells = Tells(tells);
        std::future::pending::<()>().await;
    });
    runtime.spawn(async move {
        let _ = running.send(());
        // The other worker has begun to drop the tasks.
        let _ = closing.recv();
        let _ = pool.acquire().await;
    });
    is_running.recv().expect("it runs");
    assert!(ends(move || drop(runtime)));
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_panics_strands_no_other_connection() {
    let rig = Rig::paused(|builder| builder.servers(["a", "b"]).max_conns_per_server(3));
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(rig.pool.acquire().await.expect("both servers accept"));
    }
    held.into_iter().for_each(PooledConn::release);
    rig.connector.set_drop_panics("a", true);
    assert!(catch_unwind(AssertUnwindSafe(|| rig.pool.set_servers::<&str>([]))).is_err());
    assert_eq!(["a", "b"].map(|address| rig.connector.counts(address).open), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_connection_does_not_fit_and_panics_leaves_the_counts_right() {
    let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(2).max_idle_per_server(1));
    let held = rig.pool.acquire().await.expect("the server accepts");
    rig.connector.on_connect("a", Connect::Slow(ms(50)));
    let mut caller = Box::pin(rig.pool.acquire_now());
    assert!(poll_once(caller.as_mut()).await);
    // The caller leaves and the idle queue is full, so the connection of the attempt is closed.
    drop(caller);
    held.release();
    rig.connector.set_drop_panics("a", true);
    tokio::time::sleep(ms(60)).await;
    let status = rig.pool.status();
    assert_eq!((status.servers[0].open, status.servers[0].idle, status.servers[0].connecting), (1, 1, 0));
    rig.connector.set_drop_panics("a", false);
    let _held = rig.pool.acquire().await.expect("a connection is idle");
    let answer = tokio::time::timeout(60 * SECOND, rig.pool.acquire_now()).await.expect("it has an end");
    assert!(answer.is_ok(), "{answer:?}");
}

/// The runtime goes because its thread panics: no connector did.
#[test]
fn a_thread_that_unwinds_blames_no_server() {
    let (pool, connector) = pool_of(&["a"]);
    connector.on_connect("a", Connect::Never);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime can be built");
        runtime.block_on(async {
            let mut waiter = Box::pin(pool.acquire());
            assert!(poll_once(waiter.as_mut()).await);
            settle().await;
            panic!("of the caller's own");
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(connector.counts("a").attempts, 1);
    assert_eq!(pool.status().servers[0].state, ServerState::Up);
}

#[tokio::test]
async fn upkeep_outlives_the_end_of_a_manual_clock() {
    let rig = Rig::manual(|builder| builder.server("a"));
    rig.clock.advance(Duration::MAX);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
}

/// The first dial fails on another thread before its caller has looked at it.
#[test]
fn acquire_now_goes_on_after_a_dial_that_failed_at_once() {
    let runtime =
        RuntimeBuilder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built");
    let handle = runtime.handle().clone();
    for round in 0..3_000 {
        let connector = ScriptedConnector::new(Clock::manual());
        connector.on_connect("a", Connect::Refuse);
        let builder = Pool::builder(connector.clone()).servers(["a", "b"]).maintenance(false);
        let pool = builder.runtime(handle.clone()).build().expect("the settings are in range");
        let _entered = handle.enter();
        let answer = handle.block_on(pool.acquire_now());
        assert!(answer.is_ok(), "round {round}: {answer:?}");
    }
}

/// A pass that takes the retry out looks at a list in which the server is not yet.
#[test]
fn a_retry_survives_a_pass_beside_the_registration() {
    let runtime =
        RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be built");
    let _entered = runtime.enter();
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    let builder = Pool::builder(connector.clone()).server("b").maintenance(false).clock(clock.clone());
    let builder = builder.max_conns_per_server(2).idle_timeout(None).max_lifetime(None);
    let pool = builder.build().expect("the settings are in range");
    runtime.block_on(pool.acquire()).expect("the server accepts").release();
    connector.on_connect("a", Connect::Ok);
    let lost = (0..3_000).filter(|_| {
        pool.register("a").expect("the server is not registered");
        let mut held = Vec::new();
        while held.len() < 2 {
            let conn = runtime.block_on(pool.acquire()).expect("both servers accept");
            match &*server_of(&conn) {
                "a" => held.push(conn),
                _ => conn.release(),
            }
        }
        held.pop().expect("there are two").fail("broken");
        // Before it is registered again nobody but the retry's own time tells of it.
        pool.deregister("a").expect("the server is registered");
        clock.advance(Duration::from_secs(3_600));
        pool.try_acquire().expect("b has one").release();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    pool.try_acquire().expect("b has one").release();
                }
            });
            pool.register("a").expect("the server was removed");
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        pool.try_acquire().expect("b has one").release();
        let is_lost = pool.status().servers.iter().any(|server| matches!(server.state, ServerState::Down { .. }));
        while pool.status().servers.iter().any(|server| server.connecting > 0) {
            std::thread::yield_now();
        }
        pool.deregister("a").expect("the server is registered");
        drop(held);
        is_lost
    });
    assert_eq!(lost.count(), 0);
}

/// The pool's runtime has gone; callers of another go on.
#[test]
fn the_next_callers_runtime_takes_over() {
    for now in [false, true] {
        let clock = Clock::system();
        let connector = ScriptedConnector::new(clock.clone());
        let first =
            RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be built");
        let second =
            RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be built");
        let builder = Pool::builder(connector.clone()).server("a").runtime(first.handle().clone());
        let pool = builder.build().expect("the settings are in range");
        first.block_on(pool.acquire()).expect("the server accepts").release();
        drop(first);
        let started = clock.now();
        let answer = if now { second.block_on(pool.acquire_now()) } else { second.block_on(pool.acquire()) };
        answer.expect("the second runtime dials").release();
        assert!(clock.now() - started < Duration::from_millis(500));
        assert_eq!(connector.counts("a").attempts, 2);
    }
}

/// Asks the pool for something that takes the registry's lock, when it is dropped.
struct AsksBack(Pool<ScriptedConnector>);

impl std::fmt::Debug for AsksBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it asks back")
    }
}

impl std::fmt::Display for AsksBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it asks back")
    }
}

impl std::error::Error for AsksBack {}

impl Drop for AsksBack {
    fn drop(&mut self) {
        let _ = self.0.deregister("unknown");
    }
}

/// The last connection of a removed server comes back beside a change of the list, which then drops the server.
#[test]
fn no_error_is_dropped_under_the_lock_of_the_registry() {
    assert!(ends(|| {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime can be built");
        let _entered = runtime.enter();
        let builder = Pool::builder(ScriptedConnector::new(Clock::manual())).maintenance(false).max_conns_per_server(2);
        let pool = builder.clock(Clock::manual()).build().expect("the settings are in range");
        let others: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        for _ in 0..500 {
            pool.set_servers(["a"]).expect("the settings are in range");
            let held = runtime.block_on(pool.acquire()).expect("the server accepts");
            runtime.block_on(pool.acquire()).expect("the server accepts").fail(AsksBack(pool.clone()));
            let barrier = std::sync::Barrier::new(2);
            pool.deregister("a").expect("the server is registered");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    drop(held);
                });
                barrier.wait();
                pool.set_servers(others.iter().map(String::as_str)).expect("the settings are in range");
            });
        }
    }));
}
