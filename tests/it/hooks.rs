//! The hooks of a connector: what they are asked, when, and what follows.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use connring::test_util::{RoundTrip, ScriptedConnector};
use connring::{
    AcquireError, AcquireOptions, AfterUse, BoxConn, Builder, Clock, CloseReason, Connector, Ejection, Ended, Pool,
    PooledConn, Server, ServerState, connect_fn,
};

use crate::support::{Rig, advance_smoothly, ejects_at_once, open, refuse_one, settle};

/// A pool with one connection to the server "a".
fn rig(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Rig {
    Rig::manual(|builder| build(builder.server("a").max_conns_per_server(1)))
}

async fn acquired(rig: &Rig) -> PooledConn<ScriptedConnector> {
    rig.pool.acquire().await.expect("it accepts")
}

/// How many connections to "a" are open, idle, and saying goodbye.
fn counts(rig: &Rig) -> (u32, usize, u32) {
    let server = rig.pool.status().servers.remove(0);
    (server.open, server.idle, server.closing)
}

async fn advance(rig: &Rig, time: Duration) {
    rig.clock.advance(time);
    settle().await;
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_dropped_connection_is_reused_if_the_connector_says_so() {
    let rig = rig(|builder| builder);
    rig.connector.set_after_use("a", Ended::Dropped, AfterUse::Reuse);
    drop(acquired(&rig).await);
    assert_eq!(counts(&rig), (1, 1, 0));
    let again = rig.pool.try_acquire().expect("it is idle");
    assert_eq!(PooledConn::info(&again).uses(), 1);
    drop(again);
    let totals = rig.pool.status().totals;
    assert!(totals.successes <= totals.checkouts && totals.failures == 0, "{totals:?}");
}

#[tokio::test]
async fn a_use_that_ends_in_a_panic_of_after_use_is_counted() {
    let connector = connect_fn(|_: Server| async { io::Result::Ok(()) }).after_use(|_: &mut (), _| panic!("a fault"));
    let pool = Pool::builder(connector).server("a").build().expect("valid settings");
    for is_released in [true, false] {
        let conn = pool.acquire().await.expect("it accepts");
        let ended = catch_unwind(AssertUnwindSafe(|| if is_released { conn.release() } else { drop(conn) }));
        assert!(ended.is_err());
    }
    let totals = pool.status().totals;
    assert_eq!((totals.checkouts, totals.successes, totals.failures), (2, 0, 0));
    assert_eq!(totals.closes(CloseReason::Lost), 2);
}

#[tokio::test]
async fn a_connection_that_is_dropped_by_a_panic_closes_unasked() {
    let rig = rig(|builder| builder);
    rig.connector.set_after_use("a", Ended::Dropped, AfterUse::Reuse);
    let conn = acquired(&rig).await;
    let panicked = tokio::spawn(async move {
        let _conn = conn;
        panic!("a request panics");
    });
    assert!(panicked.await.is_err());
    assert_eq!(counts(&rig), (0, 0, 0));
    assert_eq!(rig.pool.status().totals.closes(CloseReason::Dropped), 1);
}

#[tokio::test]
async fn a_released_connection_closes_if_the_connector_says_so() {
    let rig = rig(|builder| builder);
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Close);
    acquired(&rig).await.release();
    assert_eq!(counts(&rig), (0, 0, 0));
    let totals = rig.pool.status().totals;
    assert_eq!((totals.checkouts, totals.successes, totals.closes(CloseReason::Unfit)), (1, 1, 1));
}

#[tokio::test]
async fn callers_wait_for_a_connection_that_is_recycled() {
    let rig = rig(|builder| builder.max_conns_per_server(8));
    rig.connector.set_recycle("a", RoundTrip::Slow(10 * MS));
    for ended in [Ended::Released, Ended::Dropped] {
        rig.connector.set_after_use("a", ended, AfterUse::Recycle);
        let conn = acquired(&rig).await;
        match ended {
            Ended::Released => conn.release(),
            _ => drop(conn),
        }
        settle().await;
        assert_eq!(counts(&rig), (1, 0, 0), "it is out of the queue and keeps its permit");
        let waiter = tokio::spawn({
            let pool = rig.pool.clone();
            async move { pool.acquire_now().await }
        });
        settle().await;
        assert_eq!(counts(&rig).0, 1, "no other attempt starts");
        advance(&rig, 10 * MS).await;
        let served = waiter.await.expect("no panic").expect("it is served by the recycled one");
        assert_eq!(PooledConn::info(&served).uses() % 2, 1);
        rig.connector.set_after_use("a", Ended::Released, AfterUse::Reuse);
        served.release();
    }
    assert_eq!(rig.connector.counts("a").recycles, 2);
    assert_eq!(rig.pool.status().totals.connects, 1);
}

/// After the hedge delay it no longer stands for an attempt.
#[tokio::test]
async fn a_recycle_that_hangs_holds_up_no_other_attempt() {
    let rig = rig(|builder| builder.max_conns_per_server(2));
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
    rig.connector.set_recycle("a", RoundTrip::Never);
    acquired(&rig).await.release();
    let waiter = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.acquire().await }
    });
    settle().await;
    assert_eq!(counts(&rig).0, 1, "the recycled one is about to come");
    advance(&rig, 100 * MS).await;
    assert_eq!(waiter.await.expect("no panic").map(|conn| PooledConn::info(&conn).uses()).ok(), Some(0));
}

#[tokio::test]
async fn a_failed_recycle_closes_the_connection_and_counts_one_reported_failure() {
    for (recycle, cause) in [(RoundTrip::Fail, "RecycleFailed"), (RoundTrip::Never, "RecycleTimeout")] {
        let ejection = Ejection::new().consecutive_failures(2);
        let rig = rig(|builder| builder.server("b").ejection(ejection).connect_timeout(50 * MS));
        rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
        rig.connector.set_recycle("a", recycle);
        for _ in 0..2 {
            let mut held = Vec::new();
            for _ in 0..2 {
                held.push(acquired(&rig).await);
            }
            let at = held.iter().position(|conn| conn.address() == "a").expect("each has one connection");
            held.swap_remove(at).release();
            settle().await;
            advance(&rig, 50 * MS).await;
            held.pop().expect("the other").discard();
        }
        let status = rig.pool.status();
        assert!(matches!(status.servers[0].state, ServerState::Ejected { .. }), "{status:?}");
        assert_eq!(status.servers[0].totals.closes(CloseReason::RecycleFailed), 2);
        assert_eq!(status.servers[0].totals.failures, 2);
        let held = acquired(&rig).await;
        let Err(AcquireError::Unavailable(error)) = rig.pool.acquire_now().await else { panic!("both are out of use") };
        let text = format!("{:?}", error.servers()[0].reason);
        assert!(text.contains(cause), "{text}");
        drop(held);
    }
}

#[tokio::test]
async fn a_panic_of_recycle_closes_the_connection_and_loses_nothing() {
    let rig = rig(|builder| builder);
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
    rig.connector.set_recycle("a", RoundTrip::Panic);
    acquired(&rig).await.release();
    settle().await;
    assert_eq!(counts(&rig), (0, 0, 0));
    assert_eq!(rig.pool.status().totals.checkouts, 1);
    rig.connector.set_recycle("a", RoundTrip::Ok);
    acquired(&rig).await.release();
    settle().await;
    assert_eq!(counts(&rig), (1, 1, 0));
}

#[tokio::test]
async fn a_recycle_ends_when_the_server_is_removed_or_the_pool_closed() {
    let rig = rig(|builder| builder);
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
    rig.connector.set_recycle("a", RoundTrip::Never);
    acquired(&rig).await.release();
    settle().await;
    rig.pool.close().await;
    assert_eq!(rig.pool.status().totals.closes(CloseReason::PoolClosed), 1);
}

#[test]
fn a_connection_to_recycle_closes_where_the_runtime_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rig = runtime.block_on(async {
        let rig = rig(|builder| builder);
        let conn = acquired(&rig).await;
        (rig, conn)
    });
    let (rig, conn) = rig;
    drop(runtime);
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
    conn.release();
    assert_eq!(rig.pool.status().totals.closed(), 1);
}

#[tokio::test]
async fn the_connector_says_goodbye_where_the_connection_works() {
    let rig = rig(|builder| builder.goodbye_timeout(100 * MS));
    rig.connector.set_close("a", Some(RoundTrip::Slow(30 * MS)));
    acquired(&rig).await.release();
    rig.pool.reset();
    settle().await;
    assert_eq!(counts(&rig), (1, 0, 1), "it keeps its permit");
    assert_eq!(rig.pool.status().servers[0].in_use, 0);
    advance(&rig, 30 * MS).await;
    assert_eq!(counts(&rig), (0, 0, 0));
    rig.connector.set_close("a", Some(RoundTrip::Never));
    acquired(&rig).await.release();
    rig.pool.reset();
    advance(&rig, 99 * MS).await;
    assert_eq!(counts(&rig), (1, 0, 1));
    advance(&rig, MS).await;
    assert_eq!(counts(&rig), (0, 0, 0), "after the goodbye timeout it is dropped");
    assert_eq!(rig.connector.closes("a"), [CloseReason::Reset; 2]);
}

/// What says goodbye is about to leave: no other connection closes for the same reason meanwhile.
#[tokio::test]
async fn no_more_connections_close_than_must_while_one_says_goodbye() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(4));
    rig.connector.set_close("a", Some(RoundTrip::Slow(500 * MS)));
    let mut held = open(&rig, 4).await;
    rig.pool.update(Server::new("a").max_conns(3)).expect("it is registered");
    held.drain(1..).for_each(PooledConn::release);
    settle().await;
    assert_eq!(counts(&rig), (4, 2, 1), "one is above the maximum");
    advance(&rig, 500 * MS).await;
    held.into_iter().for_each(PooledConn::release);
    assert_eq!(counts(&rig), (3, 3, 0));

    let fresh = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.acquire_with(AcquireOptions::new().fresh()).await.expect("it accepts") }
    });
    settle().await;
    // The background task looks again and again.
    advance_smoothly(&rig, 400 * MS).await;
    assert_eq!(counts(&rig), (3, 2, 1), "one makes room");
    advance_smoothly(&rig, 100 * MS).await;
    assert!(fresh.is_finished());
    assert_eq!(PooledConn::info(&fresh.await.expect("no panic")).uses(), 0);
    assert_eq!(rig.connector.closes("a"), [CloseReason::OverMaximum, CloseReason::MadeRoom]);
}

#[tokio::test]
async fn closing_the_pool_waits_for_goodbyes() {
    let rig = rig(|builder| builder);
    rig.connector.set_close("a", Some(RoundTrip::Slow(30 * MS)));
    acquired(&rig).await.release();
    let close = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.close().await }
    });
    settle().await;
    assert!(!close.is_finished());
    advance(&rig, 30 * MS).await;
    close.await.expect("no panic");
    assert_eq!(rig.connector.closes("a"), [CloseReason::PoolClosed]);
}

#[tokio::test]
async fn no_goodbye_on_a_connection_that_failed_or_was_dropped() {
    let rig = rig(|builder| builder);
    acquired(&rig).await.discard();
    acquired(&rig).await.fail("no answer");
    acquired(&rig).await.broken("reset by peer");
    drop(acquired(&rig).await);
    drop(acquired(&rig).await.detach());
    assert!(rig.connector.closes("a").is_empty());
}

#[tokio::test]
async fn hooks_of_a_boxed_connector_are_asked() {
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    connector.set_after_use("a", Ended::Dropped, AfterUse::Recycle);
    connector.set_close("a", Some(RoundTrip::Ok));
    let pool = Pool::builder(connector.clone().boxed()).clock(clock).server("a").build().expect("in range");
    drop(pool.acquire().await.expect("it accepts"));
    settle().await;
    assert_eq!((connector.counts("a").recycles, pool.status().servers[0].idle), (1, 1));
    pool.close().await;
    assert_eq!(connector.closes("a"), [CloseReason::PoolClosed]);
}

#[tokio::test]
async fn a_panic_of_after_use_closes_the_connection_and_goes_on_to_the_caller() {
    let connector = connect_fn(|_: Server| async { io::Result::Ok(()) }).after_use(|_, _| panic!("as told"));
    let pool = Pool::builder(connector.boxed()).server("a").build().expect("in range");
    let ends: [fn(BoxConn<()>); 2] = [PooledConn::release, drop];
    for end in ends {
        let conn = pool.acquire().await.expect("it accepts");
        catch_unwind(AssertUnwindSafe(|| end(conn))).expect_err("the panic reaches the caller");
        assert_eq!(pool.status().servers[0].open, 0);
    }
    assert_eq!(pool.status().totals.closes(CloseReason::Lost), 2);
}

#[tokio::test]
async fn a_connection_that_says_goodbye_tells_no_more_that_the_server_answers() {
    let rig = rig(|builder| builder.max_conns_per_server(2).goodbye_timeout(10_000 * MS));
    rig.connector.set_close("a", Some(RoundTrip::Never));
    acquired(&rig).await.release();
    rig.pool.reset();
    settle().await;
    assert_eq!(counts(&rig), (1, 0, 1));
    refuse_one(&rig, "a").await;
}

#[tokio::test]
async fn a_connection_that_says_goodbye_is_not_in_use_while_its_server_recovers() {
    let second = 1_000 * MS;
    let rig = rig(|builder| {
        let builder = ejects_at_once(builder.server("b"), second).backoff(second, second);
        builder.goodbye_timeout(60 * second).idle_timeout(None).max_lifetime(None)
    });
    rig.connector.set_close("a", Some(RoundTrip::Never));
    let (first, second_conn) = (acquired(&rig).await, acquired(&rig).await);
    let (of_a, _of_b) = if first.address() == "a" { (first, second_conn) } else { (second_conn, first) };
    of_a.fail("it is loading");
    advance_smoothly(&rig, 2 * second).await;
    rig.pool.try_acquire().expect_err("the one is in use, the other one ejected");
    settle().await;
    assert_eq!(counts(&rig), (1, 1, 0), "the connection of the probe");
    rig.pool.reset();
    settle().await;
    assert_eq!(counts(&rig), (1, 0, 1));
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Recovering);
    advance_smoothly(&rig, 3 * second).await;
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Up);
}

#[tokio::test]
async fn a_panic_of_close_goes_on_to_the_caller_and_nothing_stays_open() {
    let connector = connect_fn(|_: Server| async { io::Result::Ok(()) })
        .close(|(), _| -> std::future::Ready<()> { panic!("no goodbye") });
    let pool = Pool::builder(connector).clock(Clock::manual()).server("a").max_conns_per_server(2).build();
    let pool = pool.expect("in range");
    let held = [pool.acquire().await.expect("it accepts"), pool.acquire().await.expect("it accepts")];
    held.into_iter().for_each(PooledConn::release);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.reset())).is_err());
    settle().await;
    assert_eq!((pool.status().servers[0].open, pool.status().servers[0].idle), (0, 0));
    pool.acquire().await.expect("its permits are free").detach();
}

#[tokio::test]
async fn a_goodbye_that_panics_or_hangs_keeps_no_permit() {
    for hangs in [false, true] {
        let goodbye = move |(), _| async move {
            match hangs {
                true => std::future::pending().await,
                false => panic!("in the middle"),
            }
        };
        let connector = connect_fn(|_: Server| async { io::Result::Ok(()) }).close(goodbye);
        let clock = Clock::manual();
        let pool = Pool::builder(connector).clock(clock.clone()).server("a").max_conns_per_server(1).build();
        let pool = pool.expect("in range");
        pool.acquire().await.expect("it accepts").release();
        pool.reset();
        settle().await;
        let closing = || (pool.status().servers[0].open, pool.status().servers[0].closing);
        assert_eq!(closing(), if hangs { (1, 1) } else { (0, 0) });
        // The default of `goodbye_timeout`.
        clock.advance(Duration::from_secs(1) + MS);
        settle().await;
        assert_eq!(closing(), (0, 0));
        pool.acquire().await.expect("its permit is free").release();
    }
}
