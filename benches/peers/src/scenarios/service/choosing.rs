//! How servers are chosen: by weight, and by connections in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connring::test_util::Connect;
use connring::{Ejection, LoadBalancing, Server};

use super::super::world::{World, sleep};

const STEP: Duration = Duration::from_millis(1);

/// Servers of weights 5 : 3 : 2. Returns by how many percent of all uses a share is off: while all are up, while the
/// second one is down, and after its return.
pub fn weighted(seed: u64) -> f64 {
    const WEIGHTS: [(&str, u32); 3] = [("a", 5), ("b", 3), ("c", 2)];
    const USES: u32 = 10_000;
    let world = World::new(seed, &[], |builder| {
        let builder = builder.servers(WEIGHTS.map(|(name, weight)| Server::new(name).weight(weight)));
        builder.load_balancing(LoadBalancing::Weighted).ejection(Ejection::new().consecutive_failures(1))
    });
    let off_by = |present: &[(&str, u32)]| {
        let mut served = BTreeMap::<String, u32>::new();
        world.block_on(async {
            for use_number in 0..USES {
                let conn = world.pool.acquire().await.expect("a server is up");
                *served.entry(conn.address().to_owned()).or_default() += 1;
                conn.release();
                if use_number % 100 == 0 {
                    world.clock.advance(STEP);
                    tokio::task::yield_now().await;
                }
            }
        });
        let sum: u32 = present.iter().map(|(_, weight)| weight).sum();
        let share = |name: &str| f64::from(served.get(name).copied().unwrap_or_default()) / f64::from(USES);
        let off = |&(name, weight): &(&str, u32)| (share(name) - f64::from(weight) / f64::from(sum)).abs();
        100.0 * present.iter().map(off).fold(0.0, f64::max)
    };
    // Each server gets its connections.
    off_by(&WEIGHTS);
    let all_up = off_by(&WEIGHTS);
    world.connector.on_connect("b", Connect::Refuse);
    world.block_on(async {
        let mut conn = world.pool.acquire().await.expect("all are up");
        while conn.address() != "b" {
            conn.release();
            conn = world.pool.acquire().await.expect("all are up");
        }
        conn.fail("no answer");
    });
    world.connector.kill_connections("b");
    let without = off_by(&[("a", 5), ("c", 2)]);
    world.connector.on_connect("b", Connect::Ok);
    // A caller comes, so that the server is tried.
    let request = || {
        let pool = world.pool.clone();
        async move { pool.acquire().await.expect("two are up").release() }
    };
    world.load(Duration::from_secs(30), STEP * 10, 100, request);
    let again = off_by(&WEIGHTS);
    all_up.max(without).max(again)
}

/// 64 tasks, each with one request at a time, over 4 servers, of which one answers ten times slower. Returns the
/// requests with the fewest in use, as a multiple of those in turn.
pub fn least_in_use(seed: u64) -> f64 {
    let requests = |policy| {
        let world = World::new(seed, &["a", "b", "c", "d"], |builder| {
            builder.max_conns_per_server(64).load_balancing(policy).max_waiters(100)
        });
        let done = Arc::<AtomicU64>::default();
        world.block_on(async {
            for _ in 0..64 {
                let (pool, clock, done) = (world.pool.clone(), world.clock.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    loop {
                        let conn = pool.acquire().await.expect("all accept");
                        let answer = if conn.address() == "a" { 100 } else { 10 };
                        sleep(&clock, Duration::from_millis(answer)).await;
                        conn.release();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        world.pass(Duration::from_secs(30), STEP);
        done.load(Ordering::Relaxed) as f64
    };
    requests(LoadBalancing::LeastInUse) / requests(LoadBalancing::RoundRobin)
}
