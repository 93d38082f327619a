//! Servers that go away and come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use connring::test_util::Connect;
use connring::{AcquireError, PooledConn, ServerState};
use tokio::time::{Instant, sleep, timeout};

use super::world::{Patience, World, request, send};
use crate::health::events;
use crate::support::Rig;

const REQUEST: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn caller_is_served_within_the_outage_retry_of_the_only_servers_return() {
    for seed in 0..20 {
        let world = World::new(1, |builder| builder.seed(seed).wait_timeout(None));
        world.servers[0].set(|server| &server.refuses, true);
        let waits = tokio::spawn({
            let pool = world.pool.clone();
            async move { request(&pool, REQUEST, Patience::Fails(SECOND)).await }
        });
        sleep(Duration::from_secs(60)).await;
        world.servers[0].set(|server| &server.refuses, false);
        let returned = Instant::now();
        assert!(waits.await.expect("no panic"));
        let waited = returned.elapsed();
        assert!(waited <= Duration::from_millis(1_200), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_servers_are_used_soon_after_a_common_outage() {
    for seed in 0..10 {
        let world = World::new(4, |builder| builder.seed(seed).wait_timeout(None));
        world.servers.iter().for_each(|server| server.set(|server| &server.refuses, true));
        let start = Instant::now();
        let callers: Vec<_> = (0..64)
            .map(|_| {
                let pool = world.pool.clone();
                tokio::spawn(async move {
                    while start.elapsed() < Duration::from_secs(65) {
                        request(&pool, REQUEST, Patience::Fails(SECOND)).await;
                    }
                })
            })
            .collect();
        sleep(Duration::from_secs(60)).await;
        for server in &world.servers {
            let late = server.connects_since(start + Duration::from_secs(10));
            assert!((45..=60).contains(&late), "tried {late} times in 50 s");
        }
        let mut attempts: Vec<_> =
            world.servers.iter().flat_map(|server| server.connects.lock().expect("no panic").clone()).collect();
        attempts.sort();
        // The first second has the attempts by which the servers are found to be down.
        let crowded = attempts.windows(101).find(|window| window[100] - window[0] < SECOND);
        assert!(crowded.is_none(), "more than 100 attempts within a second: {crowded:?}");
        world.servers.iter().for_each(|server| server.set(|server| &server.refuses, false));
        let returned = Instant::now();
        let mut first = None;
        loop {
            let used = world.servers.iter().filter(|server| server.answered() > 0).count();
            if used > 0 {
                first.get_or_insert(returned.elapsed());
            }
            if used == 4 {
                break;
            }
            assert!(returned.elapsed() < Duration::from_secs(2), "{used} servers are used");
            sleep(Duration::from_millis(5)).await;
        }
        let (first, all) = (first.expect("one is used"), returned.elapsed());
        assert!(first <= Duration::from_millis(300), "the first after {first:?}");
        assert!(all <= Duration::from_millis(1_200), "all after {all:?}");
        for caller in callers {
            caller.await.expect("no panic");
        }
    }
}

/// One server hangs under load for a minute. Returns how many requests it holds after the first three seconds, and how
/// often it returns to Recovering in that time. It must be down after the three seconds.
async fn hangs(world: &World, patience: Patience) -> (usize, usize) {
    let (recorder, _guard) = events::record();
    send(&world.pool, 2_000, SECOND, REQUEST, patience).await;
    world.servers[0].set(|server| &server.hangs, true);
    send(&world.pool, 2_000, 3 * SECOND, REQUEST, patience).await;
    assert!(recorder.take().iter().any(|event| event.field("server") == "a" && event.field("state") == "ejected"));
    let stuck = world.servers[0].stuck();
    send(&world.pool, 2_000, 57 * SECOND, REQUEST, patience).await;
    let events = recorder.take();
    let returns = events.iter().filter(|event| event.field("server") == "a" && event.field("state") == "recovering");
    (world.servers[0].stuck() - stuck, returns.count())
}

#[tokio::test(start_paused = true)]
async fn hung_server_holds_two_requests_for_each_return_at_most() {
    for max_conns in [16, 64] {
        let world = World::new(4, |builder| builder.max_conns_per_server(max_conns));
        let patience = Patience::Fails(Duration::from_millis(500));
        let (stuck, returns) = hangs(&world, patience).await;
        assert!(stuck <= 2 * returns, "{stuck} stuck in {returns} returns");
        assert!((1..=20).contains(&returns), "{returns} returns in 57 s");
    }
}

#[tokio::test(start_paused = true)]
async fn hung_server_is_found_by_requests_that_are_abandoned() {
    for max_conns in [16, 64] {
        let world = World::new(4, |builder| builder.max_conns_per_server(max_conns));
        let patience = Patience::Leaves(Duration::from_millis(500));
        let (stuck, returns) = hangs(&world, patience).await;
        assert!(stuck <= 2 * returns, "{stuck} stuck in {returns} returns");
        assert!((1..=20).contains(&returns), "{returns} returns in 57 s");
    }
}

#[tokio::test(start_paused = true)]
async fn silent_restart_costs_one_request_where_callers_call_broken() {
    let world = World::new(1, |builder| builder.max_conns_per_server(16));
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(world.pool.acquire().await.expect("it accepts"));
    }
    for conn in &mut held {
        conn.ask(REQUEST).await.expect("it answers");
    }
    held.into_iter().for_each(PooledConn::release);
    world.servers[0].restart();
    sleep(Duration::from_millis(200)).await;
    let failed = send(&world.pool, 100, 6 * SECOND, REQUEST, Patience::Fails(SECOND)).await;
    assert_eq!(failed, 1);
    assert_eq!(world.pool.status().servers[0].state, ServerState::Up);
}

#[tokio::test(start_paused = true)]
async fn first_acquire_now_after_the_backoff_is_served() {
    let world = World::new(1, |builder| builder);
    world.servers[0].set(|server| &server.refuses, true);
    assert!(world.pool.acquire_now().await.is_err());
    world.servers[0].set(|server| &server.refuses, false);
    sleep(Duration::from_millis(160)).await;
    world.pool.acquire_now().await.expect("it accepts again").release();
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_never_zero() {
    let world = World::new(1, |builder| builder);
    world.servers[0].set(|server| &server.refuses, true);
    let end = Instant::now() + 10 * SECOND;
    let mut calls = 0;
    while Instant::now() < end {
        let error = world.pool.acquire_now().await.expect_err("it refuses");
        let retry_after = error.retry_after().expect("it is known");
        assert!(retry_after >= Duration::from_millis(1), "{retry_after:?}");
        sleep(retry_after).await;
        calls += 1;
    }
    assert!(calls < 1_000, "{calls} calls in 10 s");
}

/// The probe takes long, or hangs until its timeout.
#[tokio::test(start_paused = true)]
async fn retry_after_is_not_zero_while_a_probe_runs() {
    for connect in [Connect::Slow(SECOND), Connect::Never] {
        let rig = Rig::paused(|builder| builder.server("a").connect_timeout(3 * SECOND).fail_fast_when_down(true));
        rig.connector.next_connects("a", [Connect::Refuse]);
        rig.connector.set_default(connect);
        assert!(rig.pool.acquire().await.is_err());
        let (mut calls, mut during_probe) = (0, 0);
        let end = Instant::now() + 2 * SECOND;
        while Instant::now() < end {
            let is_probed = matches!(rig.pool.status().servers[0].state, ServerState::Probing { .. });
            let Err(error) = rig.pool.try_acquire() else { break };
            let of_try = error.retry_after().expect("it is known");
            let Err(error) = rig.pool.acquire().await else { break };
            let of_acquire = error.retry_after().expect("it is known");
            for retry_after in [of_try, of_acquire] {
                assert!(retry_after >= Duration::from_millis(1), "{retry_after:?}, probed: {is_probed}");
            }
            sleep(of_try.min(of_acquire)).await;
            calls += 1;
            during_probe += usize::from(is_probed);
        }
        assert!(during_probe > 100, "{calls} calls, {during_probe} of them during a probe");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_retry_beyond_the_deadline_is_pointless() {
    let world = World::new(1, |builder| builder.outage_retry(None).backoff(10 * SECOND, 10 * SECOND));
    world.servers[0].set(|server| &server.refuses, true);
    let start = Instant::now();
    let error = world.pool.acquire_timeout(SECOND).await.expect_err("it refuses");
    assert!(matches!(error, AcquireError::Timeout { .. }), "an attempt ran when it began to wait: {error:?}");
    assert!(start.elapsed() >= SECOND);
    let start = Instant::now();
    let error = world.pool.acquire_timeout(SECOND).await.expect_err("it is down");
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn fail_fast_refuses_at_once_while_all_are_down_and_ends_waits() {
    let world = World::new(1, |builder| builder.fail_fast_when_down(true));
    world.servers[0].set(|server| &server.refuses, true);
    let start = Instant::now();
    let error = timeout(SECOND, world.pool.acquire()).await.expect("at once").expect_err("it refuses");
    assert!(matches!(error, AcquireError::Unavailable(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_millis(10));
    world.servers[0].set(|server| &server.refuses, false);
    sleep(Duration::from_millis(200)).await;
    assert!(world.pool.acquire().await.is_err(), "this caller has the server tried");
    sleep(Duration::from_millis(200)).await;
    world.pool.acquire().await.expect("it is back").release();
    assert_eq!(world.servers[0].open.load(Ordering::Relaxed), 1);
}
