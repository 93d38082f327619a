//! Unexpected ends: a runtime that shuts down, a drop that panics, a server that is freed concurrently.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use tokio::runtime::{Builder as RuntimeBuilder, Handle};

use super::*;

/// The handle of a runtime that has shut down. A thread can still enter it.
fn dead_runtime() -> Handle {
    let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.handle().clone()
}

/// Runs `call` on a thread of its own, and returns whether it ends. A machine under load may need more than a minute.
fn ends(call: impl FnOnce() + Send + 'static) -> bool {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        call();
        let _ = done.send(());
    });
    is_done.recv_timeout(300 * SECOND).is_ok()
}

fn pool_of(addresses: &[&'static str]) -> (Pool<ScriptedConnector>, ScriptedConnector) {
    let connector = ScriptedConnector::new(Clock::manual());
    let builder = Pool::builder(connector.clone()).servers(addresses.iter().copied()).maintenance(false);
    (builder.build().expect("the settings are in range"), connector)
}

#[test]
fn acquire_does_not_spin_in_dead_runtime() {
    let (pool, _connector) = pool_of(&["a"]);
    assert!(ends(move || {
        let runtime = dead_runtime();
        let _entered = runtime.enter();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut waiting = Box::pin(pool.acquire_timeout(Duration::MAX));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
    }));
}

#[test]
fn acquire_now_does_not_spin_in_dead_runtime() {
    let (pool, _connector) = pool_of(&["a"]);
    assert!(ends(move || {
        let answer = dead_runtime().block_on(pool.acquire_now());
        assert!(matches!(answer, Err(AcquireError::Unavailable(_))), "{answer:?}");
    }));
}

/// SignalsDrop when it is dropped.
struct SignalsDrop(mpsc::Sender<()>);

impl Drop for SignalsDrop {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The realistic case: a worker polls a task while the runtime shuts down.
#[test]
fn runtime_shuts_down_while_caller_joins_wait_queue() {
    let runtime =
        RuntimeBuilder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be built");
    let (pool, _connector) = pool_of(&["a"]);
    let (signal, closing) = mpsc::channel();
    let (running, is_running) = mpsc::channel();
    runtime.spawn(async move {
        let _signal = SignalsDrop(signal);
        std::future::pending::<()>().await;
    });
    runtime.spawn(async move {
        let _ = running.send(());
        // The other worker has begun to drop the tasks.
        let _ = closing.recv();
        let _ = pool.acquire().await;
    });
    is_running.recv().expect("the task runs");
    assert!(ends(move || drop(runtime)));
}

#[tokio::test(start_paused = true)]
async fn panic_in_drop_does_not_leak_other_connections() {
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
async fn panic_in_drop_of_surplus_connection_keeps_counts_exact() {
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
    let answer = tokio::time::timeout(60 * SECOND, rig.pool.acquire_now()).await.expect("the call completes");
    assert!(answer.is_ok(), "{answer:?}");
}

/// The runtime is dropped because its thread panics. The connector did not panic.
#[test]
fn unwinding_thread_does_not_count_against_server() {
    let (pool, connector) = pool_of(&["a"]);
    connector.on_connect("a", Connect::Never);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime can be built");
        runtime.block_on(async {
            let mut waiter = Box::pin(pool.acquire());
            assert!(poll_once(waiter.as_mut()).await);
            settle().await;
            panic!("caller");
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(connector.counts("a").attempts, 1);
    assert_eq!(pool.status().servers[0].state, ServerState::Up);
}

#[tokio::test]
async fn background_task_survives_end_of_manual_clock() {
    let rig = Rig::manual(|builder| builder.server("a"));
    rig.clock.advance(Duration::MAX);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
}

/// The first attempt fails on another thread before its caller is polled again.
#[test]
fn acquire_now_continues_after_immediate_failure() {
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

/// The probe is due while the list does not yet contain the server.
#[test]
fn retry_survives_pass_concurrent_with_registration() {
    let runtime =
        RuntimeBuilder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be built");
    let _entered = runtime.enter();
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    let builder = Pool::builder(connector.clone()).server("b").maintenance(false).clock(clock.clone());
    let builder = builder.max_conns_per_server(2).idle_timeout(None).max_lifetime(None);
    let pool = ejects_at_once(builder, SECOND).build().expect("the settings are in range");
    runtime.block_on(pool.acquire()).expect("the server accepts").release();
    connector.on_connect("a", Connect::Ok);
    let lost = (0..1_000).filter(|_| {
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
        // Until the server is registered again, only its due time refers to the retry.
        pool.deregister("a").expect("the server is registered");
        clock.advance(Duration::from_secs(3_600));
        pool.try_acquire().expect("b has an idle connection").release();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    pool.try_acquire().expect("b has an idle connection").release();
                }
            });
            pool.register("a").expect("the server was removed");
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        // The background task starts the probe, since there are callers.
        let real_time = Clock::system();
        let until = real_time.now() + 20 * SECOND;
        let serves = |state| matches!(state, ServerState::Up | ServerState::Recovering);
        let is_lost = || pool.status().servers.iter().any(|server| !serves(server.state));
        while is_lost() && real_time.now() < until {
            pool.try_acquire().expect("b has an idle connection").release();
            std::thread::yield_now();
        }
        let is_lost = is_lost();
        drop(held);
        // Nothing of the server is left that keeps its record when it is removed.
        while pool.status().servers.iter().any(|server| server.open as usize > server.idle) {
            std::thread::yield_now();
        }
        pool.deregister("a").expect("the server is registered");
        is_lost
    });
    assert_eq!(lost.count(), 0);
}

/// The pool's runtime is dropped, and a caller on another runtime continues.
#[test]
fn runtime_of_next_caller_takes_over() {
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
        answer.expect("an attempt runs on the second runtime").release();
        assert!(clock.now() - started < Duration::from_millis(500));
        assert_eq!(connector.counts("a").attempts, 2);
    }
}

/// An error whose drop calls the pool and takes the registry's lock.
struct CallsPool(Pool<FailsEverySecond>);

impl std::fmt::Debug for CallsPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("calls the pool")
    }
}

impl std::fmt::Display for CallsPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("calls the pool")
    }
}

impl std::error::Error for CallsPool {}

impl Drop for CallsPool {
    fn drop(&mut self) {
        let _ = self.0.deregister("unknown");
    }
}

/// Every second attempt fails.
#[derive(Clone, Default)]
struct FailsEverySecond {
    attempts: Arc<AtomicUsize>,
    pool: Arc<OnceLock<Pool<FailsEverySecond>>>,
}

impl Connector for FailsEverySecond {
    type Conn = ();
    type Error = CallsPool;

    async fn connect(&self, _server: &Server) -> Result<(), CallsPool> {
        match self.attempts.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Ok(()),
            _ => Err(CallsPool(self.pool.get().expect("it is set first").clone())),
        }
    }
}

/// The last connection of a removed server is returned during a change of the list, which then drops the server.
#[test]
fn errors_are_not_dropped_under_registry_lock() {
    assert!(ends(|| {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime can be built");
        let _entered = runtime.enter();
        let (connector, clock) = (FailsEverySecond::default(), Clock::manual());
        let builder = Pool::builder(connector.clone()).maintenance(false).max_conns_per_server(2);
        let pool = builder.clock(clock.clone()).build().expect("the settings are in range");
        connector.pool.set(pool.clone()).expect("it is set once");
        let others: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        for _ in 0..500 {
            pool.set_servers(["a"]).expect("the settings are in range");
            let held = runtime.block_on(pool.acquire()).expect("the server accepts");
            runtime.block_on(pool.acquire_now()).expect_err("the second attempt fails");
            let barrier = std::sync::Barrier::new(2);
            pool.deregister("a").expect("the server is registered");
            // Its pause ends, so that nothing but the connection keeps its record.
            clock.advance(3_600 * SECOND);
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
