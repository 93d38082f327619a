//! A process that is frozen, or whose thread computes: the background task stores no time meanwhile.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{Builder, Clock, CloseReason, Pool, Server, connect_fn};

use crate::support::{Rig, settle};

const SECOND: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(2_500);

/// A pool with one connection that has been idle for 2.5 s, of 1 s that it may, and in whose process nothing ran.
async fn stalled(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Rig {
    let rig = Rig::manual(|builder| build(builder.server("a").idle_timeout(SECOND)));
    settle().await;
    rig.pool.acquire().await.expect("it accepts").release();
    rig.clock.advance(STALL);
    rig
}

fn assert_closed(rig: &Rig, of: &str) {
    assert_eq!(rig.connector.closes("a"), [CloseReason::IdleTimeout], "{of}");
}

#[tokio::test]
async fn connection_idle_for_too_long_during_a_stall_is_not_checked_out() {
    let exact = stalled(|builder| builder.exact_times(true)).await;
    exact.pool.acquire().await.expect("it accepts").release();
    assert_closed(&exact, "exact times");
    assert_eq!(exact.connector.counts("a").attempts, 2);

    let limited = stalled(|builder| builder.max_rps(1e6)).await;
    limited.pool.acquire().await.expect("it accepts").release();
    assert_closed(&limited, "a rate limit, for which the clock is read anyway");

    let alone = stalled(|builder| builder.maintenance(false)).await;
    alone.pool.acquire().await.expect("it accepts").release();
    assert_closed(&alone, "without maintenance");

    let elsewhere = stalled(|builder| builder).await;
    let taken = thread::scope(|scope| scope.spawn(|| elsewhere.pool.try_acquire().is_ok()).join());
    assert!(!taken.expect("no panic"));
    assert_closed(&elsewhere, "a thread that looks everywhere");
}

/// By default a checkout after a stall goes by the time before it, until the background task has run: see
/// [`Builder::exact_times`].
#[tokio::test]
async fn connection_idle_for_too_long_during_a_stall_closes_as_soon_as_the_background_task_has_run() {
    let rig = stalled(|builder| builder).await;
    settle().await;
    assert!(rig.pool.try_acquire().is_err());
    assert_closed(&rig, "by default");
}

/// So a [`TcpConnector`](connring::TcpConnector) peeks at it.
#[tokio::test]
async fn connector_is_told_the_exact_idle_time_after_a_stall() {
    static TOLD: Mutex<Vec<Duration>> = Mutex::new(Vec::new());
    for (exact, limited) in [(true, false), (false, true), (true, true)] {
        let connector = connect_fn(|_: Server| async { Ok::<_, std::io::Error>(()) }).is_reusable(|(), info| {
            TOLD.lock().expect("no panic").push(info.idle());
            true
        });
        let clock = Clock::manual();
        let builder = Pool::builder(connector).clock(clock.clone()).server("a").exact_times(exact);
        let builder = if limited { builder.max_rps(1e6) } else { builder };
        let pool = builder.build().expect("in range");
        settle().await;
        pool.acquire().await.expect("it accepts").release();
        clock.advance(STALL);
        TOLD.lock().expect("no panic").clear();
        pool.acquire().await.expect("it is idle").release();
        assert_eq!(*TOLD.lock().expect("no panic"), [STALL], "exact: {exact}, limited: {limited}");
    }
}
