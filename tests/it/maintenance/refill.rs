//! The minimum of idle connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connring::test_util::Reuse;
use connring::{AcquireOptions, Builder, Clock, Pool, Server, ServerState, connect_fn};

use super::*;

type Build = Builder<connring::test_util::ScriptedConnector>;

fn idle(rig: &Rig) -> Vec<usize> {
    rig.pool.status().servers.iter().map(|server| server.idle).collect()
}

fn one(b: Build) -> Build {
    b.server("a").idle_timeout(None).max_lifetime(None)
}

#[tokio::test]
async fn killed_servers_have_their_minimum_within_two_seconds_of_their_return_without_callers() {
    for outage in [secs(3), secs(3_600)] {
        let rig = Rig::manual(|b| b.servers(["a", "b", "c"]).min_idle_per_server(5));
        advance_smoothly(&rig, TICK).await;
        assert_eq!(idle(&rig), [5, 5, 5]);
        rig.connector.set_default(Connect::Refuse);
        ["a", "b", "c"].iter().for_each(|address| rig.connector.kill_connections(address));
        for _ in 0..outage.as_millis() / 250 {
            rig.clock.advance(TICK * 5 / 2);
            settle().await;
        }
        assert_eq!(idle(&rig), [0, 0, 0]);
        let attempts = rig.connector.total_counts().attempts;
        rig.connector.set_default(Connect::Ok);
        advance_smoothly(&rig, secs(2)).await;
        assert_eq!(idle(&rig), [5, 5, 5], "after {outage:?} and {attempts} attempts");
        assert!(rig.pool.status().servers.iter().all(|server| server.state == ServerState::Up));
    }
}

#[tokio::test]
async fn servers_are_filled_when_registered_and_after_reset() {
    let rig = Rig::manual(|b| one(b).min_idle_per_server(3));
    settle().await;
    rig.pool.register("b").expect("it is new");
    settle().await;
    assert_eq!(idle(&rig), [3, 3]);
    rig.pool.reset();
    settle().await;
    assert_eq!((idle(&rig), rig.connector.total_counts().attempts), (vec![3, 3], 12));
}

#[tokio::test]
async fn minimum_counts_idle_connections_within_maximum() {
    let rig = Rig::manual(|b| one(b).min_idle_per_server(4).max_conns_per_server(6));
    settle().await;
    let held = open(&rig, 1).await;
    advance_smoothly(&rig, LATE).await;
    assert_eq!((idle(&rig), open_now(&rig)), (vec![4], 5));
    let more = open(&rig, 3).await;
    advance_smoothly(&rig, LATE).await;
    assert_eq!((idle(&rig), open_now(&rig)), (vec![2], 6), "no permit is free");
    held.into_iter().chain(more).for_each(PooledConn::release);
    advance_smoothly(&rig, LATE).await;
    assert_eq!(idle(&rig), [6]);
}

#[tokio::test]
async fn a_quarter_of_the_missing_connections_is_opened_at_once() {
    for (minimum, concurrent, expected) in [(5, 8, 2), (20, 8, 5), (20, 3, 3)] {
        let rig = Rig::manual(|b| {
            let b = one(b).max_conns_per_server(20).min_idle_per_server(minimum);
            b.max_concurrent_connects_per_server(concurrent)
        });
        rig.connector.set_default(Connect::Slow(TICK));
        settle().await;
        let server = rig.pool.status().servers.remove(0);
        assert_eq!((server.connecting, server.idle), (expected, 0));
        advance_smoothly(&rig, secs(5)).await;
        assert_eq!((idle(&rig), rig.connector.total_counts().attempts), (vec![minimum as usize], u64::from(minimum)));
        assert_eq!(rig.connector.total_counts().max_open, minimum);
    }
}

#[tokio::test]
async fn one_attempt_at_a_time_follows_a_fault_of_the_client() {
    let rig = Rig::manual(|b| one(b).min_idle_per_server(4).backoff(secs(1), secs(1)).backoff_spread_ratio(0.0));
    rig.connector.set_default(Connect::LocalFault);
    settle().await;
    // Two began together.
    assert_eq!(rig.connector.total_counts().attempts, 2);
    advance_smoothly(&rig, secs(10)).await;
    assert_eq!(rig.connector.total_counts().attempts, 12);
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Up);
    rig.connector.set_default(Connect::Ok);
    advance_smoothly(&rig, LATE).await;
    assert_eq!((idle(&rig), rig.connector.total_counts().attempts), (vec![4], 16));
}

#[tokio::test]
async fn connections_closed_right_after_connect_are_replaced_once_a_sweep() {
    let rig = Rig::manual(|b| one(b).min_idle_per_server(1));
    rig.connector.set_reuse("a", Reuse::No);
    advance_smoothly(&rig, secs(60)).await;
    assert_eq!(rig.connector.total_counts().attempts, 60);
    rig.connector.set_reuse("a", Reuse::Yes);
    advance_smoothly(&rig, secs(2)).await;
    assert_eq!(idle(&rig), [1]);
}

#[tokio::test]
async fn without_maintenance_nothing_is_kept_idle() {
    let rig = Rig::manual(|b| b.server("a").min_idle_per_server(5).maintenance(false).idle_timeout(secs(60)));
    advance_smoothly(&rig, secs(5)).await;
    assert_eq!(rig.connector.total_counts().attempts, 0);
    rig.pool.acquire().await.expect("the server accepts").release();
    advance_smoothly(&rig, secs(60)).await;
    assert!(rig.pool.try_acquire().is_err(), "the checkout asks for the idle timeout");
}

#[tokio::test]
async fn expiring_connection_is_replaced_before_unless_no_permit_is_free() {
    for (max_conns, is_replaced) in [(4, false), (5, true)] {
        let rig = Rig::manual(|b| {
            let b = b.server("a").max_conns_per_server(max_conns).min_idle_per_server(4).idle_timeout(None);
            b.max_lifetime(secs(20)).max_lifetime_jitter_ratio(0.4)
        });
        rig.connector.set_default(Connect::Slow(TICK * 3));
        advance_smoothly(&rig, secs(2)).await;
        let mut least = 4;
        for _ in 0..600 {
            advance_smoothly(&rig, TICK).await;
            least = least.min(idle(&rig)[0]);
            assert!(open_now(&rig) <= max_conns);
        }
        assert_eq!(least >= 4, is_replaced, "idle: {least}");
        assert!(least >= 2, "what ended is replaced at once: {least}");
        assert!(rig.connector.total_counts().attempts >= 12);
    }
}

#[tokio::test]
async fn nothing_is_replaced_early_without_room_in_the_queue() {
    let rig = Rig::manual(|b| {
        let b = b.server("a").max_idle_per_server(4).min_idle_per_server(4).idle_timeout(None);
        b.max_lifetime(secs(20)).max_lifetime_jitter_ratio(0.0)
    });
    advance_smoothly(&rig, secs(61)).await;
    assert_eq!((idle(&rig), rig.connector.total_counts().attempts), (vec![4], 16));
}

#[tokio::test]
async fn outage_of_connections_about_to_end_leaves_no_surplus() {
    let rig = Rig::manual(|b| {
        let b = b.server("a").min_idle_per_server(4).idle_timeout(None);
        b.max_lifetime(secs(20)).max_lifetime_jitter_ratio(0.0)
    });
    advance_smoothly(&rig, secs(19) + TICK).await;
    assert_eq!(idle(&rig), [8], "all are about to end");
    rig.pool.reset();
    settle().await;
    assert_eq!(idle(&rig), [4]);
}

#[tokio::test]
async fn minimum_above_maximum_of_server_is_refused() {
    let rig = Rig::manual(|b| b.server(Server::new("a").max_conns(20)).min_idle_per_server(15));
    let error = rig.pool.register("b").expect_err("its maximum is 10");
    assert_eq!(error.to_string(), "server \"b\": min_idle_per_server is 15, outside 0..=10");
    rig.pool.update(Server::new("a").max_conns(14)).expect_err("its maximum would be lower");
    settle().await;
    assert_eq!(idle(&rig), [15]);
}

#[tokio::test]
async fn standby_server_without_open_connections_is_filled_by_sweep() {
    let rig = Rig::manual(|b| one(b).server(Server::new("b").tier(1)).min_idle_per_server(2));
    advance_smoothly(&rig, TICK).await;
    for _ in 0..2 {
        let conn = rig.pool.acquire_with(AcquireOptions::new().prefer("b")).await.expect("it has idle ones");
        conn.discard();
    }
    // A switch of the tier in use and back: "b" is known to have no open connection.
    rig.pool.deregister("a").expect("it is registered");
    rig.pool.register("a").expect("it was removed");
    advance_smoothly(&rig, LATE).await;
    assert_eq!(idle(&rig), [2, 2]);
}

#[tokio::test]
async fn minimum_is_kept_after_a_panic_of_the_background_task_without_callers() {
    let rig = Rig::manual(|b| one(b).min_idle_per_server(3));
    advance_smoothly(&rig, secs(2)).await;
    assert_eq!(idle(&rig), [3]);
    // The next sweep closes all three, and panics with the first.
    rig.connector.set_drop_panics("a", true);
    rig.connector.kill_connections("a");
    advance_smoothly(&rig, LATE).await;
    rig.connector.set_drop_panics("a", false);
    advance_smoothly(&rig, secs(2)).await;
    assert_eq!((idle(&rig), open_now(&rig), rig.connector.counts("a").attempts), (vec![3], 3, 6));
}

/// The background task panics at each sweep, and sweeps ten times a second at most.
#[tokio::test(start_paused = true)]
async fn hook_that_panics_each_time_does_not_keep_the_background_task_busy() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let connector = connect_fn(async |_: Server| Ok::<_, ScriptedError>(()));
    let connector = connector.is_reusable(move |_, _| {
        // If it spun, the paused clock would stand still: then it ends the test.
        assert!(counter.fetch_add(1, Ordering::Relaxed) > 1_000, "as scripted");
        true
    });
    let pool = Pool::builder(connector).clock(Clock::tokio()).server("a").min_idle_per_server(2);
    let pool = pool.build().expect("the settings are in range");
    sleep(secs(10)).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!((5..=100).contains(&asked), "{asked} times in 10 s");
    assert!(pool.status().totals.connects > 5, "what the panics closed was replaced");
}
