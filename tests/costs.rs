//! What a pool of many servers costs: memory that it leaves behind, and the work of a refusal and of a registration.
//!
//! This is a separate binary because `allocation_counter` replaces the global allocator. It counts the allocations of
//! the calling thread, on which the pool's background task runs too. Times are the shortest of several rounds, and are
//! compared with those of the same calls on fewer servers: no test depends on the speed of the machine.

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, Builder, Clock, Pool, Server, TryAcquireError};
use tokio::runtime::Runtime;

const FEW: usize = 10;
const MANY: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3_600);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

fn builder(servers: usize) -> Builder<ScriptedConnector> {
    let clock = Clock::manual();
    let addresses = (0..servers).map(|server| format!("server-{server}"));
    Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).servers(addresses)
}

/// Uses a pool of 2 000 servers for a moment, and drops it.
async fn use_and_drop_pool() {
    let pool = builder(2_000).max_conns_per_server(1_000).build().expect("the settings are in range");
    pool.acquire().await.expect("the servers accept").release();
    // Uses the hot path, on which the thread keeps the server list.
    for _ in 0..10 {
        if let Ok(conn) = pool.try_acquire() {
            conn.release();
        }
    }
    drop(pool);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn pools_that_come_and_go_on_one_thread_leave_no_memory_behind() {
    const MIB: i64 = 1 << 20;
    let runtime = runtime();
    let AllocationInfo { bytes_total, bytes_current, .. } = measure(|| {
        (0..9).for_each(|_| runtime.block_on(use_and_drop_pool()));
    });
    assert!(bytes_total as i64 > 200 * MIB, "the pools took {bytes_total} bytes: too few to tell");
    assert!(bytes_current < 8 * MIB, "{bytes_current} bytes stay, of {bytes_total}");
}

/// A pool whose servers have all refused, and are not tried again.
fn all_down(runtime: &Runtime, servers: usize) -> Pool<ScriptedConnector> {
    let _inside = runtime.enter();
    let connector = ScriptedConnector::new(Clock::manual());
    connector.set_default(Connect::Refuse);
    let addresses = (0..servers).map(|server| format!("server-{server}"));
    let builder = Pool::builder(connector.clone()).clock(Clock::manual()).servers(addresses).max_conns_per_server(1);
    let pool = builder.backoff(HOUR, HOUR).outage_retry(None).build().expect("the settings are in range");
    while connector.connect_log().len() < servers {
        runtime.block_on(pool.acquire_now()).expect_err("all servers refuse");
    }
    pool
}

/// The shortest of 20 rounds of 50 calls.
fn shortest(mut call: impl FnMut()) -> Duration {
    let clock = Clock::system();
    let round = |_| {
        let began = clock.now();
        (0..50).for_each(|_| call());
        clock.now() - began
    };
    (0..20).map(round).min().expect("there is a round")
}

/// The time, the number of allocations and their bytes of refused calls.
fn refusal(mut refused: impl FnMut()) -> (Duration, u64, u64) {
    // The first call of a thread keeps the list.
    refused();
    let AllocationInfo { count_total, bytes_total, .. } = measure(&mut refused);
    (shortest(refused), count_total, bytes_total)
}

/// An unoptimized pass over the bitmaps of 10 000 servers takes some ten times as long as the rest of a refusal. A look
/// at each server takes a thousand times as long.
#[test]
fn refusal_while_all_servers_are_down_collects_nothing_of_each_server() {
    const MOST: u32 = 30;
    let runtime = runtime();
    let [few, many] = [FEW, MANY].map(|servers| {
        let pool = all_down(&runtime, servers);
        let of_try_acquire = refusal(|| {
            let Err(TryAcquireError::Unavailable(counts)) = pool.try_acquire() else { panic!("all are down") };
            assert_eq!(counts.down, servers);
        });
        let of_acquire_now = refusal(|| {
            let error = runtime.block_on(pool.acquire_now()).expect_err("all are down");
            let AcquireError::Unavailable(reason) = &error else { panic!("{error:?}") };
            assert_eq!((reason.counts().down, reason.servers().len()), (servers, 8));
        });
        [of_try_acquire, of_acquire_now]
    });
    for (few, many) in few.into_iter().zip(many) {
        assert_eq!((few.1, few.2), (many.1, many.2), "allocations and bytes");
        assert!(many.0 < few.0 * MOST, "{:?} with {FEW} servers, {:?} with {MANY}", few.0, many.0);
    }
    assert_eq!(few[0].1, 0, "allocations of `try_acquire`");
}

/// Without an idle connection each standby server is looked at, and none of them looks at all others.
#[test]
fn refusal_of_a_full_pool_grows_with_its_standby_servers_and_no_faster() {
    const TIMES: u32 = 10;
    let runtime = runtime();
    let _inside = runtime.enter();
    let refusal_beside = |standby: u32| {
        let clock = Clock::manual();
        let tiers = (0..2 * standby).map(|number| Server::new(number.to_string()).tier(u32::from(number >= standby)));
        let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).servers(tiers);
        let builder = builder.spill_when_full(true).max_conns_per_server(1);
        let pool = builder.build().expect("the settings are in range");
        let acquire = || runtime.block_on(pool.acquire()).expect("the servers accept");
        let _held: Vec<_> = (0..2 * standby).map(|_| acquire()).collect();
        shortest(|| assert!(pool.try_acquire().is_err()))
    };
    let (few, many) = (refusal_beside(30), refusal_beside(30 * TIMES));
    assert!(many < few * TIMES * 3, "{few:?}, and {many:?} with {TIMES} times as many");
}

#[test]
fn registration_costs_the_same_with_any_number_of_servers() {
    const BLOCK: usize = 100;
    let runtime = runtime();
    let _inside = runtime.enter();
    let clock = Clock::system();
    let pool = builder(0).build().expect("the settings are in range");
    let (mut times, mut bytes) = (Vec::new(), Vec::new());
    for first in (0..MANY).step_by(BLOCK) {
        let names: Vec<_> = (first..first + BLOCK).map(|server| format!("server-{server}")).collect();
        let began = clock.now();
        let AllocationInfo { bytes_total, .. } = measure(|| {
            names.into_iter().for_each(|name| pool.register(name).expect("a new name"));
        });
        times.push(clock.now() - began);
        bytes.push(bytes_total);
    }
    assert_eq!(pool.servers().len(), MANY);
    // Blocks in which tables grow are not the shortest, but count with their bytes.
    let tenth = times.len() / 10;
    let (shortest, later) = (times[..tenth].iter().min(), times[9 * tenth..].iter().min());
    let (shortest, later) = (shortest.expect("a block"), later.expect("a block"));
    assert!(*later < *shortest * 3, "{BLOCK} servers take {shortest:?}, and {later:?} beside {MANY} others");
    let (first, all): (u64, u64) = (bytes[..tenth].iter().sum(), bytes.iter().sum());
    assert!(all < first * 14, "{first} bytes for {} servers, {all} for {MANY}", MANY / 10);
}
