//! What callers say of a server, and what they do to it.

use std::time::Duration;

use connring::{Ejection, PooledConn, Server, ServerState};
use tokio::time::{Instant, sleep};

use super::world::{Patience, World, request};

const REQUEST: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

/// Connections of `a` only: the others are returned.
async fn acquire_of_a(world: &World) -> PooledConn<connring::BoxConnector<super::world::Conn>> {
    loop {
        let conn = world.pool.acquire().await.expect("both accept");
        if PooledConn::info(&conn).server().address() == "a" {
            return conn;
        }
        conn.release();
    }
}

#[tokio::test(start_paused = true)]
async fn failures_long_apart_do_not_add_up() {
    let world = World::new(2, |builder| builder.ejection(Ejection::new().consecutive_failures(3)));
    for _ in 0..10 {
        acquire_of_a(&world).await.fail("slow");
        for _ in 0..20 {
            acquire_of_a(&world).await.discard();
        }
        sleep(11 * SECOND).await;
        assert_eq!(world.pool.status().servers[0].state, ServerState::Up);
    }
    for _ in 0..3 {
        assert_eq!(world.pool.status().servers[0].state, ServerState::Up);
        acquire_of_a(&world).await.fail("slow");
    }
    assert!(matches!(world.pool.status().servers[0].state, ServerState::Ejected { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_only_server_goes_on_serving_after_failures() {
    let world = World::new(1, |builder| builder.ejection(Ejection::new().consecutive_failures(1)));
    for _ in 0..20 {
        world.pool.try_acquire().or(world.pool.acquire().await).expect("it serves").fail("broken");
        assert_eq!(world.pool.status().servers[0].state, ServerState::Up);
    }
}

#[tokio::test(start_paused = true)]
async fn server_whose_connections_are_discarded_after_good_answers_is_up_after_an_interval() {
    let world = World::new(1, |builder| builder);
    world.servers[0].set(|server| &server.refuses, true);
    assert!(world.pool.acquire_timeout(2 * SECOND).await.is_err());
    world.servers[0].set(|server| &server.refuses, false);
    let mut conn = world.pool.acquire().await.expect("it is back");
    conn.ask(REQUEST).await.expect("it answers");
    conn.discard();
    let recovered = Instant::now();
    while world.pool.status().servers[0].state != ServerState::Up {
        assert!(recovered.elapsed() < SECOND, "{:?}", world.pool.status().servers[0]);
        sleep(Duration::from_millis(5)).await;
    }
    // Its failures are forgotten: the next one pauses connecting for the initial interval.
    world.servers[0].set(|server| &server.refuses, true);
    assert!(world.pool.acquire_timeout(Duration::from_millis(10)).await.is_err());
    let ServerState::Down { failures: 1, retry_after } = world.pool.status().servers[0].state else {
        panic!("{:?}", world.pool.status().servers[0]);
    };
    assert!(retry_after <= Duration::from_millis(150), "{retry_after:?}");
}

#[tokio::test(start_paused = true)]
async fn reported_success_ends_a_recovery_at_once() {
    let world = World::new(1, |builder| builder);
    world.servers[0].set(|server| &server.refuses, true);
    assert!(world.pool.acquire_timeout(SECOND).await.is_err());
    world.servers[0].set(|server| &server.refuses, false);
    let mut conn = world.pool.acquire().await.expect("it is back");
    assert_eq!(world.pool.status().servers[0].state, ServerState::Recovering);
    conn.report_success();
    assert_eq!(world.pool.status().servers[0].state, ServerState::Up);
    drop(conn.detach());
}

#[tokio::test(start_paused = true)]
async fn a_flapping_discovery_breaks_no_rate_and_no_backoff() {
    let world = World::new(2, |builder| builder.backoff(30 * SECOND, 30 * SECOND).outage_retry(None));
    let limited = || Server::new("a").max_rps(1.0);
    let mut checkouts = 0;
    for _ in 0..500 {
        world.pool.set_servers([limited(), "b".into()]).expect("in range");
        for _ in 0..4 {
            let conn = world.pool.acquire().await.expect("b serves");
            checkouts += usize::from(PooledConn::info(&conn).server().address() == "a");
            conn.release();
            // An attempt at a ends.
            tokio::task::yield_now().await;
        }
        world.pool.set_servers(["b"]).expect("in range");
        sleep(Duration::from_millis(10)).await;
    }
    assert!((4..=6).contains(&checkouts), "{checkouts} in 5 s at 1 a second");
    world.servers[0].set(|server| &server.refuses, true);
    let start = Instant::now();
    for _ in 0..300 {
        world.pool.set_servers(["a", "b"]).expect("in range");
        world.pool.acquire().await.expect("b serves").discard();
        world.pool.acquire().await.expect("b serves").discard();
        world.pool.set_servers(["b"]).expect("in range");
        sleep(Duration::from_millis(100)).await;
    }
    let connects = world.servers[0].connects_since(start);
    assert!(connects <= 3, "connected to {connects} times in 30 s at a backoff of 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_rotated_list_keeps_the_places_of_the_servers() {
    let world = World::new(4, |builder| builder);
    let mut names = ["a", "b", "c", "d"];
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(world.pool.acquire().await.expect("all accept"));
    }
    held.into_iter().for_each(PooledConn::release);
    for _ in 0..400 {
        names.rotate_left(1);
        world.pool.set_servers(names).expect("in range");
        assert!(request(&world.pool, REQUEST, Patience::Fails(SECOND)).await);
    }
    let answers: Vec<_> = world.servers.iter().map(|server| server.answered()).collect();
    assert!(answers.iter().all(|&answers| answers == 100), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn one_slow_request_in_a_hundred_takes_no_server_out_of_use() {
    for count in [1, 3] {
        let world = World::new(count, |builder| builder);
        let mut number = 0;
        let start = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        while start.elapsed() < 10 * SECOND {
            number += 1;
            let time = if number % 100 == 0 { 5 * SECOND } else { REQUEST };
            let pool = world.pool.clone();
            callers.spawn(async move { request(&pool, time, Patience::Fails(SECOND)).await });
            sleep(Duration::from_micros(3_333)).await;
            assert!(world.pool.status().servers.iter().all(|server| server.state == ServerState::Up));
        }
        let failed = callers.join_all().await.into_iter().filter(|answered| !answered).count();
        assert_eq!(failed, number / 100);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_of_fresh_pools_are_spread_over_the_servers() {
    let mut answers = [0; 4];
    for seed in 0..200 {
        let world = World::new(4, |builder| builder.seed(seed));
        assert!(request(&world.pool, REQUEST, Patience::Fails(SECOND)).await);
        for (answers, server) in answers.iter_mut().zip(&world.servers) {
            *answers += server.answered();
        }
    }
    assert!(answers.iter().all(|answers| (35..=65).contains(answers)), "{answers:?}");
}
