//! Idle connections: a minimum after an outage, and lifetimes.

use std::time::Duration;

use connring::test_util::Connect;

use super::super::world::World;

const STEP: Duration = Duration::from_millis(20);

/// Three servers with a minimum of 5 are killed and come back after 10 minutes, and no caller comes. Returns how long
/// it takes until 15 connections are idle, in seconds; not a number if it takes more than a minute.
pub fn comes_back(seed: u64) -> f64 {
    const SERVERS: [&str; 3] = ["a", "b", "c"];
    let world = World::new(seed, &SERVERS, |builder| builder.min_idle_per_server(5));
    let idle = || world.pool.status().servers.iter().map(|server| server.idle).sum::<usize>();
    world.pass(Duration::from_secs(5), STEP);
    assert_eq!(idle(), 15, "the pool fills");
    for server in SERVERS {
        world.connector.on_connect(server, Connect::Refuse);
        world.connector.kill_connections(server);
    }
    world.pass(Duration::from_secs(600), STEP);
    assert_eq!(idle(), 0, "all are down");
    for server in SERVERS {
        world.connector.on_connect(server, Connect::Ok);
    }
    let back = world.clock.now();
    while world.clock.now() < back + Duration::from_secs(60) {
        world.pass(STEP, STEP);
        if idle() == 15 {
            return (world.clock.now() - back).as_secs_f64();
        }
    }
    f64::NAN
}

pub struct LivedOut {
    /// Connections closed in any one second.
    pub most_closed: u64,
    pub fewest_idle: usize,
}

/// 100 connections are opened together, and live for a minute each. A simulated hour.
pub fn lives_out(seed: u64) -> LivedOut {
    let world = World::new(seed, &["a"], |builder| {
        let builder = builder.max_conns_per_server(128).max_concurrent_connects_per_server(128);
        builder.min_idle_per_server(100).max_lifetime(Duration::from_secs(60))
    });
    let report = world.block_on(async {
        let pool = world.pool.clone();
        let warm_up = tokio::spawn(async move { pool.warm_up(Duration::from_secs(5)).await });
        while !warm_up.is_finished() {
            tokio::task::yield_now().await;
        }
        warm_up.await.expect("no panic")
    });
    assert!(report.is_complete(), "{report:?}");
    let (mut lived, mut closed_before) = (LivedOut { most_closed: 0, fewest_idle: usize::MAX }, Vec::new());
    const STEPS_A_SECOND: usize = 10;
    for _ in 0..3_600 * STEPS_A_SECOND {
        world.pass(Duration::from_millis(100), Duration::from_millis(100));
        let status = world.pool.status();
        let closed = status.totals.closed();
        closed_before.push(closed);
        // In any second, not only in those that begin with the clock's.
        let second_ago = closed_before.len().saturating_sub(STEPS_A_SECOND + 1);
        lived.most_closed = lived.most_closed.max(closed - closed_before[second_ago]);
        lived.fewest_idle = lived.fewest_idle.min(status.servers[0].idle);
    }
    assert!(closed_before.last() > Some(&5_000), "each lives for at most a minute");
    lived
}
