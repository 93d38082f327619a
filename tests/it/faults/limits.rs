//! Servers at their connection limit: they refuse connects, and the connections that they have work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use connring::{PooledConn, Server, ServerState};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::world::{Patience, World, request, send};

const REQUEST: Duration = Duration::from_millis(10);

/// Answers of all servers in each of so many half seconds from now on.
async fn answers_in_half_seconds(world: &World, count: usize) -> Vec<usize> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let before = world.answered();
        sleep(Duration::from_millis(500)).await;
        answers.push(world.answered() - before);
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_lifted_limit_takes_no_connection_of_the_others_out_of_use() {
    for lifted in 0..4 {
        let world = World::new(4, |builder| builder.max_conns_per_server(2));
        world.servers.iter().for_each(|server| server.limit.store(1, Ordering::Relaxed));
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let pool = world.pool.clone();
            callers.spawn(async move {
                loop {
                    request(&pool, REQUEST, Patience::Fails(Duration::from_secs(1))).await;
                }
            });
        }
        answers_in_half_seconds(&world, 10).await;
        let before = answers_in_half_seconds(&world, 10).await;
        world.servers[lifted].limit.store(0, Ordering::Relaxed);
        let after = answers_in_half_seconds(&world, 40).await;
        // Four connections of 10 ms, then five.
        assert!(before.iter().all(|&answers| answers == 200), "{before:?}");
        assert!(after.iter().all(|&answers| answers >= 200), "{after:?}");
        assert!(after[20..].iter().all(|&answers| answers == 250), "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn server_with_one_good_connection_serves_its_share_while_connecting_to_it_pauses() {
    // The first of the callers, and so the third, connects to a.
    let world = World::new(2, |builder| builder.seed(0));
    world.servers[0].limit.store(1, Ordering::Relaxed);
    let start = Instant::now();
    let callers = [(); 3].map(|()| {
        let pool = world.pool.clone();
        tokio::spawn(async move { pool.acquire().await })
    });
    let mut held: Vec<PooledConn<_>> = Vec::new();
    for acquired in callers {
        held.push(acquired.await.expect("no panic").expect("b accepts"));
    }
    for mut conn in held {
        conn.ask(REQUEST).await.expect("it answers");
        conn.release();
    }
    assert_eq!(world.servers[0].connects_since(start), 2, "one was refused");
    let before = world.servers[0].answered();
    let mut paused = 0;
    for number in 0..600 {
        assert!(request(&world.pool, REQUEST, Patience::Fails(Duration::from_secs(1))).await);
        let status = &world.pool.status().servers[0];
        assert_eq!(status.open, 1, "{status:?}");
        // It was refused before its connection had answered, and is up again when it is refused next.
        assert!(number < 2 || status.state == ServerState::Up, "{number}: {status:?}");
        paused += usize::from(status.connecting_paused.is_some());
        sleep(Duration::from_millis(90)).await;
    }
    let served = world.servers[0].answered() - before;
    assert!((298..=301).contains(&served), "{served} of 600");
    let connects = world.servers[0].connects_since(start);
    assert!(paused > 0 && connects <= 4, "{connects} connects, paused at {paused} of 600 requests");
}

#[tokio::test(start_paused = true)]
async fn connections_of_server_at_its_limit_stay_busy() {
    let world = World::new(2, |builder| builder.max_conns_per_server(16));
    world.servers[0].limit.store(5, Ordering::Relaxed);
    send(&world.pool, 1_500, Duration::from_secs(5), REQUEST, Patience::Fails(Duration::from_secs(1))).await;
    let before = world.servers[0].answered();
    let start = Instant::now();
    let failed =
        send(&world.pool, 1_500, Duration::from_secs(20), REQUEST, Patience::Fails(Duration::from_secs(1))).await;
    let refused = world.servers[0].connects_since(start);
    let served = world.servers[0].answered() - before;
    assert_eq!(failed, 0);
    // Five connections of 10 ms do 500 a second.
    assert!(served >= 20 * 495, "{served} in 20 s");
    // The pauses have grown to 5 s, minus a half at most.
    assert!((1..=10).contains(&refused), "{refused} refused in 20 s");
    assert_eq!(world.servers[0].open.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connect_closes_none_of_the_connections_that_work() {
    let world = World::new(1, |builder| builder.max_conns_per_server(200));
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(world.pool.acquire().await.expect("it accepts"));
    }
    for conn in &mut held {
        conn.ask(REQUEST).await.expect("it answers");
    }
    // All came back well once, and are in use again.
    held.into_iter().for_each(PooledConn::release);
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(world.pool.acquire().await.expect("it is idle"));
    }
    world.servers[0].set(|server| &server.refuses, true);
    assert!(world.pool.acquire_timeout(Duration::from_millis(50)).await.is_err());
    assert_eq!(world.pool.status().servers[0].state, ServerState::Up);
    held.into_iter().for_each(PooledConn::release);
    assert_eq!(world.pool.status().servers[0].idle, 100);
    assert_eq!(world.servers[0].open.load(Ordering::Relaxed), 100);
}

#[tokio::test(start_paused = true)]
async fn a_raised_maximum_makes_room_for_as_many_idle_connections() {
    let world = World::new(1, |builder| builder.max_conns_per_server(1));
    let start = Instant::now();
    world.pool.acquire().await.expect("it accepts").release();
    world.pool.set_servers([Server::new("a").max_conns(10)]).expect("in range");
    for _ in 0..100 {
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(world.pool.acquire().await.expect("it accepts"));
        }
        held.into_iter().for_each(PooledConn::release);
    }
    assert_eq!(world.servers[0].connects_since(start), 10);
}
