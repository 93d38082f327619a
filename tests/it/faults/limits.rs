//! Servers at their connection limit: they refuse connects, and the connections that they have work.

use std::sync::atomic::Ordering;
use std::time::Duration;

use connring::{PooledConn, Server, ServerState};
use tokio::time::{Instant, sleep};

use super::world::{Patience, World, request, send};

const REQUEST: Duration = Duration::from_millis(10);

/// Answers in two seconds of eight callers that ask again and again.
async fn closed_loop(world: &World) -> usize {
    let before = world.answered();
    let end = Instant::now() + Duration::from_secs(2);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let pool = world.pool.clone();
            tokio::spawn(async move {
                while Instant::now() < end {
                    request(&pool, REQUEST, Patience::Fails(Duration::from_secs(1))).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    world.answered() - before
}

#[tokio::test(start_paused = true)]
async fn a_lifted_limit_takes_no_connection_of_the_others_out_of_use() {
    let world = World::new(4, |builder| builder.max_conns_per_server(2));
    world.servers.iter().for_each(|server| server.limit.store(1, Ordering::Relaxed));
    closed_loop(&world).await;
    let before = closed_loop(&world).await;
    world.servers[0].limit.store(0, Ordering::Relaxed);
    for _ in 0..5 {
        let after = closed_loop(&world).await;
        assert!(after * 100 >= before * 98, "{after} answers after {before}");
    }
}

#[tokio::test(start_paused = true)]
async fn server_with_one_good_connection_serves_its_share() {
    let world = World::new(2, |builder| builder);
    world.servers[0].limit.store(1, Ordering::Relaxed);
    let mut held: Vec<PooledConn<_>> = Vec::new();
    for acquired in [(); 3].map(|()| {
        tokio::spawn({
            let pool = world.pool.clone();
            async move { pool.acquire().await }
        })
    }) {
        held.push(acquired.await.expect("no panic").expect("b accepts"));
    }
    for mut conn in held {
        conn.ask(REQUEST).await.expect("it answers");
        conn.release();
    }
    let before = world.servers[0].answered();
    for _ in 0..600 {
        assert!(request(&world.pool, REQUEST, Patience::Fails(Duration::from_secs(1))).await);
        sleep(Duration::from_millis(90)).await;
    }
    let served = world.servers[0].answered() - before;
    assert!((270..=330).contains(&served), "{served} of 600");
}

#[tokio::test(start_paused = true)]
async fn connections_of_server_at_its_limit_stay_busy() {
    let world = World::new(2, |builder| builder.max_conns_per_server(16));
    world.servers[0].limit.store(5, Ordering::Relaxed);
    send(&world.pool, 1_500, Duration::from_secs(5), REQUEST, Patience::Fails(Duration::from_secs(1))).await;
    let before = world.servers[0].answered();
    let failed =
        send(&world.pool, 1_500, Duration::from_secs(20), REQUEST, Patience::Fails(Duration::from_secs(1))).await;
    let served = world.servers[0].answered() - before;
    assert_eq!(failed, 0);
    // Five connections of 10 ms do 500 a second.
    assert!(served > 20 * 400, "{served} in 20 s");
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
