//! What callers say of a server, and what they do to it.

use std::time::Duration;

use connring::{Clock, Ejection, Pool, PooledConn, Server, ServerState};
use tokio::time::{Instant, sleep, timeout};

use super::world::{Patience, World, request};

const REQUEST: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

/// A connection of `a`, which serves at every second turn: those of others are released.
async fn acquire_of_a(world: &World) -> PooledConn<connring::BoxConnector<super::world::Conn>> {
    for _ in 0..10 {
        let conn = world.pool.acquire().await.expect("both accept");
        if PooledConn::info(&conn).server().address() == "a" {
            return conn;
        }
        conn.release();
        // An attempt at a ends.
        tokio::task::yield_now().await;
    }
    panic!("a does not serve: {:?}", world.pool.status().servers[0]);
}

#[tokio::test(start_paused = true)]
async fn failures_long_apart_do_not_add_up() {
    let world = World::new(2, |builder| builder.ejection(Ejection::new().consecutive_failures(3)));
    for _ in 0..10 {
        acquire_of_a(&world).await.fail("slow");
        for _ in 0..999 {
            acquire_of_a(&world).await.discard();
            sleep(Duration::from_millis(11)).await;
        }
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
async fn server_whose_connections_are_closed_after_good_answers_is_up_after_an_interval() {
    type Conn = PooledConn<connring::BoxConnector<super::world::Conn>>;
    for end in [Conn::discard, |conn: Conn| drop(conn.detach())] {
        let world = World::new(1, |builder| builder);
        let server = || world.pool.status().servers.remove(0);
        world.servers[0].set(|server| &server.refuses, true);
        let failures = |state| if let ServerState::Down { failures, .. } = state { failures } else { 0 };
        while failures(server().state) < 33 {
            assert!(world.pool.acquire_timeout(SECOND).await.is_err());
        }
        world.servers[0].set(|server| &server.refuses, false);
        let mut recovers_since = None;
        for _ in 0..1_000 {
            let mut conn = world.pool.acquire().await.expect("it is back");
            let since = *recovers_since.get_or_insert_with(Instant::now);
            conn.ask(REQUEST).await.expect("it answers");
            end(conn);
            // The initial interval is 100 ms, plus or minus a half.
            let is_over = since.elapsed() > Duration::from_millis(160);
            let state = server().state;
            assert!(state == ServerState::Up || state == ServerState::Recovering && !is_over, "{state:?}");
        }
        assert_eq!((server().connecting_paused, server().connect_error), (None, None));
        // Its failures are forgotten: the next one pauses connecting for the initial interval.
        world.servers[0].set(|server| &server.refuses, true);
        assert!(world.pool.acquire_timeout(Duration::from_millis(10)).await.is_err());
        let ServerState::Down { failures: 1, retry_after } = server().state else { panic!("{:?}", server()) };
        assert!(retry_after <= Duration::from_millis(150), "{retry_after:?}");
    }
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

/// The bound is what deadpool needs for as many requests, with a real server.
#[tokio::test(start_paused = true)]
async fn one_slow_request_in_a_hundred_takes_no_server_out_of_use_and_delays_no_other() {
    for count in [1, 3] {
        let world = World::new(count, |builder| builder);
        let mut callers = tokio::task::JoinSet::new();
        let start = Instant::now();
        for number in 1..=3_000 {
            let time = if number % 100 == 0 { 5 * SECOND } else { REQUEST };
            let pool = world.pool.clone();
            callers.spawn(async move {
                let asked = Instant::now();
                let mut conn = pool.acquire().await.expect("it accepts");
                let waited = asked.elapsed();
                match timeout(SECOND, conn.ask(time)).await {
                    Ok(answer) => {
                        answer.expect("it answers");
                        conn.release();
                        (waited, true)
                    }
                    Err(late) => {
                        conn.fail(late);
                        (waited, false)
                    }
                }
            });
            tokio::time::sleep_until(start + 10 * SECOND * number / 3_000).await;
            assert!(world.pool.status().servers.iter().all(|server| server.state == ServerState::Up));
        }
        let (mut waits, answered): (Vec<_>, Vec<_>) = callers.join_all().await.into_iter().unzip();
        assert_eq!(answered.into_iter().filter(|answered| !answered).count(), 30);
        waits.sort();
        let p99 = waits[waits.len() * 99 / 100];
        assert!(p99 <= Duration::from_millis(6), "{p99:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_requests_of_pools_with_different_seeds_are_spread_over_the_servers() {
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

/// Of so many pools a fair choice leaves these bounds once in 10¹¹ runs (by Chernoff's bound).
#[tokio::test(start_paused = true)]
async fn the_first_requests_of_fresh_pools_are_spread_over_the_servers() {
    const POOLS: usize = 2_000;
    let mut first = [0; 4];
    for _ in 0..POOLS {
        let connector = connring::test_util::ScriptedConnector::new(Clock::tokio());
        let builder = Pool::builder(connector).clock(Clock::tokio()).servers(["a", "b", "c", "d"]);
        let pool = builder.build().expect("in range");
        let conn = pool.acquire().await.expect("all accept");
        first[["a", "b", "c", "d"].iter().position(|name| *name == conn.address()).expect("one of them")] += 1;
        conn.release();
    }
    // As of 200 pools each server has 35 to 65.
    assert!(first.iter().all(|first| (350..=650).contains(first)), "{first:?}");
}
