//! The hot path, checkout and return of an idle connection, neither allocates nor frees memory.
//!
//! This is a separate binary because `allocation_counter` replaces the global allocator. The count covers this thread
//! during the polls of the cycles; allocations by the runtime between polls are excluded. `src/core/tests.rs` tests
//! that the hot path takes no lock, and `benches/instructions.sh` that it makes no system call.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use connring::test_util::{ScriptedConnector, conn_info};
use connring::{AfterUse, Clock, CloseReason, Connector, Ended, Pool, Server, TcpConnector};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const SERVERS: usize = 4;
const CYCLES: usize = 10_000;
/// A limit that is set but never reached.
const MAX_RPS: f64 = 1e9;

#[derive(Debug, Clone, Copy)]
enum Call {
    TryAcquire,
    Acquire,
    AcquireNow,
    AcquireTimeout,
}

async fn cycles<C: Connector>(pool: &Pool<C>, call: Call, count: usize) {
    for _ in 0..count {
        let conn = match call {
            Call::TryAcquire => pool.try_acquire().ok(),
            Call::Acquire => pool.acquire().await.ok(),
            Call::AcquireNow => pool.acquire_now().await.ok(),
            Call::AcquireTimeout => pool.acquire_timeout(Duration::from_secs(1)).await.ok(),
        };
        black_box(&conn).as_ref().expect("a connection is idle");
        conn.into_iter().for_each(|conn| conn.release());
    }
}

/// Counts the allocations of [`CYCLES`] hot cycles. First opens an idle connection to each server and warms the thread
/// up: a thread's first load of the server list allocates, and so does the first yield of a task in a runtime.
async fn allocations<C: Connector>(pool: &Pool<C>, call: Call) -> AllocationInfo {
    while pool.status().servers.iter().any(|server| server.idle == 0) {
        cycles(pool, Call::Acquire, 1).await;
        tokio::task::yield_now().await;
    }
    cycles(pool, call, 1_000).await;
    let mut cycles = pin!(cycles(pool, call, CYCLES));
    let mut allocations = AllocationInfo::default();
    poll_fn(|cx| {
        let mut polled = Poll::Pending;
        allocations += measure(|| polled = cycles.as_mut().poll(cx));
        polled
    })
    .await;
    allocations
}

fn assert_no_allocations<C: Connector>(runtime: &Runtime, pool: &Pool<C>, of: &str) {
    for call in [Call::TryAcquire, Call::Acquire, Call::AcquireNow, Call::AcquireTimeout] {
        let AllocationInfo { count_total, count_current, .. } = runtime.block_on(allocations(pool, call));
        let frees = count_total as i64 - count_current;
        assert_eq!((count_total, frees), (0, 0), "allocations and frees in {CYCLES} cycles of {call:?}, {of}");
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

#[test]
fn hot_path_does_not_allocate() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for maintenance in [true, false] {
        for limited in [true, false] {
            let addresses = (0..SERVERS).map(|server| format!("server-{server}"));
            let builder =
                Pool::builder(ScriptedConnector::new(Clock::system())).servers(addresses).maintenance(maintenance);
            let pool =
                if limited { builder.max_rps(MAX_RPS) } else { builder }.build().expect("the settings are in range");
            assert_no_allocations(&runtime, &pool, &format!("maintenance {maintenance}, limited {limited}"));
        }
    }
}

#[test]
fn hot_path_with_real_sockets_does_not_allocate() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let listeners: Vec<_> =
        (0..SERVERS).map(|_| runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("it is bound"));
    let pool = Pool::builder(TcpConnector::new())
        .max_rps(MAX_RPS)
        .servers(addresses)
        .build()
        .expect("the settings are in range");
    assert_no_allocations(&runtime, &pool, "TCP");
}

#[test]
fn hot_path_through_a_box_does_not_allocate() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let addresses = (0..SERVERS).map(|server| format!("server-{server}"));
    let pool = Pool::builder(ScriptedConnector::new(Clock::system()).boxed()).servers(addresses).build();
    assert_no_allocations(&runtime, &pool.expect("the settings are in range"), "boxed");
}

/// A connector that leaves all hooks alone.
struct NoHooks;

impl Connector for NoHooks {
    type Conn = ();
    type Error = io::Error;

    async fn connect(&self, _server: &Server) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn default_hooks_through_a_box_do_not_allocate() {
    let connector = NoHooks.boxed();
    let info = conn_info(Server::new("a"), Duration::ZERO, Duration::ZERO, 0);
    let mut cx = Context::from_waker(Waker::noop());
    let AllocationInfo { count_total, .. } = measure(|| {
        assert!(connector.is_reusable(&mut (), &info));
        assert_eq!(connector.after_use(&mut (), Ended::Dropped), AfterUse::Close);
        assert!(matches!(pin!(connector.check(&mut ())).poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(matches!(pin!(connector.recycle(&mut ())).poll(&mut cx), Poll::Ready(Ok(()))));
        assert!(connector.close((), CloseReason::Surplus).is_none());
    });
    assert_eq!(count_total, 0);
}

#[test]
fn allocation_counter_counts_allocations_and_frees() {
    let held = Box::new(1);
    let AllocationInfo { count_total, count_current, .. } = measure(|| drop(black_box(held)));
    assert_eq!((count_total, count_current), (0, -1));
    let AllocationInfo { count_total, count_current, .. } = measure(|| drop(black_box(Box::new(1))));
    assert_eq!((count_total, count_current), (1, 0));
}
